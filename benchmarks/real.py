"""Every trained network over every real clip: macs and time saved, agreement with the dense network, drift.

    python -m benchmarks.real            # all; writes benchmarks/results/real.json and docs/numbers.md
    python -m benchmarks.real --span vdsr one-by-one-person-detection.mp4 270 281        # prints that span only

The frames are consecutive, from the middle of each clip. For every network and clip the dense network and one
stream per setting see the same frames; all comparisons are with the original torch program.

Times are per frame, engines in turn on each frame, the first frame left out, decoding and preprocessing (`decode_ms`)
included in all alike. `ms` is the median and `mean_ms` the mean, by which a network that runs on some frames only has
to be judged. Beside the streams: a dense engine on every frame (`dense_ms`, median), and the same behind a motion
detector (`motion_ms`, mean; it ran on `motion_share` of the frames and repeated its last result on the others).
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
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import saccade
from benchmarks.assets import ASSETS, CLIPS, NETWORKS, clip, network, plan_of
from benchmarks.environment import environment
from benchmarks.motion import MotionDetector, MotionGate
from benchmarks.networks import open_stream
from benchmarks.real_tables import PAGE, RESULT, markdown
from benchmarks.rivals import OpenVino
from saccade.evaluate.agreement import argmax_agreement, relative_error
from saccade.graph import load_program
from saccade.stream.record import RECORDS

SETTINGS: tuple[dict[str, float], ...] = (
    {"threshold": 0.0},
    {"tolerance": 0.01},
    {"tolerance": 0.03},
    {"tolerance": 0.1},
)
FRAMES = {"espnet": 24, "espnetv2": 20, "vdsr": 8, "rfb640": 40}
SPAN = ("vdsr", "one-by-one-person-detection.mp4", 270, 281)  # what the design was decided on
SPAN_TOLERANCES = (0.003, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.2)


def timed_frames(name: str, start: int, count: int) -> Iterator[tuple[saccade.Frame, float]]:
    """Yields consecutive frames of a clip, and the milliseconds each took to decode."""
    with saccade.read_video(clip(name), start=start) as reader:
        frames = islice(reader, count)
        while True:
            began = time.perf_counter()
            frame = next(frames, None)
            if frame is None:
                return
            yield frame, 1e3 * (time.perf_counter() - began)


def middle_of(name: str) -> int:
    """Returns the frame number of a clip's middle."""
    with saccade.read_video(clip(name)) as reader:
        return (reader.frame_count_estimate or 0) // 2


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


@dataclass
class Course:
    """What one contender gave on every frame but the first: milliseconds and comparisons, and macs for a stream."""

    ms: list[float] = field(default_factory=list)
    rows: list[dict[str, float | None]] = field(default_factory=list)
    dense_macs: int = 0
    spent_macs: int = 0

    def add(self, ms: float, row: dict[str, float | None], cost: saccade.Cost | None = None) -> None:
        """Adds a frame."""
        self.ms.append(ms)
        self.rows.append(row)
        if cost is not None:
            self.dense_macs += cost.dense_macs
            self.spent_macs += cost.executed_macs + cost.gate_macs

    def summary(self) -> dict[str, Any]:
        """Returns times and comparisons, summed up."""
        return {
            "ms": statistics.median(self.ms) if self.ms else None,
            "mean_ms": statistics.fmean(self.ms) if self.ms else None,
            **summarise(self.rows),
        }

    @property
    def macs_ratio(self) -> float | None:
        """Dense macs over executed and gate macs; None when nothing was executed."""
        return self.dense_macs / self.spent_macs if self.spent_macs else None


@dataclass(frozen=True)
class Options:
    """How the streams run, and the dense engine beside them."""

    executor: str = "native"
    precision: str = "float32"
    record: str | None = None
    threads: int = 1

    def stream(self, plan: saccade.Plan, **setting: float) -> saccade.Stream:
        """Returns a stream."""
        return open_stream(
            plan, executor=self.executor, precision=self.precision, threads=self.threads, record=self.record, **setting
        )

    def dense(self, name: str, precision: Any = None) -> OpenVino:
        """Returns the best dense engine with a network in it; with the streams' precision unless given."""
        path = ASSETS / "models" / f"{name}.onnx"
        return OpenVino(path, precision=precision or self.precision, threads=self.threads)


