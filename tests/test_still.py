"""One picture as a JPEG file, read back by another decoder's loop."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from saccade.errors import VideoError
from saccade.video.still import encode_jpeg


def read(jpeg: bytes) -> np.ndarray:
    with av.open(io.BytesIO(jpeg)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (63, 127), (131, 257), (16, 16)])
def test_pictures_of_any_size_come_back(size: tuple[int, int]) -> None:
    rows, columns = np.mgrid[: size[0], : size[1]]
    picture = np.stack([columns * 255 // size[1], rows * 255 // size[0], 128 + 0 * rows], -1).astype(np.uint8)
    jpeg = encode_jpeg(picture, quantiser=1)
    assert jpeg[:2] == b"\xff\xd8"
    assert jpeg == encode_jpeg(picture, quantiser=1)
    assert np.abs(read(jpeg).astype(int) - picture).max() <= 6
    assert np.abs(read(encode_jpeg(picture[:, ::-1])).astype(int) - picture[:, ::-1]).mean() <= 3


def test_colours_keep_their_place_and_a_coarser_quantiser_its_promise() -> None:
    picture = np.zeros((32, 32, 3), dtype=np.uint8)
    picture[:, 16:] = (255, 0, 140)  # no blur of colours over the edge: nothing is subsampled
    assert np.abs(read(encode_jpeg(picture)).astype(int) - picture).max() <= 8
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    sizes = [len(encode_jpeg(noise, quantiser=quantiser)) for quantiser in (1, 3, 8, 31)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 4 * sizes[-1]


def test_what_is_no_picture_is_said() -> None:
    with pytest.raises(VideoError, match="must be uint8"):
        encode_jpeg(np.zeros((4, 4, 3)))  # type: ignore[arg-type]
    with pytest.raises(VideoError, match="quantiser is 0; expected 1"):
        encode_jpeg(np.zeros((4, 4, 3), dtype=np.uint8), quantiser=0)
    with pytest.raises(VideoError, match="at most 65500 on a side"):
        encode_jpeg(np.zeros((1, 65501, 3), dtype=np.uint8))
