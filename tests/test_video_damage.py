"""Damaged and shortened files: the good frames are delivered, bit for bit, then the damage is reported."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.stream import VideoStream
from clips import Array, clip, faststart, moving, plain_decode, remux

from saccade.errors import DamagedVideoError, VideoError
from saccade.video import VideoReader, read_video, write_video
from saccade.video.decoding import _first_touched

COUNT = 48


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An H.264 file with B pictures, its index in front."""
    folder = tmp_path_factory.mktemp("whole")
    return faststart(clip(folder / "slow.mp4", COUNT), folder / "clip.mp4")


def read_until_error(path: Path) -> tuple[list[Array], list[float], VideoError | None]:
    frames, times = [], []
    try:
        for frame in read_video(path):
            assert frame.index == len(frames)
            frames.append(frame.data)
            times.append(frame.pts_seconds)
    except VideoError as error:
        return frames, times, error
    return frames, times, None


def is_prefix(frames: list[Array], whole: list[Array]) -> bool:
    return len(frames) <= len(whole) and all(np.array_equal(a, b) for a, b in zip(frames, whole, strict=False))


def check_report(error: VideoError | None, delivered: int, times: list[float]) -> None:
    assert isinstance(error, DamagedVideoError)
    after = f"{delivered} frames" + (f" (the last at {times[-1]:.3f} s)" if delivered else "")
    assert f"is damaged after {after}: " in str(error)
    assert "Copy or record it again to get the rest." in str(error)


def packets(path: Path) -> list[tuple[int, int, int]]:
    """Return (byte position, size, shown as frame number) of every coded picture, in the file's order."""
    data = path.read_bytes()
    with av.open(str(path)) as container:
        found = [(data.find(bytes(p)), p.size, p.pts or 0) for p in container.demux(video=0) if p.size]
    order = sorted(pts for _, _, pts in found)
    return [(position, size, order.index(pts)) for position, size, pts in found]


def overwrite(source: Path, target: Path, position: int, content: bytes) -> Path:
    data = bytearray(source.read_bytes())
    data[position : position + len(content)] = content
    target.write_bytes(data)
    return target


# Cut short


def to_mkv(source: Path, folder: Path) -> Path:
    return remux(source, folder / "clip.mkv")


def to_fragments(source: Path, folder: Path) -> Path:
    options = {"movflags": "frag_keyframe+empty_moov", "frag_duration": "300000"}
    return remux(source, folder / "pieces.mp4", options=options)


def to_avi(source: Path, folder: Path) -> Path:
    return clip(folder / "clip.avi", COUNT, codec="mpeg4")


def to_flv(source: Path, folder: Path) -> Path:
    return remux(source, folder / "clip.flv")


def as_it_is(source: Path, folder: Path) -> Path:
    return source


@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
@pytest.mark.parametrize("container", [as_it_is, to_mkv, to_fragments, to_avi, to_flv])
def test_a_file_cut_short_gives_its_frames_and_says_so(
    mp4: Path, tmp_path: Path, container: Callable[[Path, Path], Path], share: float
) -> None:
    whole_file = container(mp4, tmp_path)
    data = whole_file.read_bytes()
    cut = tmp_path / f"cut{whole_file.suffix}"
    cut.write_bytes(data[: int(share * len(data))])
    frames, times, error = read_until_error(cut)
    check_report(error, len(frames), times)
    assert is_prefix(frames, plain_decode(whole_file))
    assert len(frames) < COUNT
    if container is not to_flv:  # an FLV only says how long it is
        assert re.search(rf"the file declares \d+ bytes and has {cut.stat().st_size}", str(error))


def test_every_whole_picture_of_a_cut_file_is_delivered(tmp_path: Path) -> None:
    # Without B pictures the pictures lie in the file in the order they are shown.
    frames = moving(20)
    write_video(tmp_path / "slow.mp4", frames, fps=25, codec="mpeg4")
    whole = faststart(tmp_path / "slow.mp4", tmp_path / "clip.mp4")
    data = whole.read_bytes()
    for number, (position, size, shown) in enumerate(packets(whole)):
        assert shown == number
        for end, complete in (
            (position, number),
            (position + size - 1, number),
            (position + size, number + 1),
        ):
            cut = tmp_path / "cut.mp4"
            cut.write_bytes(data[:end])
            got, _, error = read_until_error(cut)
            assert len(got) == complete, (number, end)
            assert (error is None) == (end == len(data))


