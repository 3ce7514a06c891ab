"""From a video frame to a network's input: one fixed, local function, saved beside the weights.

Nothing here looks at the whole frame (no histogram, no mean of the picture): an output pixel depends only on
the source pixels under its interpolation kernel. So where the source did not change, nor does the input,
bit for bit, and a stream may skip it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from saccade.errors import FileFormatError, InputError
from saccade.video.frame import Frame

Fit = Literal["resize", "letterbox", "crop"]
Channels = Literal["rgb", "bgr", "grey"]
Interpolation = Literal["bilinear", "bicubic", "nearest"]

FORMAT, VERSION = "saccade-preprocess", 1
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Geometry(NamedTuple):
    """Where a source lands in the input: resized to `resized` (height, width), its corner at (top, left)."""

    resized: tuple[int, int]
    top: int
    left: int


@dataclass(frozen=True)
class Preprocess:
    """How a frame becomes a network's input: x = (v * scale - mean) / std, after fitting it to `size`.

    Args:
        size: (height, width) of the input; None keeps the source's.
        fit: "resize" stretches to `size`; "letterbox" keeps the shape and pads around it, centred; "crop"
            resizes until it covers size / crop_fraction, then cuts out the centre (as timm does to evaluate).
        crop_fraction: how much of the resized frame's shorter side "crop" keeps, in (0, 1].
        channels: order of the input's channels; "grey" is one, the BT.601 luma 0.299 R + 0.587 G + 0.114 B.
        scale: factor on the 0..255 values.
        mean: subtracted per channel, after `scale`; one number serves every channel.
        std: divides per channel; one number serves every channel.
        pad_value: letterbox colour in source units 0..255, one number or one per channel of `channels`.
        interpolation: "bilinear", "bicubic" (clipped to 0..255 afterwards) or "nearest".
        antialias: average over the source when shrinking (as PIL does; OpenCV does not); not for "nearest".

    Raises:
        ValueError: a field is not possible; says which and why.
    """

    size: tuple[int, int] | None = None
    fit: Fit = "resize"
    crop_fraction: float = 1.0
    channels: Channels = "rgb"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    pad_value: tuple[float, ...] | float = 0.0
    interpolation: Interpolation = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        """Check every field."""
        for name, choices in (("fit", Fit), ("channels", Channels), ("interpolation", Interpolation)):
            value = getattr(self, name)
            if value not in get_args(choices):
                raise ValueError(f"Preprocess.{name} must be one of {get_args(choices)}, got {value!r}.")
        if self.size is not None:
            object.__setattr__(self, "size", _size(self.size, what="Preprocess.size"))
        elif self.fit != "resize":
            raise ValueError(f"Preprocess.fit={self.fit!r} needs a size (height, width), got None.")
        for name in ("mean", "std"):
            object.__setattr__(self, name, self._per_channel(name, getattr(self, name)))
        if isinstance(self.pad_value, Sequence):
            object.__setattr__(self, "pad_value", self._per_channel("pad_value", self.pad_value))
        else:
            object.__setattr__(self, "pad_value", _number("pad_value", self.pad_value))
        for name in ("scale", "crop_fraction"):
            object.__setattr__(self, name, _number(name, getattr(self, name)))
        if self.scale <= 0:
            raise ValueError(f"Preprocess.scale must be positive, got {self.scale!r}.")
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"Preprocess.crop_fraction must be in (0, 1], got {self.crop_fraction!r}.")
        if self.crop_fraction != 1 and self.fit != "crop":
            raise ValueError(f'Preprocess.crop_fraction is for fit="crop" only, got fit={self.fit!r}.')
        if min(self.std) <= 0:
            raise ValueError(f"Preprocess.std must be positive, got {self.std!r}.")
        if not isinstance(self.antialias, bool):
            raise ValueError(f"Preprocess.antialias must be True or False, got {self.antialias!r}.")

    @property
    def channel_count(self) -> int:
        """Channels of the input: 1 for grey, else 3."""
        return 1 if self.channels == "grey" else 3

    def input_size(self, source_size: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) of the input made from a source of this (height, width)."""
        return self.size or _size(source_size, what="source_size")

    def __call__(self, frame: Frame | npt.NDArray[np.uint8] | torch.Tensor) -> torch.Tensor:
        """Return the input, float32 of shape (1, C, h, w), from a frame of (H, W, 3) uint8 RGB.

        Raises:
            InputError: not uint8, or not of shape (H, W, 3).
        """
        x = self._select_channels(_tensor(check_frame(frame)).permute(2, 0, 1)[None])
        x = self._fit(x).mul_(self.scale)  # x is ours: selecting the channels copied
        return x.sub_(_column(self.mean, x)).div_(_column(self.std, x)).contiguous()

    def to_source(self, boxes: torch.Tensor, source_size: tuple[int, int]) -> torch.Tensor:
        """Return boxes, (..., 4) as xyxy in input pixels, in pixels of a source of (height, width).

        Pixel edges are whole numbers: the whole source is (0, 0, width, height). Nothing is clipped.

        Raises:
            InputError: the last dimension is not 4.
        """
        if boxes.ndim == 0 or boxes.shape[-1] != 4:
            raise InputError(f"boxes must have shape (..., 4) as xyxy, got {tuple(boxes.shape)}.")
        height, width = _size(source_size, what="source_size")
        (rows, columns), top, left = self.geometry((height, width))
        boxes = boxes if boxes.is_floating_point() else boxes.float()
        offset = boxes.new_tensor([left, top, left, top])
        return (boxes - offset) * boxes.new_tensor([width / columns, height / rows] * 2)

    def geometry(self, source_size: tuple[int, int]) -> Geometry:
        """Return where a source of (height, width) lands in the input; "crop" gives negative corners."""
        height, width = _size(source_size, what="source_size")
        if self.size is None:
            return Geometry((height, width), 0, 0)
        rows, columns = self.size
        if self.fit == "resize":
            return Geometry((rows, columns), 0, 0)
        if self.fit == "letterbox":
            factor = min(rows / height, columns / width)
            resized = (max(1, round(height * factor)), max(1, round(width * factor)))
            return Geometry(resized, (rows - resized[0]) // 2, (columns - resized[1]) // 2)
        tall, wide = (math.floor(n / self.crop_fraction) for n in (rows, columns))
        if tall * width >= wide * height:  # height decides; the other side rounds down, as in torchvision
            resized = (tall, max(wide, tall * width // height))
        else:
            resized = (max(tall, wide * height // width), wide)
        return Geometry(resized, -round((resized[0] - rows) / 2), -round((resized[1] - columns) / 2))

    def to_json(self) -> str:
        """Return this as JSON text, versioned."""
        return json.dumps({"format": FORMAT, "version": VERSION} | dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what `to_json` wrote.

        Raises:
            FileFormatError: not JSON, another format or version, an unknown, missing or impossible field.
        """
        return cls._parse(text, where="preprocess JSON")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_json` to a file; raises FileFormatError where that is not possible."""
        try:
            Path(path).write_text(self.to_json(), encoding="utf-8")
        except OSError as error:
            raise FileFormatError(f"cannot write {path}: {error.strerror}; choose another path.") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return what `save` wrote; raises FileFormatError as `from_json`, or if the file cannot be read."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise FileFormatError(
                f"cannot read {path}: {error.strerror}; expected a file that Preprocess.save wrote."
            ) from error
        except UnicodeDecodeError as error:
            raise FileFormatError(f"{path} is not text; expected a file that Preprocess.save wrote.") from error
        return cls._parse(text, where=str(path))

    @classmethod
    def _parse(cls, text: str, *, where: str) -> Self:
        hint = "Write it again with Preprocess.save."
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FileFormatError(f"{where} is not JSON ({error}); it is damaged or another kind. {hint}") from error
        got = data.get("format") if isinstance(data, dict) else type(data).__name__
        if got != FORMAT:
            raise FileFormatError(f'{where}: expected a JSON object with "format": "{FORMAT}", got {got!r}. {hint}')
        if data.get("version") != VERSION:
            raise FileFormatError(
                f"{where}: version {data.get('version')!r}, this Saccade reads version {VERSION}; "
                "update Saccade, or write the file again with this one."
            )
        names = {f.name for f in dataclasses.fields(cls)}
        fields = {k: v for k, v in data.items() if k not in ("format", "version")}
        if wrong := sorted(fields.keys() ^ names):
            raise FileFormatError(f"{where}: unknown or missing fields {wrong}; expected {sorted(names)}. {hint}")
        try:
            return cls(**fields)
        except (ValueError, TypeError) as error:
            raise FileFormatError(f"{where}: {error} {hint}") from error

    def _per_channel(self, name: str, values: Any) -> tuple[float, ...]:
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise ValueError(f"Preprocess.{name} must be a tuple of numbers, got {values!r}.")
        if len(values) not in (1, self.channel_count):
            raise ValueError(
                f"Preprocess.{name} must hold 1 or {self.channel_count} numbers for channels="
                f"{self.channels!r}, got {len(values)}: {values!r}."
            )
        return tuple(_number(name, value) for value in values)

    def _select_channels(self, x: torch.Tensor) -> torch.Tensor:
        """Return float32 (1, C, H, W) in 0..255 from uint8 (1, 3, H, W)."""
        if self.channels == "grey":
            r, g, b = (x[:, i : i + 1].float() for i in range(3))
            return r * LUMA[0] + g * LUMA[1] + b * LUMA[2]
        x = x.flip(1) if self.channels == "bgr" else x
        return x.to(torch.float32, memory_format=torch.contiguous_format)

    def _fit(self, x: torch.Tensor) -> torch.Tensor:
        if self.size is None:
            return x
        (rows, columns), top, left = self.geometry((x.shape[2], x.shape[3]))
        if (rows, columns) != x.shape[2:]:
            x = self._resize(x, (rows, columns))
        height, width = self.size
        if self.fit == "crop":
            return x[:, :, -top : -top + height, -left : -left + width]
        if (rows, columns) == (height, width):
            return x
        values = self.pad_value if isinstance(self.pad_value, tuple) else (self.pad_value,)
        padded = _column(values, x).expand(1, x.shape[1], height, width).clone()
        padded[:, :, top : top + rows, left : left + columns] = x
        return padded

    def _resize(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        x = self.resample(x, size)
        return x.clamp(0, 255) if self.interpolation == "bicubic" else x

    def resample(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Return x, float32 (B, C, H, W), at `size` (height, width): each pixel a weighted sum, nothing clipped."""
        if self.interpolation == "nearest":
            return F.interpolate(x, size=size, mode="nearest-exact")
        # torch 2.13 fills a one-pixel-wide antialiased result with its first row; a one-pixel-high one is right.
        turned = size[1] == 1 and self.antialias
        if turned:
            x, size = x.transpose(2, 3).contiguous(), (1, size[0])
        # When enlarging, antialias=True is plain interpolation (for bicubic with PIL's kernel, a = -0.5).
        x = F.interpolate(x, size=size, mode=self.interpolation, align_corners=False, antialias=self.antialias)
        return x.transpose(2, 3) if turned else x


def _column(values: tuple[float, ...], like: torch.Tensor) -> torch.Tensor:
    return like.new_tensor(values).view(1, -1, 1, 1)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"Preprocess.{name} must be a finite number, got {value!r}.")
    return float(value)


def _size(value: Any, *, what: str) -> tuple[int, int]:
    good = isinstance(value, Sequence) and len(value) == 2
    if not good or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in value):
        raise ValueError(f"{what} must be (height, width), two ints of at least 1, got {value!r}.")
    return cast("tuple[int, int]", tuple(value))


def check_frame(frame: Frame | npt.NDArray[np.uint8] | torch.Tensor) -> npt.NDArray[np.uint8] | torch.Tensor:
    """Return a frame's pixels, uint8 (H, W, 3), where they lie; raise InputError where it is something else."""
    data: Any = frame.data if isinstance(frame, Frame) else frame
    if not isinstance(data, np.ndarray | torch.Tensor):
        raise InputError(
            f"a frame is a Frame, a numpy array or a tensor of (H, W, 3) uint8, got {type(data).__name__}."
        )
    if data.ndim != 3 or data.shape[2] != 3 or 0 in data.shape:
        raise InputError(f"a frame has shape (H, W, 3), got {tuple(data.shape)}; channels come last.")
    if data.dtype not in (np.uint8, torch.uint8):
        raise InputError(f"a frame is uint8 in 0..255, got {data.dtype}; convert it first.")
    return data


def _tensor(data: npt.NDArray[np.uint8] | torch.Tensor) -> torch.Tensor:
    if isinstance(data, torch.Tensor):
        return data
    plain = data.flags.writeable and all(stride > 0 for stride in data.strides)
    return torch.from_numpy(data if plain else data.copy())
