r"""Localisation: YOWO finds in a clip's last frame who acts, and says what is done, dense or made cheaper by VA-RED2.

    saccade train recipes/localisation.py --out out/acting-dense
    saccade train recipes/localisation.py --out out/acting-reduced --set start=out/acting-dense --set method=both
    saccade evaluate recipes/localisation.py --weights out/acting-reduced --set start=out/acting-dense --set method=both

The clips are those of `recipes.reduction`, larger, and of them every second frame, the last one included. What is
reduced is the 3D network, not what comes behind it; the stages are those of `recipes.reduction`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recipes.localisation_loss import region_loss
from recipes.moving_clips import FRAMES, MovingClips, augment_moving
from recipes.reduction import clips_of
from recipes.reduction_methods import ClipMethod, Spending, Stage, begin, in_batches, options_of, schooling
from saccade.data.puppets_clips import CLIP_ACTIONS
from saccade.evaluate.detection import Detections, average_precision
from saccade.reduce import Reduce
from saccade.train import Recipe
from saccade.zoo.yowo import yowo

SIZE = 64  # of the pictures, two cells
EVERY = 2  # every so many-th frame is seen
ANCHORS = ((0.47, 1.43), (0.54, 1.2), (0.54, 1.65), (0.68, 1.41), (0.95, 1.31))  # cells; k-means of training boxes
STEPS = {"dense": 9000, "reduced": 2000}
SCORE = 0.01  # least score of a box that average precision looks at


def body_only(name: str, module: nn.Module) -> bool:
    """Return whether a convolution is the 3D network's."""
    del module
    return "body." in name


def recipe(
    *,
    network: Literal["i3d", "x3d"] = "i3d",
    method: Literal["dense", "both", "time", "channels"] = "dense",
    start: str = "",
    seed: int = 0,
    space: int = 2,
    efficiency: float = 0.8,
    steps: int = 0,
    rate: float = 3e-3,
    gate_rate: float = 0.03,
) -> Recipe:
    """Return the recipe; its options mean what they do in `recipes.reduction`."""
    how = ClipMethod(name=method, what=Reduce(**options_of(method, space)), efficiency=efficiency)
    steps = steps or STEPS["reduced" if start else "dense"]
    stage = Stage(steps)

    def build() -> nn.Module:
        dense = yowo(f"{network}-tiny", classes=len(CLIP_ACTIONS), anchors=ANCHORS, seed=seed)
        return how.apply(begin(dense, start), body_only, example=torch.zeros(1, 3, FRAMES // EVERY, SIZE, SIZE))

    def loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        outputs, cost = model(seen(batch["frames"]))
        task, right = region_loss(outputs, batch["box"], batch["label"], anchors=torch.tensor(ANCHORS))
        return stage.losses(task, how, model, cost, right)

    return Recipe(
        name=f"localisation-{network}-{method}",
        build=build,
        data=lambda: MovingClips("train", size=SIZE),
        loss=loss,
        augment=augment_moving,
        evaluate=lambda model: measure(model, MovingClips("test", size=SIZE)),
        checkpoint_every=300,
        **schooling(stage, rate=rate, gate_rate=gate_rate, seed=seed),
    )


def seen(frames: Tensor) -> Tensor:
    """Return clips (B, 3, T / 2, H, W) as the network takes them of uint8 frames (B, T, 3, H, W)."""
    return clips_of(frames[:, EVERY - 1 :], EVERY)


@torch.no_grad()
def measure(model: Any, data: Any, *, batch: int = 20) -> dict[str, float]:
    """Return average precision at an IoU of 0.5 over frames, mean over actions (in percent), and macs per clip."""
    spent, found, truth = Spending(), [], []
    device = next(model.parameters()).device
    for samples in in_batches(data, batch):
        frames = torch.stack([torch.from_numpy(sample["frames"]) for sample in samples])
        outputs, cost = model(seen(frames.to(device)))
        spent.add(cost)
        found += model.model.decode(outputs.cpu(), score_threshold=SCORE)
        truth += [
            Detections(torch.from_numpy(sample["box"])[None], torch.ones(1), torch.tensor([int(sample["label"])]))
            for sample in samples
        ]
    return {"map50": 100 * average_precision(found, truth).ap50, **spent.measures()}
