"""The search for thresholds: the least cost at one error, from a first guess that needs no search."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from saccade.calibrate.footage import Block
from saccade.calibrate.scaling import scale_to_edge
from saccade.calibrate.sensitivity import announcing_costs
from saccade.calibrate.trial import Trial, Trials
from saccade.graph.plan import Plan
from saccade.stream import Gate

Logs = dict[str, float]  # by value name, the natural logarithm of its threshold

PROBE = math.log(1.6)  # how far one threshold is moved to see what it is worth
STRIDES = (0.5, 0.25, 0.12)  # how far to go along what probes say, the boldest first
WORTH_IT = 0.98  # of the cost before, above which a stride is taken for luck
FARTHEST = 1.0  # no threshold moves by more than a factor e per sweep
PROBING, FEWEST = 0.6, 8  # share of the time left for probes, and groups to form even where that is too little
GUESSED = 0.01  # relative change of the output if all positions kept quiet about as much as they may
CLOSE, FINEST = 0.03, 0.03  # logarithm of an error below what is allowed that will do; of scales, at which to stop


def first_guess(plan: Plan, weights: Mapping[str, Tensor]) -> Logs:
    """Returns thresholds to start from: the square root of what announcing a position costs its readers, scaled.

    With weights that are gradients, thresholds are in units of the output. Where changes kept quiet add up as squares
    and each announcement costs the same everywhere, the least cost at one error is where theta^2 is to the cost per
    announcement as one number is to another, the same for all values.
    """
    costs = announcing_costs(plan)
    known = {name: max(costs[name], 1e-3) for name in weights}
    squares = sum(cost * plan.values[name].positions for name, cost in known.items())
    return {name: math.log(GUESSED) + 0.5 * math.log(cost / squares) for name, cost in known.items()}


@dataclass(frozen=True)
class Solution:
    """Thresholds at the largest common factor that was allowed, and what they gave.

    Attributes:
        logs: the thresholds.
        trial: what they gave; at their scale.
        scale: logarithm of the factor.
    """

    logs: Logs
    trial: Trial
    scale: float


class Search:
    """Looks for thresholds on blocks of footage.

    Args:
        trials: tries gates.
        weights: channel weights by value name.
        blocks: what thresholds are judged on.
        probes: what single thresholds are tried on; other frames than those they are judged on.
        until: when to stop, on `time.monotonic`'s clock.
        say: told what is going on, in a few words.
    """

    def __init__(
        self,
        trials: Trials,
        weights: Mapping[str, Tensor],
        blocks: Sequence[Block],
        probes: Sequence[Block],
        *,
        until: float,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.trials, self.weights, self.until, self.say = trials, weights, until, say
        self.blocks, self.probes = blocks, probes

    def gates(self, logs: Logs) -> dict[str, Gate]:
        """Returns the gates with these thresholds."""
        return {name: Gate(math.exp(log), self.weights[name]) for name, log in logs.items()}

    def largest(
        self, logs: Logs, excess: Callable[[Trial], float], *, blocks: Sequence[Block] | None = None
    ) -> Solution | None:
        """Returns the thresholds times the largest common factor that is allowed; None where none was.

        Args:
            logs: thresholds to scale.
            excess: of what some thresholds gave, the logarithm of its error over what is allowed.
            blocks: what to try them on, instead of the search's own.
        """
        best: Solution | None = None

        def attempt(scale: float) -> float:
            nonlocal best
            shifted = {name: log + scale for name, log in logs.items()}
            trial = self.trials(self.gates(shifted), blocks or self.blocks)
            found = excess(trial)
            if found <= 0 and (best is None or scale > best.scale):
                best = Solution(shifted, trial, scale)
            return 0.0 if found <= 0 and trial.macs == 0 else found  # nothing is computed any more: that is the edge

        scale_to_edge(attempt, upwards=True, close=CLOSE, finest=FINEST)
        return best

    def sweep(self, start: Solution, *, error: float) -> Solution:
        """Returns better thresholds at the same error of the measure's view, or the same ones.

        Every group of thresholds is moved up on its own, which tells what it saves and what error it brings; groups
        that save much for their error go up, the others down. How far is judged on frames that had no part in that.
        """
        base = self.trials(self.gates(start.logs), self.probes, distances=False)
        groups = self._groups(base)
        saved, brought = [], []
        for index, group in enumerate(groups):
            if time.monotonic() > self.until:
                return start
            self.say(f"threshold {index + 1} of {len(groups)}")
            moved = {**start.logs, **{name: start.logs[name] + PROBE for name in group}}
            trial = self.trials(self.gates(moved), self.probes, distances=False)
            saved.append(_rise(trial.cost, base.cost))
            brought.append(_rise(base.view_error, trial.view_error))
        best = start
        for stride in STRIDES:
            if time.monotonic() > self.until:
                break
            self.say(f"a stride of {stride:g}")
            moved = dict(start.logs)
            for group, by in zip(groups, _moves(saved, brought, stride), strict=True):
                moved |= {name: start.logs[name] + by for name in group}
            found = self.largest(moved, over(error))
            if found is not None and found.trial.cost < WORTH_IT * best.trial.cost:
                best = found
        return best

    def _groups(self, base: Trial) -> list[list[str]]:
        """Returns the thresholds to move together: each alone where there is time, else those alike."""
        affordable = int(PROBING * max(0.0, self.until - time.monotonic()) / max(1e-3, base.seconds))
        return alike(self.trials.footage.plan, self.weights, max(FEWEST, affordable))


def over(error: float) -> Callable[[Trial], float]:
    """Returns the logarithm of a trial's error of the view over an error."""
    return lambda trial: log_ratio(trial.view_error, error)


