"""The index of a video's frames: what it says, and how it is kept on disk."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import clip, encode, moving

from saccade.video import VideoFrames, seeking
from saccade.video.disposable import disposable_packets
from saccade.video.index import UNKNOWN, FrameIndex, _torn
from saccade.video.index_cache import cache_folder, file_state, load_index, save_index

ARRAYS = ("pts", "dts", "sizes", "key", "hidden", "disposable", "torn")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def made(pts: list[int], keys: list[int], *, hidden: tuple[int, ...] = (), timed: bool = True) -> FrameIndex:
    count = len(pts)
    return FrameIndex(
        pts=np.array(pts),
        dts=np.arange(count),
        sizes=np.full(count, 9),
        key=np.isin(np.arange(count), keys),
        hidden=np.isin(np.arange(count), hidden),
        disposable=np.zeros(count, bool),
        torn=np.zeros(count, bool),
        time_base=Fraction(1, 4),
        fps=2.0,
        timed=timed,
        counted=0 if timed else count,
    )


def same(one: FrameIndex, other: FrameIndex) -> bool:
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ARRAYS)
    rest = ("time_base", "fps", "timed", "counted", "damage")
    return arrays and all(getattr(one, name) == getattr(other, name) for name in rest)


# What it says

OPEN = [0, 40, 20, 10, 30, 60, 50, 70, 90, 80]  # pts; key frames are 0, 60 and 90, with 50 and 80 leading


def test_an_index_against_what_can_be_counted_by_hand() -> None:
    index = made(OPEN, [0, 5, 8])
    assert len(index) == 10
    assert index.packet_of_frame.tolist() == [0, 3, 2, 4, 1, 6, 5, 7, 9, 8]
    assert index.frame_of_packet.tolist() == [0, 4, 2, 1, 3, 6, 5, 7, 9, 8]
    assert index.keyframes.tolist() == [0, 6, 9]
    assert index.reorder_depth == 2
    assert [index.starts(frame) for frame in (0, 4, 5, 6, 7, 8, 9)] == [
        *([[0]] * 3),  # 50 leads key frame 60
        [5, 0],
        [5, 0],
        [5, 0],  # 80 leads key frame 90
        [8, 5, 0],
    ]
    assert [index.nearest_keyframe(frame) for frame in range(10)] == [0, 0, 0, 0, 6, 6, 6, 6, 9, 9]
    assert index.seconds(7) == 70 / 4
    assert [index.reach(packet) for packet in (2, 5, 6, 9)] == [(1, 3), (5, 7), (5, 7), (8, 8)]
    assert index.horizon(1, 0) == 4
    assert repr(index) == "FrameIndex(10 frames, 3 key frames, damage=None)"


def test_hidden_packets_are_no_frames_but_decoding_may_begin_there() -> None:
    index = made([-20, -10, 0, 10], [0], hidden=(0, 1))
    assert len(index) == 2
    assert index.packet_of_frame.tolist() == [2, 3]
    assert index.frame_of_packet.tolist() == [-1, -1, 0, 1]
    assert index.keyframes.tolist() == []
    assert index.starts(0) == [0]
    assert index.nearest_keyframe(1) == 1
    assert index.seconds(1) == 10 / 4


def test_without_time_stamps_frames_are_counted() -> None:
    index = made([UNKNOWN] * 4, [0, 2], timed=False)
    assert index.packet_of_frame.tolist() == [0, 1, 2, 3]
    assert index.starts(3) == [0]
    assert index.reach(1) == (1, 3)
    assert index.seconds(3) == 1.5
    assert not index.needless(0, 3)
    assert repr(index) == "FrameIndex(4 frames, no time stamps, damage=None)"


def test_only_the_highest_layer_has_disposable_pictures() -> None:
    assert disposable_packets([(0, True), (0, False), (1, False), (1, True)]).tolist() == [False, False, True, False]
    assert disposable_packets([(0, True), (0, False)]).tolist() == [False, True]
    assert disposable_packets([]).tolist() == []


@pytest.mark.parametrize(
    ("corrupt", "torn"),
    [([], []), ([1], [1, 2, 3]), ([2], [2, 3, 4, 5, 6, 7]), ([1, 9], [1, 2, 3, 9]), ([6], [6, 7, 8, 9])],
)
def test_data_lost_somewhere_near_touches_all_up_to_a_key_frame_behind(corrupt: list[int], torn: list[int]) -> None:
    packets = np.arange(10)
    found = _torn(np.isin(packets, corrupt), np.isin(packets, [0, 4, 8]))
    assert np.flatnonzero(found).tolist() == torn


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        (".mp4", "libx264", {"x264-params": "keyint=12:open-gop=1"}),
        (".ts", "libx264", {"x264-params": "keyint=12:bframes=3"}),
        (".mkv", "libx265", {"x265-params": "keyint=12:log-level=none"}),
        (".webm", "libvpx-vp9", {"g": "12", "deadline": "realtime", "cpu-used": "8"}),
        (".avi", "mpeg4", {"g": "12", "bf": "2"}),
    ],
)
def test_an_index_is_what_decoding_everything_shows(
    tmp_path: Path, suffix: str, codec: str, options: dict[str, str]
) -> None:
    path = encode(tmp_path / f"clip{suffix}", moving(30), codec=codec, options=options)
    with av.open(str(path)) as container:
        pictures = [(p.pts, p.key_frame) for p in container.decode(video=0)]
        time_base = container.streams.video[0].time_base
    with VideoFrames(path, cache=False) as frames:
        index = frames._index
        assert index.pts[index.packet_of_frame].tolist() == [pts for pts, _ in pictures]
        assert (index.time_base, index.damage, index.timed) == (time_base, None, True)
        assert frames.keyframes == [n for n, (_, key) in enumerate(pictures) if key]
        assert frames.cost.frames_decoded == 0, "an index is made without decoding"


# Kept on disk


def count_builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    build, calls = seeking.build_index, []

    def counted(*arguments: object) -> object:
        calls.append(1)
        return build(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(seeking, "build_index", counted)
    return calls


def test_an_index_is_kept_until_the_file_changes(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = count_builds(monkeypatch)
    path = clip(tmp_path / "clip.mp4", 14)
    first = VideoFrames(path, cache=folder)._index
    assert same(VideoFrames(path, cache=folder)._index, first)
    monkeypatch.chdir(tmp_path)
    assert same(VideoFrames("clip.mp4", cache=folder)._index, first)
    assert len(builds) == 1
    assert [f.name.endswith(".npz") for f in folder.iterdir()] == [True]

    clip(path, 9)
    assert len(VideoFrames(path, cache=folder)) == 9
    assert len(builds) == 2
    os.utime(path, ns=(0, 10**18))  # touched: it may be another of the same size
    VideoFrames(path, cache=folder)
    assert len(builds) == 3
    VideoFrames(path, cache=folder)
    assert len(builds) == 3
    assert len(list(folder.iterdir())) == 1, "an index of an older state is written over"

    VideoFrames(path, cache=False)
    assert len(builds) == 4


def test_the_cache_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clip(tmp_path / "clip.mp4", 5)
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path / "chosen"))
    VideoFrames(path)
    assert len(list((tmp_path / "chosen" / "frames").iterdir())) == 1
    monkeypatch.delenv("SACCADE_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/saccade/frames")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "saccade" / "frames"


def test_an_index_comes_back_from_disk_as_it_was(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "any"
    path.touch()
    state = file_state(path)
    for index in (
        made(OPEN, [0, 5, 8]),
        made([UNKNOWN] * 3, [0], timed=False),
        made([-(2**62), 2**62], [0], hidden=(1,)),
        made([], []),
    ):
        save_index(index, path, folder, state=state)
        kept = load_index(path, folder, state=state)
        assert kept is not None
        assert same(kept, index)
        assert load_index(path, folder, state=[1, 2, 3]) is None


def test_a_damaged_index_is_made_anew(tmp_path: Path, folder: Path) -> None:
    path = clip(tmp_path / "clip.mp4", 6)
    index = VideoFrames(path, cache=folder)._index
    state = file_state(path)
    (kept,) = folder.iterdir()
    whole = kept.read_bytes()
    refused = 0
    for at in range(0, len(whole), 7):
        kept.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        loaded = load_index(path, folder, state=state)
        assert loaded is None or same(loaded, index), f"byte {at}"
        refused += loaded is None
    assert refused > len(whole) / 28, "the checksums look at the contents"
    for content in (b"", whole[: len(whole) // 2], b"no archive at all" * 9):
        kept.write_bytes(content)
        assert load_index(path, folder, state=state) is None
        assert same(VideoFrames(path, cache=folder)._index, index)
        assert kept.read_bytes() != content


def test_many_may_write_the_same_index(tmp_path: Path, folder: Path) -> None:
    path = clip(tmp_path / "clip.mp4", 8)
    expected = VideoFrames(path, cache=False)[7].data

    def last(_: int) -> np.ndarray:
        with VideoFrames(path, cache=folder) as frames:
            return frames[7].data

    with ThreadPoolExecutor(8) as pool:
        assert all(np.array_equal(data, expected) for data in pool.map(last, range(24)))
    assert [f.suffix for f in folder.iterdir()] == [".npz"]
    assert load_index(path, folder, state=file_state(path)) is not None


def test_where_nothing_can_be_kept_frames_are_read_all_the_same(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clip(tmp_path / "clip.mp4", 5)
    blocked = tmp_path / "file"
    blocked.touch()
    assert len(VideoFrames(path, cache=blocked)) == 5  # no folder can be there

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("saccade.video.index_cache.os.replace", full)
    assert len(VideoFrames(path, cache=folder)) == 5
    assert list(folder.iterdir()) == [], "nothing half written stays"
