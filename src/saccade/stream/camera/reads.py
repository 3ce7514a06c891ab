"""Which positions an operator's result reads, axis by axis, where the picture's two axes stay two axes.

An operator treats a moved picture as it treated the picture before when result position q reads input positions i(q),
the same everywhere but for the place: i(q + d) = i(q) + step * d. At the edges a window reads padding; there, what is
read at q and what was read at q + d differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from saccade.kernels.call import Call
from saccade.kernels.elementwise import ELEMENTWISE
from saccade.kernels.gated import GATED_CONVOLUTION
from saccade.kernels.geometry import dimension_groups
from saccade.kernels.lines import LINEAR, NORMALISATION, REDUCTION, normalised_dims, reduced_dims
from saccade.kernels.movement import PERMUTES, RESHAPES
from saccade.kernels.rule import Scope
from saccade.kernels.table import find_rule
from saccade.kernels.window import CONVOLUTION, INTERPOLATION, POOLING, is_transposed, scales_of, spatial_rank
from saccade.masks import ValueSpec

Axes = tuple[int, int]
NONE = -(2**30)  # reads nothing there, not even padding


class FixedError(Exception):
    """The operator is tied to places in the picture; the message says how."""


@dataclass(frozen=True, eq=False)
class Reads:
    """What one axis of a result reads along the same axis of an input.

    Attributes:
        index: (result size, reads per position) int64; outside of the input's range is padding, `NONE` nothing.
        step: input positions per result position.
    """

    index: Tensor
    step: Fraction

    @classmethod
    def same(cls, size: int) -> Reads:
        """Returns reads of the position itself."""
        return cls(torch.arange(size)[:, None], Fraction(1))


@dataclass(frozen=True, eq=False)
class Mapped:
    """Where an input's two axes are in the result, and what the result reads along them."""

    axes: Axes
    reads: tuple[Reads, Reads]


def map_axes(call: Call, name: str, axes: Axes, scope: Scope, out: ValueSpec) -> Mapped:
    """Returns how a call's result reads an input along the picture's axes.

    Args:
        call: the call.
        name: which of the values it reads.
        axes: that value's vertical and horizontal axis.
        scope: the plan's.
        out: the result's spec.

    Raises:
        FixedError: the operator is tied to places in the picture, or is not known not to be.
    """
    rule = find_rule(call)
    source = scope.specs[name]
    if rule is ELEMENTWISE:
        shift = len(out.shape) - len(source.shape)
        return _same(source, axes, (axes[0] + shift, axes[1] + shift), out)
    if rule in (CONVOLUTION, GATED_CONVOLUTION, POOLING, INTERPOLATION):
        _check_window(call, source, axes)
        window = {CONVOLUTION.family: _convolution, POOLING.family: _pooling, INTERPOLATION.family: _interpolation}
        find = window.get(rule.family, _convolution)
        reads = [find(call, scope, axis, source.shape[axes[axis]], out.shape[axes[axis]]) for axis in (0, 1)]
        return Mapped(axes, (reads[0], reads[1]))
    if rule is LINEAR and len(source.shape) - 1 not in axes:
        return _same(source, axes, axes, out)
    if rule is NORMALISATION:
        if set(normalised_dims(call, len(source.shape))) & set(axes):
            raise FixedError(f"{call.base} along the picture")
        return _same(source, axes, axes, out)
    if rule is REDUCTION:
        dims = reduced_dims(call, len(source.shape))
        if set(dims) & set(axes):
            raise FixedError(f"{call.base} over the picture")
        gone = 0 if len(out.shape) == len(source.shape) else 1
        top, left = (axis - gone * sum(dim < axis for dim in dims) for axis in axes)
        return _same(source, axes, (top, left), out)
    if rule is not None and rule.moves:
        return _moving(call, source, axes, out)
    raise FixedError(f"nothing is known of {call.base}")


def _same(source: ValueSpec, axes: Axes, after: Axes, out: ValueSpec) -> Mapped:
    sizes = [source.shape[axis] for axis in axes]
    if [out.shape[axis] for axis in after] != sizes:
        raise FixedError("it is spread over the picture")
    return Mapped(after, (Reads.same(sizes[0]), Reads.same(sizes[1])))


