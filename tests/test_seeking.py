"""Frames by number: each is the full decode's, whatever the codec and the order asked for, and little is decoded."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
from assets import require_asset
from av.video.frame import PictureType
from clips import Array, encode, faststart, moving, plain_decode, remux

from saccade.errors import VideoError
from saccade.video import VideoFrames, read_video

COUNT = 40
IRREGULAR = [n + n * n // 9 + 3 * (n // 5) for n in range(COUNT)]


class Kind(NamedTuple):
    """How a clip is coded. `known` is whether its time stamps tell its frames apart."""

    suffix: str
    codec: str
    options: dict[str, str]
    times: list[int] | None = None
    known: bool = True


def x264(params: str, *, keyint: int = 12) -> dict[str, str]:
    return {"x264-params": f"scenecut=0:keyint={keyint}:{params}"}


def x265(params: str, *, keyint: int = 12) -> dict[str, str]:
    return {"x265-params": f"log-level=none:scenecut=0:keyint={keyint}:min-keyint={keyint}:{params}"}


def vp9(**options: str) -> dict[str, str]:
    return {"g": "12", "deadline": "realtime", "cpu-used": "8", **options}


KINDS = {
    "x264": Kind(".mp4", "libx264", x264("bframes=3")),
    "x264-without-B": Kind(".mp4", "libx264", x264("bframes=0")),
    "x264-one-group": Kind(".mkv", "libx264", x264("bframes=3", keyint=250)),
    "x264-many-B": Kind(".mp4", "libx264", x264("bframes=9:b-adapt=0:b-pyramid=normal")),
    "x264-open": Kind(".mp4", "libx264", x264("bframes=3:open-gop=1")),
    "x264-open-mkv": Kind(".mkv", "libx264", x264("bframes=3:open-gop=1")),
    "x264-open-ts": Kind(".ts", "libx264", x264("bframes=3:open-gop=1")),
    "x264-all-key": Kind(".mp4", "libx264", x264("bframes=0", keyint=1)),
    "x264-gradual": Kind(".mkv", "libx264", x264("bframes=0:intra-refresh=1")),
    "x264-irregular": Kind(".mp4", "libx264", x264("bframes=3"), IRREGULAR),
    "x264-avi": Kind(".avi", "libx264", x264("bframes=3"), known=False),
    "x264-bare": Kind(".h264", "libx264", x264("bframes=3"), known=False),
    "x265": Kind(".mp4", "libx265", x265("bframes=4:open-gop=0")),
    "x265-without-B": Kind(".mp4", "libx265", x265("bframes=0:open-gop=0")),
    "x265-open": Kind(".mkv", "libx265", x265("bframes=4:open-gop=1")),
    "x265-layers": Kind(".mp4", "libx265", x265("bframes=4:temporal-layers=3")),
    "vp9": Kind(".webm", "libvpx-vp9", vp9()),
    "vp9-hidden": Kind(".webm", "libvpx-vp9", vp9(**{"auto-alt-ref": "1", "lag-in-frames": "12", "deadline": "good"})),
    "vp9-irregular": Kind(".webm", "libvpx-vp9", vp9(), IRREGULAR),
    "av1": Kind(".mp4", "libsvtav1", {"g": "12", "preset": "12"}),
    "av1-without-B": Kind(".mkv", "libsvtav1", {"g": "12", "preset": "12", "svtav1-params": "pred-struct=1"}),
    "mpeg4": Kind(".mp4", "mpeg4", {"g": "12", "bf": "2"}),
    "mpeg4-avi": Kind(".avi", "mpeg4", {"g": "12", "bf": "2"}),
    "mpeg4-without-B": Kind(".avi", "mpeg4", {"g": "12", "bf": "0"}),
    "mpeg2-open": Kind(".ts", "mpeg2video", {"g": "12", "bf": "2"}),
    "gif": Kind(".gif", "gif", {}),
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SACCADE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("SVT_LOG", "0")
        yield


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, list[Array]]]:
    """Give a kind's clip and its frames as the plainest loop decodes them; made once."""
    folder = tmp_path_factory.mktemp("coded")
    made: dict[str, tuple[Path, list[Array]]] = {}

    def make(name: str) -> tuple[Path, list[Array]]:
        if name not in made:
            kind = KINDS[name]
            path = encode(
                folder / f"{name}{kind.suffix}",
                moving(COUNT),
                codec=kind.codec,
                options=kind.options,
                times=kind.times,
            )
            made[name] = path, plain_decode(path)
        return made[name]

    return make


