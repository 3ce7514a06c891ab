"""What calibrated thresholds save on real clips, beside one global tolerance, at equal agreement with dense.

    python -m benchmarks.label_free      # all networks and clips; writes docs/label-free.md
    python -m benchmarks.label_free --networks espnetv2 --clips bottle-detection.mp4 --minutes 1 --json F

Per network and clip: the footage is cut in blocks, the earlier ones searched on, the later ones held out. The
tolerance is the natural floor, the mean distance between two consecutive frames of the dense network. Everything in the
tables is of held-out frames. Curves: one tolerance for all steps; the first guess; calibrated thresholds, times some
factors. Times: the calibrated stream, the dense engine and that engine behind a motion detector, in turn on the same
frames, decoding and preprocessing included. Macs ratios are dense over executed and gate macs.
"""

from __future__ import annotations

import os

# Before torch is imported: idle threads must not spin; see benchmarks/rivals.py.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("KMP_BLOCKTIME", "0")

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

import saccade
from benchmarks.assets import ASSETS, CLIPS, NETWORKS, clip, network
from benchmarks.environment import environment
from benchmarks.label_free_tables import PAGE, RESULT, markdown
from benchmarks.motion import MotionDetector, MotionGate
from benchmarks.real import Options, follow, timed_frames
from saccade.calibrate.calibrate import Calibrated, calibrate_on
from saccade.calibrate.footage import Block, Clip, Footage
from saccade.calibrate.measures import Measure, find_measure
from saccade.calibrate.search import Search, first_guess
from saccade.calibrate.trial import Trial, Trials
from saccade.graph import load_program
from saccade.stream.gate import GateSettings

