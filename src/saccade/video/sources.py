"""Opening a file, a camera or a network stream, and saying what is wrong when that fails."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from saccade.errors import VideoError
from saccade.video.containers import lacks_index, missing_bytes

Source = str | os.PathLike[str] | int

_URL = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.]+)://")  # two letters at least: "C:" is a drive
_FALLBACK_FPS = 25.0
_MENDING = ("h264", "mpeg4", "mpeg2video", "mpeg1video", "h263", "flv", "vc1", "wmv3", "msmpeg4")  # decoders


@dataclass(frozen=True, eq=False)
class OpenVideo:
    """An open source and what its container says about it.

    Args:
        container: the open FFmpeg container.
        stream: its video stream.
        name: how messages call the source; holds no password.
        path: the file, None for a camera or a network stream.
        live: whether it has no end of its own, so that its end is a disconnection.
        claimed_packets: coded pictures the container's index lists, None if it has no index.
        missing: what is missing from the file by the container's own account, None if nothing is.
    """

    container: InputContainer
    stream: VideoStream
    name: str
    path: Path | None
    live: bool
    claimed_packets: int | None
    missing: str | None

    @property
    def duration_seconds(self) -> float | None:
        """Duration of the whole container, None where unknown or endless."""
        duration = self.container.duration
        return None if self.live or not duration or duration < 0 else duration / av.time_base

    @property
    def fps(self) -> float:
        """Average frames per second; 25 where the source does not say."""
        rate = self.stream.average_rate or self.stream.guessed_rate
        return float(rate) if rate else _FALLBACK_FPS

    @property
    def frame_count_estimate(self) -> int | None:
        """Frames by the container's account or by duration x fps, None where unknown or endless."""
        if self.live:
            return None
        if self.stream.frames:
            return self.stream.frames
        return None if self.duration_seconds is None else round(self.duration_seconds * self.fps)


def open_video(
    source: Source,
    *,
    open_timeout_seconds: float,
    read_timeout_seconds: float,
    options: dict[str, str] | None = None,
    live: bool | None = None,
) -> OpenVideo:
    """Return the opened source, ready to be decoded.

    Raises:
        VideoError: it cannot be opened or holds no video.
    """
    timeout = (open_timeout_seconds, read_timeout_seconds)
    options = dict(options or {})
    if isinstance(source, bool) or not isinstance(source, str | int | os.PathLike):
        raise VideoError(
            f"a video source is a path, a URL or a camera's number, got {type(source).__name__}: {source!r}."
        )
    if isinstance(source, int):
        return _open_camera(source, timeout=timeout, options=options)
    text = os.fspath(source)
    match = _URL.match(text) if isinstance(source, str) else None
    if match is None:
        return _open_file(Path(text), options=options, live=live)
    if match[1].lower() == "file":
        return _open_file(Path(text[len("file://") :]), options=options, live=live)
    return _open_url(text, match[1].lower(), timeout=timeout, options=options, live=live)


def reason(error: Exception) -> str:
    """Return FFmpeg's words for an error, without the address (which may hold a password)."""
    if isinstance(error, av.error.ExitError):
        return "no data within the timeout"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _open_file(path: Path, *, options: dict[str, str], live: bool | None) -> OpenVideo:
    if path.is_dir():
        raise VideoError(f"{path} is a directory; expected a video file.")
    if not path.exists():
        raise VideoError(f"there is no file {path}; check the path (relative to {Path.cwd()}).")
    if path.is_file() and path.stat().st_size == 0:
        raise VideoError(f"{path} is empty (0 bytes); copy or record it again.")
    try:
        container = av.open(os.fspath(path), "r", options=options)
    except (av.FFmpegError, OSError) as error:
        if path.is_file() and os.access(path, os.R_OK) and lacks_index(path):
            raise VideoError(
                f"{path} is an MP4 without its index (moov): the recording or copy stopped before the end. "
                "Copy it again, or record to .mkv or .ts, which can be read when cut off."
            ) from error
        raise VideoError(
            f"{path} is not a video that FFmpeg can read ({reason(error)}); expected e.g. mp4, mkv, webm, avi or ts."
        ) from error
    if container.format.name == "tty":  # FFmpeg takes any .txt for an ANSI animation
        container.close()
        raise VideoError(f"{path} is a text file; expected a video, e.g. mp4, mkv, webm, avi or ts.")
    missing = missing_bytes(path) if path.is_file() else None
    return _opened(container, name=str(path), path=path, live=bool(live), missing=missing)


