"""Experiments: what is trained and measured, once each, by as many processes as there are cores."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.environment import ROOT, environment
from saccade.train.checkpoint import WEIGHTS

WORK = Path(os.environ.get("SACCADE_CLAIMS", ROOT / "out" / "claims"))
KEPT = ROOT / "benchmarks" / "results" / "starts"  # weights that later runs start from, as `Run.kept` names them
# One thread each. glibc keeps what maps are freed instead of asking for them anew at every step, up to a quarter of the
# time, and puts them in large pages, a twentieth.
TRAINING = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**28),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


@dataclass(frozen=True)
class Run:
    """One training and what is measured of it.

    Attributes:
        name: unique, as "pose/gumbel-0.1/1".
        recipe: the recipe's file, from the project's folder.
        options: what the recipe is made with.
        measures: what to measure of the trained network, by name; its paper's module knows how.
        start: name of the run whose weights it starts from.
        minutes: how long it is expected to take on one core; 0 where nobody knows.
        given_as: which of the recipe's options is told the folder of `start`.
    """

    name: str
    recipe: str
    options: Mapping[str, Any]
    measures: tuple[str, ...]
    start: str = ""
    minutes: float = 0.0
    given_as: str = "start"

    @property
    def folder(self) -> Path:
        """Where checkpoints, weights and logs go."""
        return WORK / self.name

    @property
    def kept(self) -> Path:
        """Where its weights are on every machine, if they are: trained elsewhere, they would be of another network."""
        return KEPT / f"{self.name.replace('/', '-')}.safetensors"

    def all_options(self, runs: Mapping[str, Run]) -> dict[str, Any]:
        """Returns the recipe's options, with the folder it starts from."""
        return {**self.options, **({self.given_as: str(runs[self.start].folder)} if self.start else {})}


class Results:
    """What was measured, by run, in one JSON file that is rewritten after each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def done(self, run: Run) -> bool:
        """Returns whether everything a run is to measure is there, and comparable."""
        row = self.rows.get(run.name)
        if row is None or row["options"] != dict(run.options) or not set(run.measures) <= set(row["measures"]):
            return False
        return self.comparable(run)

    def comparable(self, run: Run) -> bool:
        """Returns whether a run's row started from the very network that the row of its start is of.

        A network trained again, with the same seed on another machine, is another network. Rows made before this was
        noted name no weights, and are taken to belong together.
        """
        return not run.start or self.rows[run.name].get("start") == self.rows.get(run.start, {}).get("weights")

    def at_hand(self, run: Run) -> bool:
        """Returns whether the weights that a run's row is of are here, after fetching them if they are kept."""
        weights, digest = run.folder / WEIGHTS, self.rows.get(run.name, {}).get("weights")
        found = [path for path in (weights, run.kept) if path.exists() and digest_of(path) == digest]
        if found == [run.kept]:
            run.folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.kept, weights)
        return bool(found)

    def add(self, run: Run, row: Mapping[str, Any]) -> None:
        """Keeps a run's row."""
        self.rows[run.name] = dict(row)
        lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(self.rows[name])}" for name in sorted(self.rows))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("{\n" + lines + "\n}\n")


def digest_of(weights: Path) -> str:
    """Returns what tells one trained network's file of weights from another."""
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:16]


def to_do(runs: Sequence[Run], results: Results) -> list[Run]:
    """Returns the runs to carry out, in their order.

    They are those not done, the starts of these whose weights are lost, and whatever starts from one of those: trained
    again, it is another network.
    """
    names = {run.name for run in runs if not results.done(run)}
    lost: set[str] = set()
    while True:
        starts = {run.start for run in runs if run.name in names}
        lost |= {run.name for run in runs if run.name in starts and not results.at_hand(run)}
        more = lost | {run.name for run in runs if run.start in lost}
        if more <= names:
            return [run for run in runs if run.name in names]
        names |= more