MEASURES = {"espnet": "argmax", "espnetv2": "argmax", "vdsr": "relative", "rfb640": "relative"}
TOLERANCES = (0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
TIMED = 16  # consecutive held-out frames


def point(setting: float, trial: Trial) -> dict[str, float]:
    """Returns a point of a curve."""
    return {
        "setting": setting,
        "macs_ratio": trial.macs_ratio,
        "mean": sum(trial.distances) / len(trial.distances),
        "worst": trial.worst,
        "view_error": trial.view_error,
    }


class Tolerances(Trials):
    """Trials of one relative tolerance for all steps, in place of gates."""

    tolerance = 0.0

    def settings(self, gates: Any) -> GateSettings:
        """Returns what the stream is told."""
        return GateSettings(tolerance=self.tolerance)


def curves(footage: Footage, measure: Measure, found: Calibrated, threads: int) -> dict[str, list[dict[str, float]]]:
    """Returns the curves on held-out frames."""
    trials = Trials(footage, measure, threads=threads)
    known = found.calibration
    search = Search(trials, {n: g.weights for n, g in known.gates.items() if g.weights is not None}, [], [], until=0)
    shapes = {
        "guess": first_guess(footage.plan, search.weights),
        "calibrated": {name: math.log(gate.threshold) for name, gate in known.gates.items()},
    }
    wanted = sum(math.log(gate.threshold) for gate in known.gates.values()) / len(known.gates)
    lines: dict[str, list[dict[str, float]]] = {}
    for name, logs in shapes.items():
        shift = wanted - sum(logs.values()) / len(logs)  # so that factor 1 means about as much for both
        lines[name] = []
        for factor in FACTORS:
            moved = {n: log + shift + math.log(factor) for n, log in logs.items()}
            lines[name].append(point(factor, trials(search.gates(moved), footage.heldout)))
    plain = Tolerances(footage, measure, threads=threads)
    lines["global"] = []
    for plain.tolerance in TOLERANCES:
        lines["global"].append(point(plain.tolerance, plain({}, footage.heldout)))
    return lines


def floor(footage: Footage, measure: Measure, blocks: list[Block]) -> dict[str, float]:
    """Returns mean and worst distance between consecutive dense frames."""
    found = []
    for block in blocks:
        for before, now in zip(block.counted, block.counted[1:], strict=False):
            found.append(measure.distance(footage.outputs(block.clip, before), footage.outputs(block.clip, now)))
    return {"mean": sum(found) / len(found), "worst": max(found)}


def times(name: str, source: str, first: int, measure: Measure, known: saccade.Calibration, threads: int) -> Any:
    """Returns times and distances of the calibrated stream, the dense engine, and it behind a motion detector."""
    options = Options(threads=threads)
    plan = saccade.make_plan(load_program(network(name))[0], preprocess=NETWORKS[name], name=name)
    stream = saccade.Stream(plan, calibration=known, threads=threads)
    dense = options.dense(name)
    gate = MotionGate(MotionDetector())
    rows: dict[str, list[tuple[float, float]]] = {"calibrated": [], "dense": [], "motion": []}
    frames: Iterator[Any] = timed_frames(source, first, TIMED)
    for count, (frame, _, decode_ms, wanted, given) in enumerate(
        follow(name, frames, {"calibrated": stream, "dense": dense})
    ):
        fresh, dense_ms = given["dense"]
        runs, began = gate.runs, time.perf_counter()
        repeated = gate(frame, lambda fresh=fresh: fresh)
        gate_ms = 1e3 * (time.perf_counter() - began)
        given["motion"] = repeated, gate_ms + (dense_ms if gate.runs > runs else 0.0)
        for each, (got, ms) in given.items() if count else ():  # the first frame is computed whole by all
            rows[each].append((decode_ms + ms, measure.distance(pytree.tree_leaves(got), wanted)))
    found: dict[str, Any] = {
        each: {
            "mean_ms": sum(ms for ms, _ in values) / len(values),
            "median_ms": sorted(ms for ms, _ in values)[len(values) // 2],
            "mean": sum(distance for _, distance in values) / len(values),
            "worst": max(distance for _, distance in values),
        }
        for each, values in rows.items()
    }
    return {**found, "motion_share": (gate.runs - 1) / (gate.frames - 1), "dense_engine": dense.name}


def study(name: str, source: str, *, frames: int, minutes: float, threads: int) -> dict[str, Any]:
    """Returns the row of one network and clip."""
    plan = saccade.make_plan(load_program(network(name))[0], preprocess=NETWORKS[name], name=name)
    measure = find_measure(MEASURES[name], plan)
    began = time.monotonic()
    with Footage(
        plan, [Clip(source, lambda: saccade.read_video(clip(source)))], frames=frames, threads=threads
    ) as footage:
        natural = floor(footage, measure, footage.searched)
        found = calibrate_on(
            footage,
            tolerance=max(natural["mean"], 1e-4),
            measure=measure,
            until=began + 0.7 * 60 * minutes,
            threads=threads,
        )
        seconds = time.monotonic() - began
        known = found.calibration
        row = {
            "network": name,
            "clip": source,
            "measure": measure.name,
            "tolerance": known.tolerance,
            "floor": natural,
            "frames": {"searched": len(footage.searched), "heldout": known.holdout.frames},
            "seconds": seconds,
            "sweeps": found.sweeps,
            "macs_ratio": known.macs_ratio,
            "holdout": vars(known.holdout),
            "kept": found.kept,
            "curves": curves(footage, measure, found, threads),
        }
        block = footage.heldout[0]
    return {**row, "times": times(name, source, block.first, measure, known, threads)}


def main() -> None:
    """Runs what was asked for and writes the results as they come, so that a stop loses nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--clips", nargs="*", default=list(CLIPS), choices=list(CLIPS))
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--minutes", type=float, default=5.0, help="per network and clip")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=RESULT)
    arguments = parser.parse_args()
    if not ASSETS.is_dir():
        sys.exit(f"the clips and networks are not here: no folder {ASSETS}")
    torch.set_num_threads(arguments.threads)
    result: dict[str, Any] = {"environment": environment(), "frames": arguments.frames, "minutes": arguments.minutes}
    result["rows"] = []
    for name in arguments.networks:
        for source in arguments.clips:
            row = study(name, source, frames=arguments.frames, minutes=arguments.minutes, threads=arguments.threads)
            result["rows"].append(row)
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")
            print(json.dumps(row), flush=True)
    if arguments.json == RESULT:
        PAGE.write_text(markdown(result))


if __name__ == "__main__":
    main()
