"""One small clip in every kind of coding, and what PyAV alone says of its packets."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from clips import Array, encode, moving, plain_decode

from saccade.video import VideoFrames

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


_FOLDER = tempfile.TemporaryDirectory(prefix="saccade-coded-")


@cache
def coded_clip(name: str) -> tuple[Path, list[Array]]:
    """Give a kind's clip and its frames as the plainest loop decodes them; made once."""
    kind = KINDS[name]
    path = Path(_FOLDER.name) / f"{name}{kind.suffix}"
    encode(path, moving(COUNT), codec=kind.codec, options=kind.options, times=kind.times)
    return path, plain_decode(path)


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
