r"""What is done in a clip, by a 3D network: dense, or with VA-RED2 only the channels and time steps a clip needs.

    saccade train recipes/reduction.py --out out/moving-dense
    saccade train recipes/reduction.py --out out/moving-reduced --set start=out/moving-dense --set method=both
    saccade evaluate recipes/reduction.py --weights out/moving-reduced --set start=out/moving-dense --set method=both

The dense network learns first, every method goes on from there, and learns from its answers as well as from the
labels. A reduced one learns in two stages, as the paper's do: without the efficiency loss, then with more and more of
it. For rivals that are smaller dense networks (`width=half`, or `stride=2` for half the frames) there is no start: they
learn as long as both stages together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor, nn

from recipes.moving_clips import CLASSES, FRAMES, SIZE, augment_moving, clips_of_task
from recipes.pose_clips import pictures
from recipes.reduction_methods import (
    RAMP,
    ClipMethod,
    Spending,
    Stage,
    Teacher,
    begin,
    in_batches,
    options_of,
    schooling,
)
from saccade.data.puppets_clips import MIRRORED_ACTIONS
from saccade.evaluate.classify import top_k_accuracy
from saccade.graph.conversion import Where
from saccade.reduce import Reduce, spatial_only
from saccade.train import Recipe
from saccade.zoo.corrnet import corrnet
from saccade.zoo.i3d import i3d
from saccade.zoo.r2plus1d import r2plus1d
from saccade.zoo.tpn import tpn
from saccade.zoo.x3d import x3d


def pointwise_only(name: str, module: nn.Module) -> bool:
    """Return whether a convolution is one of X3D's 1x1x1 ones over whole maps; the depthwise have few of the macs."""
    kernel: Any = getattr(module, "kernel_size", ())
    return set(kernel) == {1} and "excite" not in name


# How to make each network, which of its layers are reduced (or gated), and every how many-th frame of a clip it takes.
NETWORKS: dict[str, tuple[Callable[..., nn.Module], Where | None, int]] = {
    "r2plus1d": (r2plus1d, spatial_only, 1),
    "x3d": (x3d, pointwise_only, 2),
    "i3d": (i3d, None, 2),
    "tpn": (tpn, spatial_only, 1),
    "corrnet": (corrnet, spatial_only, 2),
}
WIDTHS = {"whole": "tiny", "narrow": "tiny-narrow", "half": "tiny-half"}
STEPS = {"dense": 3000, "reduced": 2000}


def recipe(
    *,
    network: Literal["r2plus1d", "x3d", "i3d", "tpn", "corrnet"] = "r2plus1d",
    data: Literal["moving", "actions"] = "moving",
    method: str = "dense",
    start: str = "",
    trunk: str = "",
    seed: int = 0,
    space: int = 2,
    efficiency: float = 0.8,
    cheap_time: Literal["copy", "scale", "blend"] = "blend",
    cheap_channels: Literal["scale", "depthwise"] = "depthwise",
    press: float = 0.0,
    distill: float = 0.5,
    width: Literal["whole", "narrow", "half"] = "whole",
    stride: int = 0,
    steps: int = 0,
    rate: float = 3e-3,
    gate_rate: float = 0.03,
    ramp: float = RAMP,
    recompute: bool = False,
) -> Recipe:
    """Return the recipe; `start` is a dense network's folder, `efficiency` the paper's lambda_e.

    `trunk` is the folder of a dense R(2+1)D that a dense TPN or CorrNet is put on, in place of random weights.

    `distill` is the share of the task's loss that is of the dense network's answers, where there is one. `press` is how
    hard a rival presses (`ClipMethod`), `stride` that every so many-th of the 16 frames is seen (0: as the network has
    it). `ramp` is the share of the steps in which the efficiency loss grows to its full weight, after the first tenth.
    """
    make, where, every = NETWORKS[network]
    every = stride or every
    what = Reduce(**options_of(method, space), cheap_time=cheap_time, cheap_channels=cheap_channels)
    how = ClipMethod(name=method, what=what, efficiency=efficiency, press=press)
    steps = steps or STEPS["reduced" if start else "dense"]
    stage = Stage(steps, ramp=ramp)
    mirrored = MIRRORED_ACTIONS if data == "moving" else tuple(range(CLASSES[data]))
    dense = partial(make, WIDTHS[width], classes=CLASSES[data], seed=seed)
    teacher = Teacher(dense, start, distill)

    def build() -> nn.Module:
        run = begin(dense(), start, trunk=trunk, recompute=recompute)
        example = torch.zeros(1, 3, -(-FRAMES // every), SIZE, SIZE)
        model = how.apply(run, where, example=example)
        for layer in model.modules():
            if isinstance(layer, nn.Conv3d):  # so they are fastest on a CPU
                layer.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        return model

    def loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        clips = clips_of(batch["frames"], every)
        scores, cost = model(clips)
        task = teacher.blend(F.cross_entropy(scores, batch["label"], label_smoothing=0.1), scores, clips)
        return stage.losses(task, how, model, cost, scores.argmax(1) == batch["label"])

    def measured(split: str) -> Callable[[nn.Module], dict[str, float]]:
        return lambda model: measure(model, clips_of_task(data, split), stride=every)

    return Recipe(
        name=f"reduction-{network}-{method}",
        build=build,
        data=lambda: clips_of_task(data, "train"),
        loss=loss,
        augment=partial(augment_moving, mirrored=mirrored),
        validate=measured("validation"),
        evaluate=measured("test"),
        checkpoint_every=300,
        **schooling(stage, rate=rate, gate_rate=gate_rate, seed=seed),
    )


def clips_of(frames: Tensor, stride: int = 1) -> Tensor:
    """Return clips (B, 3, T, H, W) as networks take them, every stride-th frame of uint8 (B, T, 3, H, W)."""
    return pictures(frames[:, ::stride]).transpose(1, 2)


@torch.no_grad()
def measure(model: nn.Module, data: Any, *, stride: int = 1, batch: int = 20) -> dict[str, float]:
    """Return top-1 accuracy (in percent), macs per clip, and how they follow the motion in it.

    Motion is the share of the pixels that truly moved where that is known, else the difference of the frames.
    """
    scores, labels, motion, spent = [], [], [], Spending()
    device = next(model.parameters()).device
    for samples in in_batches(data, batch):
        frames = torch.stack([torch.from_numpy(sample["frames"]) for sample in samples])
        found, cost = model(clips_of(frames.to(device), stride))
        scores.append(found.cpu())
        spent.add(cost)
        labels += [int(sample["label"]) for sample in samples]
        motion += [float(sample.get("moved", sample["change"])) for sample in samples]
    each, truth = torch.cat(spent.macs), torch.tensor(labels)
    top = 100 * top_k_accuracy(torch.cat(scores), truth)
    within = [float(each[truth == label].std(correction=0)) / spent.dense for label in truth.unique()]
    return {
        "top1": top,
        **spent.measures(),
        "spread_within_class": sum(within) / len(within),
        "rank_correlation_with_motion": rank_correlation(each, torch.tensor(motion, dtype=torch.float64)),
    }


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Return Spearman's rank correlation; 0 where either is constant."""
    if len(first.unique()) == 1 or len(second.unique()) == 1:
        return 0.0
    return float(spearmanr(first.numpy(), second.numpy()).statistic)
