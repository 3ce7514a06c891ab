"""Which frames of a video make a clip, in training and in testing, and reading just these.

A clip is T frames, one every `stride`. A video shorter than a clip's span is repeated from its first frame on: frame i
stands for i modulo its length.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from saccade.data.clips import read_pictures
from saccade.data.videos import LabelledVideo
from saccade.errors import VideoError
from saccade.video import read_video

Frames = NDArray[np.int64]


def clip_span(frames: int, stride: int) -> int:
    """Return how many frames of the video lie between a clip's first and last, both included."""
    if frames < 1 or stride < 1:
        raise ValueError(f"a clip of {frames} frames, one every {stride}; expected at least 1 of each")
    return (frames - 1) * stride + 1


def random_clip(length: int, rng: np.random.Generator, *, frames: int, stride: int = 1) -> Frames:
    """Return the frames (1, frames) of a clip that begins anywhere it fits in a video of `length` frames."""
    start = int(rng.integers(0, _last_start(length, frames, stride) + 1))
    return (start + stride * np.arange(frames))[None] % length


def uniform_clips(length: int, *, frames: int, stride: int = 1, clips: int = 1) -> Frames:
    """Return the frames (clips, frames) of `clips` clips spread evenly over a video of `length` frames.

    One clip lies in the middle. Of several the first begins with the video, the last ends with it, and the rest are as
    far apart, rounded down; so an odd number has the middle clip in it.
    """
    last = _last_start(length, frames, stride)
    if clips < 1:
        raise ValueError(f"uniform_clips: clips is {clips}; expected at least 1")
    starts = np.array([last // 2]) if clips == 1 else last * np.arange(clips) // (clips - 1)
    return (starts[:, None] + stride * np.arange(frames)) % length


def _last_start(length: int, frames: int, stride: int) -> int:
    span = clip_span(frames, stride)
    if length < 1:
        raise ValueError(f"a video of {length} frames; expected at least 1")
    return max(0, length - span)


def read_clips(video: LabelledVideo, choose: Callable[[int], Frames]) -> NDArray[np.uint8]:
    """Return the clips (K, T, H, W, 3) uint8 RGB that `choose` gives, as frame numbers (K, T), for the video's length.

    Frames are decoded from the first of the video to the last that is needed, so they are the very ones; those before
    the first that is needed are not converted, and only those needed are kept. The length is the container's word for
    it, or counted where it gives none; where the video ends before that, `choose` is asked again, with the true length.

    Raises:
        DamagedVideoError: the video is damaged before the last frame needed.
        VideoError: it cannot be opened, holds no frame, or changes its size.
        ValueError: `choose` gives frames that are not there.
    """
    if video.path.is_dir():
        pictures = video.pictures()
        numbers = _chosen(choose, len(pictures), video)
        unique, place = np.unique(numbers, return_inverse=True)
        return read_pictures([pictures[i] for i in unique])[place.reshape(numbers.shape)]
    with read_video(video.path) as reader:
        length = reader.frame_count_estimate
    length = length or _counted(video)
    numbers = _chosen(choose, length, video)
    found, reached = _decoded(video, numbers)
    if reached <= numbers.max():  # the container promised more
        numbers = _chosen(choose, reached or _counted(video), video)
        found, _ = _decoded(video, numbers)
    sizes = {frame.shape for frame in found.values()}
    if len(sizes) > 1:
        raise VideoError(f"{video.path} has frames of {len(sizes)} sizes, {sorted(sizes)}; expected one")
    unique, place = np.unique(numbers, return_inverse=True)
    return np.stack([found[i] for i in unique.tolist()])[place.reshape(numbers.shape)]


def _chosen(choose: Callable[[int], Frames], length: int, video: LabelledVideo) -> Frames:
    if length < 1:
        raise VideoError(f"{video.path} holds no frame")
    numbers = np.asarray(choose(length))
    if numbers.ndim != 2 or numbers.dtype.kind not in "iu" or not numbers.size:
        raise ValueError(f"read_clips: got {numbers.dtype} {numbers.shape}; expected whole frame numbers (K, T)")
    if numbers.min() < 0 or numbers.max() >= length:
        raise ValueError(f"read_clips: frames {numbers.min()} to {numbers.max()}; {video.path} has 0 to {length - 1}")
    return numbers


def _counted(video: LabelledVideo) -> int:
    return sum(1 for _ in read_video(video.path))


def _decoded(video: LabelledVideo, numbers: Frames) -> tuple[dict[int, NDArray[np.uint8]], int]:
    """Return the frames asked for that the video has, and the number after the last one converted (0 for none)."""
    wanted, found, reached = set(numbers.ravel().tolist()), {}, 0
    with read_video(video.path, start=min(wanted), stop=max(wanted) + 1) as reader:
        for frame in reader:
            reached = frame.index + 1
            if frame.index in wanted:
                found[frame.index] = frame.data
    return found, reached
