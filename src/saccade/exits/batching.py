"""Continuous batching: videos come and go as their rule fires, so that the backbone sees full batches to the end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Generic, TypeVar

import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.exits.macs import ExitMacs
from saccade.exits.model import FrameExit
from saccade.exits.rules import ExitRule, Oracle
from saccade.exits.run import Exits, ask, computed_of, exits_of_one
from saccade.exits.seen import ExitState, Seen
from saccade.graph.evaluating import evaluating

V = TypeVar("V", bound=Iterable[Tensor])


@dataclass(frozen=True, eq=False, repr=False)
class Classified(Generic[V]):
    """What became of one video.

    Attributes:
        video: the very object that was given.
        exits: the answer, B = 1; None where there is none.
        error: what reading the video raised; None where nothing was.
        ms: wall-clock milliseconds of the threads that read it, and its share of those of the network's batches.
    """

    video: V
    exits: Exits | None
    error: Exception | None
    ms: float

    def __repr__(self) -> str:
        return f"Classified({self.video!r}, {self.exits if self.error is None else self.error!r}, {self.ms:.1f} ms)"


@dataclass(eq=False)
class _Running(Generic[V]):
    """A video in the running batch; one thread at a time has it."""

    video: V
    frames: Iterator[Tensor] | None = None
    frame: Tensor | None = None  # the next to be looked at; None when there is none
    error: BaseException | None = None
    ms: float = 0.0
    seen: Seen | None = None  # of a group of videos, of which this is
    row: int = 0
    computed: dict[str, bool] = field(default_factory=dict)
    spent: int = 0  # macs of deciding
    saved: int = 0  # macs that the backbone left out

    @property
    def t(self) -> int:
        return 0 if self.seen is None else self.seen.t

    def state(self) -> ExitState:
        return ExitState() if self.seen is None else self.seen.state.rows(torch.tensor([self.row]))

    def read(self) -> None:
        """Takes the next frame out of the video, opening it first where that has not been done."""
        began = time.perf_counter()
        self.frame = None
        try:
            if self.frames is None:
                self.frames = iter(self.video)
            self.frame = next(self.frames, None)
        except BaseException as error:  # raised again, or told, by the thread that asked
            self.error = error
        self.ms += 1000 * (time.perf_counter() - began)

    def close(self) -> None:
        self.frame = None
        opened: list[object] = [self.video] if self.frames is self.video else [self.frames, self.video]
        for each in opened:
            close = getattr(each, "close", None)
            if close is not None:
                close()


def classify_videos(
    model: FrameExit,
    videos: Iterable[V],
    rule: ExitRule,
    *,
    macs: ExitMacs,
    batch: int = 16,
    in_flight: int | None = None,
    workers: int = 1,
) -> Generator[Classified[V]]:
    """Yields the answer of each video as `classify_video` gives it, in the order in which they are left.

    Frames of different videos, at whatever t each stands, go through the backbone together; pooling, classifiers and
    gates then run on those with equal t. A video that is left makes room for the next, and its frame is taken while
    the network looks at others. The backbone sees less than a full batch only when fewer videos than that are left.

    Each video has one frame decoded or being decoded at a time: the next one is asked for after the rule has said that
    it is needed, so that none is given in vain.

    Args:
        model: the model; it is run in evaluation mode, where its parameters are, and left as it was.
        videos: each an iterable of frames as `classify_video` takes them. They are begun in this order, each in a
            worker thread, and no more than `in_flight` at a time. One with a `close` is closed by it when it is done.
        rule: when to stop. It is asked about videos in groups that come and go, so it cannot be an `Oracle`.
        macs: what the parts cost, from `exit_macs`.
        batch: frames that go through the backbone together.
        in_flight: videos in the running batch, at least `batch`: so many frames at most are ready, being decoded, or
            being looked at. By default twice the batch, half of it being looked at and half being decoded.
        workers: threads that take frames out of videos.

    Raises:
        InputError: a number is too small, or the rule is an oracle; or as `classify_video`, but where one video is at
            fault, which is told as its `error`.
    """
    in_flight = 2 * batch if in_flight is None else in_flight
    if batch < 1 or workers < 1 or in_flight < batch:
        raise InputError(
            f"got batch {batch}, in_flight {in_flight} and {workers} workers; expected at least 1 of each, and as many "
            "in flight as in a batch"
        )
    if isinstance(rule, Oracle):
        raise InputError("an Oracle knows the labels of one batch, and here videos come and go; use `decide`")
    return _run(model, iter(videos), rule, macs, batch=batch, in_flight=in_flight, workers=workers)


def _run(
    model: FrameExit, coming: Iterator[V], rule: ExitRule, macs: ExitMacs, *, batch: int, in_flight: int, workers: int
) -> Generator[Classified[V]]:
    arrivals: SimpleQueue[_Running[V]] = SimpleQueue()
    running: set[_Running[V]] = set()
    ready: deque[_Running[V]] = deque()
    asked, more = 0, True
    kind: tuple[torch.Size, torch.dtype] | None = None
    pool = ThreadPoolExecutor(workers, thread_name_prefix="saccade-frames", initializer=_one_thread)

    def task(each: _Running[V]) -> None:
        each.read()
        arrivals.put(each)

    def left(each: _Running[V], exits: Exits | None, error: Exception | None = None) -> Classified[V]:
        each.close()
        running.remove(each)
        return Classified(each.video, exits, error, each.ms)

    try:
        while True:
            while more and len(running) < in_flight:
                video = next(coming, None)
                more = video is not None
                if video is not None:
                    each = _Running(video)
                    running.add(each)
                    pool.submit(task, each)
                    asked += 1
            if asked and len(ready) < batch:
                each = arrivals.get()
                asked -= 1
                if each.error is not None:
                    if not isinstance(each.error, Exception):
                        raise each.error
                    yield left(each, None, each.error)
                elif each.frame is None and each.seen is None:
                    yield left(each, None, InputError("got a video without frames; expected at least one"))
                elif each.frame is None:
                    yield left(each, _last_answer(each, model, macs))
                elif kind is not None and kind != (each.frame.shape, each.frame.dtype):
                    yield left(each, None, _other(each.frame, kind))
                else:
                    kind = (each.frame.shape, each.frame.dtype)
                    ready.append(each)
            elif ready:
                looked = [ready.popleft() for _ in range(min(batch, len(ready)))]
                for each, answer in zip(looked, _look(model, looked, rule, macs), strict=True):
                    if answer is None:
                        pool.submit(task, each)
                        asked += 1
                    else:
                        yield left(each, answer)
            else:
                return
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(torch.get_num_threads())  # what threads begin with that are started from now on
        for each in running:
            each.close()


@torch.no_grad()
def _look(model: FrameExit, looked: list[_Running[V]], rule: ExitRule, macs: ExitMacs) -> list[Exits | None]:
    """Returns the answers after one more frame of each; None where the video goes on."""
    began = time.perf_counter()
    answers: list[Exits | None] = [None] * len(looked)
    groups: dict[int, list[int]] = {}
    for place, each in enumerate(looked):
        groups.setdefault(each.t, []).append(place)
    with evaluating(model):
        frames = torch.stack([each.frame for each in looked if each.frame is not None])
        features, saved = model.features_and_saved(frames.to(model.embed.weight.device))
        for each, left_out in zip(looked, saved.tolist(), strict=True):
            each.saved += left_out
        for t, places in groups.items():
            group = [looked[place] for place in places]
            state = ExitState.cat([each.state() for each in group])
            seen = model.advance(state, features[torch.tensor(places)])
            stops = [True] * len(group) if seen.t == model.frames else ask(rule, seen).tolist()
            computed = computed_of(seen)
            for row, each in enumerate(group):
                if t:
                    each.spent += macs.deciding(t, **each.computed, left=False)
                each.seen, each.row, each.computed, each.frame = seen, row, computed, None
            rows = [row for row, stop in enumerate(stops) if stop]
            if rows:
                for row, scores in zip(rows, seen.scores_of(torch.tensor(rows)).cpu(), strict=True):
                    answers[places[row]] = _answer(group[row], scores, macs)
    for each in looked:
        each.ms += 1000 * (time.perf_counter() - began) / len(looked)
    return answers


@torch.no_grad()
def _last_answer(each: _Running[V], model: FrameExit, macs: ExitMacs) -> Exits:
    """Returns the answer about a video that has no more frames, after those it had."""
    assert each.seen is not None
    with evaluating(model):
        scores = each.seen.scores_of(torch.tensor([each.row])).cpu()
    return _answer(each, scores[0], macs)


def _answer(each: _Running[V], scores: Tensor, macs: ExitMacs) -> Exits:
    deciding = each.spent + macs.deciding(each.t, **each.computed, left=True)
    return exits_of_one(scores[None], each.t, macs=macs, deciding=deciding, saved=each.saved)


def _other(frame: Tensor, kind: tuple[torch.Size, torch.dtype]) -> InputError:
    return InputError(
        f"got a frame {frame.dtype} {tuple(frame.shape)} beside others {kind[1]} {tuple(kind[0])}; expected the same, "
        "so that they fit into one batch"
    )


def _one_thread() -> None:
    """Keeps torch from starting threads of its own in each thread that makes frames."""
    torch.set_num_threads(1)
