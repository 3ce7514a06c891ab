"""Experiments: what is trained and measured, once each, by as many processes as there are cores."""

from __future__ import annotations

import argparse
import json
import os
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
# One thread each. glibc keeps what maps are freed instead of asking for them anew at every step, up to a quarter of the
# time.
TRAINING = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**28),
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
    """

    name: str
    recipe: str
    options: Mapping[str, Any]
    measures: tuple[str, ...]
    start: str = ""
    minutes: float = 0.0

    @property
    def folder(self) -> Path:
        """Where checkpoints, weights and logs go."""
        return WORK / self.name

    def all_options(self, runs: Mapping[str, Run]) -> dict[str, Any]:
        """Returns the recipe's options, with the folder it starts from."""
        return {**self.options, **({"start": str(runs[self.start].folder)} if self.start else {})}


class Results:
    """What was measured, by run, in one JSON file that is rewritten after each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def done(self, run: Run) -> bool:
        """Returns whether everything a run is to measure is there."""
        row = self.rows.get(run.name)
        return row is not None and set(run.measures) <= set(row["measures"]) and row["options"] == dict(run.options)

    def add(self, run: Run, row: Mapping[str, Any]) -> None:
        """Keeps a run's row."""
        self.rows[run.name] = dict(row)
        lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(self.rows[name])}" for name in sorted(self.rows))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("{\n" + lines + "\n}\n")


def carry_out(
    runs: Sequence[Run],
    results: Results,
    *,
    module: str,
    workers: int,
    minutes: float | None,
    accelerator: str = "cpu",
) -> list[str]:
    """Runs what is not in the results yet, each in a process of its own with one thread.

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
    waiting = [run for run in runs if not results.done(run)]
    starts = {run.start for run in waiting}
    lost = [run for run in runs if run.name in starts and results.done(run) and not (run.folder / WEIGHTS).exists()]
    waiting = lost + waiting
    running: dict[str, tuple[Run, subprocess.Popen[str], Path]] = {}
    failed: list[str] = []
    print(f"{len(runs) - len(waiting) + len(lost)} of {len(runs)} runs are there already", flush=True)
    for run in lost:
        print(f"{run.name} is trained again: others start from its weights, which are not in {run.folder}", flush=True)
    while waiting or running:
        over = minutes is not None and time.monotonic() - began > 60 * minutes
        blocked = {run.name for run in waiting} | set(running)
        for run in [] if over else list(waiting):
            if len(running) < workers and run.start not in blocked:
                waiting.remove(run)
                if run.start in failed:
                    failed.append(run.name)
                    continue
                running[run.name] = (run, *_begin(run, module, accelerator, measured=run not in lost))
        if not running:
            break
        for name, (run, process, output) in list(running.items()):
            if process.poll() is None:
                continue
            del running[name]
            lines = output.read_text().strip().splitlines()
            if process.returncode == 0 and run in lost:
                print(f"{(time.monotonic() - began) / 60:6.1f} min  {name}: its weights are there again", flush=True)
            elif process.returncode == 0 and lines:
                row = json.loads(lines[-1])
                results.add(run, {"options": dict(run.options), "commit": environment()["commit"], **row})
                print(f"{(time.monotonic() - began) / 60:6.1f} min  {name}: {_short(row)}", flush=True)
            else:
                failed.append(name)
                print(f"{(time.monotonic() - began) / 60:6.1f} min  {name} FAILED, see {output}", flush=True)
        time.sleep(0.5)
    return failed


def _begin(run: Run, module: str, accelerator: str, *, measured: bool) -> tuple[subprocess.Popen[str], Path]:
    run.folder.mkdir(parents=True, exist_ok=True)
    output = run.folder / "output.txt"
    options = ["--accelerator", accelerator, *([] if measured else ["--weights"])]
    with output.open("w") as file, (run.folder / "errors.txt").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module, run.name, *options],
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
    """Does what the command line says: NAME [--accelerator cpu] [--weights].

    Trains the run of that name, measures it unless there is --weights, and prints its row as JSON on the last line.
    `measure` is as of `train_run`.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=list(runs))
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--weights", action="store_true", help="only train")
    given = parser.parse_args()
    row = train_run(runs[given.name], runs, measure, measured=not given.weights, accelerator=given.accelerator)
    print(json.dumps(row))


def train_run(
    run: Run,
    every: Mapping[str, Run],
    measure: Callable[[Run, str, Any, Any], Any],
    *,
    measured: bool = True,
    accelerator: str = "cpu",
) -> dict[str, Any]:
    """Trains one run (or goes on with it), measures it if asked to, and returns its row.

    Args:
        run: which.
        every: all runs of the paper, by name.
        measure: called with the run, the name of a measure, the recipe and the trained network, in evaluation mode.
        measured: False to train only.
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
    for name in run.measures if measured else ():
        row["measures"][name] = measure(run, name, recipe, model)
    row["seconds"] = round(took + time.monotonic() - began)
    return row


def plan(runs: Sequence[Run], results: Results) -> str:
    """Returns the runs as text, one a line: how long each takes, or is expected to take, on one core."""
    lines, there, left = [], 0.0, 0.0
    for run in runs:
        done = results.done(run)
        minutes = results.rows[run.name]["seconds"] / 60 if done else run.minutes
        there, left = (there + minutes, left) if done else (there, left + minutes)
        lines.append(f"{'done' if done else '':5s}{f'{minutes:.1f}' if minutes else '?':>7s} min  {run.name}")
    lines.append(f"{len(runs)} runs, {left:.0f} minutes of one core to come, {there:.0f} carried out")
    return "\n".join(lines)
