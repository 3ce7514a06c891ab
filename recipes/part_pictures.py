"""Pictures of rendered people in which the part of the body is known of every pixel, for the recipe of segmentation.

A sample is a dict: `frame` (3, 64, 64) uint8 and `classes` (64, 64) int64, indices into CLASSES.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recipes.kept_samples import CACHE, KeptSamples, kept, render_all
from recipes.pose_clips import light
from saccade.data.puppets import PARTS, PuppetConfig, encode_and_decode, render_puppets

SIZE = 64
CLASSES = ("background", "torso", "head", "arms", "legs", "prop")
PICTURES = {"train": 3000, "test": 400}
FIRST_SEED = {"train": 11_000_000, "test": 11_500_000}
_LIMBS = {"upper arm": "arms", "forearm": "arms", "hand": "arms", "thigh": "legs", "shin": "legs", "foot": "legs"}


def class_of(part: str) -> str:
    """Return which class a part of a puppet belongs to, one of `saccade.data.puppets.PARTS`."""
    return {"neck": "head", **_LIMBS}.get(part.removeprefix("right ").removeprefix("left "), part)


def classes_of(parts: np.ndarray) -> np.ndarray:
    """Return the class indices (H, W) int64 of numbers of parts (H, W); what hides a part is background."""
    table = np.array([0] + [CLASSES.index(class_of(part)) for part in PARTS], np.int64)
    return table[np.maximum(parts, 0)]


def render(seed: int) -> dict[str, Any]:
    """Return one picture, after H.264."""
    video = encode_and_decode(render_puppets(PuppetConfig(seed=seed, frames=1, height=SIZE, width=SIZE)))
    frame = np.ascontiguousarray(video.frames[0].transpose(2, 0, 1))
    return {"frame": frame, "classes": classes_of(video.parts[0])}


class PartPictures(KeptSamples):
    """The pictures of one split, rendered once and kept in `CACHE`."""

    def __init__(self, split: str) -> None:
        count, first = PICTURES[split], FIRST_SEED[split]
        folder = CACHE / f"parts-{split}-{count}-{SIZE}"
        super().__init__(kept(folder, lambda: render_all(render, range(first, first + count))))


def augment_parts(sample: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Return the picture lit at random and, half the time, mirrored; no class tells right from left."""
    frame, classes = sample["frame"], sample["classes"]
    if rng.random() < 0.5:
        frame, classes = (np.ascontiguousarray(each[..., ::-1]) for each in (frame, classes))
    return {"frame": light({"frames": frame[None]}, rng)["frames"][0], "classes": classes}
