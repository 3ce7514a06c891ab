"""How far the picture moved from one frame to the next, in whole pixels, at next to no cost.

A picture's rows and columns are summed up to two lines of numbers. A camera that turns or shakes moves those lines, and
what else moves hardly changes them: the displacement is where one line's slopes fit the other's best. Whether the
pictures then agree is asked of small squares, some hundred spread over the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.stream.gate import Gate

REACH = 64  # pixels a picture can have moved, at most a quarter of it
SQUARE = 6  # pixels; about what two layers of 3 x 3 see
SPACING = 32  # from square to square


@dataclass(frozen=True, eq=False)
class Lines:
    """The means of a picture's rows, (H,), and of its columns, (W,), summed over the channels."""

    rows: Tensor
    columns: Tensor

    @classmethod
    def of(cls, picture: Tensor) -> Lines:
        """Returns the lines of a picture (1, C, H, W)."""
        channels, height, width = picture.shape[1:]
        if picture.stride(1) == 1:  # channels side by side: summed as they lie in memory
            flat = picture[0].permute(1, 2, 0).reshape(height, width * channels).float()
            rows, columns = flat.sum(1), flat.sum(0).reshape(width, channels).sum(1)
        else:
            planes = picture[0].float()
            rows, columns = planes.sum(2).sum(0), planes.sum(1).sum(0)
        return cls(rows / width, columns / height)

    @property
    def finite(self) -> bool:
        """Whether no pixel of the picture is NaN or infinite."""
        return bool(torch.isfinite(self.rows).all())


def displacement(now: Lines, before: Lines) -> tuple[int, int]:
    """Returns (down, right) in pixels: `now` at p looks as `before` at p + (down, right)."""
    return _match(now.rows, before.rows), _match(now.columns, before.columns)


def displacement_macs(height: int, width: int) -> int:
    """Returns the multiply-adds of finding a displacement from lines."""
    return sum((2 * _reach(size) + 1) * (size - 1) for size in (height, width))


def _reach(size: int) -> int:
    return min(REACH, size // 4)


def _match(now: Tensor, before: Tensor) -> int:
    reach = _reach(len(now))
    if reach == 0:
        return 0
    slopes = now.diff()
    windows = F.pad(before.diff(), (reach, reach)).unfold(0, len(slopes), 1)
    error = ((windows - slopes).abs_() * _inside(len(slopes), reach)).sum(1)
    best = int(error.argmin())
    return 0 if error[reach] <= error[best] else best - reach


@lru_cache(maxsize=32)
def _inside(size: int, reach: int) -> Tensor:
    """Returns (2 reach + 1, size): by displacement, 1 over their number where both lines are, else 0."""
    inside = F.pad(torch.ones(size), (reach, reach)).unfold(0, size, 1)
    return inside / inside.sum(1, keepdim=True)


def changed_share(now: Tensor, before: Tensor, by: tuple[int, int], gate: Gate) -> tuple[float, int]:
    """Returns the share of small squares in which a pixel would be announced, and the macs of asking.

    Args:
        now: the frame, (1, C, H, W).
        before: the frame before; compared where it lies after moving.
        by: (down, right), how far it moves: `now` at p is compared with `before` at p + by.
        gate: the input's gate.
    """
    mine: list[slice] = [slice(None), slice(None)]
    theirs = list(mine)
    for size, step in zip(now.shape[2:], by, strict=True):
        mine.append(slice(max(0, -step), size - max(0, step)))
        theirs.append(slice(max(0, step), size + min(0, step)))
    here, there = _squares(now[tuple(mine)]), _squares(before[tuple(theirs)])
    if gate.threshold == 0:
        changed = here.to(there.dtype) != there
    else:
        squared = (here - there.float()).square()
        if gate.weights is not None:
            squared = squared * gate.weights.reshape(1, -1, 1, 1, 1, 1)
        norm = squared.sum(1) if gate.weights is not None else squared.mean(1)
        changed = (norm > gate.threshold**2)[:, None]
    return float(changed.any(1).any(-1).any(-1).float().mean()), here.numel()


def _squares(picture: Tensor) -> Tensor:
    """Returns (1, C, rows, columns, side, side), a view."""
    for axis in (2, 3):
        size = picture.shape[axis]
        side = min(SQUARE, size)
        picture = picture.unfold(axis, side, max(side, min(SPACING, size // 10)))
    return picture
