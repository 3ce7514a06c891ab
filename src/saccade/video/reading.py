"""Reading frames from a file, a camera or a network stream."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from saccade.errors import DamagedVideoError, VideoError
from saccade.video.clock import Clock
from saccade.video.decoding import Damage, Decoder, Disconnection
from saccade.video.frame import Frame
from saccade.video.reconnect import Reconnect
from saccade.video.sources import OpenVideo, Source, open_video
from saccade.video.upright import upright_rgb, upright_size


class VideoReader:
    """Iterates once over the frames of a video; made by `read_video`.

    Closes its source when exhausted, on any error (Ctrl-C included), and on leaving a `with` block.

    Attributes:
        fps: average frames per second; 25 where the source does not say.
        frame_count_estimate: frames of the whole source by its own account, None where unknown or endless.
        live: whether the source has no end of its own.
    """

    def __init__(
        self,
        source: Source,
        *,
        start: int = 0,
        stop: int | None = None,
        live: bool | None = None,
        reconnect: Reconnect | None = None,
        open_timeout_seconds: float = 10.0,
        read_timeout_seconds: float = 10.0,
        options: dict[str, str] | None = None,
    ) -> None:
        """Open the source; arguments as in `read_video`."""
        for name, number in (("start", start), ("stop", 0 if stop is None else stop)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                raise VideoError(f"{name} must be a frame number >= 0, got {number!r}.")
        for name, seconds in (("open", open_timeout_seconds), ("read", read_timeout_seconds)):
            if not 0 < seconds < math.inf:
                raise VideoError(f"{name}_timeout_seconds must be a positive number, got {seconds!r}.")
        self._start, self._stop = start, stop
        self._reconnect = reconnect or Reconnect()

        def open_again(live: bool | None) -> OpenVideo:
            return open_video(
                source,
                open_timeout_seconds=open_timeout_seconds,
                read_timeout_seconds=read_timeout_seconds,
                options=options,
                live=live,
            )

        self._open = open_again
        self._video = open_again(live)
        self._decoder = Decoder(self._video)
        self.fps = self._video.fps
        self.frame_count_estimate = self._video.frame_count_estimate
        self.live = self._video.live
        self._damaged_before = 0  # by earlier connections
        self._attempts, self._waited_seconds = 0, 0.0  # since the last new frame
        self._clock = Clock(self.fps)
        self._reformatter = VideoReformatter()
        self._next_index = 0
        self._skip = 0  # pictures a reopened recording delivers again
        self._pictures = self._run()
        self._peeked: VideoFrame | None = None
        self._size: tuple[int, int] | None = None
        self._coded_size = (self._video.stream.height, self._video.stream.width)
        self._closed = self._finished = False

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of the frames to expect; a source may change it on the way.

        Reads the first picture, which may be turned (a phone's video).
        """
        if self._size is None and not self._closed:
            try:
                self._peeked = next(self._pictures, None)
            except VideoError as error:  # iterating raises it
                self._pictures = _raising(error)
            if self._peeked is not None:
                self._size = upright_size(self._peeked)
        return self._size or self._coded_size

    @property
    def height(self) -> int:
        """Height in pixels, see `size`."""
        return self.size[0]

    @property
    def width(self) -> int:
        """Width in pixels, see `size`."""
        return self.size[1]

    @property
    def damaged_frames(self) -> int:
        """Frames of a live source that arrived damaged and were left out."""
        return self._damaged_before + self._decoder.damaged

    @property
    def path(self) -> Path | None:
        """The file being read, None for a camera or a network stream."""
        return self._video.path

    @property
    def closed(self) -> bool:
        """Whether the source is closed."""
        return self._closed

    def __iter__(self) -> Self:
        """Return self: a video is read once."""
        return self

    def __next__(self) -> Frame:
        """Return the next frame.

        Raises:
            DamagedVideoError: a file is damaged or cut short; every frame before that was returned.
            VideoError: a stream ended and did not come back, or the reader was closed.
        """
        if self._closed and not self._finished:
            raise VideoError(f"{self._video.name} was closed; open it again with read_video.")
        try:
            while self._stop is None or self._next_index < self._stop:
                picture, self._peeked = self._peeked or next(self._pictures), None
                index = self._next_index
                pts_seconds = self._clock.seconds(index, picture)
                self._next_index += 1
                self._size = self._size or upright_size(picture)
                if index >= self._start:
                    return Frame(upright_rgb(picture, self._reformatter), index, pts_seconds)
            raise StopIteration
        except BaseException:  # the end, an error, Ctrl-C
            self._finished = True
            self.close()
            raise

    def close(self) -> None:
        """Close the source; harmless when it is closed already."""
        self._closed = True
        self._video.container.close()

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the source."""
        self.close()

    def _run(self) -> Iterator[VideoFrame]:
        """Yield every picture of the source, over reconnections."""
        empty = True
        while True:
            try:
                for picture in self._decoder.pictures():
                    if self._skip:
                        self._skip -= 1
                        continue
                    self._attempts, self._waited_seconds = 0, 0.0
                    empty = False
                    yield picture
            except Damage as damage:
                raise DamagedVideoError(
                    f"{self._video.name} is damaged after {self._delivered()}: {damage}. "
                    "Copy or record it again to get the rest."
                ) from damage
            except Disconnection as disconnection:
                self._reopen(str(disconnection))
                continue
            if empty:
                raise VideoError(f"{self._video.name} has a video stream without a single picture.")
            if self._skip:
                raise VideoError(
                    f"{self._video.name} changed while it was read: it broke off after {self._delivered()} "
                    f"and now ends {self._skip} frames before that. Read it again from the start."
                )
            return

    def _reopen(self, cause: str) -> None:
        """Open the source again, waiting longer each time; raise VideoError when the retries are used up."""
        self._video.container.close()
        while self._attempts < self._reconnect.retries:
            delay = self._reconnect.delay_seconds(self._attempts)
            self._attempts += 1
            self._waited_seconds += delay
            self._reconnect.sleep(delay)
            try:
                self._video = self._open(self.live)
            except VideoError as error:
                cause = str(error)
                continue
            self._damaged_before += self._decoder.damaged
            self._decoder = Decoder(self._video)
            if self.live:
                self._clock.restart()
            else:
                self._skip = self._next_index
            return
        raise VideoError(
            f"stream {self._video.name} ended after {self._delivered()}; gave up after {self._attempts} "
            f"attempts over {self._waited_seconds:g} s: {cause}"
        )

    def _delivered(self) -> str:
        count = max(0, self._next_index - self._start)
        return f"{count} frames" + (f" (the last at {self._clock.last:.3f} s)" if count else "")


def _raising(error: VideoError) -> Iterator[VideoFrame]:
    raise error
    yield


def read_video(
    source: Source,
    *,
    start: int = 0,
    stop: int | None = None,
    live: bool | None = None,
    reconnect: Reconnect | None = None,
    open_timeout_seconds: float = 10.0,
    read_timeout_seconds: float = 10.0,
    options: dict[str, str] | None = None,
) -> VideoReader:
    """Return an iterator over the frames [start, stop) of a video, each a `Frame` of (H, W, 3) uint8 RGB.

    A **file** that is damaged or cut short gives every frame before the damage, then DamagedVideoError.
    Damage that the codec cannot notice passes as pictures: H.264 notices most, VP9 and HEVC little.

    A **network stream** or camera that stops sending is opened again as `reconnect` says; index and
    pts_seconds go on, and VideoError tells when the retries are used up. A *recording* (HTTP with a known
    length, duration or index) that was read to its end simply ends, and after a break goes on at the next
    frame. Anything else (rtsp, rtmp, udp, srt, cameras, HTTP without length and duration) is *live*: its end
    is a disconnection, it goes on with whatever comes after it, and frames that arrive damaged are left out
    and counted in `damaged_frames`. A file read with live=True is treated so too, and ends at its end: the way
    to read on over damage.

    pts_seconds counts from the first frame and always grows; where the source has no usable time stamp, and
    at a reconnection of a live source, a frame comes 1 / fps after the one before.

    Args:
        source: path of a file, URL (rtsp://, http(s)://, or what else FFmpeg opens), or a camera's number.
        start: first frame to deliver; those before are decoded, so that the result is exact, not converted.
        stop: frame to stop before; None reads to the end.
        live: whether the source has no end of its own; None decides as above.
        reconnect: how to get a lost stream back; None means `Reconnect()`.
        open_timeout_seconds: longest wait for a network stream to open.
        read_timeout_seconds: longest wait for its next packet.
        options: FFmpeg options for opening, e.g. {"rtsp_transport": "udp"}.

    Raises:
        VideoError: the source is missing, empty, no video, or cannot be opened.
    """
    return VideoReader(
        source,
        start=start,
        stop=stop,
        live=live,
        reconnect=reconnect,
        open_timeout_seconds=open_timeout_seconds,
        read_timeout_seconds=read_timeout_seconds,
        options=options,
    )
