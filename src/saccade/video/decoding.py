"""From packets to pictures: delivers what is good, then says what went wrong."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import dropwhile, takewhile

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from saccade.video.sources import OpenVideo, reason

_LOOKAHEAD_PACKETS = 32  # more than any codec reorders (16 in H.264 and HEVC)


class Damage(Exception):  # noqa: N818 - a finding, made into DamagedVideoError by the reader
    """Decoding cannot go on; the pictures shown before pts `limit` are good."""

    def __init__(self, text: str, *, limit: float = math.inf) -> None:
        """Keep the text and the limit."""
        super().__init__(text)
        self.limit = limit


class Disconnection(Exception):  # noqa: N818
    """The source stopped sending; it may come back."""


class Decoder:
    """Decodes one open source, once.

    A file's first damage ends it. A live source's damaged pictures are left out and counted in `damaged`.
    """

    def __init__(self, video: OpenVideo) -> None:
        """Take over an open source; nothing is read yet."""
        self.video = video
        self.damaged = 0
        self._received = 0  # video packets
        self._last: VideoFrame | None = None
        self._times: deque[int | None] = deque(maxlen=2 * _LOOKAHEAD_PACKETS)  # pts in decoding order
        self._end_seconds = 0.0  # of the last packet of any stream

    def pictures(self) -> Iterator[VideoFrame]:
        """Yield pictures in display order; a normal return is the end of the video.

        A picture can be predicted from one that is shown after it, whose damage shows only then. So a file's
        picture waits until all that were decoded before it have come out (without B pictures: not at all).

        Raises:
            Damage: data is damaged, or a file is shorter than it says.
            Disconnection: a network source or camera stopped.
        """
        waiting: deque[tuple[VideoFrame, float]] = deque()
        try:
            for picture in self._decode():
                self._last = picture
                pts = picture.pts
                waiting.append((picture, -math.inf if self.video.live else self._latest_before(pts)))
                # Never more than the look-ahead: where time jumps back, what is waited for does not come.
                while waiting and (pts is None or waiting[0][1] <= pts or len(waiting) > _LOOKAHEAD_PACKETS):
                    yield waiting.popleft()[0]
        except Damage as damage:
            yield from (p for p, _ in waiting if p.pts is None or p.pts < damage.limit)
            raise
        except Disconnection:
            yield from (p for p, _ in waiting)
            raise
        yield from (p for p, _ in waiting)

    def _latest_before(self, pts: int | None) -> float:
        """Return the latest pts among the packets sent before the one with this pts."""
        return max((t for t in takewhile(lambda t: t != pts, self._times) if t is not None), default=-math.inf)

    def _earliest_from(self, pts: int | None) -> float:
        """Return the earliest pts among the packet with this pts and those sent after it."""
        return min((t for t in dropwhile(lambda t: t != pts, self._times) if t is not None), default=math.inf)

    def _decode(self) -> Iterator[VideoFrame]:
        video, live = self.video, self.video.live
        packets = self.packets() if live or video.path else self._whole_packets()
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:
                yield from self._contiguous(self._flush())
                raise (Damage if video.path else Disconnection)(self._explained(reason(error))) from error
            if packet is None:
                break
            if packet.is_corrupt and not live:
                yield from self._before(packet, packets)
                raise Damage(self._explained("incomplete or damaged data"))
            try:
                decoded = packet.decode()
            except av.FFmpegError as error:
                if not live:
                    yield from self._before(packet, packets)
                    raise Damage(self._explained(reason(error))) from error
                self.damaged += 1
                continue
            self._times.append(packet.pts)
            yield from self._sound(decoded)
        yield from self._end()

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """Yield the video stream's packets with data; raise what FFmpeg raises."""
        base = {s.index: float(s.time_base or 0) for s in self.video.container.streams}
        for packet in self.video.container.demux():
            if packet.size == 0:  # PyAV's flush packets; an empty packet would end the decoder
                continue
            if packet.pts is not None:
                end = (packet.pts + (packet.duration or 0)) * base.get(packet.stream_index, 0.0)
                self._end_seconds = max(self._end_seconds, end)
            if packet.stream_index == self.video.stream.index:
                self._received += 1
                yield packet  # type: ignore[misc]  # demux() without streams is typed for every kind

    def _whole_packets(self) -> Iterator[Packet[VideoStream]]:
        """Yield a network recording's packets without the one that a breaking connection tore apart.

        It is not marked, and may even decode; so each waits until the next has come, or the end.
        """
        waiting = None
        for packet in self.packets():
            if waiting is not None:
                yield waiting
            waiting = packet
        if waiting is not None and not self.shortfall():
            yield waiting

    def _sound(self, decoded: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        """Yield pictures the decoder vouches for; the first other one is damage, or left out when live."""
        for picture in decoded:
            if not picture.is_corrupt:
                yield picture
            elif self.video.live:
                self.damaged += 1
            else:
                text = "the decoder reports a picture with damaged or missing parts"
                raise Damage(self._explained(text), limit=self._earliest_from(picture.pts))

    def _end(self) -> Iterator[VideoFrame]:
        """Flush the decoder and decide whether this is the end or a break."""
        shortfall = self.shortfall()
        if not shortfall and (self.video.path or not self.video.live):
            try:
                rest = drain(self.video.stream)
            except av.FFmpegError as error:
                raise Damage(self._explained(reason(error))) from error
            yield from self._sound(rest)
            return
        yield from self._contiguous(self._flush())
        if self.video.path is None:
            raise Disconnection(shortfall or "the stream ended")
        raise Damage(self._explained(shortfall or "the file ended"))

    def _flush(self) -> list[VideoFrame]:
        """Return the good pictures the decoder still holds."""
        try:
            return [p for p in drain(self.video.stream) if not p.is_corrupt]
        except av.FFmpegError:
            return []

    def _before(self, packet: Packet[VideoStream], packets: Iterator[Packet[VideoStream]]) -> Iterator[VideoFrame]:
        """Yield what the decoder still holds of the pictures shown before a damaged packet can matter."""
        limit = _first_touched(packet, packets)
        yield from (p for p in self._flush() if p.pts is not None and p.pts < limit)

    def _contiguous(self, pictures: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        """Yield pictures up to the first gap in time: one waiting behind a missing one is not next."""
        for picture in pictures:
            last = self._last
            if last is not None and None not in (last.pts, picture.pts, picture.time_base):
                gap_seconds = float((picture.pts - last.pts) * picture.time_base)  # type: ignore[operator]
                if gap_seconds * self.video.fps > 1.5:
                    return
            yield picture

    def shortfall(self) -> str | None:
        """Return what is missing at the end, None if the video is complete or does not say."""
        video = self.video
        if video.live:
            return None
        if video.claimed_packets and self._received < video.claimed_packets:
            return f"its index lists {video.claimed_packets} coded pictures and {self._received} are there"
        if video.missing:
            return video.missing
        duration = video.duration_seconds
        if duration is not None:
            start = (video.container.start_time or 0) / av.time_base
            if self._end_seconds < start + duration - max(0.5, 0.02 * duration):
                return f"it says it lasts {duration:.2f} s and ends after {self._end_seconds - start:.2f} s"
        return None

    def _explained(self, text: str) -> str:
        missing = self.video.missing
        return f"{text}; {missing}, so it was cut short" if missing and missing != text else text


def _first_touched(packet: Packet[VideoStream], packets: Iterator[Packet[VideoStream]]) -> float:
    """Return the earliest pts that damage in `packet` can touch: its own or that of a later packet.

    Packets come in decoding order, so every picture shown before it was decoded before the damage.
    """
    times = [packet.pts]
    while len(times) <= _LOOKAHEAD_PACKETS:
        following = _next_or_error(packets)
        if not isinstance(following, Packet):
            break
        times.append(following.pts)
    known = [t for t in times if t is not None]
    return min(known) if len(known) == len(times) else -math.inf


def _next_or_error(packets: Iterator[Packet[VideoStream]]) -> Packet[VideoStream] | Exception | None:
    try:
        return next(packets, None)
    except (av.FFmpegError, OSError) as error:
        return error


def drain(stream: VideoStream) -> list[VideoFrame]:
    """Return what the decoder still holds; without a packet PyAV leaves the time base unset."""
    pictures = stream.codec_context.decode(None)
    for picture in pictures:
        picture.time_base = stream.time_base or picture.time_base
    return pictures
