"""One network and clip of `benchmarks.label_free`: calibrated, adapted, and compared on held-out frames."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import saccade
from benchmarks.adapting import adapted
from benchmarks.assets import clip, plan_of
from saccade.adapt.budget import at_budget
from saccade.adapt.fit import Training
from saccade.calibrate.calibrate import Calibrated, calibrate_on
from saccade.calibrate.footage import Block, Clip, Footage
from saccade.calibrate.measures import Measure, find_measure
from saccade.calibrate.search import Search, first_guess
from saccade.calibrate.trial import Trial, Trials
from saccade.stream.gate import GateSettings

MEASURES = {"espnet": "argmax", "espnetv2": "argmax", "vdsr": "relative", "rfb640": "relative"}
TOLERANCES = (0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
FACTORS = (0.5, 1.0, 2.0, 4.0, 8.0)
LEAST_RATIO = 1.05  # macs ratio below which there is no budget to adapt to

Gates = Mapping[str, saccade.Gate]
Curve = list[dict[str, float]]


@dataclass(frozen=True)
class Task:
    """What to study.

    Attributes:
        network: a name of `benchmarks.assets.NETWORKS`.
        clip: a name of `benchmarks.assets.CLIPS`.
        measure: as of `saccade.calibrate`.
        tolerance: of the measure; None for the natural floor.
        frames: searched and held out together.
        minutes: to calibrate in.
        adapted: for how many minutes to adapt what was calibrated; 0 for not at all.
        threads: of the engine.
    """

    network: str
    clip: str
    measure: str
    tolerance: float | None
    frames: int
    minutes: float
    adapted: float
    threads: int

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.network}-{Path(self.clip).stem}" + ("-floor" if self.tolerance is None else "-asked")


def rms(got: torch.Tensor, dense: torch.Tensor) -> float:
    """A measure: root mean square of the difference of pictures of [0, 1]; 10 ** (-dB / 20)."""
    return float((got - dense).double().square().mean().sqrt())


def study(task: Task, folder: Path) -> dict[str, Any]:
    """Returns the row of a task; kept in the folder, beside the calibration, and taken from there if it is known."""
    kept, began = folder / f"{task.name}.json", time.monotonic()
    if kept.exists() and (row := json.loads(kept.read_text()))["task"] == vars(task):
        return row
    torch.set_num_threads(task.threads)
    plan = plan_of(task.network)
    measure = find_measure(task.measure, plan)
    source = Clip(task.clip, lambda: saccade.read_video(clip(task.clip)))
    with Footage(plan, [source], frames=task.frames, threads=task.threads) as footage:
        natural = floor(footage, measure, footage.searched)
        found = calibrate_on(
            footage,
            tolerance=max(natural["mean"], 1e-4) if task.tolerance is None else task.tolerance,
            measure=measure,
            until=began + 0.7 * 60 * task.minutes,
            threads=task.threads,
        )
        seconds, known = time.monotonic() - began, found.calibration
        row = {
            "task": vars(task),
            "network": task.network,
            "clip": task.clip,
            "measure": measure.name,
            "tolerance": known.tolerance,
            "asked": task.tolerance,
            "floor": natural,
            "frames": {"searched": len(footage.searched), "heldout": known.holdout.frames},
            "first_heldout": footage.heldout[0].first,
            "seconds": seconds,
            "sweeps": found.sweeps,
            "macs_ratio": known.macs_ratio,
            "holdout": vars(known.holdout),
            "kept": found.kept,
            "attempts": found.attempts,
            "curves": curves(footage, measure, found, task.threads),
        }
        if task.adapted:
            row["adapted_steps"], row["curves"]["adapted"] = adapt(footage, measure, found, task)
    folder.mkdir(parents=True, exist_ok=True)
    known.save(folder / f"{task.name}.calibration")
    kept.write_text(json.dumps(row))
    return row


def floor(footage: Footage, measure: Measure, blocks: list[Block]) -> dict[str, float]:
    """Returns mean and worst distance between consecutive dense frames."""
    found = []
    for block in blocks:
        for before, now in zip(block.counted, block.counted[1:], strict=False):
            found.append(measure.distance(footage.outputs(block.clip, before), footage.outputs(block.clip, now)))
    return {"mean": sum(found) / len(found), "worst": max(found)}


def curves(footage: Footage, measure: Measure, found: Calibrated, threads: int) -> dict[str, Curve]:
    """Returns the curves of calibrated gates and of those that need no search, on held-out frames."""
    trials = Trials(footage, measure, threads=threads)
    known = found.calibration
    search = Search(trials, {n: g.weights for n, g in known.gates.items() if g.weights is not None}, [], [], until=0)
    guess = first_guess(footage.plan, search.weights)
    wanted = sum(math.log(gate.threshold) for gate in known.gates.values()) / len(known.gates)
    shift = wanted - sum(guess.values()) / len(guess)  # so that factor 1 means about as much for both
    lines = {
        "guess": curve(trials, search.gates({name: log + shift for name, log in guess.items()})),
        "calibrated": curve(trials, known.gates),
    }
    plain = Tolerances(footage, measure, threads=threads)
    lines["global"] = []
    for plain.tolerance in TOLERANCES:
        lines["global"].append(point(plain.tolerance, plain({}, footage.heldout)))
    return lines


def adapt(footage: Footage, measure: Measure, found: Calibrated, task: Task) -> tuple[int, Curve]:
    """Returns how many steps training took from calibrated gates at their macs, and the curve of what came out."""
    known, trials = found.calibration, Trials(footage, measure, threads=task.threads)
    if known.macs_ratio < LEAST_RATIO:
        return 0, []
    budget = 1 / known.macs_ratio
    begin, _ = at_budget(trials, known.gates, footage.searched, budget)
    gates, steps = adapted(trials, begin, Training(), budget=budget, minutes=task.adapted)
    return steps, curve(trials, gates)


def curve(trials: Trials, gates: Gates) -> Curve:
    """Returns what gates give on held-out frames, with thresholds times some factors."""
    return [
        point(f, trials({name: gate.scaled(f) for name, gate in gates.items()}, trials.footage.heldout))
        for f in FACTORS
    ]


class Tolerances(Trials):
    """Trials of one relative tolerance for all steps, in place of gates."""

    tolerance = 0.0

    def settings(self, gates: Any) -> GateSettings:
        """Returns what the stream is told."""
        return GateSettings(tolerance=self.tolerance)


def point(setting: float, trial: Trial) -> dict[str, float]:
    """Returns a point of a curve."""
    return {
        "setting": setting,
        "macs_ratio": trial.macs_ratio,
        "mean": sum(trial.distances) / len(trial.distances),
        "worst": trial.worst,
        "view_error": trial.view_error,
    }
