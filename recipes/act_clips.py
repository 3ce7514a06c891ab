"""Clips with the name of what is done in them, for the classification recipe: rendered puppets, surveillance clips.

A sample is a dict: `frames` (25, 3, H, W) uint8 spread over about two seconds, `label` int64. Of `Moments`, `frames`
are clips (12, t, 3, H, W) of t pictures that follow one another, spread in the same way. `ACTIONS_FOLDER` in the
environment says where the surveillance clips are: folders `fight` and `noFight`, the number of a clip in its name.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from recipes.kept_samples import CACHE, kept
from recipes.pose_clips import light
from saccade.data.actions import read_actions
from saccade.data.puppets import ACTIONS, PuppetConfig, encode_and_decode, render_puppets
from saccade.exits.order import frames_to_visit, pictures_of_frame
from saccade.video import read_video
from saccade.zoo.tsn import segment_frames

FRAMES = 25
MOMENTS = 12
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
    for decoded, label in decoded_videos(split):
        chosen = [decoded[i] for i in segment_frames(len(decoded), frames)]
        found.append({"frames": squares(chosen, size), "label": label})
    return found


def moments(split: str, *, clip: int, size: int) -> list[dict[str, Any]]:
    """Return of each surveillance clip the pictures a `FrameExit` of T = 12 clips would look at."""
    found = []
    for decoded, label in decoded_videos(split):
        places = frames_to_visit(len(decoded), MOMENTS, "sequential")
        numbers = [number for place in places for number in pictures_of_frame(place, len(decoded), clip=clip)]
        frames = squares([decoded[number] for number in numbers], size)
        found.append({"frames": frames.reshape(MOMENTS, clip, *frames.shape[1:]), "label": label})
    return found


def decoded_videos(split: str) -> Iterator[tuple[list[np.ndarray], np.int64]]:
    """Yield the pictures of each surveillance clip of a split, and what it shows."""
    for video in read_actions(FOLDER, part="train" if split == "train" else "test").videos:
        yield [frame.data for frame in read_video(video.path)], np.int64(video.label)


def squares(pictures: list[np.ndarray], size: int) -> np.ndarray:
    """Return pictures (H, W, 3) as uint8 (N, 3, size, size)."""
    planes = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
    small = F.interpolate(planes, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).to(torch.uint8).numpy()


class Acts:
    """The clips of one split, kept in `CACHE`."""

    def __init__(self, kind: str, split: str) -> None:
        make = rendered if kind == "puppets" else recorded
        self.read(f"acts-{kind}-{split}", lambda: make(split))

    def read(self, name: str, make: Callable[[], list[dict[str, Any]]]) -> None:
        """Read what is kept under a name, made if it is not there."""
        arrays = kept(CACHE / name, make)
        self.frames, self.label = arrays["frames"], arrays["label"]

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"frames": np.array(self.frames[index]), "label": np.int64(self.label[index])}


class Moments(Acts):
    """The surveillance clips of one split as short clips, kept in `CACHE`."""

    def __init__(self, split: str, *, clip: int, size: int) -> None:
        self.read(f"moments-{split}-{MOMENTS}x{clip}-{size}", lambda: moments(split, clip=clip, size=size))


def augment_acts(sample: Mapping[str, Any], rng: np.random.Generator, *, segments: int) -> dict[str, Any]:
    """Return `segments` frames of the clip, one from each part of it, mirrored and lit at random."""
    edges = np.linspace(0, len(sample["frames"]), segments + 1)
    chosen = [int(rng.uniform(low, high)) for low, high in itertools.pairwise(edges)]
    frames = sample["frames"][chosen]
    if rng.random() < 0.5:
        frames = np.ascontiguousarray(frames[..., ::-1])
    return light({**sample, "frames": frames}, rng)
