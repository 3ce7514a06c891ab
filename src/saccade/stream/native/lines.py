"""Steps that mix whole lines, as the engine's: sums and means over axes, softmax and layer norm along channels."""

from __future__ import annotations

from typing import Any

import torch

from saccade.graph.plan import Step
from saccade.kernels.lines import reduced_dims
from saccade.kernels.rule import only_value
from saccade.stream.native.builder import Builder, UnfitError

_REDUCE = {"sum": 0, "mean": 1, "amax": 2, "amin": 3}
_LINE = {"softmax": 0, "_softmax": 0, "log_softmax": 1, "_log_softmax": 1, "layer_norm": 2}


def reduction(builder: Builder, step: Step) -> tuple[str, tuple[Any, ...]]:
    """Returns a sum, mean, maximum or minimum over axes other than the channels'."""
    call = step.calls[0]
    source, out = builder.spec(only_value(call)), builder.spec(step.outputs[0])
    if call.base not in _REDUCE:
        raise UnfitError(f"no reduction for {call.target}")
    if call.arguments.get("dtype") not in (None, torch.float32):
        raise UnfitError("it changes the type")
    dims = reduced_dims(call, len(source.shape))
    if source.channel_axis is None or source.channel_axis in dims or out.channel_axis is None:
        raise UnfitError("it reduces the channels")
    rows = torch.arange(source.positions).reshape(source.mask_shape)
    kept = [dim for dim in range(len(source.shape)) if dim not in dims]
    members = rows.permute(*kept, *dims).reshape(out.positions, -1)
    return "reduce", (_REDUCE[call.base], builder.indices(members), members.shape[1])


def normalisation(builder: Builder, step: Step) -> tuple[str, tuple[Any, ...]]:
    """Returns a softmax or layer norm along the channels."""
    call = step.calls[0]
    source = builder.spec(only_value(call))
    if call.base not in _LINE:
        raise UnfitError(f"no line operation for {call.target}")
    axis = source.channel_axis
    if call.base == "layer_norm":
        if axis != len(source.shape) - 1 or list(call.arguments["normalized_shape"]) != [source.channels]:
            raise UnfitError("it does not run along the channels")
        scale, shift = (call.arguments[name] for name in ("weight", "bias"))
        addresses = [0 if ref is None else builder.numbers(builder.weight(ref.name)) for ref in (scale, shift)]
        return "normalise", (2, float(call.arguments["eps"]), *addresses)
    if call.arguments["dim"] % len(source.shape) != axis:
        raise UnfitError("it does not run along the channels")
    return "normalise", (_LINE[call.base], 0.0, 0, 0)
