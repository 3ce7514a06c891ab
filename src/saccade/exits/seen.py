"""What is known of videos after some of their frames: what goes on to the next frame, and what a rule decides by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from saccade.errors import StateError
from saccade.exits.pooling import Memory

Rows = Tensor | slice  # of the videos: indices (N,), bool (B,), or a slice


@dataclass(frozen=True, eq=False, repr=False)
class ExitState:
    """All memory of B videos that have seen equally many frames; nothing of it is on the model.

    Attributes:
        t: frames seen; 0 before the first.
        z: z_t, (B, D), or None before the first frame.
        memory: what the pooling remembers, each (B, ...).
        answers: the sum of the predictions so far, (B, K), where those are averaged, else None.
    """

    t: int = 0
    z: Tensor | None = None
    memory: Memory = ()
    answers: Tensor | None = None

    def rows(self, which: Tensor) -> ExitState:
        """Returns the memory of some of the videos: `which` are indices (N,), or bool (B,)."""
        return self._map(lambda tensors: tensors[0][which], [self])

    @classmethod
    def cat(cls, states: Sequence[ExitState]) -> ExitState:
        """Returns the memory of several as one, in this order.

        Raises:
            StateError: there are none, or they have seen different numbers of frames.
        """
        if not states or len({state.t for state in states}) > 1:
            raise StateError(
                f"got states after {sorted({state.t for state in states})} frames; expected some, and all after "
                "equally many: put those with the same t together"
            )
        return cls._map(torch.cat, states)

    @classmethod
    def _map(cls, change: Callable[[list[Tensor]], Tensor], states: Sequence[ExitState]) -> ExitState:
        first = states[0]
        return cls(
            first.t,
            None if first.z is None else change([s.z for s in states if s.z is not None]),
            tuple(change([s.memory[k] for s in states]) for k in range(len(first.memory))),
            None if first.answers is None else change([s.answers for s in states if s.answers is not None]),
        )

    def __repr__(self) -> str:
        return f"ExitState(t={self.t}, z={None if self.z is None else tuple(self.z.shape)})"


class Seen:
    """What is known of B videos after t frames, for a rule to decide by.

    The classifier and the gate are not computed before somebody asks for them.

    Attributes:
        t: frames seen, from 1.
        frames: T, how many there are at most.
        z, before: z_t and z_{t-1}, (B, D); `before` is None for t = 1.
        state: what to give `FrameExit.look` with the next frame.
        multi_label: whether a video may have several labels.
    """

    def __init__(
        self,
        *,
        t: int,
        frames: int,
        z: Tensor,
        before: Tensor | None,
        classifier: Callable[[Rows], Tensor],
        gate: Callable[[], Tensor],
        multi_label: bool,
        averages: bool,
        state: ExitState,
    ) -> None:
        self.t, self.frames, self.z, self.before, self.multi_label = t, frames, z, before, multi_label
        self._classifier, self._gate, self._averages, self._state = classifier, gate, averages, state

    @cached_property
    def logits(self) -> Tensor:
        """What the t-th classifier says, (B, K)."""
        return self._classifier(slice(None))

    @cached_property
    def gate_logits(self) -> Tensor:
        """What the t-th gate says, (B,), before its sigmoid."""
        return self._gate()

    @cached_property
    def scores(self) -> Tensor:
        """What would be answered now: probabilities (B, K).

        The softmax of the logits, with several labels their sigmoid; where nothing is pooled, the mean of these over
        the classifiers up to t (Table 4).
        """
        if not self._averages:
            return _probabilities(self.logits, self.multi_label)
        answers = self.state.answers
        assert answers is not None
        return answers / self.t

    def scores_of(self, which: Tensor) -> Tensor:
        """Returns the scores of some of the videos, (N, K): no classifier is computed for others that need none.

        Args:
            which: indices (N,), or bool (B,).
        """
        if self._averages or self.asked()[0]:
            return self.scores[which]
        return _probabilities(self._classifier(which), self.multi_label)

    @cached_property
    def state(self) -> ExitState:
        """The memory to go on with."""
        if not self._averages:
            return self._state
        own, earlier = _probabilities(self.logits, self.multi_label), self._state.answers
        return ExitState(self.t, self._state.z, self._state.memory, own if earlier is None else earlier + own)

    def asked(self) -> tuple[bool, bool]:
        """Returns whether the classifier and the gate have been computed."""
        return "logits" in vars(self), "gate_logits" in vars(self)

    def __repr__(self) -> str:
        return f"Seen(t={self.t} of {self.frames}, z={tuple(self.z.shape)})"


def _probabilities(logits: Tensor, multi_label: bool) -> Tensor:
    return logits.sigmoid() if multi_label else logits.softmax(-1)
