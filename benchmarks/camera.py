"""Cameras that move: macs, agreement and time with the history left where it is and moved along with the picture.

    python -m benchmarks.camera                    # all; writes benchmarks/results/camera.json and prints its table
    python -m benchmarks.camera --quick --json F   # a few frames of each, to see that it works

Rendered scenes are windows of each network's input size that move over one large rendered street (static camera, sensor
noise, H.264), so that a movement by whole pixels is one of the input's too: "still", pans by 1, 8 and 32 pixels per
frame, and a shake of up to 4 pixels either way. Real clips are scaled to the input, as everywhere. In "noise" every
pixel of every frame is new, so that there is nothing to gain. Both streams and one whose every frame is a reference
frame see the same frames in turn; `error` and `agreement` compare with the latter. The first frame is left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import _pytree as pytree

import saccade
from benchmarks.assets import ASSETS, clip, plan_of
from benchmarks.environment import ROOT, environment
from benchmarks.real import middle_of
from saccade.data.street import StreetConfig, encode_and_decode, render_street
from saccade.evaluate.agreement import argmax_agreement, relative_error
from saccade.stream.camera import shares_by_step
from saccade.zoo import load_model

CLIPS = ("dashcam-highway.mp4", "bedroom.mp4")
PANS = {"pan 1": 1, "pan 8": 8, "pan 32": 32}
NOISE = "noise"
SCENES = ("still", *PANS, "shake", NOISE)
MARGIN = 8  # pixels around the window, for the shake
TOLERANCES = (0.0, 0.03)
CAMERAS = ("still", "moving")
FIRST_SEED = 600_000


def planned(name: str) -> saccade.Plan:
    """Returns the plan of the shipped detector, or of a trained network beside the project."""
    if name == "street-detector":
        loaded = load_model(name)
        return saccade.make_plan(loaded.model, loaded.example, preprocess=loaded.preprocess, name=name)
    return plan_of(name)


def path_of(scene: str, frames: int, seed: int) -> NDArray[np.int64]:
    """Returns the window's corner (y, x) in every frame of a rendered scene, from MARGIN, MARGIN on."""
    if scene == "shake":
        draw = np.random.default_rng([seed, 4])
        return MARGIN + draw.integers(-4, 5, (frames, 2))
    right = PANS.get(scene, 0) * np.arange(frames)
    return np.stack([np.full(frames, MARGIN), MARGIN + right], 1)


def rendered(scene: str, size: tuple[int, int], frames: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Yields a rendered scene's frames (H, W, 3)."""
    if scene == NOISE:
        draw = np.random.default_rng([seed, 5])
        for _ in range(frames):
            yield draw.integers(0, 256, (*size, 3), dtype=np.uint8)
        return
    path = path_of(scene, frames, seed)
    width = size[1] + int(path[:, 1].max()) + MARGIN
    large = StreetConfig(seed=seed, frames=frames, height=size[0] + 2 * MARGIN, width=width + width % 2)
    video = encode_and_decode(render_street(large)).frames
    for picture, (top, left) in zip(video, path, strict=True):
        yield np.ascontiguousarray(picture[top : top + size[0], left : left + size[1]])


def filmed(name: str, frames: int) -> Iterator[saccade.Frame]:
    """Yields consecutive frames from the middle of a clip."""
    with saccade.read_video(clip(name), start=middle_of(name)) as reader:
        yield from islice(reader, frames)


@dataclass
class Course:
    """What one stream gave on every frame but the first."""

    spent: int = 0
    dense: int = 0
    moved: int = 0
    ms: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    agreements: list[float] = field(default_factory=list)


def run(name: str, scene: str, frames: int, tolerance: float, plan: saccade.Plan) -> dict[str, Any]:
    """Returns the row of one network, scene and tolerance."""
    axes = [plan.values[ref.name].channel_axis for ref in plan.outputs]
    streams = {camera: saccade.Stream(plan, tolerance=tolerance, camera=camera) for camera in CAMERAS}
    streams["dense"] = saccade.Stream(plan, reference_every=1)
    courses = {camera: Course() for camera in streams}
    height, width = plan.values[plan.inputs[0]].shape[2:]
    source = filmed(scene, frames) if scene in CLIPS else rendered(scene, (height, width), frames, FIRST_SEED)
    count = 0
    for count, frame in enumerate(source, start=1):
        order = list(streams)[:: 1 if count % 2 else -1]
        given = {camera: pytree.tree_leaves(streams[camera](frame)) for camera in order}
        wanted = given["dense"]
        for camera, outputs in given.items() if count > 1 else ():
            cost, course = streams[camera].cost, courses[camera]
            course.spent += cost.executed_macs + cost.gate_macs
            course.dense += cost.dense_macs
            course.moved += streams[camera].camera_shift != (0, 0)
            course.ms.append(cost.ms)
            course.errors.append(relative_error(outputs, wanted) or 0.0)
            agreement = argmax_agreement(outputs, wanted, axes)
            course.agreements += [] if agreement is None else [agreement]
    row: dict[str, Any] = {"network": name, "scene": scene, "tolerance": tolerance, "frames": count}
    row["dense_ms"] = statistics.median(courses.pop("dense").ms)
    for camera, course in courses.items():
        row[camera] = {
            "macs_share": course.spent / course.dense,
            "moved_frames": course.moved / len(course.ms),
            "ms": statistics.median(course.ms),
            "error": statistics.fmean(course.errors),
            "agreement": statistics.fmean(course.agreements) if course.agreements else None,
        }
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the rows as a Markdown table; of each pair of numbers the first is "still", the second "moving"."""
    lines = ["| | | tolerance | macs, share of dense | frames moved | error | ms | dense ms |", "|---" * 8 + "|"]
    for row in rows:
        still, moving = (row[camera] for camera in CAMERAS)
        lines.append(
            f"| {row['network']} | {row['scene']} | {row['tolerance']:g} "
            f"| {still['macs_share']:.3f} / {moving['macs_share']:.3f} | {moving['moved_frames']:.2f} "
            f"| {still['error']:.2g} / {moving['error']:.2g} | {still['ms']:.1f} / {moving['ms']:.1f} "
            f"| {row['dense_ms']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Runs, writes the JSON as it goes, and prints the table."""
    names = ["street-detector", "vdsr", "espnetv2"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=names, choices=names)
    parser.add_argument("--scenes", nargs="*", default=[*SCENES, *CLIPS], choices=[*SCENES, *CLIPS])
    parser.add_argument("--frames", type=int, default=30, help="frames of every scene")
    parser.add_argument("--quick", action="store_true", help="4 frames, the shipped detector, rendered scenes only")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "camera.json")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.networks, arguments.scenes, arguments.frames = names[:1], ["still", "pan 8", "pan 32"], 4
    torch.set_num_threads(1)
    started = time.time()
    result: dict[str, Any] = {"environment": environment(), "minutes": 0.0, "moved_macs": {}, "rows": []}
    for name in arguments.networks:
        if name != "street-detector" and not ASSETS.is_dir():
            print(f"{name} is left out: no folder {ASSETS}")
            continue
        plan = planned(name)
        result["moved_macs"][name] = shares_by_step(plan)
        for scene in arguments.scenes:
            if scene in CLIPS and not clip(scene).exists():
                print(f"{scene} is left out: it is not in {ASSETS}")
                continue
            result["rows"] += [run(name, scene, arguments.frames, tolerance, plan) for tolerance in TOLERANCES]
            result["minutes"] = round((time.time() - started) / 60, 1)
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result["rows"]))


if __name__ == "__main__":
    main()
