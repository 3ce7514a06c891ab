"""Elementwise operators: an output position is active where any broadcast input is announced."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from saccade.kernels.call import Call
from saccade.kernels.rule import Masks, Rule, Scope
from saccade.masks import ValueSpec, broadcast, read_broadcast, union

ACTIVATIONS = frozenset(
    "relu relu6 hardtanh leaky_relu prelu silu hardswish hardsigmoid sigmoid tanh gelu elu selu celu mish "
    "softplus clamp clamp_min clamp_max".split()
)
ARITHMETIC = frozenset("add sub rsub mul div addcmul maximum minimum pow exp sqrt neg abs where _to_copy".split())


def is_elementwise(call: Call) -> bool:
    """Returns whether torch marks the operator as elementwise, or it is one of the few torch forgets to mark."""
    return call.base in ACTIVATIONS | ARITHMETIC or torch.Tag.pointwise in call.operator.tags


def support(call: Call, masks: Masks, scope: Scope, out: ValueSpec) -> Tensor:
    """Returns the union of the inputs' masks, each broadcast to the output."""
    return union([broadcast(masks[name], scope.specs[name], out) for name in call.values()])


def reads(call: Call, wanted: Tensor, scope: Scope, out: ValueSpec) -> Masks:
    """Returns the wanted positions themselves, of an input that is broadcast those they are broadcast from."""
    return {name: read_broadcast(wanted, scope.specs[name], out) for name in call.values()}


def axis(call: Call, scope: Scope, shape: tuple[int, ...]) -> int | None:
    """Returns the channel axis of the largest input, aligned from the right."""
    names = call.values()
    if not names:
        return None
    name = max(names, key=lambda item: (scope.specs[item].numel, len(scope.specs[item].shape)))
    spec = scope.specs[name]
    return None if spec.channel_axis is None else spec.channel_axis + len(shape) - len(spec.shape)


def macs(call: Call, scope: Scope, shape: tuple[int, ...]) -> int:
    """Returns one per output element; a change of dtype is free."""
    return 0 if call.base == "_to_copy" else math.prod(shape)


ELEMENTWISE = Rule("elementwise", ACTIVATIONS | ARITHMETIC, support, axis, macs, reads=reads)
