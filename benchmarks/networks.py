"""Milliseconds per frame on known networks, beside the best dense engines, from a still picture to everything new.

    python -m benchmarks.networks --json benchmarks/results/networks.json [--quick] [--threads 1]

A picture of noise stands still, and on it a square of fresh noise moves on by 3 rows and 5 columns with every frame:
what changes is where the square is and where it was (`changed_share`; a little more than the square). "still" has no
square, in "all" it is the whole picture. Thresholds are 0, so all engines give the same results, and these are compared
on every frame: `max_difference` and `differences` are the largest relative L2 error of any output on any frame, against
OpenVINO in float32, and `output_moved` says how much that output itself moves from one frame to the next.

Every repetition runs all engines on the same frame, one after the other, beginning with another one each time; figures
are medians. Each engine finds the caches as the others left them. timm and effdet networks have random weights, always
the same; the others are trained.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

import saccade
from benchmarks.assets import ASSETS, NETWORKS, network
from benchmarks.environment import ROOT, environment
from benchmarks.rivals import OnnxRuntime, OpenVino, Rival, Torch, onnx_file
from saccade.errors import InputError
from saccade.evaluate.agreement import relative_error
from saccade.evaluate.video_run import finite
from saccade.graph import load_program
from saccade.zoo import load_model

RESULT = ROOT / "benchmarks" / "results" / "networks.json"
SIZES = {  # (channels, height, width)
    "hrnet_w32": (3, 256, 256),
    "resnet50": (3, 224, 224),
    "tf_efficientnet_b3": (3, 300, 300),
    "tf_efficientdet_d0": (3, 512, 512),
    "vdsr": (1, 240, 320),
    "espnet": (3, 432, 768),
    "espnetv2": (3, 384, 672),
    "street-detector": (3, 256, 448),  # not measured unless asked for; benchmarks.streams takes it from here
}
DEFAULT = tuple(name for name in SIZES if name != "street-detector")
CASES = {"still": 0.0, "square5": 0.05, "square12": 0.12, "square25": 0.25, "all": 1.0}
DTYPES = ("float32", "bfloat16")
LIMITS = {"float32": 1e-4, "bfloat16": 0.1}  # of max_difference; beyond, engines are not doing the same work
REFERENCE = "openvino float32"
Engine = Callable[[Tensor], Sequence[Tensor]]


def load(name: str) -> tuple[nn.Module | ExportedProgram, Tensor, Path]:
    """Returns a network of `SIZES`, an input of its size, and its ONNX file."""
    example = torch.zeros(1, *SIZES[name])
    if name in NETWORKS:
        return load_program(network(name))[0], example, ASSETS / "models" / f"{name}.onnx"
    library = "" if name == "street-detector" else "effdet:" if "efficientdet" in name else "timm:"
    model = load_model(library + name).model
    return model, example, onnx_file(name, model, example)


def square_size(height: int, width: int, share: float) -> tuple[int, int]:
    """Returns height and width of the square, or of the rectangle where a square does not fit, of that share."""
    area = share * height * width
    rows = min(height, round(math.sqrt(area)))
    columns = min(width, round(area / rows)) if rows else 0
    return (min(height, round(area / columns)) if columns == width else rows), columns


def moving_square(shape: Sequence[int], share: float, *, seed: int = 0) -> Iterator[Tensor]:
    """Yields pictures for ever: still noise 0..1, and on it a square of fresh noise that moves and turns at the edges.

    Args:
        shape: of the pictures, (N, C, H, W).
        share: of the picture that the square covers, 0..1.
        seed: of the noise and the square's first place.
    """
    generator = torch.Generator().manual_seed(seed)
    ground = torch.rand(*shape, generator=generator)
    rows, columns = square_size(shape[2], shape[3], share)
    room = (shape[2] - rows, shape[3] - columns)
    first = [int(torch.randint(0, 2 * limit + 1, (), generator=generator)) for limit in room]
    frame = 0
    while True:
        top, left = (
            _bounce(begin + step * frame, limit) for begin, step, limit in zip(first, (3, 5), room, strict=True)
        )
        picture = ground.clone()
        size = (*shape[:2], rows, columns)
        picture[..., top : top + rows, left : left + columns] = torch.rand(size, generator=generator)
        yield picture
        frame += 1


def _bounce(distance: int, limit: int) -> int:
    """Returns where something is that went a distance between two walls, 0 and limit."""
    if limit == 0:
        return 0
    return limit - abs(distance % (2 * limit) - limit)


@dataclass
class Measured:
    """What one case gave.

    Attributes:
        ms: per engine, milliseconds of every repetition.
        differences: per engine, largest relative error of any output on any frame against the reference.
        moved: relative change of the reference's outputs since the frame before, every repetition.
        changed: share of the picture's pixels that differ from the frame before, every repetition.
        noted: what `note` returned, every repetition.
    """

    ms: dict[str, list[float]] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    moved: list[float] = field(default_factory=list)
    changed: list[float] = field(default_factory=list)
    noted: list[dict[str, float]] = field(default_factory=list)


def measure(
    engines: dict[str, Engine],
    frames: Iterator[Tensor],
    *,
    reference: str,
    budget_seconds: float,
    minimum: int = 5,
    warm_up: int = 2,
    note: Callable[[], dict[str, float]] = dict,
) -> Measured:
    """Returns times and agreement of engines that all run on the same frames, in turn.

    Args:
        engines: by name; one of them is the reference.
        frames: the pictures.
        reference: the engine the others' outputs are compared with.
        budget_seconds: stop when the engines together have taken this long.
        minimum: but not before this many repetitions.
        warm_up: frames before the first repetition, not measured.
        note: called after every repetition; what it returns is kept.
    """
    found = Measured(ms={name: [] for name in engines}, differences=dict.fromkeys(engines, 0.0))
    names = list(engines)
    before: tuple[Tensor, list[Tensor]] | None = None
    spent, count = 0.0, 0
    while count < warm_up + minimum or spent < budget_seconds:
        frame = next(frames)
        given: dict[str, Sequence[Tensor]] = {}
        shift = count % len(names)
        for name in names[shift:] + names[:shift]:
            began = time.perf_counter()
            given[name] = engines[name](frame)
            seconds = time.perf_counter() - began
            if count >= warm_up:
                found.ms[name].append(1e3 * seconds)
                spent += seconds
        wanted = given[reference]
        if count >= warm_up:
            for name, outputs in given.items():
                found.differences[name] = max(found.differences[name], difference(outputs, wanted))
            found.noted.append(note())
            if before is not None:
                found.changed.append(float((frame != before[0]).any(1).double().mean()))
                found.moved.append(difference(before[1], wanted))
        before = frame, [output.clone() for output in wanted]
        count += 1
    return found


def difference(got: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Returns the largest relative L2 error of any output; infinite where shapes differ or a number is not finite."""
    if [x.shape for x in got] != [x.shape for x in wanted]:
        return math.inf
    errors = [relative_error([a], [b]) for a, b in zip(got, wanted, strict=True)]
    return max((math.inf if error is None or math.isnan(error) else error for error in errors), default=0.0)


