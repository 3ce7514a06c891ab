"""Rendered action clips for the recipes of clip classification: twelve actions, from still to busy.

A sample is a dict: `frames` (16, 3, 64, 64) uint8, `label` int64, `change` and `moved` float32: the mean absolute
difference of consecutive frames in grey levels, and the mean share of the pixels that truly moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recipes.pose_clips import CACHE, kept, light
from saccade.data.puppets_clips import CLIP_ACTIONS, MIRRORED_ACTIONS, ClipConfig, render_clip

FRAMES, SIZE = 16, 64
CLIPS = {"train": 2400, "validation": 240, "test": 600}
FIRST_SEED = {"train": 9_000_000, "validation": 9_500_000, "test": 10_000_000}


def render(seed: int, *, frames: int = FRAMES, size: int = SIZE) -> dict[str, Any]:
    """Return one clip, after H.264; the actions take turns, seed by seed."""
    action = CLIP_ACTIONS[seed % len(CLIP_ACTIONS)]
    clip = render_clip(ClipConfig(seed=seed, frames=frames, height=size, width=size, action=action))
    return {
        "frames": np.ascontiguousarray(clip.frames.transpose(0, 3, 1, 2)),
        "label": np.int64(clip.action),
        "change": np.float32(clip.change),
        "moved": np.float32(clip.moved[1:].mean()) if frames > 1 else np.float32(0),
    }


class MovingClips:
    """The clips of one split, rendered once and kept in `CACHE`."""

    def __init__(self, split: str, *, clips: int | None = None, frames: int = FRAMES, size: int = SIZE) -> None:
        count, first = clips or CLIPS[split], FIRST_SEED[split]
        folder = CACHE / f"moving-{split}-{count}x{frames}-{size}"
        seeds = range(first, first + count)
        self.arrays = kept(folder, lambda: [render(seed, frames=frames, size=size) for seed in seeds])

    def __len__(self) -> int:
        return len(self.arrays["label"])

    def __getitem__(self, index: int) -> dict[str, Any]:
        numbers = {key: value[index] for key, value in self.arrays.items() if key != "frames"}
        return {"frames": np.array(self.arrays["frames"][index]), **numbers}


def augment_moving(sample: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Return the clip lit at random and, half the time, mirrored, with the name of what it then shows."""
    if rng.random() < 0.5:
        frames = np.ascontiguousarray(sample["frames"][..., ::-1])
        sample = {**sample, "frames": frames, "label": np.int64(MIRRORED_ACTIONS[int(sample["label"])])}
    return light(sample, rng)
