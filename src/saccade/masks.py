"""Positions of a value, and how masks over them travel.

A value (a tensor between two steps) has one channel axis; everything else indexes its positions. A mask over the
positions is a bool tensor of the value's shape with the channel axis reduced to 1, so it broadcasts against the
value. A value without a channel axis (None) has one position per element.

Where it says so, a mask may also be a float tensor of margins, set where over 0: a union is then a maximum.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

UNSET = -1e4  # margin of what is far from being set


@dataclass(frozen=True)
class ValueSpec:
    """Shape, dtype and channel axis of a value of a plan.

    Attributes:
        shape: all sizes, batch included.
        dtype: a torch dtype's name without the prefix, as "float32".
        channel_axis: the axis whose elements share one position, or None.
    """

    shape: tuple[int, ...]
    dtype: str
    channel_axis: int | None

    def __post_init__(self) -> None:
        if self.channel_axis is not None and not 0 <= self.channel_axis < len(self.shape):
            raise ValueError(f"channel axis {self.channel_axis} is outside the shape {self.shape}")

    @property
    def mask_shape(self) -> tuple[int, ...]:
        """Shape of a mask over the positions."""
        if self.channel_axis is None:
            return self.shape
        return (*self.shape[: self.channel_axis], 1, *self.shape[self.channel_axis + 1 :])

    @property
    def channels(self) -> int:
        """Elements per position."""
        return 1 if self.channel_axis is None else self.shape[self.channel_axis]

    @property
    def positions(self) -> int:
        """How many positions there are."""
        return math.prod(self.mask_shape)

    @property
    def numel(self) -> int:
        """How many elements there are."""
        return math.prod(self.shape)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype as torch's object."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def full_mask(self, fill: bool) -> Tensor:
        """Returns a mask with every position set to `fill`."""
        return torch.full(self.mask_shape, fill, dtype=torch.bool)


def on_axis(mask: Tensor, spec: ValueSpec, axis: int | None) -> Tensor:
    """Returns the mask with `axis` as the channel axis instead of the value's own.

    A position of the new kind is set where any element it holds was in a set position. Takes margins, too.
    """
    if axis == spec.channel_axis:
        return mask
    full = mask.expand(spec.shape)
    return full if axis is None else _any(full, axis)


def broadcast(mask: Tensor, spec: ValueSpec, out: ValueSpec) -> Tensor:
    """Returns where an elementwise operation with output `out` reads a set position of `spec` (mask of `out`).

    Takes margins, too.
    """
    shift = len(out.shape) - len(spec.shape)
    axis = None if out.channel_axis is None else out.channel_axis - shift
    aligned = on_axis(mask, spec, axis if axis is not None and axis >= 0 else None)
    return aligned.reshape((1,) * shift + aligned.shape).expand(out.mask_shape)


def read_broadcast(wanted: Tensor, spec: ValueSpec, out: ValueSpec) -> Tensor:
    """Returns what an elementwise operation reads of `spec` for wanted positions of `out` (mask of `spec`)."""
    shift = len(out.shape) - len(spec.shape)
    aligned = on_axis(wanted, out, None if spec.channel_axis is None else spec.channel_axis + shift)
    single = [dim for dim in range(len(out.shape)) if dim < shift or spec.mask_shape[dim - shift] == 1]
    return along(aligned, single).reshape(spec.mask_shape)


def along(mask: Tensor, dims: Sequence[int]) -> Tensor:
    """Returns the mask where every line along `dims` that holds a set position is set whole (dims kept as 1).

    Takes margins, too.
    """
    for dim in dims:
        mask = _any(mask, dim)
    return mask


def union(masks: Sequence[Tensor]) -> Tensor:
    """Returns where any of these masks, which broadcast, is set. Takes margins, too."""
    join = torch.logical_or if masks[0].dtype == torch.bool else torch.maximum
    return functools.reduce(join, masks)


def _any(mask: Tensor, dim: int) -> Tensor:
    return mask.any(dim, keepdim=True) if mask.dtype == torch.bool else mask.amax(dim, keepdim=True)


def resize_support(in_size: int, out_size: int, *, align_corners: bool, scale: float | None) -> Tensor:
    """Returns (out_size, in_size) bool: which inputs a linear interpolation reads for each output on one axis.

    `scale` is the factor the user gave, where one was given. A margin of a thousandth of a sample covers the rounding
    of the sample position, whose exact value differs between implementations.
    """
    out = torch.arange(out_size, dtype=torch.float64)
    if align_corners:
        source = out * ((in_size - 1) / (out_size - 1) if out_size > 1 else 0.0)
    else:
        ratio = 1.0 / scale if scale else in_size / out_size
        source = (out + 0.5) * ratio - 0.5
        source = source.clamp(min=0.0)
    distance = (source[:, None] - torch.arange(in_size, dtype=torch.float64)[None, :]).abs()
    support = distance < 1 + 1e-3
    inside = source.clamp(0, in_size - 1).round().long()
    support[torch.arange(out_size), inside] = True
    return support
