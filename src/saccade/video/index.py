"""Where every frame of a video file lies: made by reading its packets, without decoding them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import av
import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.stream import VideoStream

from saccade.video.decoding import Damage, Decoder, drain
from saccade.video.disposable import disposable_packets, holds_one_picture, picture_kind
from saccade.video.sources import OpenVideo, reason

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_REORDERED_AT_MOST = 16  # pictures, in H.264 and HEVC
_MARKED_TOO_EARLY = 2  # packets; where FFmpeg cuts them anew, the mark is on one of those before
UNKNOWN = int(np.iinfo(np.int64).min)  # a time stamp that the container does not have


@dataclass(frozen=True, eq=False, repr=False)
class FrameIndex:
    """The coded pictures of a file in decoding order, and the order in which they are shown.

    Args:
        pts: (P,) presentation time stamps in units of `time_base`, `UNKNOWN` where there is none.
        dts: (P,) decoding time stamps, likewise.
        sizes: (P,) bytes of each packet.
        key: (P,) whether decoding can begin at the packet.
        hidden: (P,) whether its picture is never shown: an edit list leaves it out, or it leans on pictures that lie
            before the file's first.
        disposable: (P,) whether no other picture leans on it.
        torn: (P,) whether data got lost at the packet or before it in its group, by the container's account.
        time_base: seconds per unit of time.
        fps: average frames per second.
        timed: whether time stamps tell which picture is which. If not, only counting from the first packet does.
        counted: frames that decoding everything gives, where `timed` is false.
        damage: what is missing from the file, None if nothing is.
    """

    pts: Integers
    dts: Integers
    sizes: Integers
    key: Flags
    hidden: Flags
    disposable: Flags
    torn: Flags
    time_base: Fraction
    fps: float
    timed: bool
    counted: int = 0
    damage: str | None = None

    def __len__(self) -> int:
        """Return the number of frames that are shown."""
        return int(len(self.pts) - self.hidden.sum()) if self.timed else self.counted

    def __repr__(self) -> str:
        """Show numbers, not contents."""
        kind = f"{len(self.keyframes)} key frames" if self.timed else "no time stamps"
        return f"FrameIndex({len(self)} frames, {kind}, damage={self.damage!r})"

    @cached_property
    def packet_of_frame(self) -> Integers:
        """Packets (N,) in the order of display; where frames are counted, about where they lie."""
        if not self.timed:
            return np.minimum(np.arange(self.counted), len(self.pts) - 1)
        shown = np.flatnonzero(~self.hidden)
        return shown[np.argsort(self.pts[shown], kind="stable")]

    @cached_property
    def frame_of_packet(self) -> Integers:
        """Frames (P,) in the order of decoding, -1 for a packet that is not shown."""
        if not self.timed:
            return np.minimum(np.arange(len(self.pts)), self.counted - 1)
        frames = np.full(len(self.pts), -1, np.int64)
        frames[self.packet_of_frame] = np.arange(len(self))
        return frames

    @cached_property
    def frame_of_pts(self) -> dict[int, int]:
        """The frame that each time stamp belongs to."""
        return {int(pts): frame for frame, pts in enumerate(self.pts[self.packet_of_frame])}

    @cached_property
    def keyframes(self) -> Integers:
        """Frames, in the order of display, that can be decoded alone; none where frames are found by counting."""
        return np.flatnonzero(self.key[self.packet_of_frame]) if self.timed else np.zeros(0, np.int64)

    @cached_property
    def reorder_depth(self) -> int:
        """How many pictures a decoder must hold back at most to show them in order."""
        shown = self.frame_of_packet[self.frame_of_packet >= 0]
        return int((np.arange(len(shown)) - shown).max(initial=0))

    def starts(self, frame: int) -> list[int]:
        """Return packets where decoding may begin to get a frame exactly, the nearest first.

        A picture that follows a key frame in the file and is shown before it may lean on pictures further back. So
        the key frame must come before it in both orders. The nearest should do; the two before it and the file's first
        packet follow, for key frames that are none, as those of a gradual refresh.
        """
        if not self.timed:
            return [0]
        packet = int(self.packet_of_frame[frame])
        keys = np.flatnonzero(self.key[: packet + 1] & (self.pts[: packet + 1] <= self.pts[packet]))
        found = [int(key) for key in keys[:-4:-1]]
        return found if 0 in found else [*found, 0]

    def horizon(self, frame: int, start: int) -> int:
        """Return the frame that must have come out before a frame is known to be good, decoding from packet `start`.

        Damage of a picture is known when it comes out; of one that is shown later, after those that lean on it.
        """
        if not self.timed:
            return min(frame + _REORDERED_AT_MOST, len(self) - 1)
        return int(self.frame_of_packet[start : self.packet_of_frame[frame] + 1].max())

    def needless(self, packet: int, frame: int) -> bool:
        """Return whether a packet can be left out on the way to a frame."""
        return bool(
            self.timed
            and self.disposable[packet]
            and not self.torn[packet]
            and packet < self.packet_of_frame[frame]
            and self.frame_of_packet[packet] < frame
        )

    def reach(self, packet: int) -> tuple[int, int]:
        """Return the first and the last frame that damage in a packet can touch: all up to the next key frame's."""
        later = np.flatnonzero(self.key[packet + 1 :])
        stop = packet + 1 + int(later[0]) if self.timed and len(later) else len(self.pts)
        frames = self.frame_of_packet[packet:stop]
        frames = frames[frames >= 0]
        return int(frames.min(initial=len(self) - 1)), int(frames.max(initial=0))

    def nearest_keyframe(self, frame: int) -> int:
        """Return the key frame nearest in time, the earlier of two; the frame itself where none is known."""
        if not len(self.keyframes):
            return frame
        times = self.pts[self.packet_of_frame]
        return int(self.keyframes[np.argmin(np.abs(times[self.keyframes] - times[frame]))])

    def seconds(self, frame: int) -> float:
        """Return when a frame is shown, in seconds after the first."""
        if not self.timed:
            return frame / self.fps
        first, this = self.pts[self.packet_of_frame[[0, frame]]]
        return float(int(this - first) * self.time_base)

    def find(self, packet: Packet[VideoStream]) -> int | None:
        """Return where a packet lies in decoding order, None if it cannot be told."""
        found = np.flatnonzero((self.pts == _stamp(packet.pts)) & (self.sizes == packet.size))
        return int(found[0]) if len(found) == 1 else None

    def fits(self, position: int, packet: Packet[VideoStream]) -> bool:
        """Return whether a packet is the one at this position."""
        same_time = self.pts[position] == _stamp(packet.pts)
        return bool(self.sizes[position] == packet.size and (same_time or not self.timed))


