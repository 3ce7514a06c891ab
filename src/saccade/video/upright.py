"""From a decoded picture to RGB, turned the way it is meant to be seen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter


def upright_rgb(picture: VideoFrame, reformatter: VideoReformatter) -> npt.NDArray[np.uint8]:
    """Return the picture as (H, W, 3) uint8 RGB; equal pictures give equal bits.

    Args:
        picture: as decoded.
        reformatter: kept by the caller, so that its tables are made once per size.
    """
    # One thread: swscale would start one per core for every picture.
    rgb = np.asarray(reformatter.reformat(picture, format="rgb24", threads=1).to_ndarray(), dtype=np.uint8)
    turns = _quarter_turns(picture)
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


def upright_size(picture: VideoFrame) -> tuple[int, int]:
    """Return (height, width) of what `upright_rgb` gives."""
    size = (picture.height, picture.width)
    return size[::-1] if _quarter_turns(picture) % 2 else size


def _quarter_turns(picture: VideoFrame) -> int:
    """Return by how many quarter turns counter-clockwise the container wants the picture shown."""
    return round(picture.rotation / 90) % 4
