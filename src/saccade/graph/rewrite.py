"""Rewrites while lowering: operators that do nothing, and operators said better by simpler ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from saccade.graph.draft import Draft
from saccade.kernels.call import RESULT, Call, Ref, make_call
from saccade.kernels.lines import reduced_dims

_SAME_VALUES = frozenset("clone alias detach contiguous lift_fresh lift_fresh_copy".split())
_RESHAPES = frozenset(["view", "_unsafe_view", "flatten", "unflatten"])
_SAME_IF_SHAPE = _RESHAPES | frozenset("expand reshape pad constant_pad_nd slice".split())
_DROPOUTS = frozenset("dropout feature_dropout alpha_dropout feature_alpha_dropout".split())
# Operators `is_identity` and `rewrite` know what to do with, besides those that have a rule.
HANDLED = (
    _SAME_VALUES
    | _DROPOUTS
    | _RESHAPES
    | frozenset("to batch_norm split split_with_sizes chunk unbind addmm mm matmul".split())
)


@dataclass(frozen=True)
class Rewrite:
    """What a graph node becomes.

    Attributes:
        chains: one list of calls per result; each call after the first reads the result of the one before.
        several: whether the node's users pick among the results.
    """

    chains: list[list[Call]]
    several: bool = False


def is_idle_dropout(node: fx.Node) -> bool:
    """Returns whether the node is a dropout outside training, which returns its very input."""
    if not isinstance(node.target, torch._ops.OpOverload) or node.target._schema.name.split("::")[1] not in _DROPOUTS:
        return False
    return not (node.args[2] if len(node.args) > 2 else node.kwargs.get("train", False))


def is_identity(call: Call, node: fx.Node) -> bool:
    """Returns whether the call returns its first tensor unchanged."""
    value = node.meta.get("val")
    first = next((arg for arg in node.args if isinstance(arg, fx.Node)), None)
    source = first.meta.get("val") if first is not None else None
    if call.base in _SAME_VALUES or is_idle_dropout(node):
        return True
    if not isinstance(value, Tensor) or not isinstance(source, Tensor):
        return False
    if call.base in ("_to_copy", "to"):
        return value.dtype == source.dtype
    return call.base in _SAME_IF_SHAPE and value.shape == source.shape and not any(call.arguments.get("pad", []))


def rewrite(draft: Draft, node: fx.Node, call: Call) -> Rewrite | None:
    """Returns what the node becomes instead, or None to keep it; may add weights to the draft."""
    base, args = call.base, call.arguments
    value = node.meta["val"]
    if base in ("batch_norm", "_native_batch_norm_legit_no_training"):
        return _batch_norm(draft, node.name, call, several=base != "batch_norm")
    if base == "to":
        return Rewrite([[make_call("aten._to_copy.default", args["self"], dtype=value.dtype)]])
    if base in _RESHAPES:
        return Rewrite([[make_call("aten.reshape.default", args["self"], list(value.shape))]])
    if base in ("split", "split_with_sizes", "chunk"):
        return Rewrite(_slices(args["self"], args.get("dim", 0), value), several=True)
    if base == "unbind":
        picks = [[make_call("aten.select.int", args["self"], args["dim"], i)] for i in range(len(value))]
        return Rewrite(picks, several=True)
    if base in ("addmm", "mm", "matmul"):
        return _linear(draft, node.name, call)
    if base.endswith("_with_indices") and base.startswith("max_pool") and _takes_only_first(node):
        target = f"aten.{base.removesuffix('_with_indices')}.default"
        return Rewrite([[make_call(target, **dict(args))]], several=True)
    return _global_pool(draft, node, call)


def _takes_only_first(node: fx.Node) -> bool:
    return all(user.args[1] == 0 for user in node.users if user.users)


def _batch_norm(draft: Draft, name: str, call: Call, *, several: bool) -> Rewrite | None:
    args = call.arguments
    source: Ref = args["input"]
    if args.get("training") or any(
        args[key] is not None and args[key].kind != "weight"
        for key in ("weight", "bias", "running_mean", "running_var")
    ):
        return None
    mean, variance = (draft.weights[args[key].name].double() for key in ("running_mean", "running_var"))
    scale = (variance + args["eps"]).rsqrt()
    if args["weight"] is not None:
        scale = scale * draft.weights[args["weight"].name].double()
    shift = -mean * scale
    if args["bias"] is not None:
        shift = shift + draft.weights[args["bias"].name].double()
    dtype = getattr(torch, draft.dtypes[source.name])
    shape = (1, -1) + (1,) * (len(draft.shapes[source.name]) - 2)
    scale_ref = draft.add_weight(f"{name}.scale", scale.to(dtype).reshape(shape))
    shift_ref = draft.add_weight(f"{name}.shift", shift.to(dtype).reshape(shape))
    return Rewrite([[make_call("aten.addcmul.default", shift_ref, source, scale_ref)]], several=several)


def _slices(source: Ref, dim: int, pieces: Any) -> list[list[Call]]:
    chains, start = [], 0
    for piece in pieces:
        stop = start + piece.shape[dim]
        chains.append([make_call("aten.slice.Tensor", source, dim, start, stop)])
        start = stop
    return chains


def _linear(draft: Draft, name: str, call: Call) -> Rewrite | None:
    args = call.arguments
    left, right = (args["mat1"], args["mat2"]) if call.base == "addmm" else (args["self"], _other(args))
    bias = args["self"] if call.base == "addmm" else None
    if left.kind != "value" or right.kind != "weight" or draft.weights[right.name].dim() != 2:
        return None
    if bias is not None and (bias.kind != "weight" or draft.weights[bias.name].dim() != 1):
        return None
    if args.get("alpha", 1) != 1 or args.get("beta", 1) != 1:
        return None
    weight = draft.add_weight(f"{name}.weight", draft.weights[right.name].T.contiguous())
    return Rewrite([[make_call("aten.linear.default", left, weight, bias)]])


def _other(args: Any) -> Ref:
    ref: Ref = args["mat2"] if "mat2" in args else args["other"]
    return ref


def _global_pool(draft: Draft, node: fx.Node, call: Call) -> Rewrite | None:
    """A mean or maximum over several axes, one axis after the other.

    A line whose inputs did not change keeps its partial result, so that a pool over the whole map costs what
    changed, yet its value is that of a full computation: nothing is added up over time, so nothing can drift.
    """
    shape = draft.shapes[call.values()[0]] if call.values() else ()
    rank, keep = len(shape), True
    highest = call.base == "amax" or call.base.startswith("adaptive_max_pool")
    several = call.base.startswith("adaptive_max_pool")  # the maxima, and where they were
    if call.base.startswith(("adaptive_avg_pool", "_adaptive_avg_pool", "adaptive_max_pool")):
        size = list(call.arguments["output_size"])
        dims = list(range(rank - len(size), rank))
        if any(each != 1 for each in size) or rank != len(size) + 2 or (several and not _takes_only_first(node)):
            return None
    elif call.base in ("mean", "amax") and call.arguments.get("dtype") is None and rank > 1:
        dims, keep = reduced_dims(call, rank), bool(call.arguments.get("keepdim", False))
        if highest and len(dims) < 2:
            return None
    else:
        return None
    target = "aten.amax.default" if highest else "aten.sum.dim_IntList"
    chain, source = [], Ref("value", call.values()[0])
    for dim in reversed(dims):
        chain.append(make_call(target, source, [dim], True))
        source = RESULT
    if not highest:
        chain.append(make_call("aten.div.Tensor", RESULT, float(math.prod(shape[dim] for dim in dims))))
    if not keep:
        kept = [size for dim, size in enumerate(shape) if dim not in dims]
        chain.append(make_call("aten.reshape.default", RESULT, kept))
    return Rewrite([chain], several=several)
