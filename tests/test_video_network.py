"""Network streams: what is an end, what is a break, and how a broken stream comes back."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from clips import clip, faststart, plain_decode, remux
from video_server import Answer, serve

from saccade.errors import DamagedVideoError, VideoError
from saccade.video import Frame, Reconnect, VideoReader, read_video

COUNT = 48


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network")
    return faststart(clip(folder / "slow.mp4", COUNT), folder / "clip.mp4")


@pytest.fixture(scope="module")
def ts(mp4: Path) -> Path:
    return remux(mp4, mp4.with_suffix(".ts"))


class Waits(list[float]):
    """Takes the place of time.sleep and remembers what it was asked for."""

    def policy(self, **settings: float) -> Reconnect:
        return Reconnect(sleep=self.append, **settings)  # type: ignore[arg-type]


def read_until_error(video: VideoReader) -> tuple[list[Frame], str]:
    frames: list[Frame] = []
    try:
        for frame in video:
            frames.append(frame)
    except VideoError as error:
        assert video.closed
        return frames, str(error)
    pytest.fail("the stream should end with an error")


def check_frames(frames: list[Frame], path: Path) -> None:
    whole = plain_decode(path)
    assert [f.index for f in frames] == list(range(len(whole)))
    assert all(np.array_equal(f.data, w) for f, w in zip(frames, whole, strict=True))


@pytest.mark.parametrize("name", ["clip.ts", "clip.mp4"])
def test_a_recording_that_was_read_to_its_end_ends(mp4: Path, ts: Path, name: str) -> None:
    waits = Waits()
    with serve(Answer((mp4.parent / name).read_bytes()), name=name) as server:
        video = read_video(server.url, reconnect=waits.policy())
        assert not video.live
        check_frames(list(video), mp4)
    assert video.closed
    assert waits == []


@pytest.mark.parametrize("name", ["clip.ts", "clip.mp4"])
def test_a_recording_that_breaks_off_goes_on_at_the_next_frame(mp4: Path, ts: Path, name: str) -> None:
    data = (mp4.parent / name).read_bytes()
    waits = Waits()
    breaks = [Answer(data, send=int(share * len(data))) for share in (0.5, 0.4, 0.75)]
    with serve(*breaks, Answer(data), name=name) as server:
        video = read_video(server.url, reconnect=waits.policy(first_delay_seconds=0.25))
        assert not video.live
        frames = list(video)
    check_frames(frames, mp4)
    assert [f.pts_seconds for f in frames] == [f.pts_seconds for f in read_video(mp4.parent / name)]
    assert waits == [0.25, 0.5, 0.25], "0.4 brought nothing new, 0.75 did"


def test_a_recording_that_stays_away_is_given_up(ts: Path) -> None:
    data = ts.read_bytes()
    waits = Waits()
    with serve(Answer(data, send=len(data) // 2), Answer(status=404)) as server:
        video = read_video(server.url, reconnect=waits.policy(retries=3, first_delay_seconds=0.5))
        frames, error = read_until_error(video)
    assert 10 < len(frames) < COUNT
    last = f"{len(frames)} frames (the last at {frames[-1].pts_seconds:.3f} s)"
    assert f"clip.ts ended after {last}; gave up after 3 attempts over 3.5 s: " in error
    assert "404 Not Found" in error
    assert waits == [0.5, 1.0, 2.0]
    assert server.asked == 1 + 3


def test_a_recording_replaced_by_a_shorter_one_is_reported(tmp_path: Path, ts: Path) -> None:
    data = ts.read_bytes()
    short = remux(clip(tmp_path / "short.mp4", 8), tmp_path / "short.ts").read_bytes()
    with serve(Answer(data, send=len(data) * 3 // 4), Answer(short)) as server:
        _, error = read_until_error(read_video(server.url, reconnect=Waits().policy()))
    assert "changed while it was read: it broke off after " in error


def test_damage_in_a_recording_is_no_disconnection(ts: Path) -> None:
    data = bytearray(ts.read_bytes())
    middle = len(data) // 376 * 188
    data[middle : middle + 188] = bytes(188)
    waits = Waits()
    with serve(Answer(bytes(data))) as server, pytest.raises(DamagedVideoError, match="is damaged after"):
        list(read_video(server.url, reconnect=waits.policy()))
    assert waits == []


def test_a_live_stream_goes_on_counting_over_breaks(ts: Path) -> None:
    data = ts.read_bytes()
    waits = Waits()
    live = Answer(data, length=False)
    broken = Answer(data, length=False, send=len(data) // 2)
    with serve(broken, live, Answer(status=503)) as server:
        video = read_video(server.url, reconnect=waits.policy(retries=2, first_delay_seconds=1))
        assert (video.live, video.frame_count_estimate) == (True, None)
        frames, error = read_until_error(video)
    whole = plain_decode(ts)
    first = len(frames) - COUNT
    assert 10 < first < COUNT
    assert all(np.array_equal(f.data, w) for f, w in zip(frames, whole[:first] + whole, strict=True))
    assert [f.index for f in frames] == list(range(len(frames)))
    assert [f.pts_seconds for f in frames] == pytest.approx([f.index / 25 for f in frames], abs=1e-3)
    assert f"ended after {len(frames)} frames" in error
    assert "gave up after 2 attempts over 3 s" in error
    assert waits == [1, 1, 2], "new frames make the count start anew"


def test_another_clock_after_a_break_makes_no_jump_in_time(mp4: Path, ts: Path, tmp_path: Path) -> None:
    data = ts.read_bytes()
    later = remux(mp4, tmp_path / "later.ts", shift=10_000_000).read_bytes()
    with serve(Answer(data, length=False), Answer(later, length=False), Answer(status=503)) as server:
        video = read_video(server.url, reconnect=Waits().policy(retries=1))
        frames, _ = read_until_error(video)
    assert [f.pts_seconds for f in frames] == pytest.approx([n / 25 for n in range(2 * COUNT)], abs=1e-3)


def test_live_can_be_declared(ts: Path) -> None:
    with serve(Answer(ts.read_bytes())) as server:
        video = read_video(server.url, live=True, reconnect=Reconnect(retries=0))
        frames, error = read_until_error(video)
    assert len(frames) == COUNT
    assert "gave up after 0 attempts over 0 s: the stream ended" in error


@pytest.mark.parametrize("number", [9, 20, 30])
def test_frames_that_arrive_damaged_live_are_left_out_and_counted(ts: Path, number: int) -> None:
    data = bytearray(ts.read_bytes())
    video_pid, unit_start = 0x100, 0x40
    parts = [at for at in range(0, len(data), 188) if (data[at + 1] & 0x1F) << 8 | data[at + 2] == video_pid]
    starts = [at for at in parts if data[at + 1] & unit_start]
    last = max(at for at in parts if at < starts[number + 1])
    assert last > starts[number]
    data[last : last + 188] = bytes(188)  # the end of that picture, whose loss its decoder may not see
    with av.open(str(ts)) as container:
        pts = [p.pts or 0 for p in container.demux(video=0) if p.size]
    with serve(Answer(bytes(data), length=False)) as server:
        video = read_video(server.url, reconnect=Reconnect(retries=0))
        frames, _ = read_until_error(video)
    shown = {round(f.pts_seconds * 25) for f in frames}
    assert sorted(pts).index(pts[number]) not in shown
    assert len(frames) == COUNT - video.damaged_frames
    assert 1 <= video.damaged_frames <= 5
    assert [f.index for f in frames] == list(range(len(frames)))


def test_a_silent_stream_is_a_broken_one(ts: Path) -> None:
    data = ts.read_bytes()
    with serve(Answer(data, send=len(data) // 2, stall=True)) as server:
        waits = {"open_timeout_seconds": 0.5, "read_timeout_seconds": 0.3}
        video = read_video(server.url, **waits, reconnect=Reconnect(retries=0))  # type: ignore[arg-type]
        frames, error = read_until_error(video)
    assert 10 < len(frames) < COUNT
    assert "no data within the timeout" in error


def test_an_address_that_does_not_answer_is_named_without_its_password() -> None:
    with socket.socket() as placeholder:  # bound, but nobody listens
        placeholder.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{placeholder.getsockname()[1]}/door"
        with pytest.raises(VideoError) as raised:
            read_video(f"rtsp://admin:secret@{address}", open_timeout_seconds=5)
    assert f"cannot open rtsp://{address}: Connection refused" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(VideoError, match="cannot open gopher2://host/clip: Protocol not found"):
        read_video("gopher2://host/clip")


PUBLISHER = """
import sys, time, av, numpy as np
for attempt in range(100):  # until the reader listens
    try:
        with av.open(sys.argv[1], "w", format="rtsp", options={"rtsp_transport": "tcp"}) as container:
            options = {"tune": "zerolatency"}
            stream = container.add_stream("libx264", rate=25, width=64, height=48, options=options)
            for index in range(20):
                picture = np.full((48, 64, 3), 10 * index, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
        break
    except av.FFmpegError:
        time.sleep(0.1)
"""


def test_an_rtsp_stream_is_live() -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        url = f"rtsp://127.0.0.1:{placeholder.getsockname()[1]}/live"
    with subprocess.Popen([sys.executable, "-c", PUBLISHER, url]) as publisher:
        try:
            video = read_video(
                url,
                options={"rtsp_flags": "listen", "listen_timeout": "20"},
                open_timeout_seconds=30,
                reconnect=Reconnect(retries=0),
            )
            assert (video.live, video.fps, video.size) == (True, 25.0, (48, 64))
            frames, error = read_until_error(video)
        finally:
            publisher.kill()
    assert [round(float(f.data.mean()) / 10) for f in frames] == list(range(20))
    assert [f.pts_seconds for f in frames] == pytest.approx([n / 25 for n in range(20)], abs=1e-3)
    assert "ended after 20 frames (the last at 0.760 s); gave up after 0 attempts over 0 s" in error


def test_waits_double_up_to_the_longest() -> None:
    policy = Reconnect(first_delay_seconds=0.5, max_delay_seconds=3)
    assert [policy.delay_seconds(n) for n in (0, 1, 2, 3, 4, 5000)] == [0.5, 1, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"retries": -1}, "retries must be an int >= 0, got -1"),
        ({"retries": 1.5}, "retries must be an int >= 0, got 1.5"),
        ({"first_delay_seconds": float("nan")}, "first_delay_seconds must be a number >= 0, got nan"),
        ({"max_delay_seconds": -2}, "max_delay_seconds must be a number >= 0, got -2"),
    ],
)
def test_impossible_policies_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reconnect(**settings)  # type: ignore[arg-type]
