"""Picture files made for tests: PNG by the standard library alone, JPEG by the codec."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt


def write_png(path: Path, picture: npt.NDArray[np.uint8]) -> Path:
    """Write an RGB picture (H, W, 3) without any loss; makes its folder."""
    height, width, _ = picture.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.tobytes() for row in picture)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


def write_jpeg(path: Path, picture: npt.NDArray[np.uint8]) -> Path:
    """Write an RGB picture (H, W, 3) as JPEG; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = av.CodecContext.create("mjpeg", "w")
    codec.height, codec.width = picture.shape[:2]
    codec.pix_fmt, codec.time_base = "yuvj420p", 1  # type: ignore[assignment]
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p")
    path.write_bytes(b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)]))
    return path
