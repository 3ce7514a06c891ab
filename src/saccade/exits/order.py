"""In which order the frames of a video are visited (FrameExit, section 3, "frame sampling policy").

T places are spread evenly over a video; an order is a permutation of 0 to T - 1.
"""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Literal, get_args

from saccade.errors import InputError

Order = Literal["coarse-to-fine", "sequential", "random"]


def visiting_order(frames: int, order: Order = "coarse-to-fine", *, seed: int = 0) -> tuple[int, ...]:
    """Returns the places 0 to T - 1 in the order they are visited.

    Args:
        frames: T.
        order: "coarse-to-fine" (the paper's), "sequential" (as time goes), or "random" (those of Table 3).
        seed: of the random order; give each video its own. The other orders do not use it.

    Raises:
        InputError: there is no such order, or no frame.
    """
    if frames < 1:
        raise InputError(f"an order of {frames} frames; expected at least 1")
    if order == "coarse-to-fine":
        return _coarse_to_fine(frames)
    if order == "sequential":
        return tuple(range(frames))
    if order == "random":
        return tuple(random.Random(seed).sample(range(frames), frames))
    raise InputError(f"there is no order {order!r}; expected one of {', '.join(get_args(Order))}")


def frames_to_visit(length: int, frames: int, order: Order = "coarse-to-fine", *, seed: int = 0) -> tuple[int, ...]:
    """Returns which frames of a video are visited, in this order: the middle ones of T equally long parts.

    A video shorter than T has frames that are visited several times.

    Args:
        length: frames of the video.
        frames: T.
        order, seed: as of `visiting_order`.

    Raises:
        InputError: as `visiting_order`, or the video has no frame.
    """
    if length < 1:
        raise InputError(f"a video of {length} frames; expected at least 1")
    return tuple((2 * place + 1) * length // (2 * frames) for place in visiting_order(frames, order, seed=seed))


def pictures_of_frame(place: int, length: int, *, clip: int | None = None, stride: int = 1) -> list[int]:
    """Returns which pictures a frame is made of: one, or those of a clip around it.

    Args:
        place: of the frame, of `frames_to_visit`.
        length: pictures of the video.
        clip: how many there are in a clip; None where a frame is one picture. A clip is moved where it would begin
            before the video or end behind it; a video shorter than that is repeated from its first picture on.
        stride: a clip has one picture in so many.
    """
    if clip is None or clip == 1:
        return [place]
    span = (clip - 1) * stride + 1
    start = max(0, min(place - span // 2, length - span))
    return [(start + stride * k) % length for k in range(clip)]


def _coarse_to_fine(frames: int) -> tuple[int, ...]:
    """Returns the middle, the first, the last, and then again and again the middle of the widest gap.

    Of gaps as wide, the one whose middle is nearer to the first frame visited comes first, then the earlier one. A
    middle between two frames is the even one of them.
    """
    middle = frames // 2
    order = list(dict.fromkeys((middle, 0, frames - 1)))
    while len(order) < frames:
        gaps = [(right - left, round((left + right) / 2)) for left, right in pairwise(sorted(order))]
        order.append(min(gaps, key=lambda gap: (-gap[0], abs(gap[1] - middle), gap[1]))[1])
    return tuple(order)
