"""`saccade::gated_convolution`: the convolution a gate decides on, as an operator that torch.export carries.

The operator has no memory. Called as it is, it gives a reference frame: the whole convolution. What a gate does with
the frames after that (Skip-Convolutions, eq. 3-8) is defined by `saccade.skip` on clips, and done by a stream that
finds the operator in its plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.kernels.call import Call, Ref, make_call
from saccade.kernels.rule import Masks, Rule, Scope
from saccade.kernels.window import CONVOLUTION
from saccade.masks import ValueSpec

GATED = "saccade.gated_convolution.default"
RESIDUAL, REFRESH = "residual", "refresh"


def _whole(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    gate_weight: Tensor,
    gate_bias: Tensor,
    norm: bool,
    block: int,
    form: str,
) -> Tensor:
    """Returns the convolution of x, every position of it.

    Args:
        x: (B, C, H, W), or (B, C, D, H, W).
        weight, bias, stride, padding, dilation, groups: as of a convolution.
        gate_weight: (1, C, kernel...), or (1, 1, kernel...); the gate's own convolution has this layer's stride,
            padding and dilation, and no groups.
        gate_bias: (1,). The gate fires where its convolution plus this is more than 0.
        norm: whether the gate's convolution reads |r| in place of r, the change of x since the last frame; summed over
            the channels where gate_weight has only one.
        block: side of the square of positions that fire together.
        form: "residual" (z += w * r where the gate fires) or "refresh" (z = w * x + bias there).
    """
    return torch.ops.aten.convolution.default(
        x, weight, bias, stride, padding, dilation, False, [0] * len(stride), groups
    )


gated_convolution = torch.library.custom_op("saccade::gated_convolution", _whole, mutates_args=())
gated_convolution.register_fake(_whole)


def as_convolution(call: Call, source: Ref, *, bias: bool) -> Call:
    """Returns the plain convolution of a gated one, of another input, with or without the bias."""
    return _convolution(call, source, call.arguments["weight"], call.arguments["bias"] if bias else None)


def score_call(call: Call, source: Ref) -> Call:
    """Returns the convolution that gives a gate's score where `source` is what the gate reads: r, |r| or sum_c |r|."""
    plain = _convolution(call, source, call.arguments["gate_weight"], call.arguments["gate_bias"])
    return plain.replace(groups=1)


def _convolution(call: Call, source: Ref, weight: Ref, bias: Ref | None) -> Call:
    given = call.arguments
    geometry = (given["stride"], given["padding"], given["dilation"])
    rank = len(given["stride"])
    return make_call("aten.convolution.default", source, weight, bias, *geometry, False, [0] * rank, given["groups"])


def residual_norm(residual: Tensor) -> Tensor:
    """Returns sum_c |r|, (B, 1, ...)."""
    return residual.abs().sum(1, keepdim=True)


def find_fires(call: Call, residual: Tensor, touched: Tensor, lookup: Callable[[Ref], Tensor]) -> Tensor:
    """Returns where the gate fires, a mask (B, 1, ...).

    Args:
        call: the gated convolution.
        residual: r, of the input's shape; 0 where the input did not change.
        touched: positions whose window holds a change. Elsewhere the score is the gate's bias, to the bit.
        lookup: returns a weight.
    """
    source = residual
    if call.arguments["norm"]:
        summed = sums_channels(call, lookup(call.arguments["gate_weight"]).shape)
        source = residual_norm(residual) if summed else residual.abs()
    read = Ref("value", "r")
    score = score_call(call, read).run(lambda ref: source if ref == read else lookup(ref))
    quiet = lookup(call.arguments["gate_bias"]) > 0
    return in_blocks(torch.where(touched, score > 0, quiet).float(), call.arguments["block"]) > 0


def in_blocks(fired: Tensor, block: int) -> Tensor:
    """Returns the gate (B, 1, ..., H, W), 1 or 0, where each block x block square fires whole if any of it does.

    A max-pooling with kernel and stride of `block`, then nearest upsampling; squares at the right and lower edge are
    cut off there. Differentiable.
    """
    if block == 1:
        return fired
    height, width = fired.shape[-2:]
    flat = fired.reshape(-1, 1, height, width)
    pooled = F.max_pool2d(flat, block, block, ceil_mode=True)
    spread = pooled.repeat_interleave(block, -2).repeat_interleave(block, -1)[..., :height, :width]
    return spread.reshape(fired.shape)


def deciding_macs(call: Call, scope: Scope, *, announced: int, touched: int) -> int:
    """Returns what a gate's score costs: a norm is summed once per announced input position, then over the window.

    Args:
        call: the gated convolution.
        scope: the plan's.
        announced: input positions whose change was announced.
        touched: output positions whose window holds one of them.
    """
    weight = scope.weights[call.arguments["gate_weight"].name]
    norms = scope.specs[call.arguments["x"].name].channels if sums_channels(call, weight) else 0
    return announced * norms + touched * math.prod(weight[1:])


def sums_channels(call: Call, gate_weight: Sequence[int]) -> bool:
    """Returns whether a gate reads sum_c |r|, one number per position; `gate_weight` is the shape of its weight."""
    return bool(call.arguments["norm"]) and gate_weight[1] == 1


def fires_unasked(call: Call, lookup: Callable[[Ref], Tensor]) -> bool:
    """Returns whether positions under which nothing changed are computed: a refresh whose gate's bias is over 0."""
    return call.arguments["form"] == REFRESH and bool(lookup(call.arguments["gate_bias"]) > 0)


def keeps_sum(calls: tuple[Call, ...]) -> bool:
    """Returns whether a step (the gated convolution, then its epilogue) keeps z beside the value it puts out.

    The residual form adds to z for ever. A refreshed z must still be there when only another operand has changed.
    """
    return calls[0].arguments["form"] == RESIDUAL or any(call.values() for call in calls[1:])


def _support(call: Call, masks: Masks, scope: Scope, out: ValueSpec) -> Tensor:
    return CONVOLUTION.support(as_convolution(call, call.arguments["x"], bias=True), masks, scope, out)


def _reads(call: Call, wanted: Tensor, scope: Scope, out: ValueSpec) -> Masks:
    return CONVOLUTION.reads(as_convolution(call, call.arguments["x"], bias=True), wanted, scope, out)


def _axis(call: Call, scope: Scope, shape: tuple[int, ...]) -> int | None:
    return 1


def _macs(call: Call, scope: Scope, shape: tuple[int, ...]) -> int:
    return CONVOLUTION.macs(as_convolution(call, call.arguments["x"], bias=True), scope, shape)


def _refuse(call: Call, scope: Scope) -> str:
    """Without fixed weights there is no state to go on from: the step is then dense, its gate not asked."""
    if any(ref.kind != "weight" for ref in call.refs() if ref != call.arguments["x"]):
        return "its weights are computed at run time"
    return ""


GATED_CONVOLUTION = Rule(
    "gated convolution", frozenset(["gated_convolution"]), _support, _axis, _macs, _refuse, reads=_reads
)