def _check_window(call: Call, source: ValueSpec, axes: Axes) -> None:
    rank = len(source.shape)
    if spatial_rank(call) != 2 or axes != (rank - 2, rank - 1):
        raise FixedError(f"{call.base} over other axes than the picture's")


def _pair(given: Any, axis: int) -> int:
    sizes = [given] if isinstance(given, int) else list(given)
    return int(sizes[axis if len(sizes) > 1 else 0])


def _window(kernel: int, stride: int, pad: int, dilation: int, size: int) -> Reads:
    first = torch.arange(size)[:, None] * stride - pad
    return Reads(first + torch.arange(kernel) * dilation, Fraction(stride))


def _convolution(call: Call, scope: Scope, axis: int, before: int, size: int) -> Reads:
    given = call.arguments
    kernel = scope.weights[given["weight"].name][2 + axis]
    stride, dilation = _pair(given["stride"], axis), _pair(given["dilation"], axis)
    padding = given["padding"]
    if isinstance(padding, str):
        pad = 0 if padding == "valid" else dilation * (kernel - 1) // 2
    else:
        pad = _pair(padding, axis)
    if not is_transposed(call):
        return _window(kernel, stride, pad, dilation, size)
    reach = torch.arange(size)[:, None] + pad - torch.arange(kernel) * dilation
    index = torch.where(reach % stride == 0, reach.div(stride, rounding_mode="floor"), NONE)
    return Reads(index, Fraction(1, stride))


def _pooling(call: Call, scope: Scope, axis: int, before: int, size: int) -> Reads:
    given = call.arguments
    if "adaptive" in call.base:
        raise FixedError(f"{call.base}: its windows divide the picture")
    kernel = _pair(given["kernel_size"], axis)
    stride = _pair(given["stride"], axis) if given["stride"] else kernel
    return _window(kernel, stride, _pair(given["padding"], axis), _pair(given.get("dilation", 1), axis), size)


def _interpolation(call: Call, scope: Scope, axis: int, before: int, size: int) -> Reads:
    ratio, given = Fraction(before, size), scales_of(call, 2)[axis]
    exact = given is None or 1 / given == ratio
    power = max(ratio.numerator, ratio.denominator)
    if call.arguments["align_corners"] or not exact or min(ratio.numerator, ratio.denominator) > 1 or power & power - 1:
        raise FixedError(f"{call.base}: its weights differ from place to place")
    at = (torch.arange(size, dtype=torch.float64) + 0.5) * float(ratio) - 0.5
    low = at.floor()
    high = torch.where(at == low, low, low + 1)
    return Reads(torch.stack([low, high], 1).long(), ratio)


