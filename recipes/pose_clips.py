"""Clips of people and mice with their joints, for the pose recipes: rendered puppets, and the openfield recordings.

A sample is a dict: `frames` (T, 3, H, W) uint8, `joints` (T, J, 2) pixels, `visible` (T, J), `box` (T, 4) xyxy.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recipes.kept_samples import CACHE, KeptSamples, kept, render_all
from saccade.data.joints import MIRRORED
from saccade.data.puppets import PuppetConfig, encode_and_decode, render_puppets

SIZE = 96
FIRST_SEED = {"train": 1_000_000, "validation": 2_000_000, "test": 3_000_000, "long": 3_500_000}
SCENES = {"train": 800, "validation": 24, "test": 60, "long": 24}
FRAMES = {"train": 16, "validation": 16, "test": 32, "long": 80}


def render(seed: int, frames: int, size: int) -> dict[str, np.ndarray]:
    """Return one scene, after H.264."""
    video = encode_and_decode(render_puppets(PuppetConfig(seed=seed, frames=frames, height=size, width=size)))
    return {
        "frames": np.ascontiguousarray(video.frames.transpose(0, 3, 1, 2)),
        "joints": video.joints,
        "visible": video.visible,
        "box": video.box,
        "action": np.int64(video.action),
    }


class Puppets(KeptSamples):
    """The scenes of one split, rendered once and kept in `CACHE`."""

    def __init__(self, split: str, *, scenes: int | None = None, size: int = SIZE) -> None:
        count, frames = scenes or SCENES[split], FRAMES[split]
        folder = CACHE / f"puppets-{split}-{count}x{frames}-{size}"
        first = FIRST_SEED[split]
        make = partial(render, frames=frames, size=size)
        super().__init__(kept(folder, lambda: render_all(make, range(first, first + count))))


def cut(
    sample: Mapping[str, Any],
    rng: np.random.Generator,
    *,
    clip: int,
    per_frame: tuple[str, ...] = ("frames", "joints", "visible", "box"),
) -> dict[str, Any]:
    """Return `clip` frames on end of a sample, from a random one on."""
    start = int(rng.integers(0, len(sample["frames"]) - clip + 1))
    return {key: value[start : start + clip] if key in per_frame else value for key, value in sample.items()}


def mirror(sample: Mapping[str, Any], mirrored: tuple[int, ...]) -> dict[str, Any]:
    """Return the clip seen in a mirror."""
    width = sample["frames"].shape[-1]
    order = list(mirrored)
    joints, box = sample["joints"][:, order].copy(), sample["box"].copy()
    joints[..., 0] = width - joints[..., 0]
    box[:, [0, 2]] = width - box[:, [2, 0]]
    frames = np.ascontiguousarray(sample["frames"][..., ::-1])
    return {**sample, "frames": frames, "joints": joints, "visible": sample["visible"][:, order], "box": box}


def turn(sample: Mapping[str, Any], *, angle: float, scale: float, shift: tuple[float, float]) -> dict[str, Any]:
    """Return the clip turned by an angle in radians and enlarged about its middle, then moved by pixels (x, y)."""
    frames = torch.from_numpy(sample["frames"])
    height, width = frames.shape[-2:]
    c, s = np.cos(angle), np.sin(angle)
    middle = np.array([width / 2, height / 2])
    forward = scale * np.array([[c, -s], [s, c]])
    joints = (sample["joints"] - middle) @ forward.T + middle + np.array(shift)
    back = np.linalg.inv(forward)
    moved = -back @ np.array(shift)
    half = np.diag([width / 2, height / 2])
    matrix = np.linalg.inv(half) @ np.concatenate([back @ half, moved[:, None]], 1)
    theta = torch.tensor(matrix, dtype=torch.float32).expand(len(frames), 2, 3)
    grid = F.affine_grid(theta, list(frames.shape), align_corners=False)
    turned = F.grid_sample(frames.float(), grid, padding_mode="border", align_corners=False)
    inside = ((joints >= 0) & (joints < np.array([width, height]))).all(-1)
    return {
        **sample,
        "frames": turned.round().clamp(0, 255).to(torch.uint8).numpy(),
        "joints": joints.astype(np.float32),
        "visible": sample["visible"] & inside,
    }


def light(sample: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Return the clip brighter or darker, and tinted, the same in every frame."""
    gain = rng.uniform(0.75, 1.25) * rng.uniform(0.94, 1.06, (1, 3, 1, 1))
    lit = sample["frames"] * gain.astype(np.float32) + np.float32(rng.uniform(-20, 20))
    return {**sample, "frames": np.clip(lit, 0, 255).astype(np.uint8)}


def augment_puppets(sample: Mapping[str, Any], rng: np.random.Generator, *, clip: int) -> dict[str, Any]:
    """Return a clip of the scene, mirrored and lit at random."""
    piece = cut(sample, rng, clip=clip)
    if rng.random() < 0.5:
        piece = mirror(piece, MIRRORED)
    return light(piece, rng)


def pictures(frames: Tensor) -> Tensor:
    """Return uint8 frames (..., 3, H, W) as a network takes them, ImageNet's mean and deviation taken out."""
    mean = torch.tensor([0.485, 0.456, 0.406], device=frames.device).reshape(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225], device=frames.device).reshape(3, 1, 1)
    return (frames.float() / 255 - mean) / deviation


def first_pictures(data: Any, count: int) -> Tensor:
    """Return the first frame of each of the first samples, as a network takes them."""
    return pictures(torch.stack([torch.from_numpy(data[i]["frames"][0]) for i in range(count)]))
