"""How far all thresholds can be scaled together: steps that grow until the edge is passed, then halving."""

from __future__ import annotations

from collections.abc import Callable

STEP = 0.5  # of the logarithm of the factor, at first
FARTHEST = 25.0  # logarithm beyond which nothing is looked for


def scale_to_edge(
    attempt: Callable[[float], tuple[bool, bool]], *, upwards: bool, finest: float, steps: int | None = None
) -> None:
    """Calls `attempt` with logarithms of a factor, nearer and nearer to the edge of what is allowed.

    Args:
        attempt: tries a factor, and keeps what it wants to; returns whether it is allowed, and whether to stop here.
        upwards: whether the largest factor that is allowed is looked for, or the smallest.
        finest: distance of the logarithms around the edge at which to stop.
        steps: most attempts.
    """
    inside = outside = None
    scale, step, towards, count = 0.0, STEP, 1 if upwards else -1, 0
    while abs(scale) <= FARTHEST and (steps is None or count < steps):
        allowed, enough = attempt(scale)
        count += 1
        if enough:
            return
        if allowed:
            inside = scale
        else:
            outside = scale
        if inside is not None and outside is not None:
            if abs(outside - inside) < finest:
                return
            scale = (inside + outside) / 2
        else:
            scale += towards * step if allowed else -towards * step
            step *= 1.5
