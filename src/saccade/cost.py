"""The ledger: what one frame cost, in multiply-accumulates (macs) and milliseconds.

Convolutions, transposed convolutions and linear layers count every multiply-add once. Cheaper arithmetic counts
one mac for each element it reads: an activation or an add one per output element, pooling its window per output
element. Moving data (concatenation, slicing, nearest upsampling) counts nothing. Deciding is counted apart, as
`gate_macs`: one mac per channel value compared with the announced record, one per position whose mask is derived, and
all that the gates of dynamic and gated convolutions compute.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class StepCost:
    """What one step of a plan cost in one frame.

    Attributes:
        name: the step's name in the plan.
        dense_macs: macs of computing every position.
        executed_macs: macs of the positions computed; at most `dense_macs`, but in a frame that was audited: that is
            run twice, and both runs are counted, here and below. A dynamic convolution that leaves nothing out may
            still rebuild, and so spend a little more.
        gate_macs: macs of deriving the mask and comparing with the announced record.
        positions: positions of the step's output (all elements but the channel axis).
        active: positions computed.
        announced: positions whose change consumers are told of.
        form: how it was computed: "skipped", "positions" (a list of them), "whole" (so many active that all were
            computed), "moved" (data only moves), or "torch" (the engine has no form for it).
    """

    name: str
    dense_macs: int
    executed_macs: int
    gate_macs: int
    positions: int
    active: int
    announced: int
    form: str = "positions"

    def as_deciding(self) -> StepCost:
        """Returns the cost of a step that only decides what others compute: all of it is gate macs, nothing dense."""
        return replace(self, dense_macs=0, executed_macs=0, gate_macs=self.gate_macs + self.executed_macs)


@dataclass(frozen=True)
class Cost:
    """What one frame cost: macs dense, executed and spent on deciding, and wall-clock milliseconds."""

    dense_macs: int
    executed_macs: int
    gate_macs: int
    ms: float

    @property
    def macs_fraction(self) -> float:
        """(executed + gate) / dense macs; 0 for a plan without any macs."""
        return (self.executed_macs + self.gate_macs) / self.dense_macs if self.dense_macs else 0.0

    @classmethod
    def total(cls, steps: Iterable[StepCost], *, ms: float) -> Cost:
        """Returns the sum of the steps' costs."""
        dense = executed = gate = 0
        for step in steps:
            dense += step.dense_macs
            executed += step.executed_macs
            gate += step.gate_macs
        return cls(dense, executed, gate, ms)
