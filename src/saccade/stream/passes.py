"""What running a plan over one frame gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from saccade.cost import Cost, StepCost


@dataclass(frozen=True, eq=False)
class Pass:
    """What running a plan over one frame gave.

    Attributes:
        outputs: the model's results, flattened; not shared with the state.
        total: macs of all steps together; its time is not set.
        costs: returns one entry per step, in the plan's order.
        active: returns by step name the mask of what was computed; of this frame until the next one is run.
        seconds: returns the time of every step, in the plan's order; empty where it was not measured.
    """

    outputs: tuple[Tensor, ...]
    total: Cost
    costs: Callable[[], tuple[StepCost, ...]]
    active: Callable[[], Mapping[str, Tensor]]
    seconds: Callable[[], tuple[float, ...]] = tuple

    def settled(self) -> Pass:
        """Returns the same, to be read also after the next frame was run."""
        costs, active, seconds = self.costs(), self.active(), self.seconds()
        return replace(self, costs=lambda: costs, active=lambda: active, seconds=lambda: seconds)


def join(first: Pass, second: Pass) -> Pass:
    """Returns one frame run twice: the second run's outputs, the macs and times of both, what either computed.

    Args:
        first: the first run, settled.
        second: the second.
    """

    def costs() -> tuple[StepCost, ...]:
        return tuple(
            replace(
                b,
                executed_macs=a.executed_macs + b.executed_macs,
                gate_macs=a.gate_macs + b.gate_macs,
                active=a.active + b.active,
                announced=a.announced + b.announced,
                form=a.form if b.form == "skipped" else b.form,
            )
            for a, b in zip(first.costs(), second.costs(), strict=True)
        )

    a, b = first.total, second.total
    return Pass(
        second.outputs,
        Cost(b.dense_macs, a.executed_macs + b.executed_macs, a.gate_macs + b.gate_macs, a.ms + b.ms),
        costs,
        lambda: {name: mask | first.active()[name] for name, mask in second.active().items()},
        lambda: tuple(x + y for x, y in zip(first.seconds(), second.seconds(), strict=True)),
    )
