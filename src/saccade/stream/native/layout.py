"""How a value lies in the engine's memory: a matrix with one row per position, holding its channels."""

from __future__ import annotations

import torch
from torch import Tensor

from saccade.masks import ValueSpec


def view_as_value(rows: Tensor, spec: ValueSpec, *, offset: int = 0, stride: int | None = None) -> Tensor:
    """Returns memory of rows (flat, any dtype) as a tensor of the value's shape.

    Args:
        rows: the flat memory the rows lie in.
        spec: the value's spec.
        offset: where the first row begins, in elements.
        stride: elements from one row to the next; the channels by default.
    """
    step = spec.channels if stride is None else stride
    strides, size = [0] * len(spec.shape), 1
    for axis in reversed(range(len(spec.shape))):
        if axis == spec.channel_axis:
            strides[axis] = 1
        else:
            strides[axis] = size * step
            size *= spec.shape[axis]
    return rows.as_strided(spec.shape, strides, rows.storage_offset() + offset)


def as_rows(value: Tensor, spec: ValueSpec) -> Tensor:
    """Returns a tensor of the value's shape as (positions, channels)."""
    if spec.channel_axis is None:
        return value.reshape(-1, 1)
    return value.movedim(spec.channel_axis, -1).reshape(spec.positions, spec.channels)


def numbered(spec: ValueSpec) -> tuple[Tensor, Tensor]:
    """Returns for every element of a value the number of its row and of its channel; int64 of the value's shape."""
    rows = torch.arange(spec.positions).reshape(spec.mask_shape).expand(spec.shape)
    if spec.channel_axis is None:
        return rows, torch.zeros_like(rows)
    shape = [1] * len(spec.shape)
    shape[spec.channel_axis] = -1
    return rows, torch.arange(spec.channels).reshape(shape).expand(spec.shape)


def is_identity(index: Tensor) -> bool:
    """Returns whether an index is 0, 1, 2, ..."""
    return torch.equal(index, torch.arange(index.numel(), dtype=index.dtype))
