"""What the library must know of an operator to run it at chosen positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.kernels.call import Call
from saccade.masks import ValueSpec

Masks = Mapping[str, Tensor]


@dataclass(frozen=True)
class Scope:
    """What a call's references stand for: the values' specs and the weights' shapes, by name."""

    specs: Mapping[str, ValueSpec]
    weights: Mapping[str, tuple[int, ...]]


def read_everything(call: Call, wanted: Tensor, scope: Scope, out: ValueSpec) -> Masks:
    """Returns all positions of every value a call reads: never too few, whatever the operator."""
    return {name: scope.specs[name].full_mask(True) for name in call.values()}


@dataclass(frozen=True)
class Rule:
    """One family of operators with a sparse form.

    Attributes:
        family: name of the family, as "window".
        operators: base names of the operators, as "conv2d".
        support: (call, announced masks by value name, scope, output spec) -> the output's active positions:
            every position that reads an announced one.
        axis: (call, scope, output shape) -> the output's channel axis.
        macs: (call, scope, output shape) -> macs of computing every position.
        refuses: (call, scope) -> why this call has no sparse form, or "".
        moves: True where the operator only moves data: it keeps no output and passes announcements on.
        reads: (call, wanted positions of the output, scope, output spec) -> by value name, every position that the
            wanted ones are computed from. The way back of `support`; too many are allowed, too few are not.
    """

    family: str
    operators: frozenset[str]
    support: Callable[[Call, Masks, Scope, ValueSpec], Tensor]
    axis: Callable[[Call, Scope, tuple[int, ...]], int | None]
    macs: Callable[[Call, Scope, tuple[int, ...]], int]
    refuses: Callable[[Call, Scope], str] = lambda call, scope: ""
    moves: bool = False
    reads: Callable[[Call, Tensor, Scope, ValueSpec], Masks] = read_everything


def only_value(call: Call) -> str:
    """Returns the name of the one value a call reads."""
    names = set(call.values())
    if len(names) != 1:
        raise ValueError(f"{call.target} reads {len(names)} values where one was expected")
    return names.pop()


def read_by(run: Callable[[Tensor], Tensor], shape: tuple[int, ...], wanted: Tensor) -> Tensor:
    """Returns which elements of its input a linear operator with no negative weight reads for wanted outputs.

    Args:
        run: the operator.
        shape: its input's shape.
        wanted: bool, of its output's shape.
    """
    with torch.enable_grad():
        probe = torch.zeros(shape, requires_grad=True)
        (reached,) = torch.autograd.grad(run(probe), probe, wanted.float())
    return reached > 0
