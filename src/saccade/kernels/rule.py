"""What the library must know of an operator to run it at chosen positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from saccade.kernels.call import Call
from saccade.masks import ValueSpec

Masks = Mapping[str, Tensor]


@dataclass(frozen=True)
class Scope:
    """What a call's references stand for: the values' specs and the weights' shapes, by name."""

    specs: Mapping[str, ValueSpec]
    weights: Mapping[str, tuple[int, ...]]


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
    """

    family: str
    operators: frozenset[str]
    support: Callable[[Call, Masks, Scope, ValueSpec], Tensor]
    axis: Callable[[Call, Scope, tuple[int, ...]], int | None]
    macs: Callable[[Call, Scope, tuple[int, ...]], int]
    refuses: Callable[[Call, Scope], str] = lambda call, scope: ""
    moves: bool = False


def only_value(call: Call) -> str:
    """Returns the name of the one value a call reads."""
    names = set(call.values())
    if len(names) != 1:
        raise ValueError(f"{call.target} reads {len(names)} values where one was expected")
    return names.pop()
