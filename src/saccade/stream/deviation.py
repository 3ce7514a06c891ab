"""How far a frame's outputs are from fresh ones, seen in one cell of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def relative_square(got: Sequence[Tensor], fresh: Sequence[Tensor], inside: Sequence[Tensor], *, cells: int) -> float:
    """Returns cells x sum over the cell of (got - fresh)^2, over the sum of fresh^2 of all outputs.

    Drawn uniformly from the cells of a partition, the cell makes this an unbiased estimate of the squared relative
    error of the frame, but for the norm: outside the cell it is that of what the stream holds there, off by at most
    the error itself. Equal values do not differ, infinite and NaN ones included; 0 where nothing does, infinity where
    the norm is 0 or a difference is not finite.

    Args:
        got: what the stream gave, one tensor per output.
        fresh: the same, right inside the cell.
        inside: masks of the cell, to broadcast with each output.
        cells: how many cells there are.
    """
    off, size = 0.0, 0.0
    for a, b, mask in zip(got, fresh, inside, strict=True):
        x, y = a.double(), b.double()
        same = (x == y) | (x.isnan() & y.isnan()) | ~mask
        off += float(torch.where(same, 0.0, x - y).square().sum())
        size += float(torch.where(y.isfinite(), y, 0.0).square().sum())
    if off == 0:
        return 0.0
    return cells * off / size if size and not math.isnan(off) else math.inf


def argmax_change(
    got: Sequence[Tensor], fresh: Sequence[Tensor], inside: Sequence[Tensor], axes: Sequence[int | None], *, cells: int
) -> float:
    """Returns an unbiased estimate of the share of positions whose largest channel is another, mean over the outputs.

    Args:
        got, fresh, inside, cells: as for `relative_square`.
        axes: the channel axis of each output; outputs with None are left out.
    """
    shares = []
    for a, b, mask, axis in zip(got, fresh, inside, axes, strict=True):
        if axis is not None:
            differ = a.argmax(axis, keepdim=True) != b.argmax(axis, keepdim=True)
            shares.append(cells * float((differ & mask).sum()) / differ.numel())
    return sum(shares) / len(shares)
