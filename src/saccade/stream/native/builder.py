"""The program under construction: what compiling a plan writes into."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from saccade.graph.plan import Plan, Step
from saccade.masks import ValueSpec
from saccade.stream.native.homes import Home


class Support(IntEnum):
    """Which output positions an announced position makes active; the order is the engine's."""

    SAME, WINDOW, MAP, MEMBERS, AXES = range(5)


class Operand(IntEnum):
    """Where a row operation's second operand comes from; the order is the engine's."""

    NONE, SCALAR, CHANNELS, ROWS = range(4)


SupportData = tuple[int, int, int, int, int]
OpData = tuple[int, int, float, float, float, int, int, int, int, int, int]


class UnfitError(Exception):
    """A step the engine has no form for; the message is the reason."""


@dataclass
class Builder:
    """Values and steps of a program so far.

    Attributes:
        module: the native module.
        program: the engine's program.
        plan: what is compiled.
        bf16: whether values are stored as bf16.
        homes: which values lie inside others.
        ids: the engine's number of every value.
        alive: tensors whose addresses the engine was given; held until the program has copied them.
        callbacks: names of the steps that run in torch, with the reason.
    """

    module: ModuleType
    program: Any
    plan: Plan
    bf16: bool
    homes: dict[str, Home]
    ids: dict[str, int] = field(default_factory=dict)
    alive: list[Tensor] = field(default_factory=list)
    callbacks: dict[str, str] = field(default_factory=dict)

    def spec(self, name: str) -> ValueSpec:
        """Returns the spec of a value."""
        return self.plan.values[name]

    def add_value(self, name: str, *, kept: bool) -> int:
        """Returns the number of a value's memory: its own, or its place in the concatenation that reads it."""
        if name in self.ids:  # a concatenation, made when the first of its parts was
            return self.ids[name]
        spec, home = self.spec(name), self.homes.get(name)
        consumed = name in self.plan.consumed
        if home is None:
            self.ids[name] = self.program.value(spec.positions, spec.channels, self.bf16, kept, consumed)
        else:
            parent = self.add_value(home.inside, kept=False)
            _, _, stride, _, _ = self.program.describe(parent)
            self.ids[name] = self.program.view(
                parent, spec.positions, spec.channels, home.offset, stride, kept, consumed, True
            )
        return self.ids[name]

    def address(self, tensor: Tensor) -> int:
        """Returns the address of a contiguous tensor that stays alive until the program has copied it."""
        assert tensor.is_contiguous()
        self.alive.append(tensor)
        return tensor.data_ptr()

    def indices(self, tensor: Tensor) -> int:
        """Returns the address of an index as int32."""
        return self.address(tensor.to(torch.int32).contiguous())

    def numbers(self, tensor: Tensor) -> int:
        """Returns the address of numbers as float32."""
        return self.address(tensor.detach().to(torch.float32).contiguous())

    def weight(self, name: str) -> Tensor:
        """Returns a weight of the plan."""
        return self.plan.weights[name]

    def inputs(self, step: Step) -> list[int]:
        """Returns the numbers of the values a step reads."""
        return [self.ids[name] for name in step.inputs]
