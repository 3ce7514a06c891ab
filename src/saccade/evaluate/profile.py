"""Where a stream's time goes, by kind of step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from saccade.kernels.window import is_transposed

if TYPE_CHECKING:
    from saccade.graph import Plan
    from saccade.graph.plan import Step
    from saccade.stream import Stream


@dataclass(frozen=True)
class KindProfile:
    """What the steps of one kind took, per frame on average.

    Attributes:
        kind: as "conv 3x3", "depthwise 5x5", "add".
        steps: how many steps of the plan are of this kind.
        ms: milliseconds per frame.
        macs: executed macs per frame.
        outputs: channel values computed per frame.
    """

    kind: str
    steps: int
    ms: float
    macs: float
    outputs: float


class Profiler:
    """Adds up the time of every step over frames.

    Args:
        plan: the plan the stream runs.
    """

    def __init__(self, plan: Plan) -> None:
        self._kinds = [kind_of(step, plan) for step in plan.steps]
        self._channels = [plan.values[step.outputs[0]].channels for step in plan.steps]
        self._frames = 0
        self._sums = [[0.0, 0.0, 0.0] for _ in plan.steps]

    def add(self, stream: Stream) -> None:
        """Adds the stream's last frame."""
        self._frames += 1
        rows = zip(self._sums, stream.step_seconds, stream.step_costs, self._channels, strict=True)
        for sums, seconds, cost, channels in rows:
            sums[0] += 1000 * seconds
            sums[1] += cost.executed_macs
            sums[2] += cost.active * channels

    def result(self) -> list[KindProfile]:
        """Returns the kinds of step, the dearest first."""
        frames = max(self._frames, 1)
        kinds: dict[str, list[list[float]]] = {}
        for kind, sums in zip(self._kinds, self._sums, strict=True):
            kinds.setdefault(kind, []).append(sums)
        rows = [
            KindProfile(kind, len(sums), *(sum(row[i] for row in sums) / frames for i in range(3)))
            for kind, sums in kinds.items()
        ]
        return sorted(rows, key=lambda row: -row.ms)


def kind_of(step: Step, plan: Plan) -> str:
    """Returns what kind of work a step is."""
    if not step.calls:
        return "input"
    head = step.calls[0]
    if step.form == "dense":
        return f"{head.base} (dense)"
    if not head.base.startswith(("conv", "gated_conv")):
        return head.base
    shape = plan.weights[head.arguments["weight"].name].shape
    groups = head.arguments["groups"]
    name = "transposed" if is_transposed(head) else "conv"
    if groups > 1:
        name = "depthwise" if groups == shape[0] == groups * shape[1] else "grouped"
    if head.base.startswith("gated"):
        name = f"gated {name}"
    return f"{name} {'x'.join(map(str, shape[2:]))}"
