"""Clips for the recipe of networks of clips: rendered actions from still to busy, and surveillance clips.

A sample is a dict: `frames` (16, 3, 48, 48) uint8, `label` int64, `change` float32, the mean absolute difference of
consecutive frames in grey levels, and of rendered clips `moved` float32, the mean share of the pixels that truly moved,
and `box` (4,) float32 xyxy, round the actor in the last frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

import recipes.act_clips
from recipes.kept_samples import CACHE, KeptSamples, kept, render_all
from recipes.pose_clips import light
from saccade.data.puppets_clips import CLIP_ACTIONS, MIRRORED_ACTIONS, ClipConfig, frame_change, render_clip

FRAMES, SIZE = 16, 48
CLIPS = {"train": 2400, "validation": 240, "test": 600}
FIRST_SEED = {"train": 9_000_000, "validation": 9_500_000, "test": 10_000_000}
CLASSES = {"moving": len(CLIP_ACTIONS), "actions": 2}


def render(seed: int, *, frames: int = FRAMES, size: int = SIZE) -> dict[str, Any]:
    """Return one clip, after H.264; the actions take turns, seed by seed."""
    action = CLIP_ACTIONS[seed % len(CLIP_ACTIONS)]
    clip = render_clip(ClipConfig(seed=seed, frames=frames, height=size, width=size, action=action))
    return {
        "frames": np.ascontiguousarray(clip.frames.transpose(0, 3, 1, 2)),
        "label": np.int64(clip.action),
        "change": np.float32(clip.change),
        "moved": np.float32(clip.moved[1:].mean()) if frames > 1 else np.float32(0),
        "box": clip.box[-1],
    }


class MovingClips(KeptSamples):
    """The clips of one split, rendered once and kept in `CACHE`."""

    def __init__(self, split: str, *, clips: int | None = None, frames: int = FRAMES, size: int = SIZE) -> None:
        count, first = clips or CLIPS[split], FIRST_SEED[split]
        folder = CACHE / f"moving-{split}-{count}x{frames}-{size}"
        seeds = range(first, first + count)
        super().__init__(kept(folder, lambda: render_all(partial(render, frames=frames, size=size), seeds)))


class RecordedClips(KeptSamples):
    """The surveillance clips of a split, kept in `CACHE`; for validation there are none but those to test."""

    def __init__(self, split: str, *, frames: int = FRAMES, size: int = SIZE) -> None:
        part = "train" if split == "train" else "test"

        def make() -> list[dict[str, Any]]:
            found = recipes.act_clips.recorded(part, frames=frames, size=size)
            return [{**sample, "change": np.float32(frame_change(sample["frames"]))} for sample in found]

        super().__init__(kept(CACHE / f"recorded-{part}-{frames}-{size}", make))


def augment_moving(
    sample: Mapping[str, Any], rng: np.random.Generator, *, mirrored: tuple[int, ...] = MIRRORED_ACTIONS
) -> dict[str, Any]:
    """Return the clip lit at random and, half the time, mirrored, with the name of what it then shows."""
    if rng.random() < 0.5:
        frames = np.ascontiguousarray(sample["frames"][..., ::-1])
        sample = {**sample, "frames": frames, "label": np.int64(mirrored[int(sample["label"])])}
        if "box" in sample:
            left, top, right, bottom = sample["box"]
            width = frames.shape[-1]
            sample["box"] = np.array([width - right, top, width - left, bottom], np.float32)
    return light(sample, rng)


def clips_of_task(data: str, split: str) -> KeptSamples:
    """Return a split of the rendered clips ("moving") or of the surveillance clips ("actions")."""
    return MovingClips(split) if data == "moving" else RecordedClips(split)
