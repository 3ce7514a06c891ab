"""`Picture`: what `Preprocess` makes of a video, brought up to date only where a frame differs from the last."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.kernels import cpu
from saccade.preprocess import LUMA, Preprocess, check_frame
from saccade.video import Frame

ORDERS = {"rgb": 0, "bgr": 1, "grey": 2}  # as in kernels.h


class Picture:
    """One stream's network input, kept between frames.

    The rows are what `preprocess(frame)` gives, to rounding, and do not depend on the frames before: bit for bit they
    are those of a new picture given this frame. Every output pixel has its own weights and its own order of summing.

    Args:
        preprocess: how a frame becomes the input.
        source_size: (height, width) of every frame.
        isa: instruction set; the best this machine runs by default.

    Raises:
        InputError: there is no native engine, or it has no such instruction set.
    """

    def __init__(self, preprocess: Preprocess, source_size: tuple[int, int], isa: str | None = None) -> None:
        self.preprocess, self.source_size = preprocess, tuple(source_size)
        self.isa = cpu.choose_isa(isa)
        height, width = preprocess.input_size(source_size)
        resized, top, left = preprocess.geometry(source_size)
        self._rows = _padding(preprocess).expand(height, width, -1).clone()
        self._mask = torch.zeros(height * width, dtype=torch.uint8)
        tables = [
            _table(preprocess, source, target, slice(max(0, -offset), max(0, -offset) + size))
            for source, target, offset, size in zip(source_size, resized, (top, left), (height, width), strict=True)
        ]
        module = cpu.native_module()
        assert module is not None, cpu.why_missing()  # choose_isa refused otherwise
        rows, columns = (module.AxisTable(**table) for table in tables)
        self._native = module.Picture(
            self.isa,
            source=self.source_size,
            size=(height, width),
            corner=(max(0, top), max(0, left)),
            rows=rows,
            columns=columns,
            order=ORDERS[preprocess.channels],
            clip=preprocess.interpolation == "bicubic",
            luma=LUMA,
            scale=preprocess.scale,
            mean=_per_channel(preprocess, preprocess.mean),
            deviation=_per_channel(preprocess, preprocess.std),
            out=self._rows.data_ptr(),
            mask=self._mask.data_ptr(),
        )

    def update(self, frame: Frame | npt.NDArray[np.uint8] | Tensor) -> int:
        """Takes the next frame; returns how many positions were recomputed.

        Those are the positions under whose kernel a source pixel changed, and on the first frame all.

        Raises:
            InputError: not uint8 (H, W, 3), of another size, or not in the CPU's memory; nothing changes then.
        """
        data = check_frame(frame)
        if tuple(data.shape[:2]) != self.source_size:
            got, expected = ("x".join(map(str, size)) for size in (data.shape[:2], self.source_size))
            raise InputError(f"a frame of {got} pixels, expected {expected}; make a new picture for another source.")
        if isinstance(data, Tensor):
            if data.device.type != "cpu":
                raise InputError(f"a frame on {data.device}, expected it in the CPU's memory; move it with .cpu().")
            data = data.numpy()
        if data.strides[2] != 1 or (data.strides[1] != 3 and data.shape[1] > 1):
            data = np.ascontiguousarray(data)
        return int(self._native.update(data.ctypes.data, data.strides[0]))

    def reset(self) -> None:
        """Forgets the last frame; the next is computed whole."""
        self._native.reset()

    @property
    def rows(self) -> Tensor:
        """The input, float32 (h, w, C); the next update writes to it."""
        return self._rows

    @property
    def mask(self) -> Tensor:
        """uint8 (h * w): 1 where the last update recomputed; the next update writes to it."""
        return self._mask

    @property
    def nbytes(self) -> int:
        """Bytes kept between frames: the last source frame, the rows, the mask, the weights."""
        return int(self._native.nbytes) + self._rows.nbytes + self._mask.nbytes

    def __repr__(self) -> str:
        shape = "x".join(map(str, self._rows.shape))
        return f"Picture({shape} from {'x'.join(map(str, self.source_size))}, isa={self.isa!r})"


def _per_channel(preprocess: Preprocess, values: float | tuple[float, ...]) -> list[float]:
    return np.broadcast_to(values, preprocess.channel_count).tolist()


def _padding(preprocess: Preprocess) -> Tensor:
    pad, mean, std = (
        torch.tensor(_per_channel(preprocess, values), dtype=torch.float32)
        for values in (preprocess.pad_value, preprocess.mean, preprocess.std)
    )
    return pad.mul_(preprocess.scale).sub_(mean).div_(std)


def _table(preprocess: Preprocess, source: int, target: int, kept: slice) -> dict[str, object]:
    """Returns one axis' AxisTable, of the outputs `kept` among the `target` that the source is resampled to."""
    indices, weights = _identity(source) if source == target else _support(preprocess, source, target)
    indices, weights = indices[kept], weights[kept]
    used = weights != 0
    # An interior pixel may have weight 0 by chance: the supports are widened so that they never go back.
    first = np.minimum.accumulate(np.where(used, indices, source).min(axis=1)[::-1])[::-1]
    end = np.maximum.accumulate(np.where(used, indices + 1, 0).max(axis=1))
    taps = int((end - first).max())
    start = np.minimum(first, source - taps)
    dense = np.zeros((len(first), taps), np.float32)
    outputs, _ = np.nonzero(used)
    dense[outputs, indices[used] - start[outputs]] = weights[used]
    lists = {"start": start, "first": first, "end": end, "weights": dense.ravel()}
    return {"taps": taps} | {name: array.tolist() for name, array in lists.items()}


def _identity(size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    return np.arange(size)[:, None], np.ones((size, 1), np.float32)


def _support(preprocess: Preprocess, source: int, target: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Returns, both (target, n), the source pixels under each output pixel's kernel, and their weights.

    The weights are the preprocess' own, to the bit: those of pixels a period apart, longer than any kernel, are what it
    gives for a comb of ones, since its sums are then of one weight and zeros.
    """
    ratio = source / target
    reach = (2 if preprocess.interpolation == "bicubic" else 1) * (max(ratio, 1) if preprocess.antialias else 1)
    period = min(2 * math.ceil(reach) + 3, source)
    pixels = torch.arange(source)
    weights = [
        preprocess.resample((pixels % period == phases[:, None]).float()[:, None, None], (1, target))[:, 0, 0]
        for phases in torch.arange(period).split(256)  # combs of one pixel in thousands are large
    ]
    # From the first pixel that can be under the kernel on, one pixel of each phase.
    first = np.floor((np.arange(target)[:, None] + 0.5) * ratio - reach - 0.5).astype(np.int64)
    first = np.clip(first, 0, source - period)
    return first + (np.arange(period) - first) % period, torch.cat(weights).T.numpy()
