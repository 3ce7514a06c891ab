"""How margins travel through a plan: how far each position is from being active, as a number with a gradient.

A margin is over 0 where a mask is set. A position is active where any announced position lies in its support, so its
margin is the largest margin there: the same support rules, with a maximum for a union. The gradient of a
maximum goes to the one position that decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from saccade.graph.plan import Plan, Step
from saccade.kernels.call import Call
from saccade.kernels.rule import Scope, only_value
from saccade.kernels.table import find_rule
from saccade.kernels.window import CONVOLUTION, INTERPOLATION, POOLING, is_transposed, scales_of, spatial_rank
from saccade.masks import UNSET, ValueSpec, broadcast, on_axis, resize_support, union

Margins = Mapping[str, Tensor]

_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_ADAPTIVE = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}


def active_margins(plan: Plan, step: Step, told: Margins) -> list[Tensor]:
    """Returns the margin of being active, one tensor of the mask's shape per output of a step.

    Args:
        plan: the plan.
        step: a step that reads values.
        told: margins of being announced, of every value it reads.
    """
    specs = [plan.values[name] for name in step.outputs]
    if step.form == "dense":
        most = union([told[name].amax() for name in step.inputs])
        return [most.expand(spec.mask_shape) for spec in specs]
    first, out = step.calls[0], specs[0]
    margins = [_spread(first, told, plan.scope, out)]
    for call in step.calls[1:]:
        margins += [broadcast(told[name], plan.values[name], out) for name in call.values()]
    return [union(margins)]


def _spread(call: Call, told: Margins, scope: Scope, out: ValueSpec) -> Tensor:
    rule = find_rule(call)
    assert rule is not None
    if rule not in (CONVOLUTION, POOLING, INTERPOLATION):
        return rule.support(call, told, scope, out)
    name, rank = only_value(call), spatial_rank(call)
    spec = scope.specs[name]
    source = on_axis(told[name], spec, len(spec.shape) - rank - 1)
    size = out.mask_shape[-rank:]
    if rule is INTERPOLATION:
        return _interpolated(call, source, size)
    if rule is POOLING and "adaptive" in call.base:
        return _ADAPTIVE[rank](source, list(size))
    if rule is CONVOLUTION:
        kernel = list(scope.weights[call.arguments["weight"].name][2:])
        if is_transposed(call):
            return _transposed(call, source, kernel, size)
    else:
        kernel = _each(call.arguments["kernel_size"], rank)
    stride = _each(call.arguments.get("stride") or kernel, rank)
    dilation = _each(call.arguments.get("dilation", 1), rank)
    reach = [step * (k - 1) for step, k in zip(dilation, kernel, strict=True)]
    padding = call.arguments["padding"]
    before = [r // 2 if padding == "same" else 0 for r in reach] if isinstance(padding, str) else _each(padding, rank)
    # What is left over behind the last window is cut off, what is missing (padding, ceil_mode) is unset.
    after = [
        (n - 1) * s + r + 1 - b - m
        for n, s, r, b, m in zip(size, stride, reach, before, source.shape[-rank:], strict=True)
    ]
    padded = F.pad(
        source, [side for pair in reversed(list(zip(before, after, strict=True))) for side in pair], value=UNSET
    )
    return _POOL[rank](padded, kernel, stride, 0, dilation)


def _interpolated(call: Call, source: Tensor, size: tuple[int, ...]) -> Tensor:
    """Takes the largest of the few neighbours each output reads, one axis after the other."""
    rank, align = len(size), bool(call.arguments["align_corners"])
    for axis, scale in zip(range(-rank, 0), scales_of(call, rank), strict=True):
        reads = resize_support(source.shape[axis], size[axis], align_corners=align, scale=scale)
        first, count = reads.int().argmax(1), reads.sum(1)
        last = first + count - 1
        source = union([source.index_select(axis, (first + k).minimum(last)) for k in range(int(count.max()))])
    return source


def _transposed(call: Call, source: Tensor, kernel: list[int], size: tuple[int, ...]) -> Tensor:
    """Spreads the inputs apart by the stride; each output is then a window with stride 1."""
    rank = len(kernel)
    stride, dilation = _each(call.arguments["stride"], rank), _each(call.arguments["dilation"], rank)
    padding = _each(call.arguments["padding"], rank)
    shape = [(n - 1) * s + 1 for n, s in zip(source.shape[-rank:], stride, strict=True)]
    apart = source.new_full((*source.shape[:-rank], *shape), UNSET)
    apart[(slice(None),) * (source.ndim - rank) + tuple(slice(None, None, s) for s in stride)] = source
    sides: list[int] = []
    for axis in reversed(range(rank)):
        reach = dilation[axis] * (kernel[axis] - 1)
        before = reach - padding[axis]
        sides += [before, size[axis] + reach - before - shape[axis]]
    return _POOL[rank](F.pad(apart, sides, value=UNSET), kernel, 1, 0, dilation)


def _each(given: Any, rank: int) -> list[int]:
    numbers = [given] if isinstance(given, int) else list(given)
    return numbers if len(numbers) == rank else numbers * rank


def straight_through(margin: Tensor, *, temperature: float) -> Tensor:
    """Returns sigmoid(margin / temperature), whose gradient stands in for the step's from 0 to 1 at margin 0."""
    return torch.sigmoid(margin / temperature)
