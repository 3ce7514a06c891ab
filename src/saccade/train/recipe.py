"""What a training is: a recipe, as plain functions and numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from saccade.errors import RecipeError

PRECISIONS = ("32-true", "bf16-mixed")
RESERVED = {"step", "rate", "gradient_norm"}  # columns of the log that the loop writes itself


class Samples(Protocol):
    """Training data: how many samples, and each by its number. Reading one must be a pure function of its number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def stack(samples: Sequence[Any]) -> dict[str, Any]:
    """Returns the samples, dicts of the same keys, as one dict: tensors and arrays (...) as one tensor (B, ...),
    numbers as a tensor (B,), everything else as a list.

    Raises:
        RecipeError: the samples are no dicts, their keys differ, or so do the shapes of a tensor.
    """
    if not all(isinstance(sample, Mapping) for sample in samples):
        got = sorted({type(sample).__name__ for sample in samples})
        raise RecipeError(f"samples are of type {', '.join(got)}; expected dicts, or give the recipe its own collate=")
    batch: dict[str, Any] = {}
    for key in samples[0]:
        if any(key not in sample or len(sample) != len(samples[0]) for sample in samples):
            keys = sorted({tuple(sorted(sample)) for sample in samples})
            raise RecipeError(f"samples of one batch have different keys, {keys}; give all of them the same")
        values: list[Any] = [sample[key] for sample in samples]
        if all(isinstance(value, np.ndarray) for value in values):
            values = [torch.from_numpy(value) for value in values]
        if all(isinstance(value, Tensor) for value in values):
            shapes = sorted({tuple(value.shape) for value in values})
            if len(shapes) > 1:
                raise RecipeError(
                    f"{key!r} has different shapes in one batch, {', '.join(map(str, shapes))}; pad it in data, or "
                    "give the recipe a collate= that keeps a list"
                )
            batch[key] = torch.stack(values)
        elif all(isinstance(value, int | float | np.number) for value in values):
            batch[key] = torch.tensor(values)
        else:
            batch[key] = values
    return batch


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that `train` and `saccade evaluate` need to know.

    Everything random in `loss`, `before_step`, `validate` and the network may draw from the global generators of torch,
    numpy and random: the loop seeds them before every step, from `seed`, the step and the process. Data stays a pure
    function of the sample's number; what is random about a sample goes into `augment`.

    Attributes:
        name: what the recipe is called in logs and errors.
        build: returns the network; the loop seeds torch with `seed` before.
        data: returns the training samples. Called by `train` only.
        loss: takes the network and a batch on its device, returns scalars by name: "loss" is minimised, the others are
            logged. A mean over the samples of the batch, so that several processes agree with one.
        optimizer: returns the optimizer of the network's parameters.
        steps: optimizer steps in all.
        batch: samples per step, over all processes together.
        schedule: returns the learning-rate schedule, stepped once per step. None for a constant rate.
        augment: changes a sample at random: `augment(sample, rng)`; the generator depends on seed, epoch and
            sample only.
        collate: makes a list of samples a batch.
        before_step: called with the network and the number of the step, 1 to `steps`, before it: for what changes in
            the course of training, as a weight that grows.
        validate: returns numbers by name, measured on the network in eval mode, without gradients.
        evaluate: the same on test data: what `saccade evaluate` prints.
        clip_norm: gradients are scaled down to this norm over all parameters. None leaves them.
        log_every, checkpoint_every: in steps; the last step always counts.
        validate_every: in steps, and after the last. None for the last alone.
        precision: "32-true", or "bf16-mixed" (autocast to bfloat16 around `loss`).
        options: what the recipe was made with; filled in by `load_recipe`.
        source: the file or module it came from; filled in by `load_recipe`.

    Raises:
        RecipeError: a number is out of range.
    """

    name: str
    build: Callable[[], nn.Module]
    data: Callable[[], Samples]
    loss: Callable[[nn.Module, Any], Mapping[str, Tensor]]
    optimizer: Callable[[nn.Module], Optimizer]
    steps: int
    batch: int = 16
    seed: int = 0
    schedule: Callable[[Optimizer], LRScheduler] | None = None
    augment: Callable[[Any, np.random.Generator], Any] | None = None
    collate: Callable[[Sequence[Any]], Any] = stack
    before_step: Callable[[nn.Module, int], None] | None = None
    validate: Callable[[nn.Module], Mapping[str, float]] | None = None
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None = None
    clip_norm: float | None = None
    log_every: int = 50
    checkpoint_every: int = 500
    validate_every: int | None = None
    precision: str = "32-true"
    options: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "log_every", "checkpoint_every", "validate_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RecipeError(f"recipe {self.name}: {name} is {value}; expected 1 or more")
        if self.seed < 0:
            raise RecipeError(f"recipe {self.name}: seed is {self.seed}; expected 0 or more")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise RecipeError(f"recipe {self.name}: clip_norm is {self.clip_norm}; expected more than 0, or None")
        if self.precision not in PRECISIONS:
            raise RecipeError(
                f"recipe {self.name}: precision is {self.precision!r}; expected {' or '.join(PRECISIONS)}"
            )
