"""The paper's Table 2 on a whole network: how many times faster HRNet-w32 runs than OpenVINO where macs are cut.

    python -m benchmarks.reduced --json benchmarks/results/reduced.json [--quick]

Skip-Convolutions, Table 2: HRNet-w32 at macs / 2.51, 4.33 and 7.92 ran 1.5, 1.9 and 4.1 times faster. Here a square of
noise that covers 12 % of a still picture moves on with every frame (`benchmarks.networks.moving_square`), and one
tolerance for all steps is searched that leaves the wanted share of the macs. The network has random weights: the
figures are about time, and `error` (relative, of the output against OpenVINO) only tells what the tolerance did.

Stream and OpenVINO run on the same frames in turn; figures are medians. `realised` is speed-up over reduction of macs.
All that the native engine keeps is compared with the reference executor's at the same tolerance, after some frames
(`difference_reference`): single decisions may fall differently where a change equals the threshold to the last digits.
"""

from __future__ import annotations

import os

# Before torch is imported: idle threads must not spin; see benchmarks/rivals.py.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("KMP_BLOCKTIME", "0")

import argparse
import json
import math
import statistics
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

import saccade
from benchmarks.environment import ROOT, environment
from benchmarks.networks import DTYPES, load, measure, moving_square, open_stream
from benchmarks.rivals import OpenVino

RESULT = ROOT / "benchmarks" / "results" / "reduced.json"
NETWORK = "hrnet_w32"
SHARE = 0.12  # of the picture that the square covers
PAPER = {2.51: 1.5, 4.33: 1.9, 7.92: 4.1}
AGREES = 0.02  # relative; of the native engine with the reference executor at the same tolerance


def macs_fraction(plan: saccade.Plan, tolerance: float, precision: str, *, frames: int = 16) -> float:
    """Returns the share of the macs that a stream executes, gates included, over the last half of some frames.

    The first frames cost less: changes below the thresholds have not added up yet.
    """
    stream = open_stream(plan, executor="native", precision=precision, threads=1, tolerance=tolerance)
    shares = []
    for frame in islice(moving_square(plan.values[plan.inputs[0]].shape, SHARE), frames):
        stream(frame)
        shares.append(stream.cost.macs_fraction)
    return statistics.fmean(shares[frames // 2 :])


def find_tolerance(plan: saccade.Plan, wanted: float, precision: str, *, steps: int = 10) -> float:
    """Returns the tolerance that leaves `wanted` of the macs, by bisection of its logarithm."""
    low, high = math.log(1e-4), math.log(10.0)
    for _ in range(steps):
        middle = (low + high) / 2
        if macs_fraction(plan, math.exp(middle), precision) > wanted:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def difference_reference(plan: saccade.Plan, tolerance: float, *, frames: int = 3) -> float:
    """Returns how far all values that native and reference executor keep are apart after some frames, relative."""
    streams = [
        open_stream(plan, executor=executor, precision="float32", threads=1, tolerance=tolerance)
        for executor in ("native", "reference")
    ]
    for frame in islice(moving_square(plan.values[plan.inputs[0]].shape, SHARE), frames):
        for stream in streams:
            stream(frame)
    pairs = [tuple(stream.state.values[name].double() for stream in streams) for name in plan.kept]
    apart = sum(float((ours - theirs).square().sum()) for ours, theirs in pairs)
    return math.sqrt(apart / sum(float(theirs.square().sum()) for _, theirs in pairs))


def run(dtype: str, *, budget_seconds: float) -> list[dict[str, Any]]:
    """Returns a row per reduction of the paper's table."""
    model, example, path = load(NETWORK)
    plan = saccade.make_plan(model, example, name=NETWORK)
    rows = []
    for reduction, paper in PAPER.items():
        tolerance = find_tolerance(plan, 1 / reduction, dtype)
        stream = open_stream(plan, executor="native", precision=dtype, threads=1, tolerance=tolerance)
        rival = OpenVino(path, precision=dtype, threads=1)
        engines = {"saccade": lambda x, stream=stream: pytree.tree_leaves(stream(x)), rival.name: rival}
        found = measure(
            engines,
            moving_square(example.shape, SHARE),
            reference=rival.name,
            budget_seconds=budget_seconds,
            warm_up=8,
            note=lambda stream=stream: {"share": stream.cost.macs_fraction},
        )
        ms = {name: statistics.median(times) for name, times in found.ms.items()}
        ratio = 1 / statistics.fmean(noted["share"] for noted in found.noted)
        rows.append(
            {
                "network": NETWORK,
                "dtype": dtype,
                "threads": 1,
                "reduction": reduction,
                "tolerance": tolerance,
                "macs_ratio": ratio,
                "ms": ms["saccade"],
                "openvino_ms": ms[rival.name],
                "speed_up": ms[rival.name] / ms["saccade"],
                "realised": ms[rival.name] / ms["saccade"] / ratio,
                "paper_speed_up": paper,
                "error": found.differences["saccade"],
                "difference_reference": difference_reference(plan, tolerance) if dtype == "float32" else None,
                "repetitions": len(found.ms["saccade"]),
            }
        )
    return rows


def main() -> None:
    """Runs, prints a line per row and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--quick", action="store_true", help="2 seconds of timing per row instead of 10")
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started, rows = time.time(), []
    for dtype in arguments.dtypes:
        rows += run(dtype, budget_seconds=2.0 if arguments.quick else 10.0)
    result = {"environment": environment(), "minutes": round((time.time() - started) / 60, 1), "rows": rows}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    for row in rows:
        print(json.dumps(row), flush=True)
    wrong = [
        row for row in rows if row["difference_reference"] is not None and not row["difference_reference"] <= AGREES
    ]
    if wrong:
        sys.exit(f"native and reference executor differ: {json.dumps(wrong[0])}")


if __name__ == "__main__":
    main()
