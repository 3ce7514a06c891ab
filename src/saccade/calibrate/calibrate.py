"""Calibration: from a network, some footage and a tolerance to gates, and what was checked of them."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from saccade.calibrate.footage import Block, Clip, Footage
from saccade.calibrate.measures import Measure
from saccade.calibrate.notes import Notes
from saccade.calibrate.search import Logs, Search, Solution, first_guess, log_ratio, over
from saccade.calibrate.sensitivity import channel_weights
from saccade.calibrate.trial import Trial, Trials, seconds_per_mac
from saccade.errors import InputError
from saccade.graph.plan import Plan
from saccade.stream import Gate
from saccade.stream.calibration import Calibration, Holdout
from saccade.stream.dense import dense_values

BUSIEST, FOLLOWED = 4, 5  # blocks to probe thresholds on, those with the most to do; frames counted of each
LOOKED_AT = 6  # frames whose gradients give the weights
MARGIN = 0.9  # of the tolerance that the worst frame searched on may use
TIGHTER, ATTEMPTS = 0.8, 4  # where held-out frames miss the tolerance, how much tighter to try, and how often
ENOUGH = 0.99  # share of held-out frames that have to be within the tolerance
SWEEPS = 6  # at most; more find nothing new
SEARCHING = 0.7  # share of the time to look for better thresholds in; the rest is for their scale and the check


@dataclass(frozen=True)
class Calibrated:
    """What calibrating gave.

    Attributes:
        calibration: the gates, for `Stream(calibration=...)`.
        guess: cost of a frame with the first guess at the same error of the search's frames.
        found: cost of a frame with the thresholds found.
        attempts: how often the thresholds were tightened, plus one, until the held-out frames kept to the tolerance.
        kept: whether they did in the end.
        seconds: how long it took.
        unit: of these costs, "macs" or "ms".
        sweeps: cost of a frame at the start and after each sweep.
    """

    calibration: Calibration
    guess: float
    found: float
    attempts: int
    kept: bool
    seconds: float
    unit: str
    sweeps: list[float]


def calibrate(
    plan: Plan,
    clips: Sequence[Clip],
    *,
    tolerance: float,
    measure: Measure,
    minimise: Literal["macs", "ms"] = "macs",
    frames: int = 200,
    minutes: float = 5.0,
    record: str = "reference",
    executor: str | None = None,
    threads: int = 1,
    seed: int = 0,
    progress: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Calibrated:
    """Finds gates with which a stream stays within a tolerance of the dense network at the least cost.

    Channel weights are the output's mean squared gradients. Thresholds start from what announcing a position costs, and
    are then moved by what each of them saves for the error it brings, measured one by one on a few blocks of
    frames. Their common scale is the largest with which every frame searched on stays within 0.9 of the tolerance.
    Frames never looked at decide in the end: while less than 99 % of them are within the tolerance, the scale is made
    smaller.

    Args:
        plan: the plan.
        clips: unlabelled videos of what the stream will see.
        tolerance: largest distance to the dense network a frame may have.
        measure: what distance is.
        minimise: "macs", or "ms", for which the time of every kind of step is measured first.
        frames: about how many frames to use, searched and held-out ones together.
        minutes: stop looking for better thresholds after this time; checking comes on top.
        record: how the stream will remember announcements.
        executor: as of `Stream`.
        threads: as of `Stream`.
        seed: of the random projections.
        progress: a file that keeps what was found so far; the same call goes on from it, and deletes it at its end.
        say: told what is going on.

    Raises:
        InputError: a clip is too short or never changes, the tolerance is not above 0 or below what rounding
            allows.
    """
    if not tolerance > 0:
        raise InputError(f"the tolerance is {tolerance}; expected more than 0 (exact results need no calibration)")
    began = time.monotonic()
    say("running the dense network")
    with Footage(plan, clips, frames=frames, executor=executor, threads=threads) as footage:
        names = [clip.name for clip in clips]
        asked = {"tolerance": tolerance, "measure": measure.name, "minimise": minimise, "frames": frames, "seed": seed}
        notes = Notes(progress, plan=plan.digest, clips=names, record=record, **asked)
        found = calibrate_on(
            footage,
            tolerance=tolerance,
            measure=measure,
            minimise=minimise,
            until=began + SEARCHING * 60 * minutes,
            record=record,
            executor=executor,
            threads=threads,
            seed=seed,
            notes=notes,
            say=say,
        )
        notes.close()
    return replace(found, seconds=time.monotonic() - began)


def calibrate_on(
    footage: Footage,
    *,
    tolerance: float,
    measure: Measure,
    until: float,
    minimise: Literal["macs", "ms"] = "macs",
    record: str = "reference",
    executor: str | None = None,
    threads: int = 1,
    seed: int = 0,
    notes: Notes | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Calibrated:
    """Does what `calibrate` does, on footage already there; `until` is when to stop searching, as `time.monotonic`."""
    began, plan = time.monotonic(), footage.plan
    trials = Trials(footage, measure, record=record, executor=executor, threads=threads)
    check_footage(footage)
    check_tolerance(footage, measure, tolerance)
    say("sensitivity of the output")
    shown = [(b.clip, number) for b in footage.searched for number in (b.lead, b.counted[-1])]
    chosen = [shown[index * len(shown) // LOOKED_AT] for index in range(min(LOOKED_AT, len(shown)))]
    weights = channel_weights(plan, [footage.inputs(*frame) for frame in chosen], view=measure.view, seed=seed)
    if not weights:
        raise InputError(
            f"no value of {plan.name} has a gradient of what {measure.name} looks at; outputs that are whole numbers, "
            "such as labels, have none: calibrate the network without its last step, or with a measure of other outputs"
        )
    say("what moves most")
    guess = {name: Gate(math.exp(log), weights[name]) for name, log in first_guess(plan, weights).items()}
    probes, judged = halves(footage.searched)
    probes = busiest(trials, guess, probes)
    search = Search(trials, weights, judged, probes, until=until, say=say)
    if minimise == "ms":
        trials.seconds_per_mac = seconds_per_mac(footage, guess, probes, threads=threads)
    start = search.largest(first_guess(plan, weights), within(MARGIN * tolerance))
    if start is None:
        raise InputError(_out_of_reach(tolerance, measure))
    best, costs = improve(search, start, notes or Notes(None))
    final, trial, attempts = settle(search, best.logs, footage, tolerance, say)
    calibration = Calibration(
        gates=search.gates(final.logs),
        plan=plan.digest,
        model=plan.name,
        measure=measure.name,
        tolerance=tolerance,
        macs_ratio=trial.macs_ratio,
        holdout=holdout(trial, tolerance),
        record=record,
        clips=footage.clips,
    )
    kept = calibration.holdout.within_tolerance >= ENOUGH
    seconds = time.monotonic() - began
    return Calibrated(calibration, start.trial.cost, best.trial.cost, attempts, kept, seconds, minimise, costs)


def improve(search: Search, start: Solution, notes: Notes) -> tuple[Solution, list[float]]:
    """Returns the best thresholds found by sweeps at the start's error, and the cost after each sweep."""
    best, costs = start, [start.trial.cost]
    error = start.trial.view_error
    known = notes.read()
    if known is not None:
        found = search.largest(known[0], over(error))
        if found is not None:
            best, costs = found, known[1]
    while len(costs) <= SWEEPS and time.monotonic() < search.until:
        better = search.sweep(best, error=error)
        if better is best:
            break
        best = better
        costs.append(best.trial.cost)
        notes.write(best.logs, costs)
    return best, costs


