"""Small videos made for tests, and the plainest possible way to decode one."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from saccade.video import write_video
from saccade.video.scheduling import same_scheduling

Array = npt.NDArray[np.uint8]


def moving(count: int, *, height: int = 48, width: int = 64) -> list[Array]:
    """Return frames in which a textured square wanders over a textured ground."""
    rng = np.random.default_rng(1)
    ground = rng.integers(60, 200, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    ground = ground.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]
    square = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    frames = []
    for index in range(count):
        frame = ground.copy()
        top, left = index % max(1, height - 12), 2 * index % max(1, width - 12)
        target = frame[top : top + 12, left : left + 12]
        target[...] = square[: target.shape[0], : target.shape[1]]
        frames.append(frame)
    return frames


def clip(path: Path, count: int = 48, *, fps: float = 25, codec: str = "libx264", **size: int) -> Path:
    """Write `moving` frames to a path and return it."""
    write_video(path, moving(count, **size), fps=fps, codec=codec, crf=18)
    return path


def encode(
    path: Path, frames: Sequence[Array], *, codec: str, options: dict[str, str], times: Sequence[int] | None = None
) -> Path:
    """Write frames with an encoder's own options, frame n at times[n] / 25 s or n / 25 s; skip where it is missing."""
    try:
        av.Codec(codec, "w")
    except ValueError:
        pytest.skip(f"this FFmpeg has no encoder {codec}")
    height, width, _ = frames[0].shape
    pixel_format = "rgb8" if codec == "gif" else "yuv420p"
    with av.open(str(path), "w") as container, same_scheduling():
        stream = container.add_stream(codec, rate=25, width=width, height=height, pix_fmt=pixel_format, options=options)
        stream.thread_count = 1
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = times[number] if times else number, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def remux(source: Path, target: Path, *, options: dict[str, str] | None = None, shift: int = 0) -> Path:
    """Copy the coded pictures to another container, with other muxer options or shifted in time."""
    with av.open(str(source)) as reader, av.open(str(target), "w", options=options or {}) as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for packet in reader.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = stream
                writer.mux(packet)
    return target


def faststart(source: Path, target: Path) -> Path:
    """Copy an MP4 with its index in front, so that a shortened copy can be opened."""
    return remux(source, target, options={"movflags": "faststart"})


def plain_decode(path: Path) -> list[Array]:
    """Return every frame as PyAV's shortest loop gives it."""
    with av.open(str(path)) as container:
        return [np.asarray(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


def audio(path: Path) -> Path:
    """Write a second of silence."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    return path
