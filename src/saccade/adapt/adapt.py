"""Adaptation: from a network, some footage and a budget of macs to gates that imitate the dense network best."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from saccade.adapt.budget import at_budget
from saccade.adapt.checkpoint import Checkpoint
from saccade.adapt.fit import Fit, Training
from saccade.calibrate.calibrate import check_footage, holdout
from saccade.calibrate.footage import Clip, Footage
from saccade.calibrate.measures import Measure
from saccade.calibrate.search import first_guess
from saccade.calibrate.sensitivity import channel_weights
from saccade.calibrate.trial import Trial, Trials
from saccade.errors import InputError
from saccade.graph.plan import Plan
from saccade.stream import Gate
from saccade.stream.calibration import Calibration, Holdout
from saccade.stream.dense import dense_values
from saccade.stream.gated import is_gated

JUDGED = tuple(20 * 2**k for k in range(20))  # steps after which gates are judged by a stream
KEPT_EVERY = 10.0  # seconds between checkpoints


@dataclass(frozen=True)
class Checked:
    """Gates at the budget, checked on held-out frames.

    Attributes:
        macs_ratio: dense over executed and gate macs on the held-out frames.
        holdout: how near the results were there.
        view_error: relative error of the measure's view there, the mean of fourth powers.
    """

    macs_ratio: float
    holdout: Holdout
    view_error: float


@dataclass(frozen=True)
class Adapted:
    """What adapting gave.

    Attributes:
        calibration: the gates, for `Stream(calibration=...)`.
        budget: share of the dense macs asked for.
        after: what was adapted, checked.
        before: by name, other gates scaled to the same budget on the same frames, checked: "one tolerance" for all
            values, the "first guess", and the "calibration" training started from, where it did.
        chosen: which gates were stored: "adapt", or the name of those before that were nearer to the dense network on
            the frames trained on.
        steps: optimizer steps.
        seconds: how long it took.
    """

    calibration: Calibration
    budget: float
    after: Checked
    before: Mapping[str, Checked]
    chosen: str
    steps: int
    seconds: float


def adapt(
    plan: Plan,
    clips: Sequence[Clip],
    *,
    budget: float,
    measure: Measure,
    start: Mapping[str, Gate] | None = None,
    how: Training | None = None,
    frames: int = 200,
    minutes: float = 5.0,
    steps: int | None = None,
    record: str = "reference",
    executor: str | None = None,
    threads: int = 1,
    seed: int = 0,
    progress: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Adapted:
    """Trains thresholds and channel weights so that a stream within a budget of macs is nearest to the dense network.

    No labels: the loss is the error of the measure's view against the dense network's own outputs, and its gradient
    is that of the change rule over a few frames (`saccade.adapt.rollout`). The common scale is settled on the frames
    trained on, so that these cost no more than the budget. Frames never looked at are what is reported.

    Args:
        plan: the plan.
        clips: unlabelled videos of what the stream will see.
        budget: share of the dense network's macs that a frame may cost on average, in (0, 1).
        measure: what near is.
        start: gates to start from, as a calibration's; by default the first guess of `saccade.calibrate`.
        how: how to train.
        frames: about how many frames to use, trained on and held out together.
        minutes: stop training after this time; preparing and checking come on top.
        steps: stop training after this many optimizer steps, too.
        record: how the stream will remember announcements.
        executor: as of `Stream`.
        threads: as of `Stream`.
        seed: of what is drawn.
        progress: a file that keeps the training; the same call goes on from it to the bit, and deletes it at its end.
        say: told what is going on.

    Raises:
        InputError: the budget is outside (0, 1) or cannot be met, a clip is too short or never changes, the plan has
            gated convolutions or steps without a derivative.
    """
    check_budget(budget)
    check_plan(plan)
    how = how or Training()
    began = time.monotonic()
    say("running the dense network")
    with Footage(plan, clips, frames=frames, executor=executor, threads=threads) as footage:
        trials = Trials(footage, measure, record=record, executor=executor, threads=threads)
        check_footage(footage)
        say("what there is at this budget")
        before = starts(footage, measure, seed) | ({} if start is None else {"calibration": dict(start)})
        scaled = {name: at_budget(trials, gates, footage.searched, budget) for name, gates in before.items()}
        first = "first guess" if start is None else "calibration"
        fit = Fit(plan, scaled[first][0], budget=budget, measure=measure, how=how, seed=seed)
        names = [clip.name for clip in clips]
        checkpoint = Checkpoint(
            progress, plan=plan.digest, clips=names, start=_facts(scaled[first][0]), how=str(how), frames=frames,
            measure=measure.name, budget=budget, seed=seed,
        )  # fmt: skip
        train(fit, trials, checkpoint, minutes=minutes, steps=steps, say=say)
        candidates = scaled | {"adapt": at_budget(trials, fit.best(), footage.searched, budget)}
        chosen = min(candidates, key=lambda name: candidates[name][1].view_error)
        say("held-out frames")
        seen = trials(candidates[chosen][0], footage.searched)
        tolerance = seen.worst
        checked = {name: check(trials(gates, footage.heldout), tolerance) for name, (gates, _) in candidates.items()}
        checkpoint.close()
    after = checked[chosen]
    calibration = Calibration(
        gates=candidates[chosen][0],
        plan=plan.digest,
        model=plan.name,
        measure=measure.name,
        tolerance=tolerance,
        macs_ratio=after.macs_ratio,
        holdout=after.holdout,
        record=record,
        method="adapt",
        clips=tuple(names),
    )
    others = {name: found for name, found in checked.items() if name in before}
    return Adapted(calibration, budget, after, others, chosen, fit.steps, time.monotonic() - began)


def check_budget(budget: float) -> None:
    """Raises InputError where a budget is no share between 0 and 1."""
    if not 0 < budget < 1:
        raise InputError(
            f"the budget is {budget}; expected a share of the dense macs between 0 and 1, as 0.25 (1 is the dense "
            "network itself)"
        )


def check_plan(plan: Plan) -> None:
    """Raises InputError where a plan has gates of its own, which its training set."""
    gated = [step.name for step in plan.steps if is_gated(step)]
    if gated:
        raise InputError(
            f"{plan.name} has gated convolutions ({', '.join(gated[:3])}), whose gates its training set; adapt takes "
            "networks without"
        )


def starts(footage: Footage, measure: Measure, seed: int) -> dict[str, dict[str, Gate]]:
    """Returns gates that need no search: one relative tolerance for all values, and calibrate's first guess.

    Values that the measure's view does not depend on by a derivative are exact in the latter.
    """
    plan, ends = footage.plan, (footage.searched[0], footage.searched[-1])
    pictures = [footage.inputs(block.clip, block.counted[-1]) for block in ends]
    weights = channel_weights(plan, pictures, view=measure.view, seed=seed)
    if not weights:
        raise InputError(
            f"no value of {plan.name} moves its outputs by a derivative, so there is nothing to learn from; use "
            "saccade run --tolerance"
        )
    with torch.no_grad():
        values, _ = dense_values(plan, pictures[0])
    sizes = {name: float(values[name].double().square().mean().sqrt()) for name in weights}
    return {
        "one tolerance": {name: Gate(0.01 * size) for name, size in sizes.items()},
        "first guess": {name: Gate(math.exp(log), weights[name]) for name, log in first_guess(plan, weights).items()},
    }


def train(
    fit: Fit, trials: Trials, checkpoint: Checkpoint, *, minutes: float, steps: int | None, say: Callable[[str], None]
) -> None:
    """Trains for some time or steps, those before a stop included, and keeps a checkpoint now and then.

    After 20, 40, 80, ... steps, and at the end, the gates are judged by what a stream gives with them at the budget, on
    all frames trained on: what a few frames after an old one say is only near to that.
    """
    footage = trials.footage

    def judge() -> None:
        say("how good it is")
        fit.judge(at_budget(trials, fit.gates(), footage.searched, fit.budget)[1].view_error)

    spent = checkpoint.read(fit)
    began = kept = time.monotonic()
    while (steps is None or fit.steps < steps) and spent + time.monotonic() - began < 60 * minutes:
        fit.learn(footage, footage.searched)
        if fit.steps in JUDGED:
            judge()
        if time.monotonic() - kept > KEPT_EVERY:  # only here, between steps, is a training whole
            kept = time.monotonic()
            checkpoint.write(fit, spent + kept - began)
        say(f"step {fit.steps}: error {math.sqrt(fit.seen['error']):.3g} at {fit.seen['macs']:.3f} of the macs")
    judge()
    checkpoint.write(fit, spent + time.monotonic() - began)


def check(trial: Trial, tolerance: float) -> Checked:
    """Returns what gates gave on held-out frames."""
    return Checked(trial.macs_ratio, holdout(trial, tolerance), trial.view_error)


def _facts(gates: Mapping[str, Gate]) -> dict[str, float]:
    return {name: gate.threshold for name, gate in gates.items()}