def _moving(call: Call, source: ValueSpec, axes: Axes, out: ValueSpec) -> Mapped:
    base, given = call.base, call.arguments
    sizes = [source.shape[axis] for axis in axes]
    reads = [Reads.same(size) for size in sizes]
    if base in PERMUTES:
        probe = torch.empty([2 + axis for axis in range(len(source.shape))], device="meta")
        order = list(call.run(lambda ref: probe).shape)
        return _same(source, axes, (order.index(2 + axes[0]), order.index(2 + axes[1])), out)
    if base in RESHAPES and base != "select":
        return _same(source, axes, (_kept(source, axes[0], out), _kept(source, axes[1], out)), out)
    if base in ("cat", "channel_shuffle"):
        if base == "cat" and given["dim"] % len(source.shape) in axes:
            raise FixedError("pictures are joined side by side")
        return _same(source, axes, axes, out)
    if base in ("slice", "narrow"):
        if given["dim"] % len(source.shape) not in axes:
            return _same(source, axes, axes, out)
        return Mapped(axes, _traced(call, source, axes, out, Fraction(int(given.get("step", 1)))))
    if "pad" in base:
        left = {axis: _front(call, len(source.shape) - 1 - axis) for axis in axes}
        reads = [Reads(torch.arange(out.shape[axis])[:, None] - left[axis], Fraction(1)) for axis in axes]
        return Mapped(axes, (reads[0], reads[1]))
    if base in ("pixel_shuffle", "pixel_unshuffle"):
        factor = int(given["upscale_factor" if base == "pixel_shuffle" else "downscale_factor"])
        for which, size in enumerate(sizes):
            if base == "pixel_shuffle":
                reads[which] = Reads(torch.arange(size * factor)[:, None] // factor, Fraction(1, factor))
            else:
                reads[which] = _window(factor, factor, 0, 1, size // factor)
        return Mapped(axes, (reads[0], reads[1]))
    if "upsample_nearest" in base and spatial_rank(call) == 2:
        ratios = [Fraction(size, out.shape[axis]) for size, axis in zip(sizes, axes, strict=True)]
        if all(min(ratio.numerator, ratio.denominator) == 1 for ratio in ratios):
            return Mapped(axes, _traced(call, source, axes, out, *ratios))
    raise FixedError(f"{base}: it is tied to places in the picture")


def _front(call: Call, from_last: int) -> int:
    """Returns how much a padding puts before an axis, counted from the last."""
    pads = call.arguments["padding" if "padding" in call.arguments else "pad"]
    return int(pads[2 * from_last]) if 2 * from_last < len(pads) else 0


def _kept(source: ValueSpec, axis: int, out: ValueSpec) -> int:
    """Returns where an axis is after a reshape that leaves it whole."""
    for left, right in dimension_groups(source.shape, out.shape):
        if axis in left:
            wide = [dim for dim in right if out.shape[dim] > 1]
            if [dim for dim in left if source.shape[dim] > 1] == [axis] and len(wide) == 1:
                return wide[0]
    raise FixedError("the picture's axes are joined or split")


def _traced(call: Call, source: ValueSpec, axes: Axes, out: ValueSpec, *steps: Fraction) -> tuple[Reads, Reads]:
    """Returns reads found by moving the numbers of the positions; one step for both axes, or one each."""
    found = []
    for which, axis in enumerate(axes):
        shape = [1] * len(source.shape)
        shape[axis] = -1
        numbers = torch.arange(source.shape[axis], dtype=torch.float64).reshape(shape).expand(source.shape)
        result: Tensor = call.run(lambda ref: numbers)  # noqa: B023
        line = result.movedim(axis, 0).flatten(1)[:, 0].long()
        own = Fraction(1) if torch.equal(line, torch.arange(source.shape[axis])) else steps[min(which, len(steps) - 1)]
        found.append(Reads(line[:, None], own))
    return found[0], found[1]


def weights_are_spread(call: Call, scope: Scope, axes: Axes, out: ValueSpec) -> bool:
    """Returns whether an elementwise call reads a weight that differs along the picture's axes."""
    if find_rule(call) is not ELEMENTWISE or call.base == "prelu":
        return False
    for ref in call.refs():
        if ref.kind == "weight":
            shape = scope.weights[ref.name]
            shift = len(out.shape) - len(shape)
            if any(axis >= shift and shape[axis - shift] > 1 for axis in axes):
                return True
    return False


def outside(reads: Reads, before: int) -> Tensor:
    """Returns which positions of a result's axis read beyond the input's `before` positions, (result size,) bool."""
    return ((reads.index != NONE) & ((reads.index < 0) | (reads.index >= before))).any(1)


def differing(edge: Tensor, by: int) -> Tensor:
    """Returns which positions of a result's axis must be made anew when it moves, (result size,) bool.

    Args:
        edge: (result size,) bool, those that read padding.
        by: by how many positions the result moves.
    """
    size = len(edge)
    if by == 0:
        return torch.zeros_like(edge)
    if abs(by) >= size:
        return torch.ones_like(edge)
    new = edge.clone()
    new[max(0, -by) : size - max(0, by)] |= edge[max(0, by) : size + min(0, by)]
    new[size - by if by > 0 else 0 : size if by > 0 else -by] = True
    return new


def reading(reads: Reads, dirty: Tensor) -> Tensor:
    """Returns which positions of a result's axis read a dirty one of the input's, (result size,) bool."""
    inside = (reads.index >= 0) & (reads.index < len(dirty))
    return (dirty[reads.index.clamp(0, len(dirty) - 1)] & inside).any(1)


def whole(fraction: Fraction) -> int | None:
    """Returns a fraction as a whole number, None where it is none."""
    return fraction.numerator if fraction.denominator == 1 else None
