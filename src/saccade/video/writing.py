"""Writing frames to a video file."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import av
import numpy as np
import numpy.typing as npt
import torch
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from saccade.errors import VideoError
from saccade.video.frame import Frame, check_picture
from saccade.video.reading import VideoReader
from saccade.video.scheduling import same_scheduling
from saccade.video.sources import reason

Target = str | os.PathLike[str] | IO[bytes]
Picture = Frame | npt.NDArray[np.uint8]

_WITH_CRF = ("libx264", "libx264rgb", "libx265", "libvpx", "libvpx-vp9", "libaom-av1", "libsvtav1")
_WITH_QUALITY_SCALE = ("mpeg4", "mjpeg", "mpeg2video")
_GOOD_QUALITY = 3 * 118  # quantiser scale 3 of 31, in FFmpeg's lambda units
_BT601 = 6  # AVCOL_SPC_SMPTE170M


class VideoWriter:
    """Writes frames one by one; use it as a context manager, then an exception leaves a playable file.

    Subsampled pixel formats such as yuv420p hold even sizes only: a frame of odd height or width is padded by
    repeating its last row or column, and reading back gives the even size. pixel_format="yuv444p" keeps odd
    sizes, but many players and browsers do not show it.

    Equal frames and settings give equal files. Times are constant: frame n is shown at n / fps.

    Args:
        target: path, or a binary file open for writing (then `format` is needed; mp4 needs it seekable).
        fps: frames per second; 29.97 and 23.976 as floats are taken as meant, a Fraction is exact.
        codec: FFmpeg encoder, e.g. libx264, libx265, libvpx-vp9, mpeg4, mjpeg, ffv1 (lossless up to the pixel
            format; libx264rgb with pixel_format="rgb24" and crf=0 keeps every bit).
        crf: constant quality, less is better; encoders that have none (mpeg4, mjpeg, ffv1) use a fixed one.
        pixel_format: FFmpeg pixel format. YUV is written in BT.601, and says so.
        threads: encoder threads; another number may give another, equally good, file.
        format: container, e.g. "mp4" or "matroska"; None takes it from the path's extension.

    Attributes:
        frames_written: frames written so far.
        size: (height, width) in the file, None before the first frame.

    Raises:
        VideoError: the target cannot be written, or a setting is not possible; says which are.
    """

    def __init__(
        self,
        target: Target,
        *,
        fps: float | Fraction,
        codec: str = "libx264",
        crf: float | None = 23,
        pixel_format: str = "yuv420p",
        threads: int = 1,
        format: str | None = None,
    ) -> None:
        """Open the target and check every setting; no frame is needed for that."""
        self.frames_written = 0
        self.size: tuple[int, int] | None = None
        self._frame_shape: tuple[int, ...] = ()
        self._closed = False
        rate = _checked_rate(fps)
        _check_encoder(codec, pixel_format, crf, threads)
        self._path = None if isinstance(target, io.IOBase) or hasattr(target, "write") else Path(target)
        self._name = str(self._path or "the target")
        self._pixel_format = pixel_format
        self._container, self._stream = self._open(target, codec, rate, format)
        self._stream.pix_fmt = pixel_format
        self._stream.thread_count = threads
        self._stream.thread_type = "FRAME"  # slices would cost quality
        self._stream.options = {"crf": f"{crf:g}"} if crf is not None and codec in _WITH_CRF else {}
        if codec == "libx265":
            self._stream.options |= {"x265-params": "log-level=error"}
        if codec.startswith("libx264") and "AVX512" in torch.backends.cpu.get_cpu_capability():
            # x264's AVX-512 code gives other bytes for the same pictures now and then; its AVX2 code does not
            self._stream.options |= {"x264-params": "asm=avx2"}
        if codec in _WITH_QUALITY_SCALE:
            self._stream.codec_context.flags |= av.codec.context.Flags.qscale
            self._stream.codec_context.global_quality = _GOOD_QUALITY
        # Chroma covers this many pixels; av tells by rounding up.
        layout = av.VideoFormat(pixel_format, 8, 8)
        self._step = (8 // layout.chroma_height(8), 8 // layout.chroma_width(8))
        self._is_yuv = pixel_format.startswith(("yuv", "nv"))
        self._range = ColorRange.JPEG if pixel_format.startswith("yuvj") else ColorRange.MPEG
        if self._is_yuv:
            self._stream.codec_context.colorspace = _BT601
            self._stream.codec_context.color_range = int(self._range)
        self._time_base = 1 / rate
        self._reformatter = VideoReformatter()

    def _open(
        self, target: Target, codec: str, rate: Fraction, format: str | None
    ) -> tuple[OutputContainer, VideoStream]:
        if self._path is None and format is None:
            raise VideoError('writing to a file object needs the container: pass format="mp4", for example.')
        if self._path and self._path.is_dir():
            raise VideoError(f"{self._path} is a directory; name a file in it, e.g. {self._path / 'out.mp4'}.")
        name: Any = str(self._path) if self._path else target
        try:
            container = av.open(name, "w", format=format)
        except ValueError as error:
            shown = f"format {format!r}" if format else f"the extension of {self._name}"
            raise VideoError(
                f"{shown} is not a video container FFmpeg writes; use .mp4, .mkv, .webm, .avi or .ts, "
                'or pass format="mp4".'
            ) from error
        try:
            stream = cast(VideoStream, container.add_stream(codec, rate=rate))
        except ValueError as error:
            raise VideoError(f"{error}; use .mkv, which holds every codec, or another codec.") from error
        if self._path:
            try:
                self._path.open("wb").close()
            except OSError as error:
                raise VideoError(
                    f"cannot write {self._path}: {error.strerror}; "
                    "choose a file in an existing directory that you may write to."
                ) from error
        return container, stream

    def write(self, frame: Picture) -> None:
        """Append one frame, a `Frame` or a uint8 RGB array of shape (H, W, 3).

        Raises:
            VideoError: wrong shape or dtype, another size than the first frame, or the encoder fails.
                What was written before stays playable once the writer is closed.
        """
        if self._closed:
            raise VideoError(f"{self._name} is closed; open another VideoWriter to write more.")
        data = frame.data if isinstance(frame, Frame) else frame
        check_picture(data, what=f"frame {self.frames_written}")
        if self._frame_shape and data.shape != self._frame_shape:
            raise VideoError(
                f"frame {self.frames_written} has shape {data.shape}, the frames before had "
                f"{self._frame_shape}; a video has one size, so resize it first."
            )
        height, width, _ = data.shape
        padding = ((0, -height % self._step[0]), (0, -width % self._step[1]), (0, 0))
        padded = np.ascontiguousarray(np.pad(data, padding, mode="edge"))
        try:
            if not self._frame_shape:
                self._stream.height, self._stream.width = padded.shape[:2]
            self._encode(padded)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoError(
                f"cannot write frame {self.frames_written} ({width}x{height}) to {self._name}: "
                f"{reason(error)}; check the free space, and that the codec can have this size."
            ) from error
        self._frame_shape, self.size = data.shape, (padded.shape[0], padded.shape[1])
        self.frames_written += 1

    def _encode(self, data: npt.NDArray[np.uint8]) -> None:
        picture = av.VideoFrame.from_ndarray(data, format="rgb24")
        if self._is_yuv:
            picture = self._reformatter.reformat(
                picture,
                format=self._pixel_format,
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=self._range,
                threads=1,
            )
        picture.pts = self.frames_written
        picture.time_base = self._time_base
        with same_scheduling():
            packets = self._stream.encode(picture)
        self._container.mux(packets)

    def close(self) -> None:
        """Finish the file; harmless when it is closed already.

        Raises:
            VideoError: nothing was written (a path's empty file is removed), or finishing fails.
        """
        if self._closed:
            return
        self._closed = True
        if not self.frames_written:
            if self._path:
                self._path.unlink(missing_ok=True)
            raise VideoError(f"no frames were written to {self._name}; a video needs at least one.")
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoError(f"cannot finish {self._name}: {reason(error)}; check the free space.") from error

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file, whatever happened."""
        try:
            self.close()
        except VideoError:
            if error is None:  # else the first error is the one to see
                raise


def write_video(
    target: Target,
    frames: Iterable[Picture],
    *,
    fps: float | Fraction,
    codec: str = "libx264",
    crf: float | None = 23,
    pixel_format: str = "yuv420p",
    threads: int = 1,
    format: str | None = None,
) -> int:
    """Write frames to a video and return how many; arguments and errors as of `VideoWriter`.

    The target is opened, and every setting checked, before the first frame is asked for.
    """
    if isinstance(frames, VideoReader) and frames.path and not hasattr(target, "write"):
        path = Path(target)
        if path.exists() and path.samefile(frames.path):
            raise VideoError(f"{path} is the video being read; write to another file.")
    with VideoWriter(
        target, fps=fps, codec=codec, crf=crf, pixel_format=pixel_format, threads=threads, format=format
    ) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.frames_written


def _checked_rate(fps: float | Fraction) -> Fraction:
    good = isinstance(fps, int | float | Fraction) and not isinstance(fps, bool)
    if not good or not math.isfinite(fps) or not 0 < Fraction(fps).limit_denominator(1001) <= 100_000:
        raise VideoError(f"fps must be a positive number of frames per second, got {fps!r}.")
    if isinstance(fps, Fraction):
        return fps
    ntsc = Fraction(round(fps * 1.001) * 1000, 1001)  # 23.976, 29.97, 59.94 mean n * 1000 / 1001
    if abs(float(ntsc) - fps) < 0.005 and not float(fps).is_integer():
        return ntsc
    return Fraction(fps).limit_denominator(1001)


def _check_encoder(codec: str, pixel_format: str, crf: float | None, threads: int) -> None:
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise VideoError(f"threads must be an int >= 1, got {threads!r}.")
    if crf is not None and not (isinstance(crf, int | float) and 0 <= crf <= 63):
        raise VideoError(f"crf must be None or from 0 (best) to 51 (63 for VP9 and AV1), got {crf!r}.")
    try:
        encoder = av.Codec(codec, "w")
    except ValueError as error:
        raise VideoError(f"there is no encoder {codec!r}; use libx264, libx265, libvpx-vp9, mpeg4 or ffv1.") from error
    if encoder.type != "video":
        raise VideoError(f"{codec} encodes {encoder.type}; use a video encoder, e.g. libx264.")
    known = [format.name for format in encoder.video_formats or []]
    if known and pixel_format not in known:
        raise VideoError(f"{codec} does not take pixel format {pixel_format!r}; it takes {', '.join(known)}.")
