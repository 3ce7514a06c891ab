"""Gates by five ways at equal macs, on held-out frames: one tolerance, the first guess, calibrate, adapt from either.

    python -m benchmarks.adapting rfb640 one-by-one-person-detection.mp4 --budget 0.15 --minutes 2
    python -m benchmarks.adapting street-detector still

Each is scaled to the budget on held-out frames, and around it; compared are the error there, and the macs ratio at the
error that the first guess has at the budget. Clips of the street detector are rendered. Nothing is timed.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.assets import NETWORKS, clip, plan_of
from saccade import Gate, Plan, make_plan, read_video
from saccade.adapt.adapt import starts, train
from saccade.adapt.budget import at_budget
from saccade.adapt.checkpoint import Checkpoint
from saccade.adapt.fit import Fit, Training
from saccade.calibrate.calibrate import busiest, halves, improve
from saccade.calibrate.footage import Clip, Footage
from saccade.calibrate.measures import find_measure
from saccade.calibrate.notes import Notes
from saccade.calibrate.search import Search, Solution
from saccade.calibrate.trial import Trial, Trials
from saccade.data.street import StreetConfig, encode_and_decode, render_street
from saccade.zoo import load_model

STREET_SEED, STREET_FRAMES = 77, 300
SCALES = (-0.6, -0.3, 0.0, 0.3, 0.6)  # logarithms, around the budget
FIRST = "first guess"


def load(name: str, footage: str) -> tuple[Plan, Clip]:
    """Return a network's plan and a clip for it: a real one, or "still" or "shake" for the street detector."""
    if name == "street-detector":
        loaded = load_model(name)
        config = StreetConfig(seed=STREET_SEED, frames=STREET_FRAMES, jitter=1.0 if footage == "shake" else 0.0)
        frames = encode_and_decode(render_street(config)).frames
        plan = make_plan(loaded.model, loaded.example, preprocess=loaded.preprocess, name=name)
        return plan, Clip(footage, lambda: list(frames))
    return plan_of(name), Clip(footage, lambda: read_video(clip(footage)))


def curve(trials: Trials, gates: Mapping[str, Gate], budget: float) -> list[Trial]:
    """Return what the gates give on held-out frames with thresholds scaled to the budget, and around it."""
    blocks = trials.footage.heldout
    scaled, _ = at_budget(trials, gates, blocks, budget)
    return [trials({n: Gate(g.threshold * math.exp(s), g.weights) for n, g in scaled.items()}, blocks) for s in SCALES]


def ratio_at(trials: list[Trial], error: float) -> float:
    """Return the macs ratio at an error of the view, between trials of growing scale, on logarithmic axes."""
    errors = np.log([trial.view_error for trial in trials])
    return float(np.exp(np.interp(math.log(error), errors, np.log([trial.macs_ratio for trial in trials]))))


def searched(trials: Trials, gates: Mapping[str, Gate], minutes: float) -> dict[str, Gate]:
    """Return what calibrate's search makes of gates in some time, at the error they have."""
    weights = {name: gate.weights for name, gate in gates.items() if gate.weights is not None}
    probes, judged = halves(busiest(trials, dict(gates), trials.footage.searched))
    search = Search(trials, weights, judged, probes, until=time.monotonic() + 60 * minutes)
    start = Solution({n: math.log(g.threshold) for n, g in gates.items()}, trials(gates, judged), 0.0)
    best, _ = improve(search, start, Notes(None))
    return search.gates(best.logs)


def adapted(
    trials: Trials, gates: Mapping[str, Gate], how: Training, *, budget: float, minutes: float
) -> tuple[dict[str, Gate], int]:
    """Return what training makes of gates in some time, and its steps."""
    fit = Fit(trials.footage.plan, gates, budget=budget, measure=trials.measure, how=how, seed=0)
    train(fit, trials, Checkpoint(None), minutes=minutes, steps=None, say=lambda text: None)
    return fit.best(), fit.steps


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=["street-detector", *NETWORKS])
    parser.add_argument("clip", help='a clip of benchmarks.assets; "still" or "shake" for the street detector')
    parser.add_argument("--budget", type=float, default=0.15)
    parser.add_argument("--measure", default="relative")
    parser.add_argument("--frames", type=int, default=160)
    parser.add_argument("--minutes", type=float, default=2.0, help="for the search, and for each training")
    parser.add_argument("--noise", action="store_true", help="train with Gumbel noise")
    options = parser.parse_args()
    plan, footage_clip = load(options.network, Path(options.clip).name)
    measure = find_measure(options.measure, plan)
    with Footage(plan, [footage_clip], frames=options.frames) as footage:
        trials = Trials(footage, measure)
        found: dict[str, Mapping[str, Gate]] = {
            name: at_budget(trials, gates, footage.searched, options.budget)[0]
            for name, gates in starts(footage, measure, 0).items()
        }
        found["calibrate"] = searched(trials, found[FIRST], options.minutes)
        for start in (FIRST, "calibrate"):
            begin = at_budget(trials, found[start], footage.searched, options.budget)[0]
            gates, steps = adapted(
                trials, begin, Training(noise=options.noise), budget=options.budget, minutes=options.minutes
            )
            found[f"adapt from {start}, {steps} steps"] = gates
        curves = {name: curve(trials, gates, options.budget) for name, gates in found.items()}
    middle = SCALES.index(0.0)
    error = curves[FIRST][middle].view_error
    print("| gates | macs ratio | error of the view | mean | worst | macs ratio at the first guess's error |")
    print("|---|---|---|---|---|---|")
    for name, tried in curves.items():
        at = tried[middle]
        mean = sum(at.distances) / len(at.distances)
        print(
            f"| {name} | {at.macs_ratio:.2f} | {at.view_error:.4g} | {mean:.4g} | {at.worst:.4g} | "
            f"{ratio_at(tried, error):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
