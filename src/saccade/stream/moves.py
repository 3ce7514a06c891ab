"""Stored values that move along with the picture, before a frame is compared with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor


@dataclass(frozen=True)
class Move:
    """How far a value moves on two of its axes: what was at p + by is at p afterwards.

    Where nothing comes from, what was there stays.

    Attributes:
        axes: the value's vertical and horizontal axis.
        by: positions along each.
    """

    axes: tuple[int, int]
    by: tuple[int, int]


NO_MOVES: Mapping[str, Move] = MappingProxyType({})


def moved(tensor: Tensor, move: Move) -> Tensor:
    """Returns a value, or a mask or record over its positions, after a move."""
    to: list[slice] = [slice(None)] * tensor.dim()
    source = list(to)
    for axis, by in zip(move.axes, move.by, strict=True):
        size = tensor.shape[axis]
        to[axis] = slice(max(0, -by), max(0, size - max(by, 0)))
        source[axis] = slice(max(0, by), max(0, size + min(by, 0)))
    after = tensor.clone()
    after[tuple(to)] = tensor[tuple(source)]
    return after