class Packets(NamedTuple):
    """A clip's packets in decoding order, by PyAV alone."""

    pts: list[int]
    key: list[bool]

    @classmethod
    def of(cls, path: Path) -> Packets:
        with av.open(str(path)) as container:
            found = [p for p in container.demux(video=0) if p.size and not p.is_discard]
        return cls([p.pts or 0 for p in found], [p.is_keyframe for p in found])

    def place(self, frame: int) -> int:
        """Return where a frame lies in decoding order."""
        return self.pts.index(sorted(self.pts)[frame])

    def start(self, frame: int) -> int:
        """Return the key frame to begin with: the last before the frame in both orders."""
        place = self.place(frame)
        return max(k for k in range(place + 1) if self.key[k] and self.pts[k] <= self.pts[place])

    def held_back(self) -> int:
        """Return how many pictures can be decoded before, and shown after, one of them."""
        return max(sum(earlier > pts for earlier in self.pts[:n]) for n, pts in enumerate(self.pts))

    def most(self, frame: int) -> int:
        """Return how many pictures a frame may cost.

        Its own group up to it; up to when what was decoded before it has come out too, which tells of damage; and what
        a decoder holds back.
        """
        start, place = self.start(frame), self.place(frame)
        last_shown = max(self.pts[start : place + 1])
        last = max(n for n, pts in enumerate(self.pts) if pts <= last_shown)
        return last - start + 1 + self.held_back()


def check(frames: VideoFrames, number: int, expected: list[Array]) -> None:
    frame = frames[number]
    assert frame.index == number
    assert np.array_equal(frame.data, expected[number]), f"frame {number}"


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_is_the_full_decodes_in_any_order(
    name: str, coded: Callable[[str], tuple[Path, list[Array]]]
) -> None:
    path, expected = coded(name)
    assert len(expected) == COUNT
    times = [frame.pts_seconds for frame in read_video(path)]
    with VideoFrames(path) as frames:
        assert len(frames) == COUNT
        for number in random.Random(name).sample(range(COUNT), COUNT):
            check(frames, number, expected)
            if KINDS[name].known:
                assert frames.pts_seconds(number) == times[number]
    with VideoFrames(path) as frames:
        for frame, data, seconds in zip(frames, expected, times, strict=True):
            assert np.array_equal(frame.data, data)
            assert frame.pts_seconds == seconds
        # One after the other is one decode; a key frame may be decoded once more for the first.
        assert frames.cost.frames_decoded <= COUNT + 1


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.known and "gradual" not in name])
def test_no_more_is_decoded_than_the_group_of_pictures_asks_for(
    name: str, coded: Callable[[str], tuple[Path, list[Array]]]
) -> None:
    path, expected = coded(name)
    packets = Packets.of(path)
    before, last = 0, -1
    with VideoFrames(path) as frames:
        for number in random.Random(name).sample(range(COUNT), COUNT):
            check(frames, number, expected)
            decoded, before = frames.cost.frames_decoded - before, frames.cost.frames_decoded
            assert decoded <= packets.most(number), f"frame {number}"
            if packets.key[packets.place(number)] and decoded and number != last + 1:
                assert decoded == 1, f"key frame {number}"
            last = number


@pytest.mark.parametrize("name", ["x264-one-group", "x265", "av1", "vp9-hidden", "mpeg4", "gif"])
@pytest.mark.parametrize("step", [1, 3, 7])
def test_going_forward_decodes_nothing_twice(
    name: str, step: int, coded: Callable[[str], tuple[Path, list[Array]]]
) -> None:
    path, expected = coded(name)
    wanted = range(1, 12, step)  # within a group of pictures
    with VideoFrames(path) as frames:
        for number in wanted:
            check(frames, number, expected)
        assert frames.cost.frames_decoded <= Packets.of(path).most(wanted[-1])


