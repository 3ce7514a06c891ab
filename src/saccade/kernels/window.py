"""Operators that read a window: convolution, transposed convolution, pooling, interpolation.

The support is found by running the same operator on the mask itself, with one channel and weights of one, so that
kernel, stride, padding, dilation and rounding rules are by construction those of the operator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.kernels.call import Call, Ref
from saccade.kernels.rule import Masks, Rule, Scope, only_value, read_by
from saccade.masks import ValueSpec, on_axis, resize_support

CONVOLUTIONS = frozenset("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution".split())
POOLS = frozenset(
    "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_avg_pool3d _adaptive_avg_pool2d".split()
)
INTERPOLATIONS = frozenset(["upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"])


def is_transposed(call: Call) -> bool:
    """Returns whether a convolution is a transposed one."""
    return "transpose" in call.base or bool(call.arguments.get("transposed", False))


def spatial_rank(call: Call) -> int:
    """Returns over how many axes the window extends."""
    for digit in "123":
        if f"{digit}d" in call.base:
            return int(digit)
    return len(call.arguments["stride"])


def _window_axis(call: Call, scope: Scope, shape: tuple[int, ...]) -> int | None:
    return len(shape) - spatial_rank(call) - 1


def _input_mask(call: Call, masks: Masks, scope: Scope) -> Tensor:
    name = only_value(call)
    spec = scope.specs[name]
    return on_axis(masks[name], spec, len(spec.shape) - spatial_rank(call) - 1)


def _convolution_support(call: Call, masks: Masks, scope: Scope, out: ValueSpec) -> Tensor:
    return _of_ones(call, scope, _input_mask(call, masks, scope).float()) > 0.5


def _of_ones(call: Call, scope: Scope, mask: Tensor) -> Tensor:
    """Returns the convolution of a mask, one channel, by weights of one."""
    weight: Ref = call.arguments["weight"]
    ones = torch.ones(1, 1, *scope.weights[weight.name][2:])
    probe = call.replace(bias=None, groups=1)
    convolved: Tensor = probe.run(lambda ref: ones if ref == weight else mask)
    return convolved


def _convolution_reads(call: Call, wanted: Tensor, scope: Scope, out: ValueSpec) -> Masks:
    shape = _input_mask(call, _whole(call, scope), scope).shape
    return _as_read(call, scope, read_by(lambda probe: _of_ones(call, scope, probe), shape, wanted))


def _whole(call: Call, scope: Scope) -> Masks:
    return {only_value(call): scope.specs[only_value(call)].full_mask(True)}


def _as_read(call: Call, scope: Scope, mask: Tensor) -> Masks:
    """Returns a mask of a window operator's input, which has channels where the window does, as the value's own."""
    name = only_value(call)
    spec = scope.specs[name]
    axis = len(spec.shape) - spatial_rank(call) - 1
    return {name: on_axis(mask, ValueSpec(spec.shape, spec.dtype, axis), spec.channel_axis)}


def _refuse_convolution(call: Call, scope: Scope) -> str:
    if call.arguments["weight"].kind != "weight":
        return "its weights are computed at run time"
    if call.arguments["bias"] is not None and call.arguments["bias"].kind != "weight":
        return "its bias is computed at run time"
    return ""


def _convolution_macs(call: Call, scope: Scope, shape: tuple[int, ...]) -> int:
    weight = scope.weights[call.arguments["weight"].name]
    per_position = math.prod(weight[1:])
    if is_transposed(call):
        return scope.specs[only_value(call)].numel * per_position
    return math.prod(shape) * per_position


def _pool_support(call: Call, masks: Masks, scope: Scope, out: ValueSpec) -> Tensor:
    mask = _input_mask(call, masks, scope).float()
    return call.run(lambda ref: mask) > 0


def _pool_reads(call: Call, wanted: Tensor, scope: Scope, out: ValueSpec) -> Masks:
    shape = _input_mask(call, _whole(call, scope), scope).shape
    if "max" in call.base:
        return _as_read(call, scope, _under_windows(call, wanted, shape))
    return _as_read(call, scope, read_by(lambda probe: call.run(lambda ref: probe), shape, wanted))


def _under_windows(call: Call, wanted: Tensor, shape: Sequence[int]) -> Tensor:
    """Returns what of an input lies under a max pooling's wanted windows: a transposed convolution by ones, cut out."""
    rank = spatial_rank(call)
    given = call.arguments
    kernel, stride, padding, dilation = (
        list(setting) * (1 if len(setting) == rank else rank)
        for setting in (
            given["kernel_size"],
            given["stride"] or given["kernel_size"],
            given["padding"],
            given["dilation"],
        )
    )
    spread = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    read = spread(wanted.float(), torch.ones(1, 1, *kernel), stride=stride, dilation=dilation)
    ends = []
    for before, size, have in zip(padding[::-1], shape[::-1], read.shape[::-1], strict=False):
        ends += [-before, size - (have - before)]
    return F.pad(read, ends) > 0.5


def _pool_macs(call: Call, scope: Scope, shape: tuple[int, ...]) -> int:
    if "adaptive" in call.base:
        return scope.specs[only_value(call)].numel
    kernel: list[int] = list(call.arguments["kernel_size"])
    rank = spatial_rank(call)
    return math.prod(shape) * math.prod(kernel if len(kernel) == rank else kernel * rank)


def scales_of(call: Call, rank: int) -> list[float | None]:
    """Returns the scale factor an interpolation was given for each axis, None where it was given a size."""
    given: Any = call.arguments.get("scale_factors")
    if given is None:
        given = [call.arguments.get(name) for name in ("scales", "scales_d", "scales_h", "scales_w")]
        given = [scale for scale in given if scale is not None]
    return list(given) if given and len(given) == rank else [None] * rank


def _interpolation_support(call: Call, masks: Masks, scope: Scope, out: ValueSpec) -> Tensor:
    mask = _input_mask(call, masks, scope).float()
    rank = spatial_rank(call)
    align = bool(call.arguments["align_corners"])
    for index, scale in enumerate(scales_of(call, rank)):
        dim = mask.dim() - rank + index
        pick = resize_support(mask.shape[dim], out.shape[dim], align_corners=align, scale=scale)
        mask = (mask.movedim(dim, -1) @ pick.float().T).movedim(-1, dim)
    return mask > 0.5


def _interpolation_reads(call: Call, wanted: Tensor, scope: Scope, out: ValueSpec) -> Masks:
    before = _input_mask(call, _whole(call, scope), scope).shape
    rank, mask = spatial_rank(call), wanted.float()
    for index, scale in enumerate(scales_of(call, rank)):
        dim = mask.dim() - rank + index
        align = bool(call.arguments["align_corners"])
        pick = resize_support(before[dim], out.shape[dim], align_corners=align, scale=scale)
        mask = (mask.movedim(dim, -1) @ pick.float()).movedim(-1, dim)
    return _as_read(call, scope, mask > 0.5)


def _interpolation_macs(call: Call, scope: Scope, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * 2 ** spatial_rank(call)


CONVOLUTION = Rule(
    "convolution",
    CONVOLUTIONS,
    _convolution_support,
    _window_axis,
    _convolution_macs,
    _refuse_convolution,
    reads=_convolution_reads,
)
POOLING = Rule("pooling", POOLS, _pool_support, _window_axis, _pool_macs, reads=_pool_reads)
INTERPOLATION = Rule(
    "interpolation",
    INTERPOLATIONS,
    _interpolation_support,
    _window_axis,
    _interpolation_macs,
    reads=_interpolation_reads,
)
