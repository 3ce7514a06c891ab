"""Rules at work: on one video, frame by frame, looking at no more than it takes; and on what is known of whole ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.exits.macs import ExitMacs
from saccade.exits.model import FrameExit, Outputs
from saccade.exits.rules import ExitRule
from saccade.exits.seen import ExitState, Seen
from saccade.graph.evaluating import evaluating


@dataclass(frozen=True, eq=False, repr=False)
class Exits:
    """What was answered for B videos, after how many frames, and at what cost.

    Attributes:
        scores: probabilities (B, K): with one label they add up to 1, with several each is one by itself.
        frames: frames looked at, (B,) int64.
        executed_macs: of these frames and of the answer, (B,) int64; of a backbone that leaves out what it need not
            compute (`saccade.reduce`), what it did compute, and its own gates.
        gate_macs: of deciding when to stop, (B,) int64: of gates, and of classifiers that were asked before the last.
        dense_macs: of one video, all T frames and no deciding, nothing left out.
    """

    scores: Tensor
    frames: Tensor
    executed_macs: Tensor
    gate_macs: Tensor
    dense_macs: int

    @property
    def macs(self) -> Tensor:
        """All that was spent on each video, (B,) int64."""
        return self.executed_macs + self.gate_macs

    def __repr__(self) -> str:
        share = float(self.macs.double().mean()) / self.dense_macs
        mean = float(self.frames.double().mean())
        return f"Exits(videos={len(self.frames)}, frames={mean:.2f}, macs={share:.3f} of dense)"


class Looking:
    """One video on the way to its answer: what `classify_video` does, for frames that are handed in as they come.

    Args:
        model, rule, macs: as of `classify_video`. The model is left as it was after each frame.
    """

    def __init__(self, model: FrameExit, rule: ExitRule, *, macs: ExitMacs) -> None:
        self._model, self._rule, self._macs = model, rule, macs
        self._seen: Seen | None = None
        self._computed: dict[str, bool] = {}
        self._deciding = self._saved = 0

    @property
    def t(self) -> int:
        """Frames looked at so far."""
        return 0 if self._seen is None else self._seen.t

    @torch.no_grad()
    def look(self, frame: Tensor) -> Exits | None:
        """Returns the answer after one more frame, None where the rule asks for another.

        Args:
            frame: the next in the order of `model.positions`, without a batch axis, as (3, H, W).

        Raises:
            InputError: as of `FrameExit.look`, or the rule says something else than stop or not.
        """
        state = ExitState() if self._seen is None else self._seen.state
        with evaluating(self._model):
            features, saved = self._model.features_and_saved(frame[None])
            seen = self._model.advance(state, features)
            stop = seen.t == self._model.frames or bool(ask(self._rule, seen))
        if self._seen is not None:
            self._deciding += self._macs.deciding(self.t, **self._computed, left=False)
        self._saved += int(saved)
        self._seen, self._computed = seen, computed_of(seen)
        return self.answer() if stop else None

    @torch.no_grad()
    def answer(self) -> Exits:
        """Returns the answer after the frames so far; raises InputError where there were none."""
        if self._seen is None:
            raise InputError("got a video without frames; expected at least one")
        with evaluating(self._model):
            scores = self._seen.scores
        deciding = self._deciding + self._macs.deciding(self.t, **self._computed, left=True)
        return exits_of_one(scores, self.t, macs=self._macs, deciding=deciding, saved=self._saved)


@torch.no_grad()
def classify_video(model: FrameExit, frames: Iterable[Tensor], rule: ExitRule, *, macs: ExitMacs) -> Exits:
    """Returns the answer for one video, B = 1, looking at its frames until the rule says stop.

    Args:
        model: the model; it is run in evaluation mode and left as it was.
        frames: the frames in the order of `model.positions`, each without a batch axis, as (3, H, W). No frame is
            asked for before it is needed, so that a generator need not decode the rest. There may be fewer than T;
            the last one is then the last to be looked at.
        rule: when to stop.
        macs: what the parts cost, from `exit_macs`.

    Raises:
        InputError: there is no frame.
    """
    looking = Looking(model, rule, macs=macs)
    for frame in frames:
        answer = looking.look(frame)
        if answer is not None:
            return answer
    return looking.answer()


@torch.no_grad()
def decide(model: FrameExit, outputs: Outputs, rule: ExitRule, *, macs: ExitMacs, saved: Tensor | None = None) -> Exits:
    """Returns what `classify_video` would for each of the videos, from what the model says of all their frames.

    For trying rules on a set of videos that the model has looked at once.

    Args:
        model: the model.
        outputs: what it returned in evaluation mode, of B videos with up to T frames.
        rule: when to stop.
        macs: what the parts cost, from `exit_macs`.
        saved: what the backbone left out of each frame, (B, t), from `FrameExit.features_and_saved`; needed where that
            depends on what it sees (`macs.varies`).

    Raises:
        InputError: `saved` is missing, or has another shape.
    """
    videos, length = outputs.z.shape[:2]
    if saved is None and macs.varies:
        raise InputError(
            "what this backbone leaves out of a frame depends on what it sees; give saved (B, t), which "
            "features_and_saved returns beside the features that from_features makes the outputs of"
        )
    if saved is not None and saved.shape != (videos, length):
        raise InputError(f"got saved {tuple(saved.shape)} for {videos} videos of {length} frames; expected one of each")
    running = torch.ones(videos, dtype=torch.bool, device=outputs.z.device)
    frames = torch.zeros(videos, dtype=torch.int64, device=outputs.z.device)
    deciding, scores = torch.zeros_like(frames), torch.zeros_like(outputs.logits[:, 0])
    state = ExitState()
    for t in range(1, length + 1):
        seen = model.recall(outputs, state)
        stop = ask(rule, seen) if t < model.frames else running
        leaving = running & stop if t < length else running
        computed = computed_of(seen)
        deciding[leaving] += macs.deciding(t, **computed, left=True)
        running = running & ~leaving
        deciding[running] += macs.deciding(t, **computed, left=False)
        frames[leaving], scores[leaving] = t, seen.scores[leaving]
        if not running.any():
            break
        state = seen.state
    frames = frames.cpu()
    executed = torch.tensor([macs.executed(count) for count in frames.tolist()])
    if saved is not None:
        executed -= saved.cpu().cumsum(1).gather(1, frames[:, None] - 1)[:, 0]
    return Exits(scores, frames, executed, deciding.cpu(), macs.dense)


def ask(rule: ExitRule, seen: Seen) -> Tensor:
    """Returns what the rule says, (B,) bool; raises InputError where it says something else."""
    stop = rule.stop(seen)
    if stop.dtype != torch.bool or stop.shape != (len(seen.z),):
        raise InputError(
            f"{type(rule).__name__}.stop returned {stop.dtype} {tuple(stop.shape)} for {len(seen.z)} videos; expected "
            f"bool ({len(seen.z)},)"
        )
    return stop


def computed_of(seen: Seen) -> dict[str, bool]:
    """Returns what of it has been computed, as `ExitMacs.deciding` takes it."""
    classifier, gate = seen.asked()
    return {"classifier": classifier, "gate": gate}


def exits_of_one(scores: Tensor, frames: int, *, macs: ExitMacs, deciding: int, saved: int) -> Exits:
    """Returns the answer for one video: its scores (1, K), after so many frames, of which so much was left out."""
    executed = macs.executed(frames, saved=saved)
    return Exits(scores, torch.tensor([frames]), torch.tensor([executed]), torch.tensor([deciding]), macs.dense)
