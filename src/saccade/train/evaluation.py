"""A trained network measured as its recipe says."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from saccade.errors import RecipeError, TrainingError
from saccade.train.checkpoint import Weights
from saccade.train.recipe import Recipe
from saccade.train.seeding import seed_everything

ACCELERATORS = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Evaluated:
    """What `evaluate` measured.

    Attributes:
        metrics: numbers by name, as the recipe's `evaluate` returns them.
        seconds: that took, building the network not included.
        device: where it ran.
    """

    metrics: Mapping[str, float]
    seconds: float
    device: str


def evaluate(recipe: Recipe, weights: Weights, *, accelerator: str = "auto", threads: int | None = None) -> Evaluated:
    """Builds the recipe's network, loads the weights and returns what `recipe.evaluate` measures on test data.

    Args:
        recipe: which network, and how it is measured.
        weights: from `read_weights`.
        accelerator: "auto" (a GPU where there is one), "cpu", "cuda" or "mps".
        threads: torch's threads; None leaves them.

    Raises:
        RecipeError: the recipe has no `evaluate`.
        FileFormatError: the weights are another network's.
        TrainingError: the accelerator is not here.
    """
    if recipe.evaluate is None:
        raise RecipeError(f"recipe {recipe.name} has no evaluate; give it one: evaluate=lambda model: {{name: number}}")
    device = find_device(accelerator)
    if threads is not None:
        torch.set_num_threads(threads)
    seed_everything(recipe.seed)
    model = recipe.build()
    weights.load_into(model)
    model.to(device).eval()
    seed_everything(recipe.seed, 5)
    begin = time.monotonic()
    with torch.no_grad():
        metrics = {name: float(value) for name, value in recipe.evaluate(model).items()}
    return Evaluated(metrics, time.monotonic() - begin, str(device))


def find_device(accelerator: str) -> torch.device:
    """Returns the device: "auto" (a GPU where there is one), "cpu", "cuda" or "mps".

    Raises:
        TrainingError: there is no such accelerator, or not here.
    """
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if accelerator not in ACCELERATORS:
        raise TrainingError(f"got accelerator {accelerator!r}; expected one of {', '.join(ACCELERATORS)}")
    if accelerator == "auto":
        accelerator = next(name for name in ("cuda", "mps", "cpu") if here[name])
    if not here[accelerator]:
        raise TrainingError(f"there is no {accelerator} here; use auto or {', '.join(k for k, v in here.items() if v)}")
    return torch.device(accelerator)
