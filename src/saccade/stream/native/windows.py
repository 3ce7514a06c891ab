"""Steps that read a window, as the engine's: convolution, pooling, interpolation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from saccade.graph.plan import Step
from saccade.kernels.call import Call
from saccade.kernels.rule import only_value
from saccade.kernels.window import is_transposed, scales_of, spatial_rank
from saccade.masks import ValueSpec
from saccade.stream.native.builder import Builder, UnfitError

Axes = tuple[int, int, int]
Window = tuple[int, Axes, Axes, Axes, Axes, Axes, Axes]
ONES: Axes = (1, 1, 1)
ZEROS: Axes = (0, 0, 0)


def three(sizes: Any, rank: int, *, fill: int) -> Axes:
    """Returns sizes over depth, height and width, `fill` for the axes the operator does not have."""
    given = [sizes] * rank if isinstance(sizes, int) else list(sizes)
    if len(given) == 1:
        given = given * rank
    full = [fill] * (3 - rank) + [int(size) for size in given]
    return full[0], full[1], full[2]


def spatial(spec: ValueSpec, rank: int) -> tuple[int, Axes]:
    """Returns the batch and the sizes over depth, height and width of a value; raises UnfitError for another layout."""
    axis = len(spec.shape) - rank - 1
    if spec.channel_axis != axis or axis not in (0, 1):
        raise UnfitError("its channels are not where a window's are")
    return (spec.shape[0] if axis == 1 else 1), three(spec.shape[axis + 1 :], rank, fill=1)


def make_window(
    source: ValueSpec, out: ValueSpec, rank: int, kernel: Any, stride: Any, pad: Any, dilation: Any
) -> Window:
    """Returns a window as the engine takes it."""
    batch, size = spatial(source, rank)
    return (
        batch,
        size,
        spatial(out, rank)[1],
        three(kernel, rank, fill=1),
        three(stride, rank, fill=1),
        three(pad, rank, fill=0),
        three(dilation, rank, fill=1),
    )


def padding_of(call: Call, kernel: Sequence[int], rank: int) -> list[int]:
    """Returns a convolution's padding; "same" is written out, and refused where it is not the same on both sides."""
    padding = call.arguments["padding"]
    if padding == "valid":
        return [0] * rank
    if padding == "same":
        dilation = three(call.arguments["dilation"], rank, fill=1)[3 - rank :]
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        if any(size % 2 for size in total):
            raise UnfitError("its padding is not the same on both sides")
        return [size // 2 for size in total]
    return list(three(padding, rank, fill=0)[3 - rank :])


def convolution(builder: Builder, step: Step) -> tuple[str, tuple[Any, ...]]:
    """Returns the program's method for a convolution and what it takes behind the common arguments."""
    call = step.calls[0]
    source, out = builder.spec(only_value(call)), builder.spec(step.outputs[0])
    rank = spatial_rank(call)
    weight = builder.weight(call.arguments["weight"].name)
    bias = call.arguments["bias"]
    kernel = list(weight.shape[2:])
    window = make_window(
        source,
        out,
        rank,
        kernel,
        call.arguments["stride"],
        padding_of(call, kernel, rank),
        call.arguments["dilation"],
    )
    numbers = builder.numbers(weight)
    shift = 0 if bias is None else builder.numbers(builder.weight(bias.name))
    return "convolve", (window, call.arguments["groups"], int(is_transposed(call)), numbers, shift)


def linear(builder: Builder, step: Step) -> tuple[str, tuple[Any, ...]]:
    """Returns a linear layer as a convolution with a kernel of 1."""
    call = step.calls[0]
    source, out = builder.spec(only_value(call)), builder.spec(step.outputs[0])
    if source.channel_axis != len(source.shape) - 1:
        raise UnfitError("its channels do not lie along the last axis")
    size = (1, 1, out.positions)
    window: Window = (1, size, size, ONES, ONES, ZEROS, ONES)
    bias = call.arguments["bias"]
    weight = builder.numbers(builder.weight(call.arguments["weight"].name))
    shift = 0 if bias is None else builder.numbers(builder.weight(bias.name))
    return "convolve", (window, 1, 0, weight, shift)


def pooling(builder: Builder, step: Step) -> tuple[str, tuple[Any, ...]]:
    """Returns a maximum or average pooling."""
    call = step.calls[0]
    source, out = builder.spec(only_value(call)), builder.spec(step.outputs[0])
    rank = spatial_rank(call)
    kind = 0 if "max" in call.base else 1
    arguments = call.arguments
    stride = arguments["stride"] or arguments["kernel_size"]
    window = make_window(
        source, out, rank, arguments["kernel_size"], stride, arguments["padding"], arguments.get("dilation", 1)
    )
    include = int(arguments.get("count_include_pad", True))
    return "pool", (window, kind, include, int(arguments.get("divisor_override") or 0))


def adaptive_pooling(builder: Builder, step: Step) -> tuple[str, tuple[Any, ...]]:
    """Returns an adaptive average pooling as means over listed positions: its windows may differ in size."""
    call = step.calls[0]
    source, out = builder.spec(only_value(call)), builder.spec(step.outputs[0])
    rank = spatial_rank(call)
    batch, before = spatial(source, rank)
    after = spatial(out, rank)[1]
    # Along an axis of n samples, window i of m is [floor(i n / m), ceil((i + 1) n / m)).
    windows = [[range(i * n // m, -(-(i + 1) * n // m)) for i in range(m)] for n, m in zip(before, after, strict=True)]
    rows = torch.arange(batch * math.prod(before)).reshape(batch, *before)
    lists = [
        rows[b][d.start : d.stop, h.start : h.stop, w.start : w.stop].reshape(-1)
        for b in range(batch)
        for d, h, w in itertools.product(*windows)
    ]
    members = torch.nn.utils.rnn.pad_sequence(lists, batch_first=True, padding_value=-1)
    return "reduce", (1, builder.indices(members), members.shape[1])


def interpolation(builder: Builder, step: Step) -> tuple[str, tuple[Any, ...]]:
    """Returns a linear interpolation with its two taps per axis, at torch's sample positions."""
    call = step.calls[0]
    source, out = builder.spec(only_value(call)), builder.spec(step.outputs[0])
    rank = spatial_rank(call)
    batch, before = spatial(source, rank)
    after = spatial(out, rank)[1]
    scales = [None] * (3 - rank) + scales_of(call, rank)
    aligned = bool(call.arguments["align_corners"])
    tables = [_taps(a, b, aligned, scale) for a, b, scale in zip(before, after, scales, strict=True)]
    low, high, weight = (tuple(table[i] for table in tables) for i in range(3))
    return "interpolate", (
        batch,
        before,
        after,
        tuple(builder.indices(index) for index in low),
        tuple(builder.indices(index) for index in high),
        tuple(builder.numbers(number) for number in weight),
    )


def _taps(before: int, after: int, aligned: bool, scale: float | None) -> tuple[Tensor, Tensor, Tensor]:
    """Returns lower and upper sample and the upper's weight; float32 arithmetic as torch's, so that weights agree."""
    index = torch.arange(after, dtype=torch.float32)
    if aligned:
        ratio = torch.tensor((before - 1) / (after - 1) if after > 1 else 0.0, dtype=torch.float32)
        at = index * ratio
    else:
        ratio = torch.tensor(1.0 / scale if scale else before / after, dtype=torch.float32)
        at = ((index + 0.5) * ratio - 0.5).clamp(min=0.0)
    low = at.floor().long().clamp(max=before - 1)
    high = (low + 1).clamp(max=before - 1)
    weight = (at - low).clamp(0.0, 1.0)
    return low, torch.where(weight == 0, low, high), weight
