"""One decoded picture, with its place in time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saccade.errors import VideoError


def check_picture(data: object, *, what: str) -> None:
    """Raise VideoError unless `data` is a uint8 numpy array of shape (H, W, 3) with H, W >= 1."""
    if not isinstance(data, np.ndarray):
        raise VideoError(
            f"{what} must be a numpy array (H, W, 3) of uint8, got {type(data).__name__}. "
            "Convert it first, e.g. tensor.numpy()."
        )
    if data.ndim != 3 or data.shape[2] != 3 or 0 in data.shape:
        raise VideoError(
            f"{what} must have shape (H, W, 3) with H and W at least 1, got {data.shape}. "
            "For a grey picture repeat its channel: np.repeat(grey[..., None], 3, axis=2)."
        )
    if data.dtype != np.uint8:
        raise VideoError(
            f"{what} must be uint8 in 0..255, got {data.dtype}. "
            "Scale and convert it first, e.g. (x * 255).round().astype(np.uint8)."
        )


@dataclass(frozen=True, eq=False, repr=False)
class Frame:
    """One picture of a video.

    Args:
        data: uint8 array of shape (H, W, 3), RGB.
        index: position in the video, from 0; goes on counting over reconnections.
        pts_seconds: presentation time in seconds, from the start of the video.

    Raises:
        VideoError: `data` is not uint8 (H, W, 3), `index` is negative or `pts_seconds` not finite.
    """

    data: npt.NDArray[np.uint8]
    index: int
    pts_seconds: float

    def __post_init__(self) -> None:
        """Check every field."""
        check_picture(self.data, what="Frame.data")
        if isinstance(self.index, bool) or not isinstance(self.index, int) or self.index < 0:
            raise VideoError(f"Frame.index must be an int >= 0, got {self.index!r}.")
        if not isinstance(self.pts_seconds, int | float) or not math.isfinite(self.pts_seconds):
            raise VideoError(f"Frame.pts_seconds must be a finite number, got {self.pts_seconds!r}.")

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.data.shape[0])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.data.shape[1])

    def __repr__(self) -> str:
        """Show shape and place, not pixels."""
        shape = "x".join(map(str, self.data.shape))
        return f"Frame({self.data.dtype} {shape}, index={self.index}, pts_seconds={self.pts_seconds:.6g})"
