"""A live stream, window by window: each is looked at as a video is, as far as its frames have come."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.exits.macs import ExitMacs
from saccade.exits.model import FrameExit
from saccade.exits.order import pictures_of_frame
from saccade.exits.rules import ExitRule, Oracle
from saccade.exits.run import Exits, Looking


@dataclass(frozen=True, eq=False, repr=False)
class LiveAnswer:
    """What was answered about a window of a stream.

    Attributes:
        first, last: the numbers of its pictures, from the first to the last, both included; the stream begins with 0.
        at: the last picture that had come when it was answered; before `last` where that was sure enough.
        visited: the pictures looked at, in order; of clips, the first of each.
        exits: the answer, B = 1, with the frames looked at and their macs.
        ms: wall-clock milliseconds of preparing and looking at all of these.
        latency_ms: from the coming of picture `at` to the answer.
    """

    first: int
    last: int
    at: int
    visited: tuple[int, ...]
    exits: Exits
    ms: float
    latency_ms: float

    def __repr__(self) -> str:
        return f"LiveAnswer({self.first} to {self.last}, at={self.at}, visited={self.visited}, {self.exits!r})"


@dataclass(eq=False)
class _Window:
    first: int
    coming: list[list[int]]  # pictures of the frames still to visit, the next one last
    looking: Looking
    visited: list[int] = field(default_factory=list)
    ms: float = 0.0


class LiveExits:
    """Answers about one window of a live stream after the other, each as soon as the rule is sure.

    A window's frames are visited in the model's order, and each as soon as it has come: coarse to fine, the middle one
    first, when half of the window is over. An answer that is sure by then does not wait for the rest; where the next
    one in order lies ahead, it is waited for, and what lies behind is at hand. So the answer is that of
    `classify_video` on the window's frames, after the same frames and with the same macs.

    Held are those pictures that a running window may yet visit, as they were pushed: no more than T of each window (of
    clips, as many times their pictures), and never more than `window`. What a rule leaves unseen costs no
    preprocessing. Nothing is left on the model.

    Args:
        model: the model; it is run in evaluation mode, where its parameters are, and left as it was.
        rule: when to stop; not an `Oracle`.
        macs: what the parts cost, from `exit_macs`.
        window: pictures of the stream that make a window.
        every: a window begins with one picture in so many. By default `window`: they follow one another. With fewer
            they overlap; with more, pictures between them are left out.
        preprocess: from what is pushed to (1, 3, H, W). By default that is a tensor (3, H, W) already.
        clip, stride: as of `VideoVisits`.

    Raises:
        InputError: a number is below 1, or the rule is an oracle.
    """

    def __init__(
        self,
        model: FrameExit,
        rule: ExitRule,
        *,
        macs: ExitMacs,
        window: int,
        every: int | None = None,
        preprocess: Callable[[Any], Tensor] | None = None,
        clip: int | None = None,
        stride: int = 1,
    ) -> None:
        every = window if every is None else every
        if window < 1 or every < 1 or stride < 1 or (clip is not None and clip < 1):
            raise InputError(
                f"got windows of {window} pictures, one every {every}, with clips of {clip}, one in {stride}; expected "
                "at least 1 of each"
            )
        if isinstance(rule, Oracle):
            raise InputError("an Oracle knows the labels of one batch, and a stream has none; use `decide`")
        self.window, self.every = window, every
        self._model, self._rule, self._macs = model, rule, macs
        self._preprocess, self._clip, self._stride = preprocess, clip, stride
        self._begin()

    def push(self, picture: Any) -> list[LiveAnswer]:
        """Returns the answers that the next picture of the stream brings: none, one, or of windows that overlap more.

        Args:
            picture: what `preprocess` takes. It may be held, and is not copied.

        Raises:
            InputError: the picture does not become what the backbone takes. The window that was looking at it is given
                up; the stream goes on with the next picture.
        """
        began = time.perf_counter()
        number = self._count
        self._count += 1
        if number % self.every == 0:
            places = self._model.positions(self.window, seed=number // self.every)
            coming = [
                [number + k for k in pictures_of_frame(place, self.window, clip=self._clip, stride=self._stride)]
                for place in reversed(places)
            ]
            self._running.append(_Window(number, coming, Looking(self._model, self._rule, macs=self._macs)))
        if number in self._wanted():
            self._held[number] = picture
        return self._answers(began)

    def finish(self) -> list[LiveAnswer]:
        """Returns the answers about windows that are waiting for pictures, and forgets the stream: the next is another.

        They look at those of their frames that have come, in order, as far as the rule asks for them; a window none of
        whose frames has come has no answer.
        """
        began = time.perf_counter()
        for each in self._running:
            each.coming = [pictures for pictures in each.coming if all(k in self._held for k in pictures)]
        answers = self._answers(began, last=True)
        self._begin()
        return answers

    @property
    def held(self) -> int:
        """How many pictures are held."""
        return len(self._held)

    def __repr__(self) -> str:
        return f"LiveExits(window={self.window}, every={self.every}, seen={self._count}, held={self.held})"

    def _begin(self) -> None:
        self._count = 0
        self._held: dict[int, Any] = {}
        self._running: list[_Window] = []
        self._ready: list[LiveAnswer] = []  # of windows before one that could not be looked at

    def _wanted(self) -> set[int]:
        return {number for each in self._running for pictures in each.coming for number in pictures}

    def _answers(self, began: float, *, last: bool = False) -> list[LiveAnswer]:
        for each in list(self._running):
            try:
                exits = self._look(each)
            except BaseException:
                self._running.remove(each)
                raise
            if exits is None and last and each.visited:
                exits = each.looking.answer()
            if exits is not None:
                self._running.remove(each)
                self._ready.append(
                    LiveAnswer(
                        first=each.first,
                        last=each.first + self.window - 1,
                        at=self._count - 1,
                        visited=tuple(each.visited),
                        exits=exits,
                        ms=each.ms,
                        latency_ms=1000 * (time.perf_counter() - began),
                    )
                )
        wanted = self._wanted()
        self._held = {number: picture for number, picture in self._held.items() if number in wanted}
        ready, self._ready = self._ready, []
        return ready

    def _look(self, each: _Window) -> Exits | None:
        """Returns the answer about a window from those of its next frames that have come; None where it waits."""
        while each.coming and all(number in self._held for number in each.coming[-1]):
            began = time.perf_counter()
            numbers = each.coming.pop()
            exits = each.looking.look(self._frame([self._held[number] for number in numbers]))
            each.visited.append(numbers[0])
            each.ms += 1000 * (time.perf_counter() - began)
            if exits is not None:
                return exits
        return None

    def _frame(self, pictures: list[Any]) -> Tensor:
        """Returns a frame as the backbone takes it, without a batch axis."""
        made = [picture[None] if self._preprocess is None else self._preprocess(picture) for picture in pictures]
        frame = made[0][0] if self._clip is None else torch.cat(made).transpose(0, 1).contiguous()
        return frame.to(self._model.embed.weight.device)