def timed(call: Callable[[Tensor], Any], x: Tensor) -> tuple[list[Tensor], float]:
    """Returns what a call gives, flattened and copied, and the milliseconds it took without the copying."""
    began = time.perf_counter()
    given = call(x)
    ms = 1e3 * (time.perf_counter() - began)
    return [tensor.clone() for tensor in pytree.tree_leaves(given)], ms


def follow(
    name: str,
    frames: Iterator[tuple[saccade.Frame, float]],
    contenders: dict[str, Callable[[Tensor], Any]],
) -> Iterator[tuple[saccade.Frame, Tensor, float, list[Tensor], dict[str, tuple[list[Tensor], float]]]]:
    """Yields, frame by frame, what every contender gave and how long it took.

    Each item holds the frame, the networks' input, the milliseconds of decoding and preprocessing, the original torch
    program's outputs, and by contender its outputs and its own milliseconds. Another contender begins on each frame.
    """
    reference = load_program(network(name))[0].module()
    names = list(contenders)
    for count, (frame, decode_ms) in enumerate(frames):
        began = time.perf_counter()
        x = NETWORKS[name](frame)
        decode_ms += 1e3 * (time.perf_counter() - began)
        with torch.no_grad():
            wanted = pytree.tree_leaves(reference(x))
        shift = count % len(names)
        order = names[shift:] + names[:shift]
        yield frame, x, decode_ms, wanted, {each: timed(contenders[each], x) for each in order}


def run(name: str, source: str, frames: int, options: Options) -> list[dict[str, Any]]:
    """Returns a row per setting for one network and clip, one for the dense engine on every frame, one for it behind a
    motion detector, and a row "two dense frames" that tells the floor."""
    plan = plan_of(name)
    axes = [plan.values[ref.name].channel_axis for ref in plan.outputs]
    streams = {f"stream {index}": options.stream(plan, **setting) for index, setting in enumerate(SETTINGS)}
    dense = options.dense(name)
    courses = {each: Course() for each in (*streams, "dense", "motion", "floor")}
    gate = MotionGate(MotionDetector())
    decoding: list[float] = []
    before: list[Tensor] = []
    exact, count = True, 0
    timed_clip = timed_frames(source, middle_of(source), frames)
    for frame, x, decode_ms, wanted, given in follow(name, timed_clip, {**streams, "dense": dense}):
        count += 1
        fresh, dense_ms = given["dense"]
        runs, began = gate.runs, time.perf_counter()
        repeated = gate(frame, lambda fresh=fresh: fresh)
        gate_ms = 1e3 * (time.perf_counter() - began)
        given["motion"] = repeated, gate_ms + (dense_ms if gate.runs > runs else 0.0)
        if count > 1:  # the first frame is computed whole by every stream; it would flatter all figures
            decoding.append(decode_ms)
            courses["floor"].add(0.0, compare(before, wanted, axes))
            for each, (got, ms) in given.items():
                cost = streams[each].cost if each in streams else None
                courses[each].add(decode_ms + ms, compare(got, wanted, axes), cost)
        before = wanted
        if count % 10 == 0 or count == frames:  # threshold 0 against a full pass, on some frames
            own = pytree.tree_leaves(streams["stream 0"].full_pass(x))
            exact = exact and all(torch.equal(a, b) for a, b in zip(own, given["stream 0"][0], strict=True))
    base = {
        "network": name,
        "clip": source,
        "frames": count,
        "decode_ms": statistics.median(decoding) if decoding else None,
        "dense_ms": courses["dense"].summary()["ms"],
        "motion_ms": courses["motion"].summary()["mean_ms"],
        "motion_share": (gate.runs - 1) / (gate.frames - 1) if gate.frames > 1 else None,  # the first frame always runs
    }
    table = [
        {
            **base,
            **setting,
            "macs_ratio": courses[each].macs_ratio,
            "state_bytes": stream.state.nbytes,
            **courses[each].summary(),
        }
        for setting, (each, stream) in zip(SETTINGS, streams.items(), strict=True)
    ]
    table[0]["equals_full_pass"] = exact
    return [
        *table,
        {**base, "dense_engine": dense.name, **courses["dense"].summary()},
        {**base, "motion_detector": True, **courses["motion"].summary()},
        {**base, "two_dense_frames": True, **courses["floor"].summary(), "ms": None, "mean_ms": None},
    ]


