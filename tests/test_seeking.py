"""Frames by number: each is the full decode's, whatever the codec and the order asked for, and little is decoded."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from clips import encode, moving, plain_decode
from coded_clips import COUNT, KINDS, Packets, check, coded_clip, x264, x265

from saccade.errors import VideoError
from saccade.video import VideoFrames, read_video


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SACCADE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("SVT_LOG", "0")
        yield


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_is_the_full_decodes_in_any_order(name: str) -> None:
    path, expected = coded_clip(name)
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
def test_no_more_is_decoded_than_the_group_of_pictures_asks_for(name: str) -> None:
    path, expected = coded_clip(name)
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
def test_going_forward_decodes_nothing_twice(name: str, step: int) -> None:
    path, expected = coded_clip(name)
    wanted = range(1, 12, step)  # within a group of pictures
    with VideoFrames(path) as frames:
        for number in wanted:
            check(frames, number, expected)
        assert frames.cost.frames_decoded <= Packets.of(path).most(wanted[-1])


@pytest.mark.parametrize("name", KINDS)
def test_expected_frames_cost_one_decode_in_any_order(name: str) -> None:
    path, expected = coded_clip(name)
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


def test_expecting_is_of_frames_that_are_there() -> None:
    path, expected = coded_clip("x264-one-group")
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
def test_snapping_takes_the_nearest_key_frame_for_one_decoded_picture(name: str) -> None:
    path, expected = coded_clip(name)
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


def test_snapping_where_frames_are_counted_is_exact() -> None:
    path, expected = coded_clip("x264-bare")
    with VideoFrames(path, snap="keyframe") as frames:
        assert frames.keyframes == []
        for number in (17, 3, 39):
            check(frames, number, expected)


def test_numbers_are_those_of_a_sequence() -> None:
    path, expected = coded_clip("x264")
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


def test_frames_own_their_pixels() -> None:
    path, expected = coded_clip("x264")
    with VideoFrames(path) as frames:
        frames[20].data[...] = 0
        decoded = frames.cost.frames_decoded
        check(frames, 20, expected)
        assert frames.cost.frames_decoded == decoded, "the last frame need not be decoded again"
        assert frames.cost.frames_returned == 2


def test_an_interrupted_decode_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    path, expected = coded_clip("x264-one-group")
    with VideoFrames(path) as frames:
        check(frames, 5, expected)
        leads, calls = frames._cursor._leads, []

        def interrupted(packet: int) -> bool:  # between reading a packet and decoding it
            calls.append(packet)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return leads(packet)

        monkeypatch.setattr(frames._cursor, "_leads", interrupted)
        with pytest.raises(KeyboardInterrupt):
            frames[30]
        for number in (30, 12, 39):
            check(frames, number, expected)
