"""How much memory a training step of a reduced network takes, beside the dense network's.

    python -m benchmarks.training_memory --json benchmarks/results/training_memory.json [--networks r2plus1d:tiny]

Forward, loss, backward and one step of SGD with momentum, twice, each network in a process of its own. "reduced" is
`saccade.reduce.convert` as in the paper's first stage (all options weighed, the efficiency loss added), "recompute" the
same under `ReducedModel(..., recompute=True)`. Of R(2+1)D the spatial convolutions are reduced, as in the paper.

`peak` is the most memory the process ever held (VmHWM) less what it held before the network was made, in bytes:
weights, gradients, momentum, activations, and what the convolutions of torch take for themselves. The allocator is told
to give memory back at once, so that what is free is not counted. `ratio` is to the dense network's peak.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.environment import ROOT, environment
from saccade.reduce import Reduce, ReducedModel, convert, efficiency_loss, spatial_only
from saccade.zoo import load_model

RESULT = ROOT / "benchmarks" / "results" / "training_memory.json"
# Clips of a batch, and their frames and side.
NETWORKS = {"r2plus1d:tiny": (8, 16, 56), "r2plus1d:18": (2, 8, 112)}
VARIANTS = ("dense", "reduced", "recompute")
GOAL = 1.3  # of "recompute"
STEPS = 2
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}


def resident() -> int:
    """Returns the bytes this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def most_resident() -> int:
    """Returns the most bytes this process ever held; ru_maxrss would begin with what the process that made it held."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def measure(network: str, variant: str, *, batch: int, frames: int, side: int) -> dict[str, Any]:
    """Trains a network for some steps, and returns `peak` and what it was made of; for a fresh process.

    Args:
        network: a name of the zoo's.
        variant: one of VARIANTS.
        batch, frames, side: clips, their frames, and height and width.

    Raises:
        RuntimeError: what came before the network took more memory than it, so that its peak cannot be seen.
    """
    _warm_up()
    gc.collect()
    before, most_before = resident(), most_resident()
    torch.manual_seed(0)
    model: Any = load_model(network).model
    clips = torch.randn(batch, 3, frames, side, side)
    labels = torch.randint(0, 400, (batch,))
    if variant != "dense":
        convert(model, Reduce(), spatial_only, example=clips[:1])
    run = ReducedModel(model.train(), recompute=variant == "recompute")
    optimizer = torch.optim.SGD(run.parameters(), lr=1e-3, momentum=0.9)
    for _ in range(STEPS):
        logits, policies = run(clips)
        loss = F.cross_entropy(logits, labels)
        if policies.reduced:
            loss = loss + 0.8 * efficiency_loss(policies, correct=logits.argmax(1) == labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    most = most_resident()
    if most <= most_before:
        raise RuntimeError(f"{network} took less than what came before it ({most_before} bytes); give larger clips")
    weights = sum(parameter.nbytes for parameter in run.parameters())
    return {"peak": most - before, "weights": weights, "reduced_layers": len(policies.reduced), "loss": float(loss)}


def _warm_up() -> None:
    """Has libraries loaded and torch's convolutions set up, which the first network would pay for."""
    load_model("r2plus1d:tiny")
    weight = torch.randn(4, 3, 1, 3, 3, requires_grad=True)
    F.conv3d(torch.randn(1, 3, 2, 8, 8), weight).sum().backward()


def in_fresh_process(network: str, variant: str, sizes: tuple[int, int, int]) -> dict[str, Any]:
    """Returns what `measure` gives in a process of its own, on one thread."""
    asked = json.dumps([network, variant, *sizes])
    variables = {**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.training_memory", "--measure", asked]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{network}, {variant}: {done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def study(network: str, *, repeats: int, jobs: int) -> list[dict[str, Any]]:
    """Returns a row per variant of a network; peaks are medians over processes, of which `jobs` run at a time."""
    batch, frames, side = NETWORKS[network]
    with ThreadPoolExecutor(jobs) as pool:
        tasks = [variant for variant in VARIANTS for _ in range(repeats)]
        all_found = list(pool.map(lambda variant: in_fresh_process(network, variant, (batch, frames, side)), tasks))
    rows: list[dict[str, Any]] = []
    for index, variant in enumerate(VARIANTS):
        found = all_found[index * repeats : (index + 1) * repeats]
        peaks = [each["peak"] for each in found]
        row = {"network": network, "clip": [frames, side, side], "batch": batch, "variant": variant, **found[0]}
        row |= {"peak": int(statistics.median(peaks)), "peaks": peaks}
        rows.append(row)
        row["ratio"] = row["peak"] / rows[0]["peak"]
    return rows


def summary(row: dict[str, Any]) -> str:
    """Returns a row as a line of text."""
    held = f"{row['peak'] / 2**20:8.1f} MiB  x {row['ratio']:.3f}"
    return f"{row['network']:14s} x{row['batch']} {row['variant']:10s} {held}"


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--repeats", type=int, default=3, help="processes per network and variant")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time; memory does not mind")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        network, variant, batch, frames, side = json.loads(arguments.measure)
        torch.set_num_threads(1)
        print(json.dumps(measure(network, variant, batch=batch, frames=frames, side=side)))
        return
    rows: list[dict[str, Any]] = []
    began = time.monotonic()
    for network in arguments.networks:
        rows += study(network, repeats=arguments.repeats, jobs=arguments.jobs)
        for row in rows[-len(VARIANTS) :]:
            print(summary(row), flush=True)
        minutes = round((time.monotonic() - began) / 60, 1)
        result = {"environment": environment(), "minutes": minutes, "goal": GOAL, "rows": rows}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
