"""A convolution module's arithmetic apart from the module: how its input is padded, and the call on what is padded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Geometry(NamedTuple):
    """Stride, padding and dilation of a layer, one number per spatial axis."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]


def sharing_weights(kind: Any, conv: Any, **others: Any) -> Any:
    """Returns a convolution of another class with the sizes of `conv` and its very weights."""
    with torch.device("meta"):
        layer = kind(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            groups=conv.groups,
            padding_mode=conv.padding_mode,
            **others,
        )
    layer.weight, layer.bias = conv.weight, conv.bias
    return layer


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, groups: int = 1) -> Tensor:
    """Returns the convolution of x (N, C, H, W) or (N, C, D, H, W)."""
    run = F.conv2d if x.dim() == 4 else F.conv3d
    return run(x, weight, bias, geometry.stride, geometry.padding, geometry.dilation, groups)


def pad(x: Tensor, conv: Any, mode: str, *, same: bool = False) -> tuple[Tensor, Geometry]:
    """Returns the input padded where a convolution cannot do that itself, and the geometry on it.

    Args:
        x: (N, C, H, W) or (N, C, D, H, W).
        conv: an `nn.Conv2d` or `nn.Conv3d`, or what has their attributes.
        mode: how it pads, as `conv.padding_mode`.
        same: pad to ceil(size / stride) outputs, as TensorFlow's "same" does, whatever `conv` says.
    """
    rank = len(conv.kernel_size)
    stride, dilation = list(conv.stride), list(conv.dilation)
    around = list(conv._reversed_padding_repeated_twice)  # last axis first, both sides each
    if same:
        around = []
        for size, kernel, step, gap in reversed(
            list(zip(x.shape[2:], conv.kernel_size, stride, dilation, strict=True))
        ):
            total = max((math.ceil(size / step) - 1) * step + (kernel - 1) * gap + 1 - size, 0)
            around += [total // 2, total - total // 2]
    if mode != "zeros":
        return F.pad(x, around, mode=mode), Geometry(stride, [0] * rank, dilation)
    if around[0::2] == around[1::2]:
        return x, Geometry(stride, around[::-2], dilation)
    return F.pad(x, around), Geometry(stride, [0] * rank, dilation)


def output_size(size: Sequence[int], conv: Any, *, same: bool = False) -> tuple[int, ...]:
    """Returns the sizes of a convolution's output along its axes, the input's being `size`; `same` as of `pad`."""
    if same:
        return tuple(math.ceil(n / step) for n, step in zip(size, conv.stride, strict=True))
    around = conv._reversed_padding_repeated_twice  # last axis first, both sides each
    padded = [n + first + last for n, first, last in zip(size, around[-2::-2], around[-1::-2], strict=True)]
    return sizes_on(padded, conv.kernel_size, Geometry(conv.stride, [0] * len(padded), conv.dilation))


def sizes_on(size: Sequence[int], kernel: Sequence[int], geometry: Geometry) -> tuple[int, ...]:
    """Returns the sizes of the output along its axes of a convolution with this kernel and geometry."""
    axes = zip(size, kernel, *geometry, strict=True)
    return tuple((n + 2 * around - gap * (side - 1) - 1) // step + 1 for n, side, step, around, gap in axes)
