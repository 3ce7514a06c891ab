"""Frames by number in every container: what these hide, cut off, pack or tell wrongly."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from assets import require_asset
from clips import faststart, moving, plain_decode, remux
from coded_clips import COUNT, Packets, check, coded_clip

from saccade.video import VideoFrames, read_video


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SACCADE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("SVT_LOG", "0")
        yield


def test_wrong_time_stamps_are_found_out_and_frames_counted(tmp_path: Path) -> None:
    # As some muxers write them: the decoding times, also where pictures are shown in another order.
    source, _ = coded_clip("x264")
    path = tmp_path / "wrong.mkv"
    with av.open(str(source)) as reader, av.open(str(path), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for packet in reader.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.stream = packet.dts, stream
                writer.mux(packet)
    expected = plain_decode(path)
    with VideoFrames(path) as frames:
        for number in (9, 30, 2, 17):
            check(frames, number, expected)
    with VideoFrames(path) as frames:  # it is kept
        assert frames.keyframes == []


def test_packets_of_two_pictures_and_of_none_are_found_out(tmp_path: Path) -> None:
    path = tmp_path / "packed.avi"  # as XviD writes B pictures
    with av.open(str(require_asset("videos/highway.avi"))) as reader, av.open(str(path), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for packet in itertools.islice(reader.demux(video=0), 50):
            packet.stream, packet.pts = stream, packet.dts
            writer.mux(packet)
    expected = plain_decode(path)
    assert len(expected) < len(Packets.of(path).pts)
    with VideoFrames(path) as frames:
        assert len(frames) == len(expected)
        for number in (30, 3, len(expected) - 1, 12):
            check(frames, number, expected)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".flv", ".mov", ".nut"])
def test_every_container_is_sought_in(tmp_path: Path, suffix: str) -> None:
    source, expected = coded_clip("x264")
    path = remux(source, tmp_path / f"clip{suffix}")
    with VideoFrames(path) as frames:
        for number in (30, 3, 11, 39, 12, 0):
            check(frames, number, expected)
        assert frames.cost.frames_decoded < 3 * COUNT / 2


@pytest.mark.parametrize(
    "options", [{"movflags": "frag_keyframe+empty_moov"}, {"movflags": "frag_keyframe+empty_moov+default_base_moof"}]
)
def test_a_fragmented_mp4_is_sought_in(tmp_path: Path, options: dict[str, str]) -> None:
    source, expected = coded_clip("x264-open")
    path = remux(source, tmp_path / "clip.mp4", options=options)
    with VideoFrames(path) as frames:
        for number in (30, 3, 11, 39, 12, 0):
            check(frames, number, expected)


@pytest.mark.parametrize("hidden", [1, 10, 15])
@pytest.mark.parametrize("name", ["x264", "x264-open", "x265", "mpeg4"])
def test_frames_that_an_edit_list_hides_do_not_count(tmp_path: Path, hidden: int, name: str) -> None:
    source, _ = coded_clip(name)
    with av.open(str(source)) as container:
        step = int(1 / (25 * (container.streams.video[0].time_base or 1)))
    path = remux(source, tmp_path / "trimmed.mp4", shift=-hidden * step)
    expected = plain_decode(path)
    assert len(expected) == COUNT - hidden
    with VideoFrames(path) as frames:
        assert len(frames) == len(expected)
        for number in random.Random(hidden).sample(range(len(expected)), len(expected)):
            check(frames, number, expected)


@pytest.mark.parametrize("name", ["x264-open", "x264-open-ts", "x265-open", "mpeg2-open"])
def test_a_file_that_begins_amid_an_open_group_counts_what_is_shown(tmp_path: Path, name: str) -> None:
    source, _ = coded_clip(name)
    path = tmp_path / f"tail{'.ts' if source.suffix == '.ts' else '.mkv'}"
    key = [n for n, is_key in enumerate(Packets.of(source).key) if is_key][1]
    with av.open(str(source)) as reader, av.open(str(path), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for packet in [p for p in reader.demux(video=0) if p.size][key:]:
            packet.stream = stream
            writer.mux(packet)
    expected = plain_decode(path)
    packets = Packets.of(path)
    assert packets.pts[0] > min(packets.pts), "its first pictures lean on what was cut off"
    with VideoFrames(path) as frames:
        assert len(frames) == len(expected)
        for number in random.Random(name).sample(range(len(expected)), len(expected)):
            check(frames, number, expected)


def test_a_turned_video_is_upright(tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=64, height=48, pix_fmt="yuv420p")
        stream.set_display_rotation(90)
        for frame in moving(9):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    expected = [frame.data for frame in read_video(path)]
    assert expected[0].shape == (64, 48, 3)
    with VideoFrames(path) as frames:
        for number in (8, 2, 5, 0):
            check(frames, number, expected)


def test_faststart_and_plain_mp4_are_alike(tmp_path: Path) -> None:
    source, expected = coded_clip("x264-irregular")
    with VideoFrames(faststart(source, tmp_path / "fast.mp4")) as frames:
        for number in (33, 8, 21):
            check(frames, number, expected)