def carry_out(
    runs: Sequence[Run],
    results: Results,
    *,
    module: str,
    workers: int,
    minutes: float | None,
    accelerator: str = "cpu",
) -> list[str]:
    """Carries out what is `to_do`, each run in a process of its own with one thread.

    Args:
        runs: in the order to begin them; a run waits for the one it starts from.
        results: gets a row per run as it ends.
        module: python module that is called as `answer` says.
        workers: processes at a time.
        minutes: begin nothing after this time.
        accelerator: what to train on, as of `saccade.train.train`; processes share a GPU.

    Returns:
        Names of the runs that failed.
    """
    began = time.monotonic()
    waiting = to_do(runs, results)
    running: dict[str, tuple[Run, subprocess.Popen[str], Path]] = {}
    failed: list[str] = []
    print(f"{len(runs) - len(waiting)} of {len(runs)} runs are there already", flush=True)
    again = {run.name for run in waiting}
    for run in waiting:
        if results.done(run):
            why = f"started from {run.start}" if run.start in again else "lost its weights"
            print(f"{run.name} is made again: it {why}", flush=True)
    while waiting or running:
        over = minutes is not None and time.monotonic() - began > 60 * minutes
        blocked = {run.name for run in waiting} | set(running)
        for run in [] if over else list(waiting):
            if len(running) < workers and run.start not in blocked:
                waiting.remove(run)
                if run.start in failed:
                    failed.append(run.name)
                    continue
                running[run.name] = (run, *_begin(run, module, accelerator))
        if not running:
            break
        for name, (run, process, output) in list(running.items()):
            if process.poll() is None:
                continue
            del running[name]
            lines = output.read_text().strip().splitlines()
            if process.returncode == 0 and lines:
                row = json.loads(lines[-1])
                results.add(run, {"options": dict(run.options), "commit": environment()["commit"], **row})
                print(f"{(time.monotonic() - began) / 60:6.1f} min  {name}: {_short(row)}", flush=True)
            else:
                failed.append(name)
                print(f"{(time.monotonic() - began) / 60:6.1f} min  {name} FAILED, see {output}", flush=True)
        time.sleep(0.5)
    return failed


def _begin(run: Run, module: str, accelerator: str) -> tuple[subprocess.Popen[str], Path]:
    run.folder.mkdir(parents=True, exist_ok=True)
    output = run.folder / "output.txt"
    with output.open("w") as file, (run.folder / "errors.txt").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module, run.name, "--accelerator", accelerator],
            stdout=file,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env={**os.environ, **TRAINING},
        )
    return process, output


def _short(row: Mapping[str, Any]) -> str:
    parts = []
    for name, values in row["measures"].items():
        if isinstance(values, dict):
            numbers = {k: v for k, v in values.items() if isinstance(v, int | float)}
            parts.append(f"{name} " + " ".join(f"{k}={v:.4g}" for k, v in list(numbers.items())[:5]))
    return "; ".join(parts)[:200]


def answer(runs: Mapping[str, Run], measure: Callable[[Run, str, Any, Any], Any]) -> None:
    """Does what the command line says: NAME [--accelerator cpu].

    Trains the run of that name, measures it, and prints its row as JSON on the last line.
    `measure` is as of `train_run`.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=list(runs))
    parser.add_argument("--accelerator", default="cpu")
    given = parser.parse_args()
    row = train_run(runs[given.name], runs, measure, accelerator=given.accelerator)
    print(json.dumps(row))


def train_run(
    run: Run,
    every: Mapping[str, Run],
    measure: Callable[[Run, str, Any, Any], Any],
    *,
    accelerator: str = "cpu",
) -> dict[str, Any]:
    """Trains one run (or goes on with it), measures it, and returns its row.

    Args:
        run: which.
        every: all runs of the paper, by name.
        measure: called with the run, the name of a measure, the recipe and the trained network, in evaluation mode.
        accelerator: as of `saccade.train.train`.
    """
    from saccade.train import load_recipe, train

    torch.set_num_threads(1)
    recipe = load_recipe(run.recipe, run.all_options(every))
    trained = train(recipe, run.folder, accelerator=accelerator, tensorboard=False)
    if trained.stopped:
        raise SystemExit(f"{run.name} was stopped by {trained.stopped} at step {trained.step} of {trained.steps}")
    model, took, began = trained.model.eval(), trained.record["wall_seconds"], time.monotonic()
    row: dict[str, Any] = {"train_seconds": round(took), "steps": trained.steps, "measures": {}}
    row["device"] = trained.record["device"]
    row["weights"] = digest_of(run.folder / WEIGHTS)
    if run.start:
        row["start"] = digest_of(every[run.start].folder / WEIGHTS)
    for name in run.measures:
        row["measures"][name] = measure(run, name, recipe, model)
    row["seconds"] = round(took + time.monotonic() - began)
    return row


def plan(runs: Sequence[Run], results: Results) -> str:
    """Returns the runs as text, one a line: how long each takes, or is expected to take, on one core."""
    lines, there, left = [], 0.0, 0.0
    waiting = {run.name for run in to_do(runs, results)}
    for run in runs:
        done = run.name not in waiting
        minutes = results.rows[run.name]["seconds"] / 60 if done else run.minutes
        there, left = (there + minutes, left) if done else (there, left + minutes)
        lines.append(f"{'done' if done else '':5s}{f'{minutes:.1f}' if minutes else '?':>7s} min  {run.name}")
    lines.append(f"{len(runs)} runs, {left:.0f} minutes of one core to come, {there:.0f} carried out")
    return "\n".join(lines)
