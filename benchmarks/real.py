"""Every trained network over every real clip: macs saved, agreement with the dense network, drift.

    python -m benchmarks.real            # all; writes benchmarks/results/real.json and docs/numbers.md

The frames are consecutive, from the middle of each clip. For every network and clip the dense network and one
stream per setting see the same frames; all comparisons are with the original torch program.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import saccade
from benchmarks.assets import ASSETS, CLIPS, NETWORKS, clip, network
from benchmarks.environment import environment
from benchmarks.real_tables import PAGE, RESULT, markdown
from saccade.evaluate.agreement import argmax_agreement, relative_error
from saccade.graph import load_program

SETTINGS: tuple[dict[str, float], ...] = (
    {"threshold": 0.0},
    {"tolerance": 0.01},
    {"tolerance": 0.03},
    {"tolerance": 0.1},
)
FRAMES = {"espnet": 24, "espnetv2": 20, "vdsr": 8, "rfb640": 40}


def frames_of(name: str, count: int) -> Iterator[saccade.Frame]:
    """Yields `count` consecutive frames from the middle of a clip."""
    with saccade.read_video(clip(name)) as reader:
        start = (reader.frame_count_estimate or 0) // 2
    with saccade.read_video(clip(name), start=start) as reader:
        yield from islice(reader, count)


def compare(got: list[Tensor], wanted: list[Tensor], axes: list[int | None]) -> dict[str, float | None]:
    """Returns relative error, argmax agreement and, for one-channel pictures, PSNR in dB at peak 1."""
    psnr = None
    if len(wanted) == 1 and wanted[0].ndim == 4 and wanted[0].shape[1] == 1:
        error = float((got[0] - wanted[0]).double().square().mean())
        psnr = 10 * math.log10(1 / error) if error else None
    return {
        "relative_error": relative_error(got, wanted),
        "argmax_agreement": argmax_agreement(got, wanted, axes),
        "psnr_db": psnr,
    }


def summarise(rows: list[dict[str, float | None]]) -> dict[str, Any]:
    """Returns mean, first tenth and last tenth (at least one frame) of every measure."""
    tenth = math.ceil(len(rows) / 10)
    summary: dict[str, Any] = {}
    for key in rows[0] if rows else ():
        parts = {"mean": rows, "first_tenth": rows[:tenth], "last_tenth": rows[-tenth:]}
        values = {part: [row[key] for row in some if row[key] is not None] for part, some in parts.items()}
        summary[key] = {part: sum(some) / len(some) if some else None for part, some in values.items()}
    return summary


def run(name: str, source: str, frames: int) -> list[dict[str, Any]]:
    """Returns a row per setting for one network and clip; a row "two dense frames" tells the floor."""
    program, _ = load_program(network(name))
    reference = program.module()
    plan = saccade.make_plan(program, preprocess=NETWORKS[name], name=name)
    axes = [plan.values[ref.name].channel_axis for ref in plan.outputs]
    streams = [saccade.Stream(plan, **setting) for setting in SETTINGS]
    rows: list[list[dict[str, float | None]]] = [[] for _ in streams]
    macs = [[0, 0] for _ in streams]
    exact, floor, before, count = True, [], None, 0
    for count, frame in enumerate(frames_of(source, frames), 1):
        x = NETWORKS[name](frame)
        with torch.no_grad():
            dense = pytree.tree_leaves(reference(x))
        if before is not None:
            floor.append(compare(before, dense, axes))
        before = dense
        given = [pytree.tree_leaves(stream(x)) for stream in streams]
        for index, (stream, got) in enumerate(zip(streams, given, strict=True)):
            if count > 1:  # the first frame is computed whole by every stream; it would flatter all figures
                rows[index].append(compare(got, dense, axes))
                macs[index][0] += stream.cost.dense_macs
                macs[index][1] += stream.cost.executed_macs + stream.cost.gate_macs
        if count % 10 == 0 or count == frames:  # threshold 0 against a full pass, on some frames
            own = pytree.tree_leaves(streams[0].full_pass(x))
            exact = exact and all(torch.equal(a, b) for a, b in zip(own, given[0], strict=True))
    base = {"network": name, "clip": source, "frames": count}
    table = [
        {
            **base,
            **setting,
            "macs_ratio": spent[0] / spent[1] if spent[1] else None,
            "state_bytes": stream.state.nbytes,
            **summarise(measured),
        }
        for setting, stream, measured, spent in zip(SETTINGS, streams, rows, macs, strict=True)
    ]
    table[0]["equals_full_pass"] = exact
    return [*table, {**base, "two_dense_frames": True, **summarise(floor)}]


def main() -> None:
    """Runs what was asked for and writes the results as they come, so that a stop loses nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--clips", nargs="*", default=list(CLIPS), choices=list(CLIPS))
    parser.add_argument("--frames", type=int, help="frames of every clip (default: per network)")
    parser.add_argument("--json", type=Path, default=RESULT)
    arguments = parser.parse_args()
    if not ASSETS.is_dir():
        sys.exit(f"the clips and networks are not here: no folder {ASSETS}")
    started = time.time()
    rows: list[dict[str, Any]] = []
    for name in arguments.networks:
        for source in arguments.clips:
            rows += run(name, source, arguments.frames or FRAMES[name])
            result = {"environment": environment(), "minutes": round((time.time() - started) / 60, 1), "rows": rows}
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")
            print(json.dumps(rows[-len(SETTINGS) - 1 :]), flush=True)
    if arguments.json == RESULT:
        PAGE.write_text(markdown(result))


if __name__ == "__main__":
    main()
