"""Reading videos: the pixels, the places in time, and what is said of things that are no video."""

from __future__ import annotations

import ast
import dataclasses
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from assets import require_asset
from clips import audio, clip, moving, plain_decode, remux

import saccade.video
from saccade.errors import DamagedVideoError, VideoError
from saccade.video import Frame, read_video, write_video


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip(tmp_path_factory.mktemp("clips") / "clip.mp4")


# Frame


def test_a_frame_shows_its_shape_and_not_its_pixels() -> None:
    frame = Frame(np.zeros((4, 6, 3), np.uint8), 3, 0.125)
    assert repr(frame) == "Frame(uint8 4x6x3, index=3, pts_seconds=0.125)"
    assert (frame.height, frame.width) == (4, 6)
    with pytest.raises(dataclasses.FrozenInstanceError):
        frame.index = 4  # type: ignore[misc]


GOOD = np.zeros((4, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("data", "index", "pts_seconds", "message"),
    [
        ([[0]], 0, 0.0, "numpy array.*got list"),
        (GOOD[..., 0], 0, 0.0, r"shape \(H, W, 3\).*got \(4, 6\)"),
        (GOOD[:0], 0, 0.0, r"at least 1, got \(0, 6, 3\)"),
        (GOOD.astype(np.float32), 0, 0.0, "uint8 in 0..255, got float32"),
        (GOOD, -1, 0.0, "index must be an int >= 0, got -1"),
        (GOOD, True, 0.0, "index must be an int >= 0, got True"),
        (GOOD, 0, float("nan"), "finite number, got nan"),
    ],
)
def test_a_frame_refuses_what_is_no_picture(data: object, index: int, pts_seconds: float, message: str) -> None:
    with pytest.raises(VideoError, match=message):
        Frame(data, index, pts_seconds)  # type: ignore[arg-type]


# Reading


@pytest.mark.parametrize(
    ("name", "count", "fps", "size"),
    [
        ("videos/car-detection.mp4", 377, 12.5, (432, 768)),
        ("videos/dashcam-highway.mp4", 221, 25.0, (540, 960)),
        ("videos/highway.avi", 1699, 60.0, (240, 320)),
    ],
)
def test_a_real_clip_is_read_to_its_end(
    name: str, count: int, fps: float, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = require_asset(name)
    picture = np.zeros((2, 2, 3), np.uint8)
    monkeypatch.setattr("saccade.video.reading.upright_rgb", lambda *_: picture)  # decoding is what counts here
    with read_video(path) as video:
        assert (video.size, round(video.fps, 3)) == (size, fps)
        assert (video.live, video.path) == (False, path)
        assert abs((video.frame_count_estimate or 0) - count) <= 1  # highway.avi counts one too many
        frames = list(video)
    assert [f.index for f in frames] == list(range(count))
    times = np.array([f.pts_seconds for f in frames])
    assert times[0] == 0
    assert np.all(np.diff(times) > 0)
    assert abs(times[-1] - (count - 1) / fps) <= 3 / fps


def test_pixels_are_those_of_the_plainest_decoder() -> None:
    path = require_asset("videos/car-detection.mp4")
    with av.open(str(path)) as container:
        expected = [f.to_ndarray(format="rgb24") for f, _ in zip(container.decode(video=0), range(20), strict=False)]
    got = [f.data for f in read_video(path, stop=20)]
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize(("start", "stop"), [(0, None), (0, 0), (0, 1), (5, 9), (47, 48), (40, 99), (60, None)])
def test_start_and_stop_are_a_slice(mp4: Path, start: int, stop: int | None) -> None:
    expected = plain_decode(mp4)[start:stop]
    with read_video(mp4, start=start, stop=stop) as video:
        frames = list(video)
    assert [f.index for f in frames] == list(range(48))[start:stop]
    assert [f.pts_seconds for f in frames] == pytest.approx([f.index / 25 for f in frames])
    assert all(np.array_equal(f.data, e) for f, e in zip(frames, expected, strict=True))


@pytest.mark.parametrize(("height", "width"), [(63, 127), (1, 1), (48, 64)])
def test_equal_pictures_give_equal_bits(tmp_path: Path, height: int, width: int) -> None:
    path = tmp_path / "still.mkv"
    write_video(path, moving(1, height=height, width=width) * 7, fps=25, codec="ffv1")
    first, *others = [f.data for f in read_video(path)]
    assert all(np.array_equal(first, other) for other in others)


def test_frames_own_their_pixels(mp4: Path) -> None:
    frames = list(read_video(mp4, stop=8))
    kept = [f.data.copy() for f in frames]
    frames[0].data[...] = 0
    assert all(np.array_equal(f.data, k) for f, k in zip(frames[1:], kept[1:], strict=True))


def test_without_time_stamps_the_time_is_index_by_fps(tmp_path: Path) -> None:
    path = tmp_path / "bare.h264"  # a bare stream has no container to keep times in
    path.write_bytes(b"".join(_coded(moving(12))))
    frames = list(read_video(path))
    assert [f.pts_seconds for f in frames] == pytest.approx([n / 25 for n in range(12)])


def test_time_starts_at_the_first_frame(tmp_path: Path, mp4: Path) -> None:
    path = remux(mp4, tmp_path / "clip.ts")  # MPEG-TS starts at 1.4 s or so
    assert [f.pts_seconds for f in read_video(path)] == pytest.approx([n / 25 for n in range(48)], abs=1e-4)


def test_frames_of_another_size_on_the_way_are_delivered_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "two.h264"
    path.write_bytes(b"".join([*_coded(moving(5)), *_coded(moving(4, height=32, width=40))]))
    shapes = [f.data.shape for f in read_video(path)]
    assert shapes == [(48, 64, 3)] * 5 + [(32, 40, 3)] * 4


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_turned_video_is_shown_upright(tmp_path: Path, degrees: int) -> None:
    path = tmp_path / "phone.mp4"
    frames = moving(3)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=64, height=48, pix_fmt="yuv420p")
        stream.set_display_rotation(degrees)  # counter-clockwise
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    video = read_video(path)
    size = (64, 48) if degrees in (90, 270) else (48, 64)
    assert (video.height, video.width) == size
    for got, stored in zip(video, plain_decode(path), strict=True):
        assert np.array_equal(got.data, np.rot90(stored, degrees // 90))


# Closing


def test_a_reader_closes_when_exhausted_and_stays_at_its_end(mp4: Path) -> None:
    video = read_video(mp4)
    assert len(list(video)) == 48
    assert video.closed
    assert list(video) == []


def test_a_reader_closes_with_its_block(mp4: Path) -> None:
    with read_video(mp4) as video:
        next(video)
    assert video.closed
    with pytest.raises(VideoError, match=r"clip.mp4 was closed; open it again"):
        next(video)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_reader_closes_on_any_error(mp4: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    def interrupted(*_: object) -> None:
        raise error

    video = read_video(mp4)
    next(video)
    monkeypatch.setattr("saccade.video.reading.upright_rgb", interrupted)
    with pytest.raises(error):
        next(video)
    assert video.closed


# What is no video


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    text = tmp_path / "notes.txt"
    text.write_text("hello world\n" * 300)
    disguised = tmp_path / "notes.mp4"
    disguised.write_text("hello world\n" * 300)
    cases = {
        tmp_path / "none.mp4": "there is no file .*none.mp4; check the path",
        tmp_path: "is a directory; expected a video file",
        empty: r"empty.mp4 is empty \(0 bytes\); copy or record it again",
        text: "notes.txt is a text file; expected a video",
        disguised: r"notes.mp4 is not a video that FFmpeg can read \(Invalid data.*expected e.g. mp4",
        audio(tmp_path / "sound.wav"): "sound.wav holds no video, only audio; expected a video stream",
    }
    for path, message in cases.items():
        with pytest.raises(VideoError, match=message):
            read_video(path)


def test_a_songs_cover_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1, width=16, height=16, pix_fmt="yuvj420p")
        cover.disposition = av.stream.Disposition.attached_pic
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 8000
        container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
        container.mux(cover.encode(av.VideoFrame.from_ndarray(moving(1)[0][:16, :16], format="rgb24")))
        container.mux(cover.encode(None))
    with pytest.raises(VideoError, match=r"song\.mp4 holds no video, only a cover picture and audio"):
        read_video(path)


def test_a_camera_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("camera device files are Linux's")
    with pytest.raises(VideoError, match="there is no camera /dev/video987; cameras here: "):
        read_video(987)


def test_windows_is_told_that_cameras_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(VideoError, match="by name, not by number"):
        read_video(0)


@pytest.mark.parametrize("source", [True, None, 1.5, b"clip.mp4"])
def test_a_source_of_another_type_is_refused(source: object) -> None:
    with pytest.raises(VideoError, match="a path, a URL or a camera's number, got"):
        read_video(source)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": -1}, "start must be a frame number >= 0, got -1"),
        ({"stop": 1.5}, "stop must be a frame number >= 0, got 1.5"),
        ({"read_timeout_seconds": 0}, "read_timeout_seconds must be a positive number, got 0"),
    ],
)
def test_impossible_settings_are_refused(mp4: Path, settings: dict[str, int], message: str) -> None:
    with pytest.raises(VideoError, match=message):
        read_video(mp4, **settings)  # type: ignore[arg-type]


def test_a_video_stream_without_pictures_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "none.avi"
    with av.open(str(path), "w") as container:
        container.add_stream("mpeg4", rate=25, width=16, height=16, pix_fmt="yuv420p")
        container.start_encoding()
    with pytest.raises(VideoError, match=r"none\.avi.*(without a single picture|not a video that FFmpeg can read)"):
        list(read_video(path))


def test_damaged_video_is_a_video_error() -> None:
    assert issubclass(DamagedVideoError, VideoError)


def test_the_video_package_needs_only_av_numpy_and_torch() -> None:
    package = Path(saccade.video.__file__).parent
    imported = set()
    for file in package.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
    outside = {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names}
    assert {name.split(".")[0] for name in outside} == {"av", "numpy", "saccade", "torch"}
    assert all(n == "saccade.errors" or n.startswith("saccade.video") for n in outside if n.startswith("saccade"))


def _coded(frames: list[np.ndarray]) -> list[bytes]:
    """Return the frames as the packets of a bare H.264 stream of 25 frames per second."""
    codec = av.CodecContext.create("libx264", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.height, codec.width, codec.pix_fmt, codec.framerate = *frames[0].shape[:2], "yuv420p", 25
    codec.options = {"bf": "0"}
    codec.time_base = 1 / codec.framerate
    packets = [p for f in frames for p in codec.encode(av.VideoFrame.from_ndarray(f, format="rgb24"))]
    return [bytes(p) for p in [*packets, *codec.encode(None)]]
