"""Frames per second of many streams in one process, sharing one network's weights, beside OpenVINO on the same frames.

    python -m benchmarks.streams --json benchmarks/results/streams.json [--quick]

Every stream sees its own picture of noise with a moving square of noise on it (`benchmarks.networks.moving_square`),
thresholds are 0. A `StreamPool` takes one frame of every stream at a time and answers before it takes the next, as
cameras need it. OpenVINO, with as many threads, is tuned for throughput and given all frames of a round at once, which
no camera could do: its best case. Rounds of the two alternate; frames per second are medians over rounds, and count the
frames of all streams. `two_streams_ratio` is fps of 2 streams on 2 threads over fps of 1 stream on 1 thread.
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
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import saccade
from benchmarks.environment import ROOT, environment
from benchmarks.networks import DTYPES, LIMITS, SIZES, difference, load, moving_square
from benchmarks.rivals import OpenVinoThroughput
from saccade.evaluate.video_run import finite

RESULT = ROOT / "benchmarks" / "results" / "streams.json"
NETWORKS = ("hrnet_w32", "street-detector")
SHARE = 0.05  # of the picture that the square covers
PICTURES = 8  # different ones per stream, shown forwards and backwards, so that the square never jumps


def ticks(shape: Sequence[int], streams: int, *, share: float = SHARE) -> Iterator[list[Tensor]]:
    """Yields for ever one frame per stream, each stream's own."""
    shown = [list(islice(moving_square(shape, share, seed=stream), PICTURES)) for stream in range(streams)]
    together = [list(pictures) for pictures in zip(*shown, strict=True)]
    return cycle(together + together[-2:0:-1])


def rate(run: Callable[[list[list[Tensor]]], Any], round_: list[list[Tensor]]) -> float:
    """Returns frames per second of a call that runs the frames of a round, one list per tick."""
    began = time.perf_counter()
    run(round_)
    return sum(len(tick) for tick in round_) / (time.perf_counter() - began)


def measure(
    contenders: dict[str, Callable[[list[list[Tensor]]], Any]], shown: Iterator[list[Tensor]], *, budget_seconds: float
) -> dict[str, float]:
    """Returns by contender the median frames per second over at least 5 rounds, in turn, all on the same frames.

    A round is as many ticks as the slowest contender runs in about a tenth of the budget.
    """
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    first = list(islice(shown, 2))
    slowest = min(rate(run, first) for run in contenders.values())  # warms up, too
    slowest = min(slowest, *(rate(run, first) for run in contenders.values()))
    length = max(1, round(slowest / len(first[0]) * budget_seconds / 10))
    began = time.perf_counter()
    while len(next(iter(rates.values()))) < 5 or time.perf_counter() - began < budget_seconds:
        round_ = list(islice(shown, length))
        for name, run in contenders.items():
            rates[name].append(rate(run, round_))
    return {name: statistics.median(values) for name, values in rates.items()}


def run(
    name: str,
    *,
    streams: Sequence[int],
    threads: Sequence[int],
    dtype: str,
    executor: str,
    budget_seconds: float,
) -> list[dict[str, Any]]:
    """Returns a row per number of threads and streams for one network."""
    model, example, path = load(name)
    plan = saccade.make_plan(model, example, name=name)
    options: dict[str, Any] = {"executor": executor, "threshold": 0.0}
    if executor == "native":
        options["precision"] = dtype
    rows = []
    for workers in threads:
        rival = OpenVinoThroughput(path, precision=dtype, threads=workers)
        for count in streams:
            shown = ticks(example.shape, count)
            with saccade.StreamPool(plan, streams=count, threads=workers, **options) as pool:
                fps = measure(
                    {
                        "saccade": lambda round_, pool=pool: [pool(tick) for tick in round_],
                        "openvino": lambda round_, rival=rival: rival.run(frame for tick in round_ for frame in tick),
                    },
                    shown,
                    budget_seconds=budget_seconds,
                )
                last = next(shown)
                given = [pytree.tree_leaves(outputs) for outputs in pool(last)]
                members = list(pool.streams)
                rows.append(
                    {
                        "network": name,
                        "dtype": dtype,
                        "streams": count,
                        "threads": workers,
                        "fps": fps["saccade"],
                        "openvino_fps": fps["openvino"],
                        "macs_fraction": statistics.fmean(stream.cost.macs_fraction for stream in members),
                        "max_difference": max(difference(a, rival(x)) for a, x in zip(given, last, strict=True)),
                        "state_bytes": sum(stream.state.nbytes for stream in members),
                        "weights_bytes": sum(tensor.nbytes for tensor in plan.weights.values()),
                    }
                )
    return rows


def two_streams_ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Returns by network the fps of 2 streams on 2 threads over that of 1 on 1, where both were measured."""
    fps = {(row["network"], row["streams"], row["threads"]): row["fps"] for row in rows}
    names = dict.fromkeys(row["network"] for row in rows)
    return {name: fps[name, 2, 2] / fps[name, 1, 1] for name in names if {(name, 2, 2), (name, 1, 1)} <= fps.keys()}


def main() -> None:
    """Runs what was asked for and writes the results network by network, so that a stop loses nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--quick", action="store_true", help="1 second per measurement instead of 6")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(SIZES))
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument("--executor", default="native", choices=["native", "reference"])
    arguments = parser.parse_args()
    if arguments.executor == "reference" and arguments.dtype != "float32":
        parser.error("the reference executor computes in float32")
    torch.set_num_threads(1)  # the streams' threads are the pool's
    rows: list[dict[str, Any]] = []
    for name in arguments.networks:
        new = run(
            name,
            streams=arguments.streams,
            threads=arguments.threads,
            dtype=arguments.dtype,
            executor=arguments.executor,
            budget_seconds=1.0 if arguments.quick else 6.0,
        )
        rows += new
        result = {
            "environment": environment(),
            "executor": arguments.executor,
            "square_share": SHARE,
            "two_streams_ratio": two_streams_ratios(rows),
            "rows": rows,
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(finite(result), indent=1) + "\n")
        for row in new:
            print(json.dumps(finite(row)), flush=True)
    print(json.dumps({"two_streams_ratio": two_streams_ratios(rows)}))
    if wrong := [row for row in rows if not row["max_difference"] <= LIMITS[row["dtype"]]]:
        sys.exit(f"results differ from OpenVINO's in {len(wrong)} of {len(rows)} rows")


if __name__ == "__main__":
    main()
