"""A decoder that can be placed anywhere in an indexed file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from saccade.errors import VideoError
from saccade.video.clock import Clock
from saccade.video.decoding import Damage, drain
from saccade.video.index import UNKNOWN, FrameIndex
from saccade.video.sources import OpenVideo, reason


class Disorder(Exception):  # noqa: N818 - a finding, after which frames are counted instead
    """The pictures do not come in the order of the packets' time stamps."""


class Shown(NamedTuple):
    """A picture that came out of the decoder: which frame it is, and its time in seconds after the first."""

    frame: int
    picture: VideoFrame
    pts_seconds: float


class Cursor:
    """Stands before a packet of a file, in decoding order; sends packets to the decoder or leaves them out.

    Attributes:
        start: the packet that the decoder began with.
        position: the next packet, None when the decoder was emptied and must begin anew.
        newest: the last frame that came out, -1 before the first.
        ready: pictures that came out since the start and may be wanted yet, by frame; who decodes puts them there.
        frames_decoded: packets sent to the decoder so far.
        seeks: how often it was placed elsewhere.
    """

    def __init__(
        self, video: OpenVideo, open_again: Callable[[], OpenVideo], index: FrameIndex, *, untouched: bool
    ) -> None:
        """Take over an open file, of which nothing was read yet if `untouched`, and how to open it once more."""
        self.index = index
        self._open = open_again
        self.frames_decoded = self.seeks = 0
        self.start = 0
        self.position: int | None = None
        self.newest = -1
        self.ready: dict[int, Shown] = {}
        self._count, self._clock = 0, Clock(index.fps)  # where frames are counted
        self._held: Packet[VideoStream] | None = None
        self._video = video
        self._packets = video.container.demux(video.stream)
        self._untouched = untouched

    def close(self) -> None:
        """Close the file; harmless when it is closed already."""
        self.give_up()
        self._video.container.close()

    def give_up(self) -> None:
        """Let nothing of what was decoded count any more."""
        self.position = None
        self.newest = -1
        self.ready.clear()

    def reaches(self, frame: int, start: int) -> bool:
        """Return whether going on gets a frame exactly, and decodes no more than beginning at packet `start`."""
        packet = int(self.index.packet_of_frame[frame])
        if self.start > packet or self._leads(packet):
            return False
        if frame in self.ready and self.newest >= self.index.horizon(frame, self.start):
            return True
        unseen = self.newest < frame or frame in self.ready
        return unseen and self.position is not None and start <= self.position

    def begin(self, start: int) -> None:
        """Stand before packet `start`, with an empty decoder.

        Raises:
            VideoError: the file is another than when it was indexed, or can no longer be read.
        """
        if not (self._untouched and start == 0):
            self.seeks += 1
            self._place(start)
        self._untouched = False
        self.give_up()
        self.start = self.position = start
        self._count, self._clock = 0, Clock(self.index.fps)

    def leave_out(self) -> None:
        """Go past the next packet without decoding it."""
        self._take()

    def send(self) -> list[Shown]:
        """Decode the next packet and return what comes out, in order of display.

        Raises:
            Damage: the packet is damaged.
            Disorder: time stamps do not tell which frame came out.
            VideoError: the file is another than when it was indexed, or can no longer be read.
        """
        packet, at = self._take()
        self.frames_decoded += 1
        leads = self._leads(at)  # so that it may fail, for want of what it leans on
        if self.index.torn[at] and not leads:
            raise Damage("incomplete or damaged data")
        try:
            return self._told(packet.decode())
        except av.FFmpegError as error:
            if leads:
                return []
            raise Damage(reason(error)) from error

    def finish(self) -> list[Shown]:
        """Return what the decoder still holds; it must begin anew after that.

        Raises:
            Damage: the decoder reports damage.
            Disorder: time stamps do not tell which frame came out.
        """
        self.position = None
        try:
            return self._told(drain(self._video.stream))
        except av.FFmpegError as error:
            raise Damage(reason(error)) from error

    def _leads(self, packet: int) -> bool:
        """Return whether a packet follows the start and is shown before it, so that it may lean on what is missing."""
        return bool(self.index.timed and self.start and self.index.pts[packet] < self.index.pts[self.start])

    def _told(self, pictures: Iterable[VideoFrame]) -> list[Shown]:
        """Return the pictures with their places, without those that lean on pictures before the start."""
        told = []
        for picture in pictures:
            if self.index.timed:
                if self.start and picture.pts is not None and picture.pts < self.index.pts[self.start]:
                    continue
                frame = self.index.frame_of_pts.get(UNKNOWN if picture.pts is None else picture.pts, -1)
                if frame <= self.newest:
                    raise Disorder
                seconds = self.index.seconds(frame)
            else:
                frame, seconds = self._count, self._clock.seconds(self._count, picture)
                self._count += 1
            self.newest = frame
            told.append(Shown(frame, picture, seconds))
        return told

    def _take(self) -> tuple[Packet[VideoStream], int]:
        """Return the next packet and its position, and stand behind it."""
        at = self.position
        assert at is not None, "begin() comes first"
        packet = self._held or self._read()
        self._held = None
        if packet is None or not self.index.fits(at, packet):
            raise VideoError(f"{self._video.name} changed since it was opened; open it again.")
        self.position = at + 1
        return packet, at

    def _place(self, start: int) -> None:
        """Make packet `start` the next one to be read."""
        at = self._sought(start) if self.index.timed else None
        if at is None:
            self._video.container.close()
            self._video = self._open()
            self._packets = self._video.container.demux(self._video.stream)
            self._held = None
            at = 0
        while at < start:
            self.position = at
            self._take()
            at += 1

    def _sought(self, start: int) -> int | None:
        """Seek to packet `start` or before it; return where that is, None if it cannot be done.

        Containers differ in which time they keep for seeking, and some land on any picture. So it is looked up in the
        index where it landed.
        """
        second = round(1 / self.index.time_base)
        times = [int(t) for t in (self.index.pts[start], self.index.dts[start]) if t != UNKNOWN]
        for time in [*times, min(times, default=0) - second]:
            try:
                self._video.container.seek(time, stream=self._video.stream)
            except (av.FFmpegError, OSError):
                continue
            self._packets = self._video.container.demux(self._video.stream)
            at = self._landed()
            if at is not None and at <= start:
                return at
        return None

    def _landed(self) -> int | None:
        """Return the position of the first packet that is known, and hold it; one that was cut into is not."""
        for _ in range(16):
            packet = self._read()
            if packet is None:
                break
            at = self.index.find(packet)
            if at is not None:
                self._held = packet
                return at
        return None

    def _read(self) -> Packet[VideoStream] | None:
        """Return the next packet that has data, None at the end."""
        try:
            return next((packet for packet in self._packets if packet.size), None)
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{self._video.name} cannot be read on: {reason(error)}; open it again.") from error