def log_ratio(value: float, bound: float) -> float:
    """Returns log(value / bound), of numbers of at least 0; -inf for 0 / 0."""
    if value == 0:
        return -math.inf
    return math.log(value / bound) if bound > 0 else math.inf


def alike(plan: Plan, names: Collection[str], most: int) -> list[list[str]]:
    """Returns values in at most `most` groups that are likely to want their thresholds moved the same way.

    Alike are values of one shape made by the same operation at the same place of a repeated block: of modules whose
    names differ in numbers only. While there are fewer groups than allowed, the dearest is cut in an earlier and a
    later half; where there are too many, the cheapest are joined.
    """
    costs = announcing_costs(plan)
    kinds: dict[Any, list[str]] = {}
    for step in plan.steps:
        for name in step.outputs:
            if name in names:
                shape = plan.values[name].shape
                kinds.setdefault((re.sub(r"\d+", "", step.source), step.op, shape), []).append(name)

    def worth(group: list[str]) -> float:
        return sum(costs[name] * plan.values[name].positions for name in group)

    groups = sorted(kinds.values(), key=worth)
    while len(groups) > most:
        groups = sorted([groups[0] + groups[1], *groups[2:]], key=worth)
    while len(groups) < most and any(len(group) > 1 for group in groups):
        dearest = max((group for group in groups if len(group) > 1), key=worth)
        groups.remove(dearest)
        groups += [dearest[: len(dearest) // 2], dearest[len(dearest) // 2 :]]
    return groups


def _rise(before: float, after: float) -> float:
    """Returns log(after / before), at least 0; 0 where either is nothing."""
    return max(0.0, math.log(after / before)) if before > 0 and after > 0 else 0.0


def _moves(saved: Sequence[float], brought: Sequence[float], stride: float) -> list[float]:
    """Returns how far each group moves: stride x log of what it saves for its error, over all groups' average."""
    all_saved, all_brought = sum(saved) or 1.0, sum(brought) or 1.0
    least = 0.05 / max(1, len(saved))
    moves = [math.log((a / all_saved + least) / (b / all_brought + least)) for a, b in zip(saved, brought, strict=True)]
    return [max(-FARTHEST, min(FARTHEST, stride * move)) for move in moves]
