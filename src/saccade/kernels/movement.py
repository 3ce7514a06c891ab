"""Operators that move data without arithmetic: masks travel by the same call as the values."""

from __future__ import annotations

import torch
from torch import Tensor

from saccade.kernels.call import Call
from saccade.kernels.geometry import axis_after_reshape
from saccade.kernels.rule import Masks, Rule, Scope, only_value, read_by
from saccade.masks import UNSET, ValueSpec, on_axis, union

RESHAPES = frozenset(["reshape", "squeeze", "unsqueeze", "select"])
PERMUTES = frozenset("permute transpose t numpy_T movedim".split())
KEEPING = frozenset(
    "slice narrow cat stack pad constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d "
    "replication_pad2d reflection_pad3d replication_pad3d expand repeat flip roll upsample_nearest1d "
    "upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d "
    "_upsample_nearest_exact3d channel_shuffle pixel_shuffle pixel_unshuffle".split()
)


def _support(call: Call, masks: Masks, scope: Scope, out: ValueSpec) -> Tensor:
    """Runs the call on the masks; where it touches channels, on masks expanded to the values' shapes. Takes margins."""
    at_channel = _at_channel(call, scope, out)
    if call.base == "channel_shuffle" and scope.specs[only_value(call)].channel_axis == 1:
        return masks[only_value(call)]
    if call.base in ("cat", "slice") and at_channel:
        return union([masks[name] for name in call.values()])
    if _leaves_channels(call, scope) and not at_channel:
        return _run(call, {name: masks[name] for name in call.values()}, scope)
    full = {name: masks[name].expand(scope.specs[name].shape) for name in call.values()}
    return on_axis(_run(call, full, scope), ValueSpec(out.shape, out.dtype, None), out.channel_axis)


def _reads(call: Call, wanted: Tensor, scope: Scope, out: ValueSpec) -> Masks:
    """Sends wanted positions back through the call, by its adjoint; where it touches channels, element by element."""
    specs = {name: scope.specs[name] for name in call.values()}
    at_channel = _at_channel(call, scope, out)
    if at_channel and call.base in ("cat", "slice"):
        return dict.fromkeys(specs, wanted)
    narrow = not at_channel and _leaves_channels(call, scope)
    found = {}
    for name, spec in specs.items():
        others = {n: torch.zeros(s.mask_shape if narrow else s.shape) for n, s in specs.items() if n != name}
        reached = read_by(
            lambda probe: _run(call, {name: probe, **others}, scope),  # noqa: B023
            spec.mask_shape if narrow else spec.shape,
            wanted if narrow else wanted.expand(out.shape),
        )
        found[name] = (
            reached if narrow else on_axis(reached, ValueSpec(spec.shape, spec.dtype, None), spec.channel_axis)
        )
    return found


def _at_channel(call: Call, scope: Scope, out: ValueSpec) -> bool:
    """Returns whether the call works along the axis that is the channels', before and after it."""
    dim = call.arguments.get("dim")
    return (
        out.channel_axis is not None
        and isinstance(dim, int)
        and dim % len(out.shape) == out.channel_axis
        and all(scope.specs[name].channel_axis == out.channel_axis for name in call.values())
    )


def _run(call: Call, operands: Masks, scope: Scope) -> Tensor:
    margins = all(mask.is_floating_point() for mask in operands.values())
    unset = UNSET if margins else 0.0  # what is filled in, and weights, which never change
    if call.arguments.get("mode", "constant") == "constant" and "value" in call.arguments:
        call = call.replace(value=unset)
    moved: Tensor = call.run(
        lambda ref: operands[ref.name].float() if ref.kind == "value" else torch.full(scope.weights[ref.name], unset)
    )
    return moved if margins else moved > 0


def _leaves_channels(call: Call, scope: Scope) -> bool:
    """Returns whether the call treats every channel alike, so that a mask can pass through it as it is."""
    if any(ref.kind == "weight" for ref in call.refs()):
        return False
    if call.base in PERMUTES:
        return True
    padded = call.base.startswith(("pad", "constant_pad", "reflection_pad", "replication_pad"))
    if padded or call.base.startswith(("upsample", "_upsample")):
        spec = scope.specs[only_value(call)]
        axis = -1 if spec.channel_axis is None else spec.channel_axis
        last = (
            len(call.arguments["pad" if "pad" in call.arguments else "padding"]) // 2 if padded else len(spec.shape) - 2
        )
        return last < len(spec.shape) - axis
    if call.base in ("slice", "cat"):
        return len({scope.specs[name].channel_axis for name in call.values()}) == 1
    return call.base == "flip"


def _reshape_axis(call: Call, scope: Scope, shape: tuple[int, ...]) -> int | None:
    spec = scope.specs[only_value(call)]
    axis, rank = spec.channel_axis, len(spec.shape)
    if axis is None or call.base == "reshape":
        return axis_after_reshape(spec.shape, shape, axis)
    if call.base == "unsqueeze":
        return axis + (call.arguments["dim"] % len(shape) <= axis)
    given = call.arguments.get("dim", list(range(rank)))
    removed = {dim % rank for dim in ([given] if isinstance(given, int) else given)}
    if call.base == "squeeze":
        removed = {dim for dim in removed if spec.shape[dim] == 1}
    return None if axis in removed else axis - sum(dim < axis for dim in removed)


def _permute_axis(call: Call, scope: Scope, shape: tuple[int, ...]) -> int | None:
    spec = scope.specs[only_value(call)]
    if spec.channel_axis is None:
        return None
    # Permuting a tensor of distinct sizes tells where each axis went, whatever the operator's own convention.
    probe = torch.empty(tuple(range(2, 2 + len(spec.shape))), device="meta")
    return list(call.run(lambda ref: probe).shape).index(2 + spec.channel_axis)


def _kept_axis(call: Call, scope: Scope, shape: tuple[int, ...]) -> int | None:
    names = call.values()
    axis = scope.specs[names[0]].channel_axis
    if axis is None:
        return None
    if call.base == "stack":
        return axis + (call.arguments["dim"] % len(shape) <= axis)
    return axis + len(shape) - len(scope.specs[names[0]].shape)


def _free(call: Call, scope: Scope, shape: tuple[int, ...]) -> int:
    return 0


RESHAPE = Rule("reshape", RESHAPES, _support, _reshape_axis, _free, moves=True, reads=_reads)
PERMUTE = Rule("permute", PERMUTES, _support, _permute_axis, _free, moves=True, reads=_reads)
MOVE = Rule("move", KEEPING, _support, _kept_axis, _free, moves=True, reads=_reads)
