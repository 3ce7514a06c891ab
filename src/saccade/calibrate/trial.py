"""What gates cost and how near they stay to the dense network, tried on blocks of footage."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from saccade.calibrate.footage import Block, Footage
from saccade.calibrate.measures import Measure
from saccade.stream import Gate, Stream
from saccade.stream.gate import GateSettings

ENOUGH_VALUES = 2**18  # of one output, to see how far it is off
REMEMBERED = 2**30  # bytes of frames and outputs to keep in memory between trials


@dataclass
class Trial:
    """What some gates gave on the counted frames of some blocks.

    Attributes:
        cost: what a frame costs on average, in the unit of the search: macs, or milliseconds.
        macs: executed and gate macs of all frames together.
        dense_macs: dense macs of all frames together.
        distances: the measure of every frame.
        frames: which frames they were, as "clip.mp4:120".
        view_error: mean over frames of the relative error of the measure's view, on a grid of positions; the mean of
            fourth powers, so that the worst frames count most.
        seconds: what trying them took.
    """

    cost: float = 0.0
    macs: int = 0
    dense_macs: int = 0
    distances: list[float] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)
    view_error: float = 0.0
    seconds: float = 0.0

    @property
    def macs_ratio(self) -> float:
        """Dense over executed and gate macs; infinite where nothing was executed."""
        return self.dense_macs / self.macs if self.macs else math.inf

    @property
    def worst(self) -> float:
        """Largest measure of a frame; 0 without frames."""
        return max(self.distances, default=0.0)


@dataclass(frozen=True, eq=False)
class _Known:
    """A frame, what the measure reads off the dense outputs, its view of them, and the view's squared L2 norm."""

    inputs: list[Tensor]
    read: list[Tensor]
    view: list[Tensor]
    size: float

    @cached_property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self.inputs, *self.read, *self.view))


class Trials:
    """Tries gates on footage with one stream, which is reset for each block.

    Args:
        footage: the frames and what the dense network gives for them.
        measure: how near is near.
        record: how announcements are remembered.
        executor: as of `Stream`.
        threads: as of `Stream`.
        seconds_per_mac: by step name; where given, cost is the time these say, in milliseconds, in place of macs.
    """

    def __init__(
        self,
        footage: Footage,
        measure: Measure,
        *,
        record: str = "reference",
        executor: str | None = None,
        threads: int = 1,
        seconds_per_mac: Mapping[str, float] | None = None,
    ) -> None:
        self.footage, self.measure, self.seconds_per_mac = footage, measure, seconds_per_mac
        self._kept: OrderedDict[tuple[str, int], _Known] = OrderedDict()
        self.stream = Stream(footage.plan, threshold=0.0, record=record, executor=executor, threads=threads)

    def __call__(
        self,
        gates: Mapping[str, Gate],
        blocks: Sequence[Block],
        *,
        distances: bool = True,
    ) -> Trial:
        """Returns what the gates gave on the blocks.

        Args:
            gates: by value name.
            blocks: what to run.
            distances: measure distances, too; without it only the view's error, which is faster.
        """
        began = time.monotonic()
        self.stream.settings = self.settings(gates)
        found, fourths, count = Trial(), 0.0, 0
        for block in blocks:
            self.stream.reset()
            for number in block.numbers:
                known = self._known(block.clip, number)
                outputs = pytree.tree_leaves(self.stream(*known.inputs))
                if number not in block.counted:
                    continue
                count += 1
                cost = self.stream.cost
                found.macs += cost.executed_macs + cost.gate_macs
                found.dense_macs += cost.dense_macs
                found.cost += self._cost()
                if distances:
                    found.distances.append(self.measure.compare(self.measure.read(outputs), known.read))
                    found.frames.append(f"{block.clip}:{number}")
                fourths += squared_error(self.measure.view(thinned(outputs)), known.view, known.size) ** 2
        found.cost /= max(1, count)
        found.view_error = (fourths / max(1, count)) ** 0.25
        found.seconds = time.monotonic() - began
        return found

    def settings(self, gates: Mapping[str, Gate]) -> GateSettings:
        """Returns what the stream is told."""
        return GateSettings(threshold=dict(gates))

    def _known(self, clip: str, number: int) -> _Known:
        """Returns a frame with what is compared with; the last ones used stay in memory."""
        key = (clip, number)
        if key not in self._kept:
            inputs, outputs = self.footage.inputs(clip, number), self.footage.outputs(clip, number)
            view = [x.contiguous() for x in self.measure.view(thinned(outputs))]  # not the whole behind a grid
            self._kept[key] = _Known(inputs, self.measure.read(outputs), view, squared_size(view))
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(known.nbytes for known in self._kept.values()) > REMEMBERED:
            self._kept.popitem(last=False)
        return self._kept[key]

    def _cost(self) -> float:
        if self.seconds_per_mac is None:
            return float(self.stream.cost.executed_macs + self.stream.cost.gate_macs)
        steps = self.stream.step_costs
        return 1e3 * sum(self.seconds_per_mac[step.name] * (step.executed_macs + step.gate_macs) for step in steps)


def seconds_per_mac(
    footage: Footage, gates: Mapping[str, Gate], blocks: Sequence[Block], *, threads: int = 1
) -> dict[str, float]:
    """Returns by step name how long a mac takes on the native engine, over the counted frames of some blocks.

    Steps that do no macs take 0: their time does not depend on thresholds much. A step that did none here takes what
    macs take on average.

    Raises:
        InputError: the engine is not there, or cannot run the plan.
    """
    stream = Stream(footage.plan, threshold=dict(gates), executor="native", threads=threads, profile=True)
    seconds: dict[str, float] = {}
    macs: dict[str, int] = {}
    for block in blocks:
        stream.reset()
        for number in block.numbers:
            stream(*footage.inputs(block.clip, number))
            for step, took in zip(stream.step_costs, stream.step_seconds, strict=True):
                seconds[step.name] = seconds.get(step.name, 0.0) + took
                macs[step.name] = macs.get(step.name, 0) + step.executed_macs + step.gate_macs
    average = sum(seconds.values()) / max(1, sum(macs.values()))
    return {name: took / macs[name] if macs[name] else average for name, took in seconds.items()}


def thinned(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Returns outputs with maps (N, C, H, W) of many values thinned to a grid of every k-th row and column.

    Their error is looked at hundreds of times, and a grid of a quarter of a million values tells it as well.
    """
    found = []
    for x in outputs:
        stride = max(1, round(math.sqrt(x.numel() / ENOUGH_VALUES))) if x.ndim == 4 else 1
        found.append(x if stride == 1 else x[..., stride // 2 :: stride, stride // 2 :: stride])
    return found


def squared_error(got: Sequence[Tensor], dense: Sequence[Tensor], size: float) -> float:
    """Returns ||got - dense||^2 / size over all tensors, size being ||dense||^2; 0 for 0 / 0, infinite for x / 0."""
    difference = squared_size([a - b for a, b in zip(got, dense, strict=True)])
    if size == 0:
        return 0.0 if difference == 0 else math.inf
    return difference / size


def squared_size(tensors: Sequence[Tensor]) -> float:
    """Returns the squared L2 norm over all tensors."""
    return sum(float(torch.linalg.vector_norm(x, dtype=torch.float64)) ** 2 for x in tensors)
