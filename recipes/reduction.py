r"""What is done in a clip, by a 3D network: dense, or with VA-RED2 only the channels and time steps a clip needs.

    saccade train recipes/reduction.py --out out/moving-dense
    saccade train recipes/reduction.py --out out/moving-reduced --set start=out/moving-dense --set method=both
    saccade evaluate recipes/reduction.py --weights out/moving-reduced --set start=out/moving-dense --set method=both

The dense network learns first, every method goes on from there. A reduced one learns in two stages, as the paper's do:
without the efficiency loss, then with it. For rivals that are smaller dense networks (`method=half-width`) there is no
start: they learn as long as both stages together.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor, nn

from recipes.methods import adam, one_cycle
from recipes.moving_clips import FRAMES, SIZE, MovingClips, augment_moving
from recipes.pose_clips import pictures
from saccade.data.puppets_clips import CLIP_ACTIONS
from saccade.errors import RecipeError
from saccade.evaluate.classify import top_k_accuracy
from saccade.reduce import Reduce, ReducedModel, convert, efficiency_loss, spatial_only
from saccade.train import Recipe, read_weights
from saccade.zoo.i3d import i3d
from saccade.zoo.r2plus1d import r2plus1d
from saccade.zoo.x3d import x3d

NETWORKS = {"r2plus1d": (r2plus1d, spatial_only), "x3d": (x3d, None), "i3d": (i3d, None)}
# Options of time and of channels, as a share of the search space: what "temporal only" and "channel only" leave alone.
METHODS = {"dense": None, "both": (True, True), "time": (True, False), "channels": (False, True)}
STEPS = {"dense": 1200, "reduced": 600}
STAGES = 0.4  # of the steps go by before the efficiency loss begins


def recipe(
    *,
    network: Literal["r2plus1d", "x3d", "i3d"] = "r2plus1d",
    method: str = "dense",
    start: str = "",
    seed: int = 0,
    space: int = 2,
    efficiency: float = 0.8,
    cheap_time: str = "blend",
    cheap_channels: str = "depthwise",
    steps: int = 0,
    rate: float = 0.0,
    gate_rate: float = 0.01,
    recompute: bool = False,
) -> Recipe:
    """Return the recipe; `start` is a dense network's folder, `efficiency` the paper's lambda_e."""
    if method not in METHODS:
        raise RecipeError(f"unknown method {method!r}; expected one of {', '.join(METHODS)}")
    options = METHODS[method]
    steps = steps or STEPS["reduced" if start else "dense"]
    rate = rate or (1e-3 if start else 3e-3)
    stage = Stage(efficiency, steps)

    def build() -> nn.Module:
        make, where = NETWORKS[network]
        run = ReducedModel(make("tiny", classes=len(CLIP_ACTIONS), seed=seed), recompute=recompute)
        if start:
            read_weights(Path(start)).load_into(run)
        if options is not None:
            time, channels = (space if wanted else 1 for wanted in options)
            what = Reduce(time=time, channels=channels, cheap_time=cheap_time, cheap_channels=cheap_channels)  # type: ignore[arg-type]
            convert(run.model, what, where, example=torch.zeros(1, 3, FRAMES, SIZE, SIZE))
        return run

    def loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        scores, policies = model(clips_of(batch["frames"]))
        task = F.cross_entropy(scores, batch["label"], label_smoothing=0.1)
        if options is None:
            return {"loss": task, "task": task}
        dear = efficiency_loss(policies, scores.argmax(1) == batch["label"])
        share = (policies.macs.mean() / policies.dense_macs).float()
        return {"loss": task + stage.now * dear, "task": task, "efficiency": dear, "macs": share}

    return Recipe(
        name=f"reduction-{network}-{method}",
        build=build,
        data=lambda: MovingClips("train"),
        loss=loss,
        optimizer=partial(adam, rate=rate, gate_rate=gate_rate, decay=0.01),
        schedule=partial(one_cycle, steps=steps),
        augment=augment_moving,
        validate=lambda model: measure(model, MovingClips("validation")),  # type: ignore[arg-type]
        evaluate=lambda model: measure(model, MovingClips("test")),  # type: ignore[arg-type]
        steps=steps,
        batch=16,
        seed=seed,
        before_step=stage,
        clip_norm=10.0,
        log_every=50,
        checkpoint_every=300,
    )


class Stage:
    """The weight of the efficiency loss: 0 in the first stage, then all of it; `before_step` of a recipe."""

    def __init__(self, weight: float, steps: int) -> None:
        self.weight, self.steps, self.now = weight, steps, 0.0

    def __call__(self, model: nn.Module, step: int) -> None:
        """Set the weight of this step."""
        self.now = self.weight if step > STAGES * self.steps else 0.0


def clips_of(frames: Tensor) -> Tensor:
    """Return clips (B, 3, T, H, W) as networks take them, from uint8 (B, T, 3, H, W)."""
    return pictures(frames).transpose(1, 2)


@torch.no_grad()
def measure(model: ReducedModel, data: Any, *, batch: int = 20) -> dict[str, float]:
    """Return top-1 accuracy (in percent), macs per clip, and how they follow the motion in it."""
    scores, macs, labels, motion = [], [], [], []
    dense = overhead = 0.0
    for first in range(0, len(data), batch):
        samples = [data[index] for index in range(first, min(first + batch, len(data)))]
        found, policies = model(clips_of(torch.stack([torch.from_numpy(sample["frames"]) for sample in samples])))
        scores.append(found)
        macs.append(policies.macs)
        labels += [int(sample["label"]) for sample in samples]
        motion += [float(sample["moved"]) for sample in samples]
        dense, overhead = policies.dense_macs, overhead + float(policies.overhead.sum())
    each, truth = torch.cat(macs), torch.tensor(labels)
    top = 100 * top_k_accuracy(torch.cat(scores), truth)
    within = [float(each[truth == label].std(correction=0)) / dense for label in truth.unique()]
    return {
        "top1": top,
        "macs": float(each.mean()),
        "least_macs": float(each.min()),
        "most_macs": float(each.max()),
        "dense_macs": dense,
        "macs_ratio": dense / float(each.mean()),
        "overhead": overhead / len(each) / dense,
        "spread_within_class": sum(within) / len(within),
        "rank_correlation_with_motion": rank_correlation(each, torch.tensor(motion, dtype=torch.float64)),
    }


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Return Spearman's rank correlation; 0 where either is constant."""
    if len(first.unique()) == 1 or len(second.unique()) == 1:
        return 0.0
    return float(spearmanr(first.numpy(), second.numpy()).statistic)
