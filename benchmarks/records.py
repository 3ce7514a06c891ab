"""The forms a record may have, on every trained network and real clip: what each saves, costs in memory, and errs by.

    python -m benchmarks.records --json benchmarks/results/records.json [--frames 10]

One stream per form and tolerance sees the same consecutive frames from the middle of each clip (benchmarks.real); all
run natively on one thread, in turn on each frame, the first one left out. `ms` is the median without decoding.
`summary` has, per form and tolerance, means over the pairs of network and clip, relative to "reference": geometric of
macs, time and memory, and of the output's relative error (pairs in which neither errs are left out).
"""

from __future__ import annotations

import os

# Before torch is imported: idle threads must not spin; see benchmarks/rivals.py.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("KMP_BLOCKTIME", "0")

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.assets import ASSETS, CLIPS, NETWORKS, plan_of
from benchmarks.environment import ROOT, environment
from benchmarks.real import Course, Options, compare, follow, middle_of, timed_frames
from saccade.stream.record import RECORDS

RESULT = ROOT / "benchmarks" / "results" / "records.json"
TOLERANCES = (0.01, 0.05)
BASE = "reference"


def run(name: str, source: str, frames: int) -> list[dict[str, Any]]:
    """Returns a row per form and tolerance for one network and clip."""
    plan = plan_of(name)
    axes = [plan.values[ref.name].channel_axis for ref in plan.outputs]
    kinds = [(record, tolerance) for tolerance in TOLERANCES for record in RECORDS]
    streams = {
        f"{record} {tolerance:g}": Options(record=record).stream(plan, tolerance=tolerance)
        for record, tolerance in kinds
    }
    courses = {each: Course() for each in streams}
    timed_clip = timed_frames(source, middle_of(source), frames)
    for count, (_, _, _, wanted, given) in enumerate(follow(name, timed_clip, dict(streams))):
        for each, (got, ms) in given.items() if count else ():
            courses[each].add(ms, compare(got, wanted, axes), streams[each].cost)
    kept = sum(plan.values[value].numel for value in plan.kept) * 4
    return [
        {
            "network": name,
            "clip": source,
            "record": record,
            "tolerance": tolerance,
            "macs_ratio": courses[each].macs_ratio,
            "kept_bytes": kept,
            "state_bytes": streams[each].state.nbytes,
            **courses[each].summary(),
        }
        for (record, tolerance), each in zip(kinds, streams, strict=True)
    ]


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns per form and tolerance how it compares with the form `BASE`."""
    found = {(row["network"], row["clip"], row["tolerance"], row["record"]): row for row in rows}
    result = []
    for record in dict.fromkeys(row["record"] for row in rows):
        for tolerance in dict.fromkeys(row["tolerance"] for row in rows):
            pairs = [
                (row, found[(row["network"], row["clip"], tolerance, BASE)])
                for row in rows
                if (row["record"], row["tolerance"]) == (record, tolerance)
            ]
            errors = [(a["relative_error"]["mean"], b["relative_error"]["mean"]) for a, b in pairs]
            result.append(
                {
                    "record": record,
                    "tolerance": tolerance,
                    "pairs": len(pairs),
                    "macs": _mean_ratio([(b["macs_ratio"], a["macs_ratio"]) for a, b in pairs]),
                    "ms": _mean_ratio([(a["ms"], b["ms"]) for a, b in pairs]),
                    "error": _mean_ratio(errors),
                    "state_bytes": _mean_ratio([(a["state_bytes"], b["state_bytes"]) for a, b in pairs]),
                    "state_over_kept": statistics.median(a["state_bytes"] / a["kept_bytes"] for a, _ in pairs),
                }
            )
    return result


def _mean_ratio(pairs: list[tuple[float | None, float | None]]) -> float | None:
    ratios = [a / b for a, b in pairs if a and b]
    return statistics.geometric_mean(ratios) if ratios else None


def main() -> None:
    """Runs, writes the results as they come, prints the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--clips", nargs="*", default=list(CLIPS), choices=list(CLIPS))
    parser.add_argument("--frames", type=int, default=10)
    arguments = parser.parse_args()
    if not ASSETS.is_dir():
        sys.exit(f"the clips and networks are not here: no folder {ASSETS}")
    torch.set_num_threads(1)
    started = time.time()
    rows: list[dict[str, Any]] = []
    for name in arguments.networks:
        for source in arguments.clips:
            rows += run(name, source, arguments.frames)
            result = {
                "environment": environment(),
                "minutes": round((time.time() - started) / 60, 1),
                "frames": arguments.frames,
                "summary": summary(rows),
                "rows": rows,
            }
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")
            print(f"{name}, {source}", file=sys.stderr, flush=True)
    for row in summary(rows):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