def test_an_mp4_whose_index_never_came_cannot_be_opened(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4")  # the index is written last
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(VideoError, match=r"clip\.mp4 is an MP4 without its index \(moov\).*Copy it again"):
        read_video(path)


def test_a_shortened_file_is_not_reported_by_who_stops_before(mp4: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(mp4.read_bytes()[: mp4.stat().st_size * 6 // 10])
    assert len(list(read_video(cut, stop=3))) == 3


def test_frames_before_start_do_not_count_as_delivered(mp4: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(mp4.read_bytes()[: mp4.stat().st_size * 6 // 10])
    with pytest.raises(DamagedVideoError, match="is damaged after 0 frames: "):
        list(read_video(cut, start=40))


# Damaged within


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".flv"])
@pytest.mark.parametrize("number", [0, 1, 7, 20, 33, 47])
def test_everything_shown_before_a_damaged_picture_is_delivered(
    mp4: Path, tmp_path: Path, suffix: str, number: int
) -> None:
    whole = remux(mp4, tmp_path / f"whole{suffix}")
    coded = packets(whole)
    assert [shown for *_, shown in coded] != sorted(shown for *_, shown in coded), "needs B pictures"
    position, size, _ = coded[number]
    noise = np.random.default_rng(number).bytes(size - 4)  # after the length, all of the picture
    damaged = overwrite(whole, tmp_path / f"damaged{suffix}", position + 4, noise)
    frames, times, error = read_until_error(damaged)
    check_report(error, len(frames), times)
    assert is_prefix(frames, plain_decode(whole))
    assert len(frames) == min(shown for *_, shown in coded[number:])


@pytest.mark.parametrize("number", [1, 8, 16, 28, 37])
def test_pictures_predicted_from_a_damaged_one_are_not_delivered(tmp_path: Path, number: int) -> None:
    # Half of a P picture is noise. B pictures that lean on it are shown before it, and look sound.
    write_video(tmp_path / "slow.mp4", moving(COUNT, height=96, width=128), fps=25, crf=8)
    whole = faststart(tmp_path / "slow.mp4", tmp_path / "whole.mp4")
    coded = packets(whole)
    position, size, shown = coded[number]
    leaning = [s for *_, s in coded[number + 1 :] if s < shown]
    assert leaning
    noise = np.random.default_rng(number).bytes(size - size // 2)
    damaged = overwrite(whole, tmp_path / "damaged.mp4", position + size // 2, noise)
    frames, times, error = read_until_error(damaged)
    check_report(error, len(frames), times)
    assert len(frames) == min(leaning)
    assert is_prefix(frames, plain_decode(whole))


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8])
def test_a_lost_packet_of_a_transport_stream_is_reported(mp4: Path, tmp_path: Path, share: float) -> None:
    whole = remux(mp4, tmp_path / "whole.ts")
    size = whole.stat().st_size
    damaged = overwrite(whole, tmp_path / "damaged.ts", int(share * size / 188) * 188, bytes(188))
    frames, times, error = read_until_error(damaged)
    check_report(error, len(frames), times)
    assert is_prefix(frames, plain_decode(whole))
    assert abs(len(frames) - share * COUNT) < 12


@pytest.mark.parametrize("kept", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg"])
def test_damage_within_older_codecs_is_reported(tmp_path: Path, codec: str, kept: float) -> None:
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    whole = tmp_path / "whole.avi"
    write_video(whole, moving(20, height=96, width=128), fps=25, codec=codec, pixel_format=pixel_format)
    position, size, _ = packets(whole)[11]
    sound = int(kept * size)
    noise = np.random.default_rng(1).bytes(size - sound)
    damaged = overwrite(whole, tmp_path / "damaged.avi", position + sound, noise)
    frames, times, error = read_until_error(damaged)
    check_report(error, len(frames), times)
    assert len(frames) == 11
    assert is_prefix(frames, plain_decode(whole))


def test_a_picture_lost_from_an_indexed_file_is_reported(tmp_path: Path) -> None:
    whole = tmp_path / "whole.avi"
    write_video(whole, moving(20), fps=25, codec="mjpeg", pixel_format="yuvj420p")
    position, size, _ = packets(whole)[11]  # without its chunk's header FFmpeg does not know of it
    damaged = overwrite(whole, tmp_path / "damaged.avi", position - 8, bytes(size + 8))
    _, _, error = read_until_error(damaged)
    assert isinstance(error, DamagedVideoError)
    assert "its index lists 20 coded pictures and 19 are there" in str(error)


def test_the_size_of_a_video_damaged_from_the_start_can_be_asked(mp4: Path, tmp_path: Path) -> None:
    position, size, _ = packets(mp4)[0]
    video = read_video(overwrite(mp4, tmp_path / "damaged.mp4", position + 4, b"\xff" * (size - 4)))
    assert video.size == (48, 64)
    with pytest.raises(DamagedVideoError, match="is damaged after 0 frames: "):
        next(video)
    assert video.closed
    assert list(video) == []


def test_a_damaged_file_can_be_read_on_as_if_it_were_live(mp4: Path, tmp_path: Path) -> None:
    position, size, shown = packets(mp4)[20]
    noise = np.random.default_rng(20).bytes(size - 4)
    damaged = overwrite(mp4, tmp_path / "damaged.mp4", position + 4, noise)
    video = read_video(damaged, live=True)
    frames = list(video)
    assert [f.index for f in frames] == list(range(COUNT - video.damaged_frames))
    assert 1 <= video.damaged_frames <= 4
    assert shown not in {round(f.pts_seconds * 25) for f in frames}


def test_times_grow_over_a_jump_back(mp4: Path, tmp_path: Path) -> None:
    once = remux(mp4, tmp_path / "once.ts").read_bytes()
    (tmp_path / "thrice.ts").write_bytes(once * 3)
    with pytest.raises(DamagedVideoError, match="incomplete or damaged data"):  # its packet numbers do not go on
        list(read_video(tmp_path / "thrice.ts"))
    frames = list(read_video(tmp_path / "thrice.ts", live=True))
    assert 3 * COUNT - 9 <= len(frames) <= 3 * COUNT
    times = [f.pts_seconds for f in frames]
    assert times == pytest.approx([n / 25 for n in range(len(frames))], abs=0.3)
    assert times == sorted(set(times))


def test_damage_touches_what_is_shown_before_it_and_decoded_after() -> None:
    def packet(pts: int | None) -> av.Packet[VideoStream]:
        made: av.Packet[VideoStream] = av.Packet(b"x")
        made.pts = pts
        return made

    following = [packet(t) for t in (4, 2, 6, 12)]
    assert _first_touched(packet(8), iter(following)) == 2
    assert _first_touched(packet(1), iter(following)) == 1
    assert _first_touched(packet(None), iter(following)) == -math.inf, "without times nothing is certain"
    assert _first_touched(packet(8), iter([packet(100 - n) for n in range(60)])) == 8


# Sound, though it looks odd


def whole_frames(video: VideoReader) -> int:
    return sum(1 for _ in video)


def test_an_edit_list_that_hides_frames_is_no_damage(mp4: Path, tmp_path: Path) -> None:
    with av.open(str(mp4)) as container:
        step = int(1 / (25 * (container.streams.video[0].time_base or 1)))
    path = remux(mp4, tmp_path / "trimmed.mp4", shift=-10 * step)
    assert whole_frames(read_video(path)) == COUNT - 10


def test_pictures_an_avi_left_out_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "gaps.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, width=64, height=48, pix_fmt="yuv420p")
        for pts, frame in zip([0, 1, 2, 5, 6, 12], moving(6), strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = pts
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    frames = list(read_video(path))
    assert [round(f.pts_seconds * 25) for f in frames] == [0, 1, 2, 5, 6, 12]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".flv", ".avi", ".mov", ".nut"])
def test_a_whole_file_is_no_damage(mp4: Path, tmp_path: Path, suffix: str) -> None:
    path = clip(tmp_path / f"clip{suffix}", codec="mpeg4" if suffix == ".avi" else "libx264")
    assert whole_frames(read_video(path)) == COUNT


def test_a_recording_that_never_wrote_its_size_is_no_damage(mp4: Path, tmp_path: Path) -> None:
    path = remux(mp4, tmp_path / "live.mkv", options={"live": "1"})  # as a recorder that cannot seek
    assert whole_frames(read_video(path)) == COUNT


def test_sound_beyond_the_last_picture_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=64, height=48, pix_fmt="yuv420p")
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for frame in moving(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
        for second in range(5):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
            silence.sample_rate, silence.pts = 8000, 8000 * second
            container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    assert whole_frames(read_video(path)) == 10
