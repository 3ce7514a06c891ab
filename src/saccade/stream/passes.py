"""What running a plan over one frame gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
