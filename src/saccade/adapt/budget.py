"""Gates at a budget: the common scale of thresholds at which a frame costs what it may."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from saccade.calibrate.footage import Block
from saccade.calibrate.scaling import scale_to_edge
from saccade.calibrate.search import log_ratio
from saccade.calibrate.trial import Trial, Trials
from saccade.errors import InputError
from saccade.stream import Gate

CLOSE, FINEST = 0.02, 0.01  # logarithm of a share below the budget that will do; of scales, at which to stop


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
    least = math.inf
    best: tuple[dict[str, Gate], Trial] | None = None

    def attempt(scale: float) -> float:
        nonlocal least, best
        scaled = {name: gate.scaled(math.exp(scale)) for name, gate in gates.items()}
        trial = trials(scaled, blocks, distances=False)
        share = trial.macs / max(1, trial.dense_macs)
        least = min(least, share)
        if share <= budget and (best is None or trial.macs > best[1].macs):
            best = scaled, trial
        return log_ratio(share, budget)

    scale_to_edge(attempt, upwards=False, close=CLOSE, finest=FINEST)
    if best is None:
        raise InputError(
            f"the budget {budget:g} cannot be met: whatever the thresholds, a frame costs at least {least:.3g} of the "
            "dense macs. Ask for more than that; `saccade explain` shows which steps are dense."
        )
    return best