def _open_url(
    url: str, scheme: str, *, timeout: tuple[float, float], options: dict[str, str], live: bool | None
) -> OpenVideo:
    name = re.sub(r"//[^/@]*@", "//", url)
    if scheme.startswith("rtsp"):
        options.setdefault("rtsp_transport", "tcp")  # UDP loses packets, and packets are pictures
    try:
        container = av.open(url, "r", options=options, timeout=timeout)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            f"cannot open {name}: {reason(error)} (waited at most {timeout[0]:g} s). "
            "Check the address, the network, and that the source is running."
        ) from error
    if live is None:
        # Over HTTP a stored video has a length: of the resource, of its index, or of its playlist.
        endless = container.duration is None and not any(s.frames for s in container.streams.video)
        known_length = container.size > 0 and container.format.name != "hls"
        live = not scheme.startswith("http") or (endless and not known_length)
    return _opened(container, name=name, path=None, live=live, missing=None)


def _open_camera(number: int, *, timeout: tuple[float, float], options: dict[str, str]) -> OpenVideo:
    device, kind = str(number), "avfoundation"
    if sys.platform.startswith("linux"):
        device, kind = f"/dev/video{number}", "v4l2"
        if not Path(device).exists():
            there = sorted(str(path) for path in Path("/dev").glob("video*"))
            raise VideoError(f"there is no camera {device}; cameras here: {', '.join(there) or 'none'}.")
    elif sys.platform == "win32":
        raise VideoError(
            "Windows knows cameras by name, not by number: "
            "list them with `ffmpeg -list_devices true -f dshow -i dummy`, and pass a file or URL instead."
        )
    try:
        container = av.open(device, "r", format=kind, options=options, timeout=timeout)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            f"cannot open camera {device}: {reason(error)}. Check that no other program holds it."
        ) from error
    return _opened(container, name=f"camera {device}", path=None, live=True, missing=None)


def _opened(container: InputContainer, *, name: str, path: Path | None, live: bool, missing: str | None) -> OpenVideo:
    try:
        stream = _video_stream(container, name)
    except VideoError:
        container.close()
        raise
    # Use checksums, and stop at damage: but a decoder that mends pictures, and marks the mended ones, does better
    # unstopped. With more threads than one it mends, and so finds, less; and one stream takes one core.
    stop = "" if live or stream.codec_context.name in _MENDING else "+explode"
    stream.codec_context.options = {"err_detect": f"crccheck{stop}"}
    stream.thread_count = 1
    # An index counts what should be there; a header's frame count also counts what an edit list or a dropped
    # picture left out.
    indexed = "mp4" in container.format.name or container.format.name == "avi"
    claimed = len(stream.index_entries) if indexed else 0
    return OpenVideo(container, stream, name, path, live, claimed or None, missing)


def _video_stream(container: InputContainer, name: str) -> VideoStream:
    cover = av.stream.Disposition.attached_pic  # a song's cover is a picture, not a video
    streams = [s for s in container.streams.video if not s.disposition & cover]
    if not streams:
        kinds = sorted({"a cover picture" if s.type == "video" else s.type for s in container.streams})
        raise VideoError(f"{name} holds no video, only {' and '.join(kinds) or 'nothing'}; expected a video stream.")
    if streams[0].codec_context is None:
        raise VideoError(f"{name}: this FFmpeg has no decoder for its video; re-encode it, e.g. to H.264.")
    return streams[0]