def rows_of(
    found: Measured, *, dtypes: Sequence[str], state_bytes: dict[str, int], **base: Any
) -> list[dict[str, Any]]:
    """Returns a row per dtype from what a case gave; `base` says which case that was."""
    ms = {name: statistics.median(times) for name, times in found.ms.items() if times}
    rows = []
    for dtype in dtypes:
        engines = {name: f"{name} {dtype}" for name in ("openvino", "onnxruntime", "torch")}
        fractions = [noted[dtype] for noted in found.noted if dtype in noted]
        rows.append(
            {
                **base,
                "dtype": dtype,
                "repetitions": len(found.ms[f"saccade {dtype}"]),
                "changed_share": statistics.median(found.changed) if found.changed else None,
                "macs_fraction": statistics.median(fractions) if fractions else None,
                "ms": ms[f"saccade {dtype}"],
                "openvino_ms": ms.get(engines["openvino"]),
                "openvino_default_ms": ms.get("openvino default"),
                "onnxruntime_ms": ms.get(engines["onnxruntime"]),
                "torch_ms": ms.get(engines["torch"]),
                "max_difference": found.differences[f"saccade {dtype}"],
                "differences": {name: found.differences.get(engine) for name, engine in engines.items()},
                "output_moved": statistics.median(found.moved) if found.moved else None,
                "state_bytes": state_bytes[dtype],
            }
        )
    return rows