@pytest.mark.parametrize("name", KINDS)
def test_expected_frames_cost_one_decode_in_any_order(
    name: str, coded: Callable[[str], tuple[Path, list[Array]]]
) -> None:
    path, expected = coded(name)
    coarse_to_fine = [20, 0, 39, 8, 28, 16, 25, 12, 33, 4]
    shuffled = random.Random(name).sample(range(COUNT), 12)
    for order in (coarse_to_fine, coarse_to_fine[::-1], shuffled):
        with VideoFrames(path) as frames:
            for number in order:
                check(frames, number, expected)
            without = frames.cost.frames_decoded
        with VideoFrames(path) as frames:
            frames.expect(order)
            for number in order + order[::-1]:
                check(frames, number, expected)
            decoded = frames.cost.frames_decoded
        if "one-group" in name or not KINDS[name].known:
            assert decoded <= COUNT + 1  # the key frame once more
        assert decoded <= max(without, COUNT + 1), order


def test_expecting_is_of_frames_that_are_there(coded: Callable[[str], tuple[Path, list[Array]]]) -> None:
    path, expected = coded("x264-one-group")
    with VideoFrames(path) as frames:
        with pytest.raises(IndexError, match="has no frame 40"):
            frames.expect([1, COUNT])
        frames.expect([-40, 7, np.int64(9)])
        check(frames, 20, expected)
        decoded = frames.cost.frames_decoded
        for number in (9, 0, 7):
            check(frames, number, expected)
        assert frames.cost.frames_decoded == decoded
        frames.expect([])
        check(frames, 9, expected)
        assert frames.cost.frames_decoded > decoded, "what is not expected any more is not kept"
    with VideoFrames(path, snap="keyframe") as frames:
        frames.expect(range(COUNT))
        assert [frames[number].index for number in (39, 5)] == [0, 0]


@pytest.mark.parametrize(("codec", "options"), [("libx264", x264), ("libx265", x265)])
def test_pictures_that_nothing_leans_on_are_left_out(
    tmp_path: Path, codec: str, options: Callable[..., dict[str, str]]
) -> None:
    flat = "bframes=3:b-adapt=0:b-pyramid=" + ("none" if codec == "libx264" else "0")
    path = encode(tmp_path / "flat.mp4", moving(COUNT), codec=codec, options=options(flat, keyint=250))
    with av.open(str(path)) as container:
        kinds = [picture.pict_type for picture in container.decode(video=0)]
    leant_on = 1 + kinds[:37].count(PictureType.P)
    assert leant_on == 10
    assert kinds[36] == PictureType.P
    packets = Packets.of(path)
    with VideoFrames(path) as frames:
        check(frames, 36, plain_decode(path))
        assert frames.cost.frames_decoded <= leant_on + packets.most(36) - packets.place(36) - 1


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.known and "gradual" not in name])
def test_snapping_takes_the_nearest_key_frame_for_one_decoded_picture(
    name: str, coded: Callable[[str], tuple[Path, list[Array]]]
) -> None:
    path, expected = coded(name)
    packets = Packets.of(path)
    times = sorted(packets.pts)
    keys = [n for n in range(COUNT) if packets.key[packets.place(n)]]
    with VideoFrames(path, snap="keyframe") as frames:
        assert frames.keyframes == keys
        asked = random.Random(name).sample(range(COUNT), 12)
        given = [frames[number] for number in asked]
        changes = 1 + sum(a.index != b.index for a, b in itertools.pairwise(given))
        assert frames.cost.frames_decoded == changes
    for number, frame in zip(asked, given, strict=True):
        assert abs(times[frame.index] - times[number]) == min(abs(times[key] - times[number]) for key in keys)
        assert np.array_equal(frame.data, expected[frame.index])


def test_snapping_where_frames_are_counted_is_exact(coded: Callable[[str], tuple[Path, list[Array]]]) -> None:
    path, expected = coded("x264-bare")
    with VideoFrames(path, snap="keyframe") as frames:
        assert frames.keyframes == []
        for number in (17, 3, 39):
            check(frames, number, expected)


