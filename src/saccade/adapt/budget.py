"""Gates at a budget: the common scale of thresholds at which a frame costs what it may."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from saccade.calibrate.footage import Block
from saccade.calibrate.trial import Trial, Trials
from saccade.errors import InputError
from saccade.stream import Gate

STEP, FINEST = 0.5, 0.01  # of the logarithm of the scale: first, and when to stop
FARTHEST = 25.0  # beyond which nothing is looked for
CLOSE = 0.98  # share of the budget from which a scale will do


def at_budget(
    trials: Trials, gates: Mapping[str, Gate], blocks: Sequence[Block], budget: float
) -> tuple[dict[str, Gate], Trial]:
    """Returns the gates with thresholds times about the smallest common factor within a budget, and what they gave.

    Args:
        trials: tries gates.
        gates: by value name.
        blocks: frames to keep the budget on.
        budget: share of the dense network's macs.

    Raises:
        InputError: no factor keeps the budget.
    """
    over = within = None
    scale, step, least = 0.0, STEP, math.inf
    best: tuple[dict[str, Gate], Trial] | None = None
    while abs(scale) <= FARTHEST:
        scaled = {name: gate.scaled(math.exp(scale)) for name, gate in gates.items()}
        trial = trials(scaled, blocks, distances=False)
        share = trial.macs / max(1, trial.dense_macs)
        least = min(least, share)
        if share <= budget:
            within, best = scale, (scaled, trial)
            if share >= CLOSE * budget:
                break
        else:
            over = scale
        if over is not None and within is not None:
            if within - over < FINEST:
                break
            scale = (over + within) / 2
        else:
            scale += step if within is None else -step
            step *= 1.5
    if best is None:
        raise InputError(
            f"the budget {budget:g} cannot be met: whatever the thresholds, a frame costs at least {least:.3g} of the "
            "dense macs. Ask for more than that; `saccade explain` shows which steps are dense."
        )
    return best