def open_stream(plan: saccade.Plan, *, executor: str, precision: str, threads: int, **setting: Any) -> saccade.Stream:
    """Returns a stream; the reference executor is the definition and knows neither precision nor threads.

    Raises:
        InputError: the reference executor is asked for another precision than float32.
    """
    if executor == "reference" and precision != "float32":
        raise InputError(f"the reference executor computes in float32, got precision {precision!r}; use the native one")
    native: dict[str, Any] = {"precision": precision} if executor == "native" else {}
    if executor == "native" and threads != 1:
        native["threads"] = threads
    return saccade.Stream(plan, executor=executor, **native, **setting)


def run(
    name: str, *, threads: int, dtypes: Sequence[str], cases: Sequence[str], budget_seconds: float, executor: str
) -> list[dict[str, Any]]:
    """Returns the rows of one network."""
    model, example, path = load(name)
    plan = saccade.make_plan(model, example, name=name)
    streams = {
        dtype: open_stream(plan, executor=executor, precision=dtype, threads=threads, threshold=0.0) for dtype in dtypes
    }
    engines: dict[str, Engine] = {f"saccade {dtype}": _flat(stream) for dtype, stream in streams.items()}
    rivals: list[Rival] = [OpenVino(path, threads=threads), OpenVino(path, precision=None, threads=threads)]
    if "bfloat16" in dtypes:
        rivals.append(OpenVino(path, precision="bfloat16", threads=threads))
    if "float32" in dtypes:
        rivals.append(OnnxRuntime(path, threads=threads))
    rivals += [Torch(model, precision=dtype, threads=threads) for dtype in dtypes]
    engines |= {rival.name: rival for rival in rivals}
    rows: list[dict[str, Any]] = []
    for case in cases:
        found = measure(
            engines,
            moving_square(example.shape, CASES[case]),
            reference=REFERENCE,
            budget_seconds=budget_seconds,
            note=lambda: {dtype: stream.cost.macs_fraction for dtype, stream in streams.items()},
        )
        held = {dtype: stream.state.nbytes for dtype, stream in streams.items()}
        rows += rows_of(found, dtypes=dtypes, state_bytes=held, network=name, threads=threads, case=case)
    return rows


def _flat(stream: saccade.Stream) -> Engine:
    return lambda x: pytree.tree_leaves(stream(x))


def disagreements(rows: list[dict[str, Any]]) -> list[str]:
    """Returns a line for every row and engine whose results are not those of the reference."""
    lines = []
    for row in rows:
        for engine, error in {"saccade": row["max_difference"], **row["differences"]}.items():
            if error is not None and not error <= LIMITS[row["dtype"]]:
                lines.append(f"{row['network']}, {row['dtype']}, {row['case']}: {engine} is off by {error:.2g}")
    return lines


def main() -> None:
    """Runs what was asked for and writes the results network by network, so that a stop loses nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--quick", action="store_true", help="1 second per network and case instead of 6")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--networks", nargs="+", default=list(DEFAULT), choices=list(SIZES))
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--executor", default="native", choices=["native", "reference"])
    arguments = parser.parse_args()
    if arguments.executor == "reference" and arguments.dtypes != ["float32"]:
        parser.error("the reference executor computes in float32: add --dtypes float32")
    started, rows = time.time(), []
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for name in arguments.networks:
            if name in NETWORKS and not ASSETS.is_dir():
                print(f"{name} is left out: no folder {ASSETS}", file=sys.stderr)
                continue
            new = run(
                name,
                threads=threads,
                dtypes=arguments.dtypes,
                cases=arguments.cases,
                budget_seconds=1.0 if arguments.quick else 6.0,
                executor=arguments.executor,
            )
            rows += new
            result = {
                "environment": environment(),
                "executor": arguments.executor,
                "minutes": round((time.time() - started) / 60, 1),
                "rows": rows,
            }
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(finite(result), indent=1) + "\n")
            for row in new:
                print(json.dumps(finite(row)), flush=True)
    if wrong := disagreements(rows):
        sys.exit("results differ:\n" + "\n".join(wrong))


if __name__ == "__main__":
    main()