def run_span(
    name: str, source: str, first: int, last: int, options: Options, tolerances: tuple[float, ...] = SPAN_TOLERANCES
) -> list[dict[str, Any]]:
    """Returns a row per tolerance for the frames first..last of a clip, beside the dense engine in both precisions."""
    plan = plan_of(name)
    axes = [plan.values[ref.name].channel_axis for ref in plan.outputs]
    streams = {f"stream {tolerance:g}": options.stream(plan, tolerance=tolerance) for tolerance in tolerances}
    rivals = {rival.name: rival for rival in (options.dense(name, each) for each in ("float32", "bfloat16"))}
    courses = {each: Course() for each in (*streams, *rivals)}
    decoding: list[float] = []
    timed_clip = timed_frames(source, first, last - first + 1)
    for count, (_, _, decode_ms, wanted, given) in enumerate(follow(name, timed_clip, {**streams, **rivals})):
        for each, (got, ms) in given.items() if count else ():
            cost = streams[each].cost if each in streams else None
            courses[each].add(decode_ms + ms, compare(got, wanted, axes), cost)
        decoding += [decode_ms] if count else []
    base = {"network": name, "clip": source, "first": first, "last": last, "decode_ms": statistics.median(decoding)}
    rows: list[dict[str, Any]] = []
    for tolerance, (each, stream) in zip(tolerances, streams.items(), strict=True):
        course, held = courses[each], stream.state.nbytes
        rows.append(
            {**base, "tolerance": tolerance, "macs_ratio": course.macs_ratio, "state_bytes": held, **course.summary()}
        )
    rows += [{**base, "dense_engine": each, **courses[each].summary()} for each in rivals]
    for row in rows:
        row["openvino_ms"] = courses["openvino float32"].summary()["ms"]
        row["openvino_bfloat16_ms"] = courses["openvino bfloat16"].summary()["ms"]
    return rows


def main() -> None:
    """Runs what was asked for and writes the results as they come, so that a stop loses nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--clips", nargs="*", default=list(CLIPS), choices=list(CLIPS))
    parser.add_argument("--frames", type=int, help="frames of every clip (default: per network)")
    parser.add_argument("--span", nargs=4, metavar=("NETWORK", "CLIP", "FIRST", "LAST"), help="only these frames")
    parser.add_argument("--tolerances", nargs="+", type=float, default=list(SPAN_TOLERANCES), help="of the span")
    parser.add_argument("--executor", default="native", choices=["native", "reference"])
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--record", choices=RECORDS, help="default: that of Stream")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help=f"default: {RESULT.name}, and docs/numbers.md; none for a span")
    arguments = parser.parse_args()
    if not ASSETS.is_dir():
        sys.exit(f"the clips and networks are not here: no folder {ASSETS}")
    options = Options(arguments.executor, arguments.precision, arguments.record, arguments.threads)
    torch.set_num_threads(options.threads)
    started = time.time()
    result: dict[str, Any] = {"environment": environment(), "minutes": 0.0, **asdict(options)}
    result |= {"motion_detector": asdict(MotionDetector()), "rows": [], "spans": []}
    path = arguments.json or (None if arguments.span else RESULT)

    def keep(part: str, rows: list[dict[str, Any]]) -> None:
        result[part] += rows
        result["minutes"] = round((time.time() - started) / 60, 1)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(rows), flush=True)

    for name in arguments.networks if not arguments.span else ():
        for source in arguments.clips:
            keep("rows", run(name, source, arguments.frames or FRAMES[name], options))
    name, source, first, last = arguments.span or SPAN
    if arguments.span or name in arguments.networks:
        keep("spans", run_span(name, source, int(first), int(last), options, tuple(arguments.tolerances)))
    if path == RESULT:
        PAGE.write_text(markdown(result))


if __name__ == "__main__":
    main()
