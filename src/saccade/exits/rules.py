"""When to stop looking at a video: exit rules, all of one form.

A rule is asked after every frame but the T-th, behind which there is nothing left to look at. It sees what is known,
`Seen`, of B videos, and answers for each by itself: who else is asked about at the same time makes no difference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.exits.loss import classification_losses, exit_thresholds
from saccade.exits.seen import Seen

Measure = Literal["probability", "entropy"]


class ExitRule(ABC):
    """What all rules have in common."""

    @abstractmethod
    def stop(self, seen: Seen) -> Tensor:
        """Returns which of the videos to leave now, (B,) bool.

        It may ask `seen` for `z`, `before`, `logits`, `gate_logits` or `scores`; what it has asked for is counted.
        """


@dataclass(frozen=True)
class LearnedGate(ExitRule):
    """Stops where the gate's probability is at least `threshold`: FrameExit (eq. 2; the paper's threshold is 0.5)."""

    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise InputError(f"LearnedGate: threshold is {self.threshold}; expected a probability between 0 and 1")

    def stop(self, seen: Seen) -> Tensor:
        """Returns which videos to leave, (B,) bool."""
        return seen.gate_logits.sigmoid() >= self.threshold


@dataclass(frozen=True)
class Confidence(ExitRule):
    """Stops where the answer seems sure.

    Attributes:
        threshold: of the measure.
        measure: "probability", the largest of the scores is at least the threshold; or "entropy", that of the scores,
            in nats, is at most the threshold. With several labels both are means over the classes: of max(p, 1 - p),
            and of the entropy of p and 1 - p.
    """

    threshold: float
    measure: Measure = "probability"

    def __post_init__(self) -> None:
        if self.measure not in get_args(Measure):
            raise InputError(f"Confidence: measure is {self.measure!r}; expected one of {', '.join(get_args(Measure))}")
        if not self.threshold >= 0:
            raise InputError(f"Confidence: threshold is {self.threshold}; expected at least 0")

    def stop(self, seen: Seen) -> Tensor:
        """Returns which videos to leave, (B,) bool."""
        p = seen.scores
        if self.measure == "probability":
            sure = torch.maximum(p, 1 - p).mean(1) if seen.multi_label else p.amax(1)
            return sure >= self.threshold
        entropy = torch.special.entr(p)
        unsure = (entropy + torch.special.entr(1 - p)).mean(1) if seen.multi_label else entropy.sum(1)
        return unsure <= self.threshold


@dataclass(frozen=True)
class FixedBudget(ExitRule):
    """Stops every video after as many frames (Table 6)."""

    frames: int

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise InputError(f"FixedBudget: frames is {self.frames}; expected at least 1")

    def stop(self, seen: Seen) -> Tensor:
        """Returns which videos to leave, (B,) bool."""
        return torch.full((len(seen.z),), seen.t >= self.frames, device=seen.z.device)


@dataclass(frozen=True, eq=False)
class Oracle(ExitRule):
    """Stops by what is true: how well any rule could do. A video that never gets there sees all its frames.

    Attributes:
        labels: of the very videos that are asked about, as of `classification_losses`.
        beta: None to stop at the first right answer (one label only); a number to stop at the first classifier whose
            loss is at most beta exp(t / 2), which is what the gates learn (eq. 6).
    """

    labels: Tensor = field(repr=False)
    beta: float | None = None

    def __post_init__(self) -> None:
        if self.beta is None and self.labels.dim() != 1:
            raise InputError(
                f"Oracle: got labels {tuple(self.labels.shape)}; an answer is right or wrong where there is one label, "
                "(B,); give beta to stop by the loss"
            )
        if self.beta is not None:
            exit_thresholds(1, beta=self.beta)

    def stop(self, seen: Seen) -> Tensor:
        """Returns which videos to leave, (B,) bool; raises InputError where these are not as many as labels."""
        if len(self.labels) != len(seen.z):
            raise InputError(f"Oracle: {len(self.labels)} labels for {len(seen.z)} videos; expected one for each")
        labels = self.labels.to(seen.z.device)
        if self.beta is None:
            return seen.scores.argmax(1) == labels
        losses = classification_losses(seen.logits[:, None], labels)[:, 0]
        return losses <= exit_thresholds(seen.t, beta=self.beta)[-1].to(losses.device)
