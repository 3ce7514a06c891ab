"""How clips are cut and read: sequences into windows of frames, videos and picture files into clips."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from saccade.errors import VideoError
from saccade.video import read_video


@dataclass(frozen=True)
class Window:
    """Frames `start` to `stop` (exclusive) of the sequence with number `sequence`."""

    sequence: int
    start: int
    stop: int

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.stop - self.start


def cut_windows(
    lengths: Sequence[int], *, frames: int, stride: int | None = None, rest: Literal["drop", "keep"] = "drop"
) -> list[Window]:
    """Return windows of `frames` frames over sequences of the given lengths, in order.

    A window starts every `stride` frames (default: `frames`, so that no frame is in two windows). Where the last
    one would run over the end of its sequence it is dropped, or kept as a shorter one if it holds a frame no
    other has; a sequence shorter than `frames` is such a rest. Raises ValueError for sizes below 1, and when no
    window is left.
    """
    step = frames if stride is None else stride
    if frames < 1 or step < 1:
        raise ValueError(f"cut_windows: frames is {frames} and stride {step}; expected at least 1")
    if rest not in ("drop", "keep"):
        raise ValueError(f"cut_windows: rest is {rest!r}; expected 'drop' or 'keep'")
    found = []
    for sequence, length in enumerate(lengths):
        start, reached = 0, 0
        while start + frames <= length:
            reached = start + frames
            found.append(Window(sequence, start, reached))
            start += step
        if rest == "keep" and start < length and reached < length:
            found.append(Window(sequence, start, length))
    if not found:
        longest = max(lengths, default=0)
        raise ValueError(
            f"cut_windows: none of {len(lengths)} sequences gives a window; the longest has {longest} frames, "
            f"expected at least {frames}. Use shorter windows or rest='keep'"
        )
    return found


def read_pictures(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """Return the pictures in files (PNG, JPEG) as one clip (T, H, W, 3) uint8 RGB.

    Raises VideoError for a file that is missing or damaged, without files, and for pictures of several sizes.
    """
    if not paths:
        raise VideoError("read_pictures: no files; expected at least one picture")
    pictures: list[NDArray[np.uint8]] = []
    for path in paths:
        with read_video(path) as reader:
            pictures.append(next(iter(reader)).data)
        if pictures[-1].shape != pictures[0].shape:
            raise VideoError(
                f"{path} is {pictures[-1].shape[1]} x {pictures[-1].shape[0]} pixels; expected "
                f"{pictures[0].shape[1]} x {pictures[0].shape[0]} as {paths[0]}"
            )
    return np.stack(pictures)


def unlabelled_clips(video: str | Path, *, frames: int, every: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """Yield clips (frames, H, W, 3) uint8 RGB of consecutive frames of a video, decoded as they are asked for.

    A clip starts every `every` frames (default: `frames`); the rest is dropped. Raises ValueError for sizes
    below 1 and for a video shorter than one clip, VideoError for one that cannot be read.
    """
    step = frames if every is None else every
    if frames < 1 or step < 1:
        raise ValueError(f"unlabelled_clips: frames is {frames} and every {step}; expected at least 1")
    return _clips(video, frames, step)


def _clips(video: str | Path, frames: int, step: int) -> Iterator[NDArray[np.uint8]]:
    held: deque[NDArray[np.uint8]] = deque(maxlen=frames)
    count = 0
    with read_video(video) as reader:
        for frame in reader:
            held.append(frame.data)
            count += 1
            if count >= frames and (count - frames) % step == 0:
                yield np.stack(held)
    if count < frames:
        raise ValueError(f"unlabelled_clips: {video} has {count} frames; expected at least {frames}, one clip")