def test_wrong_time_stamps_are_found_out_and_frames_counted(
    tmp_path: Path, coded: Callable[[str], tuple[Path, list[Array]]]
) -> None:
    # As some muxers write them: the decoding times, also where pictures are shown in another order.
    source, _ = coded("x264")
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
def test_every_container_is_sought_in(
    tmp_path: Path, suffix: str, coded: Callable[[str], tuple[Path, list[Array]]]
) -> None:
    source, expected = coded("x264")
    path = remux(source, tmp_path / f"clip{suffix}")
    with VideoFrames(path) as frames:
        for number in (30, 3, 11, 39, 12, 0):
            check(frames, number, expected)
        assert frames.cost.frames_decoded < 3 * COUNT / 2


@pytest.mark.parametrize(
    "options", [{"movflags": "frag_keyframe+empty_moov"}, {"movflags": "frag_keyframe+empty_moov+default_base_moof"}]
)
def test_a_fragmented_mp4_is_sought_in(
    tmp_path: Path, options: dict[str, str], coded: Callable[[str], tuple[Path, list[Array]]]
) -> None:
    source, expected = coded("x264-open")
    path = remux(source, tmp_path / "clip.mp4", options=options)
    with VideoFrames(path) as frames:
        for number in (30, 3, 11, 39, 12, 0):
            check(frames, number, expected)


@pytest.mark.parametrize("hidden", [1, 10, 15])
@pytest.mark.parametrize("name", ["x264", "x264-open", "x265", "mpeg4"])
def test_frames_that_an_edit_list_hides_do_not_count(
    tmp_path: Path, hidden: int, name: str, coded: Callable[[str], tuple[Path, list[Array]]]
) -> None:
    source, _ = coded(name)
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
def test_a_file_that_begins_amid_an_open_group_counts_what_is_shown(
    tmp_path: Path, name: str, coded: Callable[[str], tuple[Path, list[Array]]]
) -> None:
    source, _ = coded(name)
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


def test_numbers_are_those_of_a_sequence(coded: Callable[[str], tuple[Path, list[Array]]]) -> None:
    path, expected = coded("x264")
    with VideoFrames(path) as frames:
        assert np.array_equal(frames[-1].data, expected[-1])
        assert frames[np.int64(3)].index == 3
        assert frames[-COUNT].index == 0
        for number in (COUNT, -COUNT - 1):
            with pytest.raises(IndexError, match=rf"x264\.mp4 has no frame {number}; it has 40, 0 to 39"):
                frames[number]
        with pytest.raises(TypeError):
            frames["3"]  # type: ignore[index]
    with pytest.raises(VideoError, match="was closed; open it again with VideoFrames"):
        frames[0]
    assert repr(frames) == f"VideoFrames({str(path)!r}, 40 frames)"


def test_frames_own_their_pixels(coded: Callable[[str], tuple[Path, list[Array]]]) -> None:
    path, expected = coded("x264")
    with VideoFrames(path) as frames:
        frames[20].data[...] = 0
        decoded = frames.cost.frames_decoded
        check(frames, 20, expected)
        assert frames.cost.frames_decoded == decoded, "the last frame need not be decoded again"
        assert frames.cost.frames_returned == 2


def test_an_interrupted_decode_leaves_no_trace(
    coded: Callable[[str], tuple[Path, list[Array]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, expected = coded("x264-one-group")
    with VideoFrames(path) as frames:
        check(frames, 5, expected)
        told, calls = frames._cursor._told, []

        def interrupted(pictures: object) -> object:
            calls.append(1)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return told(pictures)  # type: ignore[arg-type]

        monkeypatch.setattr(frames._cursor, "_told", interrupted)
        with pytest.raises(KeyboardInterrupt):
            frames[30]
        for number in (30, 12, 39):
            check(frames, number, expected)


def test_faststart_and_plain_mp4_are_alike(tmp_path: Path, coded: Callable[[str], tuple[Path, list[Array]]]) -> None:
    source, expected = coded("x264-irregular")
    with VideoFrames(faststart(source, tmp_path / "fast.mp4")) as frames:
        for number in (33, 8, 21):
            check(frames, number, expected)
