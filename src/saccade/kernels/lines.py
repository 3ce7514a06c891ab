"""Operators that mix whole lines: linear layers, softmax and layer norm along an axis, sums and means."""

from __future__ import annotations

import math

from torch import Tensor

from saccade.kernels.call import Call
from saccade.kernels.rule import Masks, Rule, Scope, only_value
from saccade.masks import ValueSpec, along, on_axis

NORMALISATIONS = frozenset("softmax _softmax log_softmax _log_softmax layer_norm cumsum".split())
REDUCTIONS = frozenset(["sum", "mean", "amax", "amin"])
READS_PER_ELEMENT = 3  # a softmax takes the maximum, sums the exponentials and divides; a layer norm is alike


def _refuse_linear(call: Call, scope: Scope) -> str:
    names = {ref.name for ref in call.refs() if ref.kind == "weight"}
    given = [call.arguments["weight"], call.arguments["bias"]]
    if any(ref is not None and ref.name not in names for ref in given):
        return "its weights are computed at run time"
    return ""


def _linear_support(call: Call, masks: Masks, scope: Scope, out: ValueSpec) -> Tensor:
    name = only_value(call)
    spec = scope.specs[name]
    rows = on_axis(masks[name], spec, len(spec.shape) - 1)
    return on_axis(rows.expand(out.shape), ValueSpec(out.shape, out.dtype, None), out.channel_axis)


def _linear_reads(call: Call, wanted: Tensor, scope: Scope, out: ValueSpec) -> Masks:
    name = only_value(call)
    spec, last = scope.specs[name], len(out.shape) - 1
    rows = on_axis(wanted, out, last)
    return {name: on_axis(rows, ValueSpec(spec.shape, spec.dtype, last), spec.channel_axis)}


def _last_axis(call: Call, scope: Scope, shape: tuple[int, ...]) -> int | None:
    return len(shape) - 1


def _linear_macs(call: Call, scope: Scope, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * scope.weights[call.arguments["weight"].name][-1]


def normalised_dims(call: Call, rank: int) -> list[int]:
    """Returns the axes a softmax, layer norm or running sum runs along, counted from the front."""
    if call.base == "layer_norm":
        return list(range(rank - len(call.arguments["normalized_shape"]), rank))
    return [call.arguments["dim"] % rank]


def _normalise_support(call: Call, masks: Masks, scope: Scope, out: ValueSpec) -> Tensor:
    name = only_value(call)
    return along(masks[name], normalised_dims(call, len(out.shape))).expand(out.mask_shape)


def _normalise_reads(call: Call, wanted: Tensor, scope: Scope, out: ValueSpec) -> Masks:
    lines = along(wanted, normalised_dims(call, len(out.shape)))
    return {only_value(call): lines.expand(out.mask_shape)}


def _same_axis(call: Call, scope: Scope, shape: tuple[int, ...]) -> int | None:
    return scope.specs[only_value(call)].channel_axis


def _normalise_macs(call: Call, scope: Scope, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * (1 if call.base == "cumsum" else READS_PER_ELEMENT)


def reduced_dims(call: Call, rank: int) -> list[int]:
    """Returns the axes a sum, mean or maximum runs over, counted from the front."""
    dims = call.arguments.get("dim")
    if dims is None or dims == []:
        return list(range(rank))
    return sorted(dim % rank for dim in ([dims] if isinstance(dims, int) else dims))


def _reduce_support(call: Call, masks: Masks, scope: Scope, out: ValueSpec) -> Tensor:
    name = only_value(call)
    spec = scope.specs[name]
    dims = reduced_dims(call, len(spec.shape))
    lines = along(masks[name], dims)
    kept = tuple(1 if dim in dims else size for dim, size in enumerate(spec.shape))
    full = lines.expand(kept).reshape(out.shape)
    return on_axis(full, ValueSpec(out.shape, out.dtype, None), out.channel_axis)


def _reduce_reads(call: Call, wanted: Tensor, scope: Scope, out: ValueSpec) -> Masks:
    name = only_value(call)
    spec = scope.specs[name]
    dims = reduced_dims(call, len(spec.shape))
    kept = tuple(1 if dim in dims else size for dim, size in enumerate(spec.shape))
    lines = wanted.expand(out.shape).reshape(kept).expand(spec.shape)
    return {name: on_axis(lines, ValueSpec(spec.shape, spec.dtype, None), spec.channel_axis)}


def _reduce_axis(call: Call, scope: Scope, shape: tuple[int, ...]) -> int | None:
    spec = scope.specs[only_value(call)]
    axis = spec.channel_axis
    if axis is None or len(shape) == len(spec.shape):
        return axis
    dims = reduced_dims(call, len(spec.shape))
    return None if axis in dims else axis - sum(dim < axis for dim in dims)


def _reduce_macs(call: Call, scope: Scope, shape: tuple[int, ...]) -> int:
    return scope.specs[only_value(call)].numel


LINEAR = Rule(
    "linear", frozenset({"linear"}), _linear_support, _last_axis, _linear_macs, _refuse_linear, reads=_linear_reads
)
NORMALISATION = Rule(
    "normalisation", NORMALISATIONS, _normalise_support, _same_axis, _normalise_macs, reads=_normalise_reads
)
REDUCTION = Rule("reduction", REDUCTIONS, _reduce_support, _reduce_axis, _reduce_macs, reads=_reduce_reads)
