"""The openfield recordings as clips for the pose recipe: one static camera, a mouse, four joints.

The labelled pictures do not follow one another in time (see `saccade.data.openfield`), but all are of one camera over
one arena. A clip of them is therefore a video at a very low rate: the arena stands still, the mouse is elsewhere each
time. `OPENFIELD` in the environment says where the folder is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from recipes.pose_clips import light, mirror, turn
from saccade.data.openfield import read_openfield

JOINTS = ("snout", "leftear", "rightear", "tailbase")
MIRRORED = (0, 2, 1, 3)
SIZE = (144, 192)
RUN = 16  # pictures in a training sample, of which a clip takes some
FOLDER = Path(os.environ.get("OPENFIELD", "../shared/assets/pose/openfield"))


def shrink(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the picture (H, W, 3) as (3, *SIZE)."""
    planes = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    small = F.interpolate(planes, SIZE, mode="bilinear", antialias=True, align_corners=False)
    return small[0].round().clamp(0, 255).to(torch.uint8).numpy()


class Openfield:
    """Training samples are runs of RUN pictures in file order; the test set is one clip of all test pictures."""

    def __init__(self, split: str, *, folder: Path = FOLDER) -> None:
        found = read_openfield(folder)
        chosen = found.split()[split != "train"]
        read = [item.read() for item in chosen]
        scale = np.array([SIZE[1] / read[0].shape[1], SIZE[0] / read[0].shape[0]], np.float32)
        self.train = split == "train"
        self.arrays = {
            "frames": np.stack([shrink(picture) for picture in read]),
            "joints": np.nan_to_num(np.stack([item.joints for item in chosen])) * scale,
            "visible": np.stack([item.visible for item in chosen]),
            "box": np.stack([item.box for item in chosen]) * np.tile(scale, 2),
        }

    def __len__(self) -> int:
        return len(self.arrays["frames"]) if self.train else 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        every = np.arange(index, index + RUN) % len(self) if self.train else np.arange(len(self.arrays["frames"]))
        return {key: value[every] for key, value in self.arrays.items()}


def augment_openfield(sample: Mapping[str, Any], rng: np.random.Generator, *, clip: int) -> dict[str, Any]:
    """Return a clip of some of the pictures, in any order, all mirrored, turned, enlarged and lit alike."""
    order = rng.permutation(len(sample["frames"]))[:clip]
    piece = {key: value[order] for key, value in sample.items()}
    if rng.random() < 0.5:
        piece = mirror(piece, MIRRORED)
    angle = float(rng.uniform(-np.pi, np.pi))
    shift = (float(rng.uniform(-16, 16)), float(rng.uniform(-12, 12)))
    return light(turn(piece, angle=angle, scale=float(rng.uniform(0.75, 1.1)), shift=shift), rng)
