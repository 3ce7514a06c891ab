"""Writing videos: what comes back, that equal input gives equal files, and what a broken-off writing leaves."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import Array, moving, plain_decode

from saccade.errors import VideoError
from saccade.video import Frame, VideoWriter, read_video, write_video
from saccade.video.scheduling import same_scheduling

SIZES = [(1, 1), (2, 2), (63, 127), (48, 64), (1, 300), (127, 63)]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("codec", ["libx264rgb", "ffv1"])
def test_lossless_codecs_give_every_bit_back(tmp_path: Path, codec: str, height: int, width: int) -> None:
    frames = moving(5, height=height, width=width)
    path = tmp_path / "clip.mkv"
    pixel_format = "rgb24" if codec == "libx264rgb" else "bgr0"
    assert write_video(path, frames, fps=25, codec=codec, crf=0, pixel_format=pixel_format) == 5
    got = [f.data for f in read_video(path)]
    assert all(np.array_equal(a, b) for a, b in zip(got, frames, strict=True))


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize(
    ("codec", "suffix", "pixel_format"),
    [
        ("libx264", ".mp4", "yuv420p"),
        ("libx264", ".mp4", "yuv444p"),
        ("mpeg4", ".avi", "yuv420p"),
        ("mjpeg", ".avi", "yuvj420p"),
        ("libvpx-vp9", ".webm", "yuv420p"),
    ],
)
def test_what_is_written_comes_back(
    tmp_path: Path, codec: str, suffix: str, pixel_format: str, height: int, width: int
) -> None:
    # Smooth pictures, so that halved chroma costs little; colours differ by a lot more than the bound.
    y, x = np.mgrid[:height, :width]
    frames = [np.stack([y * 2 % 256, x * 2 % 256, 0 * x + 10 * k], -1).astype(np.uint8) for k in range(5)]
    path = tmp_path / f"clip{suffix}"
    with VideoWriter(path, fps=25, codec=codec, crf=10, pixel_format=pixel_format) as writer:
        assert writer.size is None
        for frame in frames:
            writer.write(frame)
        assert writer.frames_written == 5
    even = pixel_format.endswith("420p")
    size = (height + height % 2, width + width % 2) if even else (height, width)
    assert writer.size == size
    video = read_video(path)
    assert video.size == size
    for got, frame in zip(video, frames, strict=True):
        error = np.abs(got.data[:height, :width].astype(int) - frame)
        assert error.mean() < 4
        if size != (height, width):  # the padding repeats the edge
            padded = np.pad(frame, ((0, size[0] - height), (0, size[1] - width), (0, 0)), mode="edge")
            assert np.abs(got.data.astype(int) - padded).mean() < 4


@pytest.mark.parametrize("threads", [1, 2])
def test_equal_frames_give_equal_files(threads: int) -> None:
    first, second = io.BytesIO(), io.BytesIO()
    for target in (first, second):
        write_video(target, moving(20), fps=25, threads=threads, format="mp4")
    assert first.getvalue() == second.getvalue()


def test_a_file_object_gets_the_bytes_a_path_gets(tmp_path: Path) -> None:
    path, memory = tmp_path / "clip.mp4", io.BytesIO()
    write_video(path, moving(20), fps=25)
    write_video(memory, moving(20), fps=25, format="mp4")
    assert path.read_bytes() == memory.getvalue()
    assert not memory.closed


def test_frames_are_taken_as_arrays_are(tmp_path: Path) -> None:
    arrays, frames = io.BytesIO(), io.BytesIO()
    write_video(arrays, moving(4), fps=25, format="mp4")
    write_video(frames, [Frame(a, 7, 1.5) for a in moving(4)], fps=25, format="mp4")
    assert arrays.getvalue() == frames.getvalue()


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (25, Fraction(25)),
        (12.5, Fraction(25, 2)),
        (29.97, Fraction(30000, 1001)),
        (30000 / 1001, Fraction(30000, 1001)),
        (23.976, Fraction(24000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (0.5, Fraction(1, 2)),
        (Fraction(179, 6), Fraction(179, 6)),
        (1000, Fraction(1000)),
    ],
)
def test_the_frame_rate_is_kept(tmp_path: Path, fps: float | Fraction, rate: Fraction) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, moving(7), fps=fps)
    video = read_video(path)
    assert video.fps == float(rate)
    assert [f.pts_seconds for f in video] == pytest.approx([float(n / rate) for n in range(7)], rel=1e-3)


def test_the_file_says_how_its_colours_are_to_be_read(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, moving(2), fps=25)
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
        bt601, limited = 6, 1
        assert (picture.colorspace, picture.color_range) == (bt601, limited)


# Broken off


def bad_shape(frames: list[Array]) -> Iterator[Array]:
    yield from frames
    yield np.zeros((10, 10, 3), np.uint8)


def bad_dtype(frames: list[Array]) -> Iterator[Array]:
    yield from frames
    yield frames[0].astype(np.float32)  # type: ignore[misc]


def failure(frames: list[Array]) -> Iterator[Array]:
    yield from frames
    raise RuntimeError("camera fell over")


def interrupt(frames: list[Array]) -> Iterator[Array]:
    yield from frames
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (bad_shape, VideoError, r"frame 9 has shape \(10, 10, 3\), the frames before had \(48, 64, 3\)"),
        (bad_dtype, VideoError, r"frame 9 must be uint8 in 0\.\.255, got float32"),
        (failure, RuntimeError, "camera fell over"),
        (interrupt, KeyboardInterrupt, None),
    ],
)
def test_what_was_written_before_an_error_can_be_played(
    tmp_path: Path,
    source: Callable[[list[Array]], Iterator[Array]],
    error: type[BaseException],
    message: str | None,
) -> None:
    path = tmp_path / "clip.mkv"
    frames = moving(9)
    with pytest.raises(error, match=message):
        write_video(path, source(frames), fps=25, codec="libx264rgb", pixel_format="rgb24", crf=0)
    assert all(np.array_equal(a, b) for a, b in zip(plain_decode(path), frames, strict=True))
    assert len(list(read_video(path))) == 9


def test_an_error_before_the_first_frame_is_the_one_that_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with pytest.raises(RuntimeError, match="camera fell over"):
        write_video(path, failure([]), fps=25)
    assert not path.exists()


def test_no_frames_are_no_video(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with pytest.raises(VideoError, match=r"no frames were written to .*clip\.mp4"):
        write_video(path, [], fps=25)
    assert not path.exists()


def test_a_size_the_encoder_cannot_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"cannot write frame 0 \(4x4\) to .*clip\.mp4: "):
        write_video(tmp_path / "clip.mp4", moving(1, height=4, width=4), fps=25, codec="libx265")


def test_a_closed_writer_takes_no_more(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", fps=25) as writer:
        writer.write(moving(1)[0])
    writer.close()
    with pytest.raises(VideoError, match=r"clip\.mp4 is closed; open another"):
        writer.write(moving(1)[0])


def test_a_file_object_that_fails_is_a_video_error() -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(VideoError, match=r"cannot (write frame|finish)"):
        write_video(Full(), moving(3), fps=25, format="mp4")


# Refused before a frame is asked for


@pytest.mark.parametrize(
    ("target", "settings", "message"),
    [
        ("none/clip.mp4", {}, r"cannot write .*clip\.mp4: No such file or directory; choose a file in an existing"),
        ("file.txt/clip.mp4", {}, r"cannot write .*clip\.mp4: Not a directory; choose"),
        (".", {}, r"is a directory; name a file in it, e\.g\. .*out\.mp4"),
        ("clip.xyz", {}, r"the extension of .*clip\.xyz is not a video container.*use \.mp4"),
        ("clip", {}, r"the extension of .*clip is not a video container"),
        ("clip.mp4", {"format": "xyz"}, "format 'xyz' is not a video container"),
        ("clip.webm", {}, "'webm' format does not support 'libx264' codec; use .mkv"),
        ("clip.mp4", {"codec": "xyz"}, "there is no encoder 'xyz'; use libx264"),
        ("clip.mp4", {"codec": "aac"}, "aac encodes audio; use a video encoder"),
        ("clip.mp4", {"pixel_format": "xyz"}, "libx264 does not take pixel format 'xyz'; it takes yuv420p, "),
        ("clip.mp4", {"fps": 0}, "fps must be a positive number of frames per second, got 0"),
        ("clip.mp4", {"fps": float("inf")}, "fps must be a positive number.*got inf"),
        ("clip.mp4", {"fps": "25"}, "fps must be a positive number.*got '25'"),
        ("clip.mp4", {"crf": -1}, r"crf must be None or from 0 \(best\) to 51.*got -1"),
        ("clip.mp4", {"threads": 0}, "threads must be an int >= 1, got 0"),
        (None, {}, 'writing to a file object needs the container: pass format="mp4"'),
    ],
)
def test_what_cannot_be_written_is_refused_first(
    tmp_path: Path, target: str | None, settings: dict[str, Any], message: str
) -> None:
    (tmp_path / "file.txt").touch()
    before = sorted(tmp_path.iterdir())
    asked = []

    def frames() -> Iterator[Array]:
        asked.append(True)
        yield moving(1)[0]

    goal = io.BytesIO() if target is None else tmp_path / target
    with pytest.raises(VideoError, match=message):
        write_video(goal, frames(), **({"fps": 25} | settings))
    assert not asked
    assert sorted(tmp_path.iterdir()) == before


def test_a_video_is_not_written_over_itself(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, moving(5), fps=25)
    before = path.read_bytes()
    with pytest.raises(VideoError, match=r"clip\.mp4 is the video being read; write to another file"):
        write_video(tmp_path / "." / "clip.mp4", read_video(path), fps=25)
    assert path.read_bytes() == before


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these policies")


@linux_only
def test_an_encoder_leaves_the_caller_the_scheduling_it_had(tmp_path: Path) -> None:
    before = os.sched_getscheduler(0)
    try:
        av.Codec("libsvtav1", "w")
    except ValueError:
        pytest.skip("this FFmpeg has no encoder libsvtav1")
    try:
        assert write_video(tmp_path / "clip.mp4", moving(5), fps=25, codec="libsvtav1") == 5
        assert os.sched_getscheduler(0) == before  # to root, SVT-AV1 alone leaves real-time priority
    finally:
        os.sched_setscheduler(0, before, os.sched_param(0))


@linux_only
def test_scheduling_comes_back_after_an_error_too() -> None:
    before = os.sched_getscheduler(0)

    @same_scheduling()
    def fail() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert os.sched_getscheduler(0) == before
