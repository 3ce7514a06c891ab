"""One picture as a JPEG file in memory."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange, Colorspace

from saccade.errors import VideoError
from saccade.video.frame import check_picture

_LARGEST_SIDE = 65_500  # of a JPEG


def encode_jpeg(picture: npt.NDArray[np.uint8], *, quantiser: int = 3) -> bytes:
    """Returns a picture (H, W, 3) of uint8 RGB as a JPEG file, its colours at full resolution.

    Equal pictures give equal bytes.

    Args:
        picture: of any size of at least 1 x 1.
        quantiser: 1 (best) to 31 (smallest).

    Raises:
        VideoError: no such picture, a side of over 65,500 pixels, or a quantiser outside 1..31.
    """
    check_picture(picture, what="the picture")
    if not 1 <= quantiser <= 31:
        raise VideoError(f"quantiser is {quantiser}; expected 1 (best) to 31 (smallest).")
    height, width = picture.shape[:2]
    if max(height, width) > _LARGEST_SIDE:
        raise VideoError(f"the picture is {width}x{height}; a JPEG has at most {_LARGEST_SIDE} on a side. Shrink it.")
    codec: Any = av.CodecContext.create("mjpeg", "w")
    assert isinstance(codec, VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt = width, height, "yuvj444p"
    codec.time_base = Fraction(1)
    codec.thread_count = 1
    codec.qmin = codec.qmax = quantiser
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(
        format="yuvj444p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.JPEG
    )
    frame.pts = 0
    return b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode(None)))