def build_index(video: OpenVideo, open_again: Callable[[], OpenVideo]) -> tuple[FrameIndex, int]:
    """Return the index of an open file, which is read to its end, and how many pictures had to be decoded for it.

    None is decoded, but in a file that begins with pictures before its first key frame or leaning on what lies before
    it (whether the decoder shows these is tried out), and in one without usable time stamps (its frames are counted).
    """
    index = _read_packets(video)
    if not index.timed:
        return count_frames(open_again, index)
    doubtful = _doubtful(index)
    if not doubtful.any():
        return index, 0
    shown, decoded = _shown_at_the_head(open_again, index, doubtful)
    if shown is not None:
        index = replace(index, hidden=index.hidden | (doubtful & ~np.isin(index.pts, list(shown))))
    return index, decoded


def count_frames(open_again: Callable[[], OpenVideo], index: FrameIndex) -> tuple[FrameIndex, int]:
    """Return the index for finding frames by counting, and how many pictures had to be decoded to count all.

    In a damaged file every packet counts as a frame: asking for those that do not come tells of the damage.
    """
    video = open_again()
    with video.container:
        try:
            counted = sum(1 for _ in Decoder(video).pictures())
        except Damage:
            counted = int(len(index.pts) - index.hidden.sum())
    return replace(index, timed=False, counted=counted), len(index.pts)


