"""Crops of clips: those TSN trains on, and the K-LeftCenterRight protocol of testing.

Frames are numpy arrays or tensors whose last two axes are height and width; what comes back is of the same kind. All
frames of a clip are cropped alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from saccade.errors import InputError

Frames = TypeVar("Frames", NDArray[Any], Tensor)

SCALES = (1.0, 0.875, 0.75, 0.66)  # TSN's 256, 224, 192 and 168 of a shorter side of 256
# Where a crop may lie, in quarters of the room there is (down, across): corners and middle, then the others.
CORNERS = ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))
PLACES = (*CORNERS, (2, 0), (2, 4), (4, 2), (0, 2), (1, 1), (1, 3), (3, 1), (3, 3))


class Crop(NamedTuple):
    """A rectangle of a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int


def tsn_sizes(
    height: int, width: int, *, scales: Sequence[float] = SCALES, distortion: int = 1
) -> list[tuple[int, int]]:
    """Return the (height, width) of the crops TSN trains on: sides at scales of the frame's shorter side, rounded down.

    Height and width may be at most `distortion` steps of `scales` apart (scale and aspect ratio jittering; Wang et al.,
    "Temporal segment networks", ECCV 2016, Sec. 3.2).
    """
    if not scales or not all(0 < scale <= 1 for scale in scales):
        raise ValueError(f"tsn_sizes: scales are {tuple(scales)}; expected numbers in (0, 1]")
    sides = [max(1, int(min(height, width) * scale)) for scale in scales]
    return [(tall, wide) for i, tall in enumerate(sides) for j, wide in enumerate(sides) if abs(i - j) <= distortion]


def tsn_places(
    height: int, width: int, size: tuple[int, int], *, places: Sequence[tuple[int, int]] = PLACES
) -> list[Crop]:
    """Return the crops of a size (height, width) at the places TSN allows, in quarters of the room there is.

    Corner cropping: not anywhere, but in the corners and the middle (CORNERS), or at these, the middles of the edges
    and four places between (PLACES: location jittering).
    """
    down, across = height - size[0], width - size[1]
    if down < 0 or across < 0 or min(size) < 1:
        raise InputError(f"tsn_places: a crop of {size} in frames of {(height, width)}; expected it to fit")
    return [Crop(down * y // 4, across * x // 4, *size) for y, x in places]


def tsn_augment(
    frames: Frames,
    rng: np.random.Generator,
    *,
    size: int,
    mirror: bool = True,
    scales: Sequence[float] = SCALES,
    places: Sequence[tuple[int, int]] = PLACES,
) -> Frames:
    """Return a clip (..., H, W) cropped, resized to `size` and, half the time, mirrored, as TSN does in training.

    Scale jittering, corner cropping and location jittering as in `tsn_sizes` and `tsn_places`. Leave `mirror` away
    where left and right matter to the label.
    """
    height, width = frames.shape[-2:]
    sizes = tsn_sizes(height, width, scales=scales)
    crops = tsn_places(height, width, sizes[int(rng.integers(len(sizes)))], places=places)
    cut = resize(crop(frames, crops[int(rng.integers(len(crops)))]), (size, size))
    return mirrored(cut) if mirror and rng.random() < 0.5 else cut


def left_center_right(height: int, width: int, size: int) -> tuple[Crop, Crop, Crop]:
    """Return three square crops along the longer side: at its beginning, in the middle and at its end.

    Along the shorter side they lie in the middle. Frames whose longer side is upright give top, middle and bottom.
    """
    down, across = height - size, width - size
    if size < 1 or down < 0 or across < 0:
        raise InputError(
            f"left_center_right: crops of {size} in frames of {(height, width)}; expected 1 to {min(height, width)}. "
            "Resize the frames with resize_shorter first"
        )
    if height > width:
        first, middle, last = (Crop(top, across // 2, size, size) for top in (0, down // 2, down))
    else:
        first, middle, last = (Crop(down // 2, left, size, size) for left in (0, across // 2, across))
    return first, middle, last


def all_views(clips: Frames, *, size: int, shorter: int | None = None) -> Frames:
    """Return the views (3 K, C, T, size, size) of K clips (K, T, C, H, W): the K-LeftCenterRight protocol.

    Frames are resized until their shorter side is `shorter` (default: `size`) pixels, then the left, center and right
    crops are taken of every clip: views 3 k to 3 k + 2 are those of clip k. The network's input has its channels first.
    `mean_prediction` then averages what it says.
    """
    if clips.ndim != 5:
        raise InputError(f"all_views: clips are {tuple(clips.shape)}; expected (K, T, C, H, W)")
    small = resize_shorter(clips, shorter or size)
    height, width = small.shape[-2:]
    crops = left_center_right(height, width, size)
    if isinstance(small, Tensor):
        return torch.stack([crop(small, c) for c in crops], 1).flatten(0, 1).transpose(1, 2).contiguous()
    stacked = np.stack([crop(small, c) for c in crops], 1)
    return np.ascontiguousarray(stacked.reshape(-1, *stacked.shape[2:]).swapaxes(1, 2))


def mean_prediction(scores: Tensor, views: int) -> Tensor:
    """Return the probabilities (B, classes) of B videos: the mean of the softmax of their views' (B * views, classes).

    Raises InputError when the scores (logits) are not those of whole videos.
    """
    if scores.ndim != 2 or views < 1 or len(scores) % views:
        raise InputError(
            f"mean_prediction: scores {tuple(scores.shape)} of {views} views per video; expected (B * views, classes)"
        )
    return scores.softmax(1).unflatten(0, (-1, views)).mean(1)


def crop(frames: Frames, where: Crop) -> Frames:
    """Return a rectangle of the frames (..., H, W), not copied; raises InputError where it does not lie in them."""
    top, left, height, width = where
    tall, wide = frames.shape[-2:]
    if min(top, left) < 0 or min(height, width) < 1 or top + height > tall or left + width > wide:
        raise InputError(f"crop: {where} does not lie in frames of {(tall, wide)}")
    return frames[..., top : top + height, left : left + width]


def mirrored(frames: Frames) -> Frames:
    """Return the frames (..., H, W) seen in a mirror."""
    return frames.flip(-1) if isinstance(frames, Tensor) else np.ascontiguousarray(frames[..., ::-1])


def resize_shorter(frames: Frames, side: int) -> Frames:
    """Return the frames (..., H, W) resized until the shorter side is `side` pixels; the longer is rounded down."""
    height, width = frames.shape[-2:]
    short = min(height, width)
    return resize(frames, (height * side // short, width * side // short))


def resize(frames: Frames, size: tuple[int, int]) -> Frames:
    """Return the frames (..., H, W) at `size` (height, width): bilinear, averaged where it shrinks, uint8 rounded."""
    if min(size) < 1:
        raise InputError(f"resize: to {size}; expected at least 1 pixel on a side")
    if tuple(frames.shape[-2:]) == tuple(size):
        return frames
    given = frames if isinstance(frames, Tensor) else torch.from_numpy(np.ascontiguousarray(frames))
    planes = given.reshape(-1, 1, *given.shape[-2:]).float()
    sized = F.interpolate(planes, size=size, mode="bilinear", align_corners=False, antialias=True)
    if given.dtype == torch.uint8:
        sized = sized.round_().clamp_(0, 255)
    sized = sized.to(given.dtype).reshape(*given.shape[:-2], *size)
    return sized if isinstance(frames, Tensor) else sized.numpy()
