"""Frames by number of files that are damaged, cut short, changed, or no videos."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
from clips import Array, audio, clip, encode, faststart, moving, plain_decode, remux

from saccade.errors import DamagedVideoError, VideoError
from saccade.video import VideoFrames

COUNT = 36


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path / "cache"))


def packets(path: Path) -> list[tuple[int, int, int]]:
    """Return (position in the file, size, the frame's number) of every packet in decoding order."""
    with av.open(str(path)) as container:
        found = [(p.pos or 0, p.size, p.pts or 0) for p in container.demux(video=0) if p.size]
    times = sorted(pts for *_, pts in found)
    return [(position, size, times.index(pts)) for position, size, pts in found]


def with_noise(whole: Path, path: Path, packet: int, *, sound: int = 4) -> Path:
    """Copy a video with noise in one packet, but for its first bytes."""
    position, size, _ = packets(whole)[packet]
    data = bytearray(whole.read_bytes())
    data[position + sound : position + size] = np.random.default_rng(packet).bytes(size - sound)
    path.write_bytes(data)
    return path


def read_each(path: Path, expected: list[Array], **settings: bool) -> dict[int, str]:
    """Check every frame that is given, last to first, and return the messages of the others, by number."""
    failed = {}
    with VideoFrames(path, **settings) as frames:  # type: ignore[arg-type]
        frames.expect(range(0, len(frames), 3))  # what is kept is to be sound, too
        for place in reversed(range(len(frames))):
            number = round(25 * frames.pts_seconds(place))  # a picture may be lost altogether
            try:
                data = frames[place].data
            except DamagedVideoError as error:
                failed[number] = str(error)
            else:
                assert np.array_equal(data, expected[number]), f"frame {number}"
    return failed


@pytest.fixture
def x264(tmp_path: Path) -> Path:
    options = {"x264-params": "scenecut=0:keyint=12:bframes=3", "crf": "12"}
    return encode(tmp_path / "whole.mp4", moving(COUNT, height=96, width=128), codec="libx264", options=options)


def test_a_damaged_key_frame_takes_its_own_group_along_and_no_other(x264: Path, tmp_path: Path) -> None:
    expected = plain_decode(x264)
    key = next(n for n, (*_, frame) in enumerate(packets(x264)) if frame == 12)
    damaged = with_noise(x264, tmp_path / "damaged.mp4", key)
    failed = read_each(damaged, expected)
    assert sorted(failed) == list(range(12, 24))
    assert all("The damage can reach frames 12 to 23; others can be read." in text for text in failed.values())
    assert failed[15].startswith(f"frame 15 of {damaged} cannot be decoded: ")


@pytest.mark.parametrize(
    ("packet", "half"),
    [(0, False), *((packet, half) for packet in (3, 11, 14, 20, 35) for half in (False, True))],
)
def test_no_frame_is_given_that_damage_reached(x264: Path, tmp_path: Path, packet: int, half: bool) -> None:
    # Half a picture of noise decodes (a key frame's even unnoticed), and pictures that lean on it and are shown before
    # it then look sound.
    expected = plain_decode(x264)
    coded = packets(x264)
    sound = coded[packet][1] // 2 if half else 4
    failed = read_each(with_noise(x264, tmp_path / "damaged.mp4", packet, sound=sound), expected)
    assert coded[packet][2] in failed
    group = packet // 12
    assert all(number // 12 == group for number in failed)


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video"])
def test_damage_in_older_codecs_is_told(tmp_path: Path, codec: str) -> None:
    frames = moving(COUNT, height=96, width=128)
    whole = encode(tmp_path / "whole.avi", frames, codec=codec, options={"g": "12", "bf": "0", "b": "2000000"})
    damaged = with_noise(whole, tmp_path / "damaged.avi", 14, sound=200)
    failed = read_each(damaged, plain_decode(whole))
    assert sorted(failed) == list(range(14, 24))


def test_a_file_cut_short_is_refused_or_taken_for_what_it_is(x264: Path, tmp_path: Path) -> None:
    whole = faststart(x264, tmp_path / "fast.mp4")
    expected = plain_decode(whole)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    for _ in range(2):  # the second time its index is kept
        with pytest.raises(DamagedVideoError, match=r"cut\.mp4 is damaged: .*\d+ coded pictures are there.*allow_dam"):
            VideoFrames(cut)
    with VideoFrames(cut, allow_damaged=True) as frames:
        assert frames.damage
        count = len(frames)
    assert 12 <= count < COUNT
    failed = read_each(cut, expected, allow_damaged=True)
    assert all(number >= count - 12 for number in failed)
    with VideoFrames(whole) as frames:
        assert frames.damage is None


@pytest.mark.parametrize("share", [0.3, 0.5, 0.65, 0.8])
def test_a_lost_packet_of_a_transport_stream_is_told(x264: Path, tmp_path: Path, share: float) -> None:
    whole = remux(x264, tmp_path / "whole.ts")
    expected = plain_decode(whole)
    data = bytearray(whole.read_bytes())
    at = int(share * len(data) / 188) * 188
    while data[at + 1] & 31 != 1 or data[at + 2]:  # to the next of the video's packets, 0x100
        at += 188
    data[at : at + 188] = bytes(188)
    damaged = tmp_path / "damaged.ts"
    damaged.write_bytes(data)
    failed = read_each(damaged, expected)
    assert failed
    assert len(failed) < 24, "a group, and at most the end of the one before"


def test_a_file_that_changes_while_it_is_open_is_told(x264: Path, tmp_path: Path) -> None:
    path = remux(x264, tmp_path / "clip.mkv")
    with VideoFrames(path) as frames:
        frames[3]
        clip(path, 9)
        with pytest.raises(VideoError, match=r"clip\.mkv changed since it was opened; open it again"):
            frames[30]


def test_an_index_of_another_file_is_noticed(x264: Path, tmp_path: Path) -> None:
    path = remux(x264, tmp_path / "clip.mkv")
    with VideoFrames(path) as frames:
        frames._index.sizes[:] += 1
        with pytest.raises(VideoError, match=r"clip\.mkv changed since it was opened; open it again"):
            frames[30]


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    path = clip(tmp_path / "one.mp4", 1)
    for snap in ("exact", "keyframe"):
        with VideoFrames(path, snap=snap) as frames:  # type: ignore[arg-type]
            assert (len(frames), frames.keyframes, frames.pts_seconds(0)) == (1, [0], 0.0)
            assert np.array_equal(frames[0].data, plain_decode(path)[0])
            assert np.array_equal(frames[-1].data, plain_decode(path)[0])
            assert frames.cost.frames_decoded == 1


def test_a_name_with_a_wrong_extension_is_read_for_what_it_holds(x264: Path, tmp_path: Path) -> None:
    for name in ("clip.avi", "clip.txt", "clip"):
        path = tmp_path / name
        path.write_bytes(x264.read_bytes())
        assert np.array_equal(VideoFrames(path)[17].data, plain_decode(x264)[17])


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    disguised = tmp_path / "notes.mp4"
    disguised.write_text("hello world\n" * 300)
    bare = tmp_path / "none.avi"
    with av.open(str(bare), "w") as container:
        container.add_stream("mpeg4", rate=25, width=16, height=16, pix_fmt="yuv420p")
        container.start_encoding()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    cases: dict[object, str] = {
        tmp_path / "none.mp4": "there is no file .*none.mp4; check the path",
        tmp_path: "is a directory; expected a video file",
        empty: r"empty.mp4 is empty \(0 bytes\); copy or record it again",
        disguised: r"notes.mp4 is not a video that FFmpeg can read \(Invalid data.*expected e.g. mp4",
        audio(tmp_path / "sound.wav"): "sound.wav holds no video, only audio; expected a video stream",
        bare: r"none\.avi.*(without a single picture|not a video that FFmpeg can read)",
        pipe: "pipe is a device or a pipe; random access needs a file",
        "rtsp://camera/1": "rtsp://camera/1 is no file; random access needs one",
        0: "random access needs the path of a video file, got int: 0",
        b"clip.mp4": "random access needs the path of a video file, got bytes",
    }
    for path, message in cases.items():
        with pytest.raises(VideoError, match=message):
            VideoFrames(path)  # type: ignore[arg-type]
    with pytest.raises(VideoError, match='snap is \'nearest\'; expected "exact" or "keyframe"'):
        VideoFrames(tmp_path, snap="nearest")  # type: ignore[arg-type]