def settle(
    search: Search, logs: Logs, footage: Footage, tolerance: float, say: Callable[[str], None]
) -> tuple[Solution, Trial, int]:
    """Returns thresholds at the scale the tolerance allows, what they gave on held-out frames, and the attempts."""
    bound, attempt = MARGIN * tolerance, 1
    while True:
        say("scale" if attempt == 1 else f"scale, attempt {attempt}")
        found = search.largest(logs, within(bound), blocks=footage.searched)
        if found is None:
            raise InputError(_out_of_reach(tolerance, search.trials.measure))
        say("held-out frames")
        trial = search.trials(search.gates(found.logs), footage.heldout)
        if holdout(trial, tolerance).within_tolerance >= ENOUGH or attempt == ATTEMPTS:
            return found, trial, attempt
        logs, bound, attempt = found.logs, bound * TIGHTER, attempt + 1


def within(bound: float) -> Callable[[Trial], float]:
    """Returns the logarithm of a trial's largest distance over a distance that every frame is to be within."""
    return lambda trial: log_ratio(trial.worst, bound)


def holdout(trial: Trial, tolerance: float) -> Holdout:
    """Returns a trial on held-out frames, summed up."""
    distances = trial.distances
    worst = max(range(len(distances)), key=distances.__getitem__)
    return Holdout(
        frames=len(distances),
        mean=sum(distances) / len(distances),
        worst=distances[worst],
        worst_frame=trial.frames[worst],
        within_tolerance=sum(value <= tolerance for value in distances) / len(distances),
    )


def busiest(trials: Trials, gates: dict[str, Gate], blocks: Sequence[Block]) -> list[Block]:
    """Returns the few blocks that cost most, in their own order: what saves there counts, and errs most there."""
    found = [(trials(gates, [block], distances=False).cost, block) for block in blocks]
    dearest = sorted(found, key=lambda item: -item[0])[:BUSIEST]
    return [block for _, block in found if any(block is other for _, other in dearest)]


def halves(blocks: Sequence[Block]) -> tuple[list[Block], list[Block]]:
    """Returns the beginning of each block's first half to probe on, and all of its second half to judge on."""
    first, second = [], []
    for block in blocks:
        middle = (block.first + block.stop) // 2
        first.append(Block(block.clip, block.lead, block.first, min(middle, block.first + 1 + FOLLOWED)))
        second.append(Block(block.clip, block.lead, middle, block.stop))
    return first, second


def check_footage(footage: Footage) -> None:
    """Raises InputError where no frame differs from the one before."""
    for block in (*footage.searched, *footage.heldout):
        for before, now in itertools.pairwise(block.numbers):
            pair = zip(footage.inputs(block.clip, before), footage.inputs(block.clip, now), strict=True)
            if not all(torch.equal(a, b) for a, b in pair):
                return
    raise InputError(
        "the footage never changes: every frame equals the one before, so there is nothing to calibrate on. Give a "
        "video in which what matters moves."
    )


def check_tolerance(footage: Footage, measure: Measure, tolerance: float) -> None:
    """Raises InputError where the tolerance is below what rounding alone makes of the dense network's outputs."""
    block = footage.searched[0]
    with torch.no_grad():
        _, outputs = dense_values(footage.plan, footage.inputs(block.clip, block.lead))
    floor = measure.distance(footage.outputs(block.clip, block.lead), outputs)
    if tolerance <= floor:
        raise InputError(
            f"the tolerance {tolerance:g} cannot be met: rounding alone makes a distance of {floor:.2g} between the "
            f"engine and torch ({measure.unit}); ask for more than that"
        )


def _out_of_reach(tolerance: float, measure: Measure) -> str:
    return (
        f"the tolerance {tolerance:g} cannot be met: with the smallest thresholds tried a frame was still farther from "
        f"the dense network ({measure.unit}). Ask for more, or run exactly, with threshold 0."
    )
