"""Clips of the rendered street with its vehicles' boxes, for the detection recipe.

A sample is a dict: `frames` (T, 3, H, W) uint8, `boxes` (T, N, 4) xyxy, `labels` (T, N) with -1 where there is no
vehicle, `ignored` (T, N) for vehicles all but hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from recipes.kept_samples import CACHE, KeptSamples, kept, render_all
from recipes.pose_clips import cut, light
from saccade.data.street import StreetConfig, encode_and_decode, render_street

SIZE = (128, 224)
FIRST_SEED = {"train": 4_000_000, "validation": 5_000_000, "test": 6_000_000, "long": 6_500_000}
SCENES = {"train": 500, "validation": 16, "test": 50, "long": 20}
FRAMES = {"train": 8, "validation": 16, "test": 32, "long": 80}
MOST = 24  # vehicles in a frame
LEAST_VISIBLE = 0.25  # vehicles that show less are neither learnt nor counted


def render(seed: int, frames: int) -> dict[str, np.ndarray]:
    """Return one scene, after H.264, of a static camera."""
    config = StreetConfig(seed=seed, frames=frames, height=SIZE[0], width=SIZE[1])
    video = encode_and_decode(render_street(config))
    boxes, labels = np.zeros((frames, MOST, 4), np.float32), np.full((frames, MOST), -1, np.int64)
    ignored = np.zeros((frames, MOST), bool)
    for t, truth in enumerate(video.labels):
        count = len(truth.boxes)
        boxes[t, :count], labels[t, :count] = truth.boxes, truth.classes
        ignored[t, :count] = truth.visible < LEAST_VISIBLE
    frames_first = np.ascontiguousarray(video.frames.transpose(0, 3, 1, 2))
    return {"frames": frames_first, "boxes": boxes, "labels": labels, "ignored": ignored}


class Street(KeptSamples):
    """The scenes of one split, rendered once and kept in `CACHE`."""

    def __init__(self, split: str) -> None:
        count, frames = SCENES[split], FRAMES[split]
        folder = CACHE / f"street-{split}-{count}x{frames}"
        first = FIRST_SEED[split]
        make = partial(render, frames=frames)
        super().__init__(kept(folder, lambda: render_all(make, range(first, first + count))))


def augment_street(sample: Mapping[str, Any], rng: np.random.Generator, *, clip: int) -> dict[str, Any]:
    """Return a clip of the scene, mirrored and lit at random."""
    piece = cut(sample, rng, clip=clip, per_frame=("frames", "boxes", "labels", "ignored"))
    if rng.random() < 0.5:
        boxes = piece["boxes"].copy()
        boxes[..., [0, 2]] = SIZE[1] - boxes[..., [2, 0]]
        piece = {**piece, "frames": np.ascontiguousarray(piece["frames"][..., ::-1]), "boxes": boxes}
    return light(piece, rng)
