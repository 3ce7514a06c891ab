"""What is measured of a trained network of clips: accuracy and macs, its policies, and how redundant its maps are."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from recipes.moving_clips import MovingClips
from recipes.reduction import NETWORKS, clips_of
from recipes.reduction_methods import in_batches
from saccade.data.puppets_clips import CLIP_ACTIONS
from saccade.reduce import DIMENSIONS, LayerUse, ReducedModel, measure_redundancy
from saccade.train import Recipe

Measured = dict[str, Any]
REDUNDANT_CLIPS = 24  # test clips, two of each action
QUANTITIES = ("cc", "cc_absolute", "cc_nearest", "rmse", "redundant_maps")
BATCH = 20


def plain(recipe: Recipe, model: nn.Module) -> Measured:
    """Returns accuracy and macs over the test clips."""
    assert recipe.evaluate is not None
    return dict(recipe.evaluate(model))


@torch.no_grad()
def policies(recipe: Recipe, model: ReducedModel) -> Measured:
    """Returns what every layer computed for clips of each class, and what every test clip cost.

    `time`, `channels` and `macs` are by layer and class the mean shares of the frames, channels and macs computed,
    `costs` and `labels` of each clip, in the order of their seeds, its macs over the dense network's and its class.
    """
    data, stride, device = MovingClips("test"), _stride(recipe), next(model.parameters()).device
    costs: list[float] = []
    labels: list[int] = []
    found: dict[str, list[list[tuple[float, float]]]] = {}
    for samples in in_batches(data, BATCH):
        labels += [int(sample["label"]) for sample in samples]
        frames = torch.stack([torch.from_numpy(sample["frames"]) for sample in samples])
        _, chosen = model(clips_of(frames.to(device), stride))
        costs += (chosen.macs / chosen.dense_macs).tolist()
        for use in chosen.reduced:
            found.setdefault(use.name, []).append(shares(use))
    truth = torch.tensor(labels)
    tables: Measured = {"time": [], "channels": [], "macs": []}
    for parts in found.values():
        every = torch.tensor([pair for part in parts for pair in part], dtype=torch.float64)
        both = torch.cat([every, every.prod(1, keepdim=True)], 1)
        by_class = torch.stack([both[truth == label].mean(0) for label in range(len(CLIP_ACTIONS))])
        for name, column in zip(tables, by_class.T, strict=True):
            tables[name].append([round(value, 4) for value in column.tolist()])
    return {"layers": list(found), **tables, "costs": [round(cost, 4) for cost in costs], "labels": labels}


def shares(use: LayerUse) -> list[tuple[float, float]]:
    """Returns which shares of its frames and channels a layer computed, clip by clip; 0 where no option is in use."""
    space = use.space
    assert space is not None
    frames = [space.kept_frames(k) / space.frames for k in range(space.time)] + [0.0]
    channels = [space.kept_channels(k) / space.out_channels for k in range(space.channels)] + [0.0]
    time, of_channels = use.largest()
    return [(frames[t], channels[c]) for t, c in zip(time.tolist(), of_channels.tolist(), strict=True)]


def redundancy(recipe: Recipe, model: ReducedModel) -> Measured:
    """Returns how alike the maps of the dense network are, mean over layers and clips, by dimension (Table 12)."""
    data, stride, device = MovingClips("test"), _stride(recipe), next(model.parameters()).device
    frames = (torch.from_numpy(data[index]["frames"])[None].to(device) for index in range(REDUNDANT_CLIPS))
    clips = (clips_of(each, stride) for each in frames)
    found = measure_redundancy(model.model, clips)
    rows: Measured = {"clips": found.clips, "layers": len(found.layers)}
    for dimension in DIMENSIONS:
        over = {name: found.spread(dimension, name) for name in QUANTITIES}
        rows[dimension] = {name: spread.mean for name, spread in over.items() if spread is not None}
    return rows


def _stride(recipe: Recipe) -> int:
    return int(recipe.options.get("stride") or NETWORKS[recipe.options["network"]][2])


MEASURES: dict[str, Any] = {measure.__name__: measure for measure in (plain, policies, redundancy)}
