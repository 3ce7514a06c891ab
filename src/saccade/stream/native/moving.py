"""Stored values moved in place: row by row in the engine's memory, however its axes lie in it."""

from __future__ import annotations

import itertools

from torch import Tensor

from saccade.kernels.cpu import native_module
from saccade.stream.moves import Move


def move_in_place(tensor: Tensor, move: Move) -> None:
    """Moves a tensor of a value's shape or mask shape, as `saccade.stream.moves.moved` says."""
    module = native_module()
    assert module is not None
    item, shape, stride = tensor.element_size(), tensor.shape, tensor.stride()
    others = [axis for axis in range(tensor.dim()) if axis not in move.axes and shape[axis] > 1]
    inner = [axis for axis in others if stride[axis] == 1]
    outer = [range(0, shape[axis] * stride[axis], stride[axis]) for axis in others if axis not in inner]
    size = [shape[axis] for axis in move.axes]
    if any(abs(by) >= extent for by, extent in zip(move.by, size, strict=True)):
        return
    module.move_rows(
        [tensor.data_ptr() + item * sum(at) for at in itertools.product(*outer)],
        size=size,
        stride=[item * stride[axis] for axis in move.axes],
        bytes=item * (shape[inner[0]] if inner else 1),
        by=move.by,
    )
