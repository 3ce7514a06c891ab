r"""Segmentation: PSPNet for the parts of rendered people, dense or with VA-RED2's channels only.

    saccade train recipes/segmentation.py --out out/parts-dense
    saccade train recipes/segmentation.py --out out/parts-reduced --set start=out/parts-dense --set method=channels
    saccade evaluate recipes/segmentation.py --weights out/parts-reduced --set start=out/parts-dense \
        --set method=channels

Pictures have no time: of each convolution of the encoder a gate chooses how many channels are computed. The stages are
those of `recipes.reduction`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipes.part_pictures import CLASSES, SIZE, PartPictures, augment_parts
from recipes.pose_clips import pictures
from recipes.reduction_methods import ClipMethod, Spending, Stage, Teacher, begin, in_batches, options_of, schooling
from saccade.reduce import Reduce
from saccade.train import Recipe
from saccade.zoo.pspnet import pspnet

STEPS = {"dense": 4000, "reduced": 2000}
RIGHT = 0.5  # of a person's pixels, above which a picture counts as understood by the efficiency loss


def encoder_only(name: str, module: nn.Module) -> bool:
    """Return whether a convolution is the encoder's, whose macs the paper counts."""
    del module
    return "encoder." in name


def recipe(
    *,
    method: Literal["dense", "channels"] = "dense",
    start: str = "",
    seed: int = 0,
    space: int = 2,
    efficiency: float = 0.8,
    distill: float = 0.5,
    steps: int = 0,
    rate: float = 3e-3,
    gate_rate: float = 0.03,
) -> Recipe:
    """Return the recipe; its options mean what they do in `recipes.reduction`."""
    how = ClipMethod(name=method, what=Reduce(**options_of(method, space)), efficiency=efficiency)
    steps = steps or STEPS["reduced" if start else "dense"]
    stage = Stage(steps)
    dense = partial(pspnet, classes=len(CLASSES), seed=seed)
    teacher = Teacher(dense, start, distill)

    def build() -> nn.Module:
        return how.apply(begin(dense(), start), encoder_only, example=torch.zeros(1, 3, SIZE, SIZE))

    def loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        frames, truth = pictures(batch["frame"]), batch["classes"]
        scores, cost = model(frames)
        task = teacher.blend(F.cross_entropy(scores, truth), scores, frames)
        return stage.losses(task, how, model, cost, understood(scores, truth))

    return Recipe(
        name=f"segmentation-{method}",
        build=build,
        data=lambda: PartPictures("train"),
        loss=loss,
        augment=augment_parts,
        evaluate=lambda model: measure(model, PartPictures("test")),
        checkpoint_every=500,
        **schooling(stage, rate=rate, gate_rate=gate_rate, seed=seed),
    )


def understood(scores: Tensor, truth: Tensor) -> Tensor:
    """Return of which pictures (B,) more than RIGHT of what is not background has the right class.

    Args:
        scores: (B, classes, H, W).
        truth: (B, H, W), 0 is the background.
    """
    person = truth > 0
    right = ((scores.argmax(1) == truth) & person).sum((1, 2))
    return right > RIGHT * person.sum((1, 2))


@torch.no_grad()
def measure(model: nn.Module, data: Any, *, batch: int = 50) -> dict[str, float]:
    """Return the mean over classes of intersection over union (in percent), and macs per picture."""
    spent, pairs = Spending(), torch.zeros(len(CLASSES), len(CLASSES), dtype=torch.int64)
    device = next(model.parameters()).device
    for samples in in_batches(data, batch):
        frames = torch.stack([torch.from_numpy(sample["frame"]) for sample in samples])
        scores, cost = model(pictures(frames.to(device)))
        spent.add(cost)
        truth = torch.stack([torch.from_numpy(sample["classes"]) for sample in samples])
        pairs += confusions(scores.argmax(1).cpu(), truth)
    return {"miou": 100 * mean_iou(pairs), **spent.measures()}


def confusions(found: Tensor, truth: Tensor) -> Tensor:
    """Return how many pixels of each true class (rows) were given each class (columns), for indices of any shape."""
    places = truth.flatten() * len(CLASSES) + found.flatten()
    return torch.bincount(places, minlength=len(CLASSES) ** 2).reshape(len(CLASSES), len(CLASSES))


def mean_iou(pairs: Tensor) -> float:
    """Return the mean intersection over union of the classes that occur, of `confusions`."""
    both = pairs.diag().double()
    either = pairs.sum(0) + pairs.sum(1) - both
    return float((both / either)[either > 0].mean())
