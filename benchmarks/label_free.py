"""What calibrated and adapted thresholds save on real clips, beside one tolerance for all, at equal agreement.

    python -m benchmarks.label_free      # all networks and clips; writes docs/label-free.md
    python -m benchmarks.label_free --networks espnetv2 --clips bottle-detection.mp4 --minutes 1 --json F

Per network and clip: the footage is cut in blocks, the earlier ones searched on, the later ones held out. The
tolerance is the natural floor, the mean distance between two consecutive frames of the dense network; `ASKED` are
tolerances that somebody asked for. Everything in the tables is of held-out frames. Curves: one tolerance for all steps;
the first guess; calibrated thresholds; thresholds adapted from these; times some factors. Macs ratios are dense over
executed and gate macs. Tasks run in `--workers` processes; what each found stays in `--folder`, so that a stop loses
little. Then, one after another and alone, times: streams with calibrated thresholds times some factors, the dense
engine and that engine behind a motion detector, in turn on the same held-out frames, decoding and preprocessing
included.
"""

from __future__ import annotations

import os

# Before torch is imported: idle threads must not spin; see benchmarks/rivals.py.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("KMP_BLOCKTIME", "0")

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

import saccade
from benchmarks.assets import ASSETS, CLIPS, NETWORKS, plan_of
from benchmarks.environment import ROOT, environment
from benchmarks.label_free_study import MEASURES, Task, study
from benchmarks.label_free_tables import PAGE, RESULT, markdown
from benchmarks.motion import MotionDetector, MotionGate
from benchmarks.real import Options, follow, timed_frames
from saccade.calibrate.measures import find_measure

ASKED = (
    ("espnetv2", "one-by-one-person-detection.mp4", "argmax", 0.001),
    ("vdsr", "car-detection.mp4", "benchmarks.label_free_study:rms", 10 ** (-50 / 20)),  # 50 dB
)
TIMED = 32  # consecutive frames, from the first held-out block on
SCALES = (0.25, 1.0, 4.0, 16.0)  # of calibrated thresholds, to time


def tasks(arguments: argparse.Namespace) -> list[Task]:
    """Returns what to study."""
    how = {"frames": arguments.frames, "minutes": arguments.minutes, "threads": arguments.threads}
    pairs = [(name, source) for name in arguments.networks for source in arguments.clips]
    training = {name: arguments.minutes / 2 if name in arguments.adapt else 0.0 for name in arguments.networks}
    floors = [Task(name, source, MEASURES[name], None, adapted=training[name], **how) for name, source in pairs]
    asked = [Task(name, source, measure, tolerance, adapted=0.0, **how) for name, source, measure, tolerance in ASKED]
    return floors + [task for task in asked if (task.network, task.clip) in pairs]


def times(task: Task, row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Returns times and distances of calibrated streams, the dense engine, and it behind a motion detector."""
    options = Options(threads=task.threads)
    plan = plan_of(task.network)
    measure = find_measure(task.measure, plan)
    gates = saccade.Calibration.load(folder / f"{task.name}.calibration").gates
    engines: dict[str, Any] = {"dense": options.dense(task.network)}
    for scale in SCALES:
        scaled = {name: gate.scaled(scale) for name, gate in gates.items()}
        engines[f"calibrated x {scale:g}"] = saccade.Stream(plan, threshold=scaled, threads=task.threads)
    gate = MotionGate(MotionDetector())
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in ("motion", *engines)}
    frames: Iterator[Any] = timed_frames(task.clip, row["first_heldout"], TIMED)
    for count, (frame, _, decode_ms, wanted, given) in enumerate(follow(task.network, frames, engines)):
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
    facts = {"frames": gate.frames - 1, "motion_share": (gate.runs - 1) / (gate.frames - 1)}
    return {**facts, "dense_engine": engines["dense"].name, "engines": found}


def main() -> None:
    """Studies what was asked for, then times it, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--clips", nargs="*", default=list(CLIPS), choices=list(CLIPS))
    parser.add_argument(
        "--adapt",
        nargs="*",
        default=["rfb640"],
        choices=list(NETWORKS),
        help="networks to adapt, too; a step of the others takes ten seconds to a minute: too few of them",
    )
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=4.0, help="per network and clip; to adapt, half of them more")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes to study in; times are taken by one alone")
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "label_free", help="what tasks found")
    parser.add_argument("--no-times", action="store_true", help="leave out the times")
    parser.add_argument("--json", type=Path, default=RESULT)
    arguments = parser.parse_args()
    if not ASSETS.is_dir():
        sys.exit(f"the clips and networks are not here: no folder {ASSETS}")
    wanted, rows = tasks(arguments), {}
    with ProcessPoolExecutor(arguments.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(study, task, arguments.folder): task for task in wanted}
        for done in as_completed(running):
            task = running[done]
            rows[task] = done.result()
            print(f"{task.name}: macs / {rows[task]['macs_ratio']:.2f}", file=sys.stderr, flush=True)
    torch.set_num_threads(arguments.threads)
    for task in () if arguments.no_times else [task for task in wanted if task.tolerance is None]:
        rows[task]["times"] = times(task, rows[task], arguments.folder)
        print(f"{task.name}: timed", file=sys.stderr, flush=True)
    result: dict[str, Any] = {"environment": environment(), "frames": arguments.frames, "minutes": arguments.minutes}
    result["rows"] = [rows[task] for task in wanted]
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.json == RESULT and not arguments.no_times:
        PAGE.write_text(markdown(result))


if __name__ == "__main__":
    main()
