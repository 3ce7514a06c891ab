"""The training loop: one for a CPU, a GPU, and several processes; it goes on from where it was stopped."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saccade import __version__
from saccade.errors import TrainingError
from saccade.train.checkpoint import (
    CHECKPOINT,
    RECORD,
    WEIGHTS,
    identity,
    read_checkpoint,
    write_checkpoint,
    write_weights,
)
from saccade.train.files import replace_file
from saccade.train.folder import prepare_folder
from saccade.train.loading import Loader
from saccade.train.logs import Log, Row
from saccade.train.order import Order
from saccade.train.processes import average, close_fabric, open_fabric, share_weights
from saccade.train.recipe import RESERVED, Recipe
from saccade.train.seeding import deterministic, seed_everything
from saccade.train.stopping import Stop


@dataclass(frozen=True)
class Progress:
    """Where a training is, after every step.

    Attributes:
        step, steps: steps done, and in all.
        losses: of this step, by name, averaged over the processes.
        row: what was logged at this step, if it was: means since the last row, and validation.
        seconds: spent so far, those before a resumption included.
        seconds_left: expected for the rest, from the steps of this run.
    """

    step: int
    steps: int
    losses: Mapping[str, float]
    row: Mapping[str, float] | None
    seconds: float
    seconds_left: float


@dataclass(frozen=True, eq=False, repr=False)
class Trained:
    """What `train` leaves.

    Attributes:
        model: the network, on the device it was trained on.
        step, steps: steps done, and in all.
        stopped: why it stopped before its end: "SIGINT", "SIGTERM", "time" or "step"; None when finished.
        folder: where checkpoint, weights and log are.
        record: what record.json holds.
        first: whether this is the first of the processes, the one that writes and reports.
    """

    model: nn.Module
    step: int
    steps: int
    stopped: str | None
    folder: Path
    record: Mapping[str, Any]
    first: bool

    def __repr__(self) -> str:
        return f"Trained({str(self.folder)!r}, step {self.step} of {self.steps}, stopped={self.stopped!r})"

    @property
    def weights(self) -> Path:
        """The weights file, there once training is finished."""
        return self.folder / WEIGHTS


def train(
    recipe: Recipe,
    folder: str | Path,
    *,
    devices: int | None = None,
    accelerator: str = "auto",
    fresh: bool = False,
    workers: int = 0,
    threads: int | None = None,
    minutes: float | None = None,
    stop_after: int | None = None,
    tensorboard: bool = True,
    on_progress: Callable[[Progress], None] | None = None,
) -> Trained:
    """Trains what a recipe describes, into a folder, and goes on from the checkpoint there.

    On one machine and device, recipe and seed decide every bit of the weights and of log.csv, however often training
    was stopped, killed and resumed, and with any number of workers. The same with the same number of processes; another
    number changes the rounding, and what is drawn at random inside `loss`.

    Args:
        recipe: what to train.
        folder: gets checkpoint.pt, log.csv, times.csv and tensorboard/, and at the end weights.safetensors and
            record.json.
        devices: processes to train with, each on its device. By default one, or what torchrun started.
        accelerator: "auto", "cpu", "cuda" or "mps".
        fresh: delete what an earlier training left in the folder, and begin again.
        workers: threads that read data ahead; 0 reads it between steps.
        threads: torch's threads per process; None leaves them.
        minutes: stop with a checkpoint after this time.
        stop_after: stop with a checkpoint after this step.
        tensorboard: whether to write TensorBoard's files.
        on_progress: called after every step in the first process.

    SIGINT and SIGTERM end training with a checkpoint after the step in progress; a second SIGINT ends it at once.

    Raises:
        TrainingError: a loss or gradient is not finite (the last checkpoint is from before), a sample cannot be read,
            the folder holds another training's checkpoint, or a file cannot be written.
        FileFormatError: the checkpoint is damaged.
        MissingExtraError: lightning-fabric or tensorboard is not installed.
    """
    folder = Path(folder)
    fabric = open_fabric(devices=devices, accelerator=accelerator, precision=recipe.precision)
    if recipe.batch % fabric.world_size:
        raise TrainingError(
            f"recipe {recipe.name}: a batch of {recipe.batch} cannot be shared by {fabric.world_size} processes; use a "
            "multiple of their number (batch counts the samples of all processes)"
        )
    if fabric.is_global_zero:
        prepare_folder(folder, fresh=fresh)
    fabric.barrier()
    if threads is not None:
        torch.set_num_threads(threads)
    stop = Stop(minutes)
    with deterministic():
        training = _Training(recipe, folder, fabric, workers=workers, tensorboard=tensorboard)
        with stop:
            stopped = training.run(stop, stop_after=stop_after, on_progress=on_progress)
    result = Trained(
        model=training.model,
        step=training.step,
        steps=recipe.steps,
        stopped=stopped,
        folder=folder,
        record=training.record(),
        first=fabric.is_global_zero,
    )
    close_fabric(fabric)
    return result


class _Training:
    """A training in one process: the network, what goes into a checkpoint, and the steps."""

    def __init__(self, recipe: Recipe, folder: Path, fabric: Any, *, workers: int, tensorboard: bool) -> None:
        self.recipe, self.folder, self.fabric = recipe, folder, fabric
        samples = recipe.data()
        self.about = identity(recipe, samples=len(samples))
        kept = read_checkpoint(folder, about=self.about)
        seed_everything(recipe.seed)
        self.model = recipe.build().to(fabric.device)
        share_weights(self.model)
        self.optimizer = recipe.optimizer(self.model)
        self.schedule = recipe.schedule(self.optimizer) if recipe.schedule is not None else None
        self.step = self.logged = 0
        self.sums: dict[str, float] = {}
        self.rate, self.seconds_before, self.begun = 0.0, 0.0, 0
        self.started = self.stepping = time.monotonic()
        rows: list[Row] = []
        times: list[Row] = []
        if kept is not None:
            self.model.load_state_dict(kept["model"])
            self.optimizer.load_state_dict(kept["optimizer"])
            if self.schedule is not None:
                self.schedule.load_state_dict(kept["schedule"])
            self.step, self.logged, self.sums, self.rate = kept["step"], kept["logged"], kept["sums"], kept["rate"]
            self.seconds_before, self.begun, rows, times = kept["seconds"], kept["step"], kept["rows"], kept["times"]
        order = Order(len(samples), batch=recipe.batch, seed=recipe.seed)
        rank, processes = fabric.global_rank, fabric.world_size
        self.order, self.loader = order, Loader(recipe, samples, order, rank=rank, processes=processes, workers=workers)
        where = folder if fabric.is_global_zero else None
        self.log = Log(where, rows=rows, times=times, tensorboard=tensorboard, first=self.step + 1)

    @property
    def seconds(self) -> float:
        """Spent on this training, in this run and those before; a run that finds it finished spends none."""
        spent = time.monotonic() - self.started
        return self.seconds_before + (spent if self.step > self.begun else 0.0)

    def run(self, stop: Stop, *, stop_after: int | None, on_progress: Callable[[Progress], None] | None) -> str | None:
        """Trains to the end, or until asked to stop; returns what asked."""
        recipe, batches = self.recipe, self.loader.batches(self.step + 1)
        self.stepping = time.monotonic()
        try:
            self._log_if_due()  # a run that was stopped writes its checkpoint first, and leaves the row to the next
            while self.step < recipe.steps:
                losses, asked = self._step(next(batches), stop)
                reason = (stop.reason or "another process") if asked else "step" if self.step == stop_after else None
                if reason is not None and self.step < recipe.steps:
                    self._checkpoint()
                    return reason
                row = self._log_if_due()
                if self.step % recipe.checkpoint_every == 0 or self.step == recipe.steps:
                    self._checkpoint()
                if on_progress is not None and self.fabric.is_global_zero:
                    on_progress(self._progress(losses, row))
        finally:
            batches.close()
            self.log.close()
        if self.fabric.is_global_zero:
            write_weights(self.folder, self.model, about=self.about, step=self.step)
            text = json.dumps(self.record(), indent=2, default=str)
            replace_file(self.folder / RECORD, (text + "\n").encode())
        return None

    def _step(self, batch: Any, stop: Stop) -> tuple[dict[str, float], bool]:
        """Takes one optimizer step; returns the losses, and whether a process was asked to stop."""
        recipe, step = self.recipe, self.step + 1
        seed_everything(recipe.seed, 3, step, self.fabric.global_rank)
        self.model.train()
        if recipe.before_step is not None:
            recipe.before_step(self.model, step)
        batch = self.fabric.to_device(batch)
        self.optimizer.zero_grad(set_to_none=True)
        with self.fabric.autocast():
            losses = recipe.loss(self.model, batch)
        self._check_names(losses)
        self.fabric.backward(losses["loss"])
        asked = float(stop.reason is not None)
        values = [
            torch.as_tensor(value).detach().float().reshape(()).to(self.fabric.device) for value in losses.values()
        ]
        means = average(self.model, torch.stack([*values, torch.tensor(asked, device=self.fabric.device)]))
        parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]).to(means.device)
        *numbers, asked_of_all, gradient_norm = torch.cat([means, norm.detach().float().reshape(1)]).tolist()
        named = dict(zip(losses, numbers, strict=True))
        self._check_finite(step, {**named, "gradient_norm": gradient_norm})
        if recipe.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, recipe.clip_norm, norm)
        self.rate = float(self.optimizer.param_groups[0]["lr"])
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        self.step = step
        for name, value in {**named, "gradient_norm": gradient_norm}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        return named, asked_of_all > 0

    def _check_names(self, losses: Mapping[str, Tensor]) -> None:
        expected = [name for name in self.sums if name != "gradient_norm"] or list(losses)
        wrong = RESERVED & set(losses)
        if "loss" not in losses or wrong or list(losses) != expected:
            hint = f"{', '.join(sorted(wrong))} is the loop's own" if wrong else f"expected {', '.join(expected)}"
            hint = 'expected one of them to be called "loss"' if "loss" not in losses else hint
            raise TrainingError(f"recipe {self.recipe.name}: loss returned {', '.join(losses) or 'nothing'}; {hint}")

    def _check_finite(self, step: int, values: Mapping[str, float]) -> None:
        wrong = [f"{name} {value}" for name, value in values.items() if not np.isfinite(value)]
        if wrong:
            samples = ", ".join(str(sample) for _, sample in self.order.step(step))
            kept = "keeps the last checkpoint" if (self.folder / CHECKPOINT).exists() else "has no checkpoint yet"
            raise TrainingError(
                f"recipe {self.recipe.name}, step {step}: {', '.join(wrong)}, not finite, on samples {samples}. The "
                f"weights are as they were before this step; {self.folder} {kept}. A lower rate, "
                "clip_norm=, or a look at these samples may help."
            )

    def _log_if_due(self) -> dict[str, float] | None:
        """Writes the row of this step, with validation where that is due; returns it."""
        recipe, step = self.recipe, self.step
        last = step == recipe.steps
        every = recipe.validate_every or recipe.steps
        validates = recipe.validate is not None and (last or step % every == 0)
        if step == self.logged or not (last or validates or step % recipe.log_every == 0):
            return None
        row = {name: total / (step - self.logged) for name, total in self.sums.items()}
        row["rate"] = self.rate
        if validates:
            row.update(self._validate())
        self.log.add(step, row, seconds=self.seconds)
        self.logged, self.sums = step, dict.fromkeys(self.sums, 0.0)
        return row

    def _validate(self) -> dict[str, float]:
        """Measures in the first process while the others wait."""
        measured: dict[str, float] = {}
        if self.fabric.is_global_zero:
            assert self.recipe.validate is not None
            seed_everything(self.recipe.seed, 4, self.step)
            self.model.eval()
            with torch.no_grad():
                measured = {f"validation_{name}": float(v) for name, v in self.recipe.validate(self.model).items()}
        self.fabric.barrier()
        return measured

    def _checkpoint(self) -> None:
        if self.fabric.is_global_zero:
            state = {
                "step": self.step,
                "logged": self.logged,
                "sums": self.sums,
                "rate": self.rate,
                "seconds": self.seconds,
                "rows": self.log.rows,
                "times": self.log.times,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict() if self.schedule is not None else None,
            }
            write_checkpoint(self.folder, about=self.about, state=state)

    def _progress(self, losses: dict[str, float], row: dict[str, float] | None) -> Progress:
        each = (time.monotonic() - self.stepping) / (self.step - self.begun)
        left = each * (self.recipe.steps - self.step)
        return Progress(self.step, self.recipe.steps, losses, row, self.seconds, left)

    def record(self) -> dict[str, Any]:
        """Returns what is worth keeping of a training besides its weights."""
        last = self.log.rows[-1] if self.log.rows else {}
        device = self.fabric.device
        return {
            **self.about,
            "source": self.recipe.source,
            "step": self.step,
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "last_row": last,
            "wall_seconds": round(self.seconds, 1),
            "processes": self.fabric.world_size,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "versions": {
                "saccade": __version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        }
