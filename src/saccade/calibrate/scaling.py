"""How far all thresholds can be scaled together: false position on logarithms, from a guess of how errors grow."""

from __future__ import annotations

import math
from collections.abc import Callable

GROWTH = 1.5  # of the logarithm of an error, or of a cost downwards, per unit of the scale: what is guessed at first
SLOWEST, FASTEST = 0.3, 6.0  # and what is believed of two attempts
SMALLEST, LARGEST = 0.1, 2.0  # first move of the scale while only one side of the edge is known; both then grow
INNER = 0.15  # share of what lies between both sides that is left alone at either end
FARTHEST = 25.0  # logarithm beyond which nothing is looked for
STEPS = 24  # attempts at most


def scale_to_edge(excess: Callable[[float], float], *, upwards: bool, close: float, finest: float) -> None:
    """Calls `excess` with logarithms of a factor, nearer and nearer to the edge of what is allowed.

    Args:
        excess: tries a factor, and keeps what it wants to; returns the logarithm of what it brings over what is
            allowed: at most 0 where it is allowed. May be infinite.
        upwards: whether the largest factor that is allowed is looked for, or the smallest.
        close: from which excess below 0 on a factor will do.
        finest: distance between factors allowed and not allowed, as logarithms, at which to stop.
    """
    inside: tuple[float, float] | None = None  # a scale that is allowed, and its excess
    outside: tuple[float, float] | None = None
    before: tuple[float, float] | None = None
    scale, growth, least, most = 0.0, GROWTH, SMALLEST, LARGEST
    for _ in range(STEPS):
        found = excess(scale)
        if before is not None and math.isfinite(found - before[1]):
            growth = min(FASTEST, max(SLOWEST, abs((found - before[1]) / (scale - before[0]))))
        before = (scale, found)
        if found <= 0:
            inside = before
        else:
            outside = before
        if -close <= found <= 0 or abs(scale) > FARTHEST:
            return
        if inside is not None and outside is not None:
            if abs(outside[0] - inside[0]) < finest:
                return
            scale = _between(inside, outside, aim=-close / 2)
        else:
            move = min(most, max(least, abs(found + close / 2) / growth))
            scale += move if (found <= 0) == upwards else -move
            least, most = 1.5 * least, 1.5 * most


def _between(inside: tuple[float, float], outside: tuple[float, float], *, aim: float) -> float:
    """Returns the scale where a line through both has the excess aimed at, not too near to either."""
    rise = outside[1] - inside[1]
    share = (aim - inside[1]) / rise if math.isfinite(rise) else 0.5
    return inside[0] + min(1 - INNER, max(INNER, share)) * (outside[0] - inside[0])
