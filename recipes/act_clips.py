"""Clips with the name of what is done in them, for the classification recipe: rendered puppets, surveillance clips.

A sample is a dict: `frames` (25, 3, H, W) uint8 spread over about two seconds, `label` int64. `ACTIONS_FOLDER` in the
environment says where the surveillance clips are: folders `fight` and `noFight`, the number of a clip in its name.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from recipes.pose_clips import CACHE, kept, light
from saccade.data.actions import read_actions
from saccade.data.puppets import ACTIONS, PuppetConfig, encode_and_decode, render_puppets
from saccade.video import read_video
from saccade.zoo.tsn import segment_frames

FRAMES = 25
SIZE = {"puppets": 96, "actions": 112}
SCENES = {"train": 400, "test": 150}
FIRST_SEED = {"train": 7_000_000, "test": 8_000_000}
FOLDER = Path(os.environ.get("ACTIONS_FOLDER", "../shared/assets/actions"))
CLASSES = {"puppets": len(ACTIONS), "actions": 2}


def rendered(split: str) -> list[dict[str, Any]]:
    """Return puppets acting for two seconds, after H.264."""
    found = []
    for seed in range(FIRST_SEED[split], FIRST_SEED[split] + SCENES[split]):
        size = SIZE["puppets"]
        video = encode_and_decode(render_puppets(PuppetConfig(seed=seed, frames=2 * FRAMES, height=size, width=size)))
        frames = np.ascontiguousarray(video.frames[::2].transpose(0, 3, 1, 2))
        found.append({"frames": frames, "label": np.int64(video.action)})
    return found


def recorded(split: str, *, frames: int = FRAMES, size: int = SIZE["actions"]) -> list[dict[str, Any]]:
    """Return the surveillance clips of a split, `frames` of each, as squares."""
    found = []
    for video in read_actions(FOLDER, part="train" if split == "train" else "test").videos:
        decoded = [frame.data for frame in read_video(video.path)]
        chosen = np.stack([decoded[i] for i in segment_frames(len(decoded), frames)])
        planes = torch.from_numpy(chosen).permute(0, 3, 1, 2).float()
        small = F.interpolate(planes, (size, size), mode="bilinear", antialias=True, align_corners=False)
        found.append({"frames": small.round().clamp(0, 255).to(torch.uint8).numpy(), "label": np.int64(video.label)})
    return found


class Acts:
    """The clips of one split, kept in `CACHE`."""

    def __init__(self, kind: str, split: str) -> None:
        make = rendered if kind == "puppets" else recorded
        arrays = kept(CACHE / f"acts-{kind}-{split}", lambda: make(split))
        self.frames, self.label = arrays["frames"], arrays["label"]

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"frames": np.array(self.frames[index]), "label": np.int64(self.label[index])}


def augment_acts(sample: Mapping[str, Any], rng: np.random.Generator, *, segments: int) -> dict[str, Any]:
    """Return `segments` frames of the clip, one from each part of it, mirrored and lit at random."""
    edges = np.linspace(0, len(sample["frames"]), segments + 1)
    chosen = [int(rng.uniform(low, high)) for low, high in itertools.pairwise(edges)]
    frames = sample["frames"][chosen]
    if rng.random() < 0.5:
        frames = np.ascontiguousarray(frames[..., ::-1])
    return light({**sample, "frames": frames}, rng)
