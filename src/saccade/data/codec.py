"""What a video codec does to rendered frames."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from saccade.video import read_video, write_video

Video = TypeVar("Video")


def encode_and_decode(video: Video, *, crf: int = 23) -> Video:
    """Return the rendered video with its frames sent through H.264 (libx264, yuv420p); all else is unchanged.

    A rendered video is a dataclass with `frames` (T, H, W, 3) uint8 RGB and a `config` with its `fps`. The
    codec pads odd sizes by one row or column; these are cut off again.
    """
    rendered: Any = video
    height, width = rendered.frames.shape[1:3]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rendered.mp4"
        write_video(path, rendered.frames, fps=rendered.config.fps, codec="libx264", crf=crf)
        frames = np.stack([frame.data[:height, :width] for frame in read_video(path)])
    return dataclasses.replace(rendered, frames=frames)