def _read_packets(video: OpenVideo) -> FrameIndex:
    rows: list[tuple[int, int, int, bool, bool, bool]] = []
    kinds = []
    decoder = Decoder(video)
    codec = video.stream.codec_context
    damage = None
    one_each = True
    kind_of = picture_kind(video.stream)
    try:
        for packet in decoder.packets():
            times = _stamp(packet.pts), _stamp(packet.dts)
            rows.append((*times, packet.size, packet.is_keyframe, packet.is_discard, packet.is_corrupt))
            kinds.append(kind_of(packet))
            one_each = one_each and holds_one_picture(packet, codec.name)
    except (av.FFmpegError, OSError) as error:
        damage = reason(error)
    numbers = np.array(rows, np.int64).reshape(-1, 6)
    pts, hidden = numbers[:, 0], numbers[:, 4] != 0
    shown = pts[~hidden]
    timed = one_each and len(np.unique(shown)) == len(shown) and UNKNOWN not in shown
    # AVI has no presentation times: FFmpeg puts the decoding order there, and for these does not find out the other.
    if "avi" in video.container.format.name and codec.name in ("h264", "hevc") and codec.has_b_frames:
        timed = timed and bool(np.any(np.diff(pts) < 0))
    return FrameIndex(
        pts=pts,
        dts=numbers[:, 1],
        sizes=numbers[:, 2],
        key=numbers[:, 3] != 0,
        hidden=hidden,
        disposable=disposable_packets(kinds),
        torn=_torn(numbers[:, 5] != 0, numbers[:, 3] != 0),
        time_base=video.stream.time_base or Fraction(1),
        fps=video.fps,
        timed=timed,
        damage=damage or decoder.shortfall(),
    )


def _torn(corrupt: Flags, key: Flags) -> Flags:
    """Return which packets (P,) may lack data, from those that the container calls corrupt.

    A transport stream knows that data got lost, and marks a packet near by; whole packets may be gone. Pictures are
    sound again from a key frame that is clearly behind.
    """
    torn = corrupt.copy()
    for at in np.flatnonzero(corrupt):
        behind = np.flatnonzero(key[at + _MARKED_TOO_EARLY + 1 :])
        torn[at : at + _MARKED_TOO_EARLY + 1 + int(behind[0]) if len(behind) else None] = True
    return torn


def _doubtful(index: FrameIndex) -> Flags:
    """Return which packets (P,) come before the first key frame, in the file or when shown."""
    keys = np.flatnonzero(index.key)
    if not index.timed or not len(keys):
        return np.zeros(len(index.pts), np.bool_)
    first = int(keys[0])
    before = (np.arange(len(index.pts)) < first) | (index.pts < index.pts[first])
    return before & ~index.hidden


def _shown_at_the_head(
    open_again: Callable[[], OpenVideo], index: FrameIndex, doubtful: Flags
) -> tuple[set[int] | None, int]:
    """Decode until nothing doubtful can come any more; return the time stamps that came, and how much was decoded.

    In place of the time stamps None if the head is damaged. Its frames then count: asking for one tells of the damage.
    """
    limit = int(index.pts[doubtful].max())
    shown: set[int] = set()
    decoded = 0
    video = open_again()
    with video.container:
        try:
            for packet in Decoder(video).packets():
                decoded += 1
                shown.update(picture.pts for picture in packet.decode() if picture.pts is not None)
                if any(pts > limit for pts in shown):
                    return shown, decoded
            shown.update(picture.pts for picture in drain(video.stream) if picture.pts is not None)
        except (av.FFmpegError, OSError):
            return None, decoded
    return shown, decoded


def _stamp(time: int | None) -> int:
    return UNKNOWN if time is None else time
