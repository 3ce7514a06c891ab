"""One rank per layer from each layer's measured losses: two rules, the better of which is kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from saccade.errors import InputError


@dataclass(frozen=True)
class RankOption:
    """A rank a layer may be given: the macs it then has, and what is lost when it alone is decomposed."""

    rank: int
    macs: int
    loss: float


@dataclass(frozen=True)
class RankCurve:
    """A layer's macs when it is kept, which loses nothing, and its options."""

    dense_macs: int
    options: Sequence[RankOption]


Choice = list[RankOption | None]  # one per layer; None keeps it


def choices(curves: Sequence[RankCurve], budget: float) -> Iterator[Choice]:
    """Gives the choice of either rule, each with at most `budget` macs; InputError where none is small enough."""
    smallest = sum(_macs(curve, _cheapest(curve, math.inf)) for curve in curves)
    if smallest > budget:
        dense = sum(curve.dense_macs for curve in curves)
        raise InputError(
            f"the layers that may be decomposed have {dense} macs; {budget:.0f} are allowed and {smallest} are the "
            "fewest the given shares reach. Raise ratio, allow more layers, or add smaller shares"
        )
    for rule in (by_threshold, by_loss_per_mac):
        yield give_back(curves, rule(curves, budget), budget)


def by_threshold(curves: Sequence[RankCurve], budget: float) -> Choice:
    """Returns the choice for the lowest loss that, allowed to every layer alone, gets below the budget.

    Each layer takes its cheapest option within that loss. (The greedy search of the AI model efficiency toolkit,
    which the Skip-Convolutions paper used, looks for the same level.)
    """
    levels = sorted({0.0, *(option.loss for curve in curves for option in curve.options)})
    low, high = 0, len(levels) - 1  # macs fall as the level rises: halve
    while low < high:
        middle = (low + high) // 2
        if sum(_macs(curve, _cheapest(curve, levels[middle])) for curve in curves) <= budget:
            high = middle
        else:
            low = middle + 1
    return [_cheapest(curve, levels[low]) for curve in curves]


def by_loss_per_mac(curves: Sequence[RankCurve], budget: float) -> Choice:
    """Returns the choice reached by taking, again and again, the step that loses least per mac saved.

    Steps go along the lower convex hull of a layer's losses over its macs, so the result is the best for losses that
    add up, but for the last step.
    """
    steps: list[tuple[float, int, RankOption]] = []
    for index, curve in enumerate(curves):
        macs, loss = curve.dense_macs, 0.0
        while True:
            # Losses are taken to grow as macs fall, whatever noise measured; of equal slopes the farthest.
            left = [
                ((max(option.loss, loss) - loss) / (macs - option.macs), option.macs, option)
                for option in curve.options
                if option.macs < macs
            ]
            if not left:
                break
            slope, _, option = min(left, key=lambda entry: entry[:2])
            steps.append((slope, index, option))
            macs, loss = option.macs, max(option.loss, loss)
    chosen: Choice = [None] * len(curves)
    total = sum(curve.dense_macs for curve in curves)
    for _, index, option in sorted(steps, key=lambda step: step[0]):  # stable: a layer's own steps keep their order
        if total <= budget:
            break
        total += option.macs - _macs(curves[index], chosen[index])
        chosen[index] = option
    return chosen


def give_back(curves: Sequence[RankCurve], choice: Choice, budget: float) -> Choice:
    """Returns the choice after spending what it left of the budget: the change that regains most loss first."""
    chosen = list(choice)
    spare = budget - sum(_macs(curve, option) for curve, option in zip(curves, chosen, strict=True))
    while True:
        gains = [
            (_loss(chosen[index]) - _loss(option), -_macs(curve, option), index, option)
            for index, curve in enumerate(curves)
            for option in (None, *curve.options)
            if _macs(curve, option) - _macs(curve, chosen[index]) <= spare and _loss(option) < _loss(chosen[index])
        ]
        if not gains:
            return chosen
        _, _, index, option = max(gains, key=lambda gain: gain[:3])
        spare -= _macs(curves[index], option) - _macs(curves[index], chosen[index])
        chosen[index] = option


def _cheapest(curve: RankCurve, level: float) -> RankOption | None:
    """Returns the option of fewest macs that loses at most `level`, None where keeping the layer is cheaper."""
    within = [option for option in curve.options if option.loss <= level and option.macs < curve.dense_macs]
    return min(within, key=lambda option: option.macs, default=None)


def _macs(curve: RankCurve, option: RankOption | None) -> int:
    return curve.dense_macs if option is None else option.macs


def _loss(option: RankOption | None) -> float:
    return 0.0 if option is None else max(option.loss, 0.0)  # a negative loss is the noise of a score
