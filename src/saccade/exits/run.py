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
        executed_macs: of these frames and of the answer, (B,) int64.
        gate_macs: of deciding, (B,) int64: of gates, and of classifiers that were asked before the last.
        dense_macs: of one video, all T frames and no deciding.
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
    seen: Seen | None = None
    computed: dict[str, bool] = {}
    spent = 0
    with evaluating(model):
        for frame in frames:
            if seen is not None:
                spent += macs.deciding(seen.t, **computed, left=False)
            seen = model.look(ExitState() if seen is None else seen.state, frame[None])
            stop = seen.t == model.frames or bool(ask(rule, seen))
            computed = computed_of(seen)
            if stop:
                break
        if seen is None:
            raise InputError("got a video without frames; expected at least one")
        spent += macs.deciding(seen.t, **computed, left=True)
        scores = seen.scores
    executed = macs.executed(seen.t)
    return Exits(scores, torch.tensor([seen.t]), torch.tensor([executed]), torch.tensor([spent]), macs.dense)


@torch.no_grad()
def decide(model: FrameExit, outputs: Outputs, rule: ExitRule, *, macs: ExitMacs) -> Exits:
    """Returns what `classify_video` would for each of the videos, from what the model says of all their frames.

    For trying rules on a set of videos that the model has looked at once.

    Args:
        model: the model.
        outputs: what it returned in evaluation mode, of B videos with up to T frames.
        rule: when to stop.
        macs: what the parts cost, from `exit_macs`.
    """
    videos, length = outputs.z.shape[:2]
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
    executed = torch.tensor([macs.executed(count) for count in frames.tolist()])
    return Exits(scores, frames.cpu(), executed, deciding.cpu(), macs.dense)


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
