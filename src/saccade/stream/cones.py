"""Which positions a part of a plan's outputs is computed from, and how the outputs are parted.

A *cell* is one part of a partition of all output positions; its *cone* is every position of every step that the cell
depends on, backwards through the plan. A frame run with a cone forced (`Executor.run`) gives the cell's outputs as a
full pass does, whatever was announced.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saccade.graph.plan import Plan, Step
from saccade.kernels.rule import Masks
from saccade.kernels.table import find_rule
from saccade.masks import ValueSpec, read_broadcast

DEAREST = 0.5  # share of a frame's macs from which on a part of it is not worth choosing


@torch.inference_mode(mode=False)  # what reads what is found by gradients
def find_reads(plan: Plan, wanted: Masks) -> dict[str, Tensor]:
    """Returns every position that wanted ones are computed from, theirs included, by value.

    Args:
        plan: the plan.
        wanted: by value name, a mask of its positions.
    """
    needed = dict(wanted)
    for step in reversed(plan.steps):
        masks = {name: needed[name] for name in step.outputs if name in needed and bool(needed[name].any())}
        for name, mask in _reads(plan, step, masks) if masks and step.calls else ():
            needed[name] = needed[name] | mask if name in needed else mask
    return needed


def find_cone(plan: Plan, wanted: Masks) -> dict[str, Tensor]:
    """Returns what of `find_reads` an executor can be told to compute: not inputs, nor data that only moves."""
    computed = {name for step in plan.steps if step.gated and step.calls for name in step.outputs}
    return {name: mask for name, mask in find_reads(plan, wanted).items() if name in computed}


def _reads(plan: Plan, step: Step, masks: Masks) -> list[tuple[str, Tensor]]:
    """Returns what a step reads for wanted positions of its outputs; a dense step reads everything."""
    rule = find_rule(step.calls[0])
    if step.form == "dense" or rule is None:
        return [(name, plan.values[name].full_mask(True)) for name in step.inputs]
    (name,) = step.outputs
    out, mask = plan.values[name], masks[name]
    found = list(rule.reads(step.calls[0], mask, plan.scope, out).items())
    for call in step.calls[1:]:
        found += [(operand, read_broadcast(mask, plan.values[operand], out)) for operand in call.values()]
    return found


def cone_macs(plan: Plan, cone: Masks) -> int:
    """Returns the macs of computing a cone's positions."""
    total = 0
    for step in plan.steps:
        count = sum(int(cone[name].sum()) for name in step.outputs if name in cone)
        positions = sum(plan.values[name].positions for name in step.outputs)
        total += step.macs * count // positions if positions else 0
    return total


@dataclass(eq=False)
class Cells:
    """A partition of a plan's output positions, and the cones of its cells.

    A cell holds, of every output, the positions in one rectangle of the frame: outputs of several sizes are cut at
    the same places. Of an output with one axis of positions it holds a stretch, and one with none belongs to cell 0.
    Where the cone of a middle cell costs more than half of a frame, as behind global pooling, the frame is one cell.

    Attributes:
        plan: the plan.
        grid: rows and columns of cells.
        labels: by output value, the cell each position belongs to; int32 of its mask shape.
    """

    plan: Plan
    grid: tuple[int, int]
    labels: Mapping[str, Tensor]
    _packed: dict[int, dict[str, npt.NDArray[np.uint8]]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many cells there are."""
        return self.grid[0] * self.grid[1]

    def cone(self, cell: int) -> dict[str, Tensor]:
        """Returns the cone of a cell, by value; found once for all streams of a plan, and kept in bits."""
        packed = self._packed.get(cell)
        if packed is None:
            found = find_cone(self.plan, {name: label == cell for name, label in self.labels.items()})
            packed = self._packed[cell] = {name: np.packbits(mask.numpy()) for name, mask in found.items()}
        return {name: _unpacked(bits, self.plan.values[name]) for name, bits in packed.items()}


def _unpacked(bits: npt.NDArray[np.uint8], spec: ValueSpec) -> Tensor:
    flat = np.unpackbits(bits, count=spec.positions)
    return torch.from_numpy(flat).view(torch.bool).reshape(spec.mask_shape)


def make_cells(plan: Plan, share: float, *, dearest: float = DEAREST) -> Cells:
    """Returns cells that each hold about `share` of the output positions, or one where a cell's cone is too dear."""
    specs = {ref.name: plan.values[ref.name] for ref in plan.outputs if ref.kind == "value"}
    rows, columns = _grid(list(specs.values()), share)
    if rows * columns > 1:
        cells = Cells(plan, (rows, columns), {name: _labels(spec, rows, columns) for name, spec in specs.items()})
        middle = cells.cone(rows // 2 * columns + columns // 2)
        if cone_macs(plan, middle) <= dearest * plan.dense_macs:
            return cells
    return Cells(plan, (1, 1), {name: _labels(spec, 1, 1) for name, spec in specs.items()})


def _axes(spec: ValueSpec) -> list[int]:
    """Returns the last two axes that positions lie along."""
    return [axis for axis, size in enumerate(spec.mask_shape) if size > 1][-2:]


def _grid(specs: list[ValueSpec], share: float) -> tuple[int, int]:
    """Returns rows and columns of nearly square cells of the largest output."""
    count = max(1, round(1 / share))
    flat = [spec for spec in specs if len(_axes(spec)) == 2]
    if not flat:
        longest = max((spec.positions for spec in specs), default=1)
        return min(count, longest), 1
    largest = max(flat, key=lambda spec: spec.positions)
    height, width = (largest.shape[axis] for axis in _axes(largest))
    columns = min(width, max(1, round(math.sqrt(count * width / height))))
    return min(height, max(1, round(count / columns))), columns


def _labels(spec: ValueSpec, rows: int, columns: int) -> Tensor:
    labels = torch.zeros(spec.mask_shape, dtype=torch.int32)
    axes = _axes(spec)
    for axis, parts in zip(axes, (rows, columns) if len(axes) == 2 else (rows * columns,), strict=False):
        size = spec.mask_shape[axis]
        part = torch.arange(size, dtype=torch.int32) * parts // size
        shape = [1] * len(spec.mask_shape)
        shape[axis] = size
        labels = labels * parts + part.reshape(shape)
    return labels


_SHARED: WeakKeyDictionary[Plan, dict[float, Cells]] = WeakKeyDictionary()
_LOCK = Lock()


def shared_cells(plan: Plan, share: float) -> Cells:
    """Returns the cells all streams of a plan share."""
    with _LOCK:
        known = _SHARED.setdefault(plan, {})
        if share not in known:
            known[share] = make_cells(plan, share)
        return known[share]
