"""Gated convolutions over the frames of a stream: the definition, and what a stream keeps for them.

Skip-Convolutions (eq. 2-8) in the words of the change rule. Of a value x that a gated convolution reads, a stream keeps
what x last announced; r is the change since, at announced positions, and 0 elsewhere. So r adds up to x over any number
of frames, whatever the threshold of x; at threshold 0 it is the change since the last frame, as in the paper.

    fires       = score(r) > 0, in blocks                       (`saccade.kernels.gated.find_fires`)
    residual:   z <- z + w * r          where the gate fires and a change lies under the window
    refresh:    z <- w * x + bias       where the gate fires; where a position is forced, in either form
    active      = where it fires, and where another operand of the step's epilogue was announced
    y           <- epilogue(z)          there; compared and announced like any value
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.graph.plan import Plan, Step
from saccade.kernels.call import Call, Ref
from saccade.kernels.gated import (
    GATED_CONVOLUTION,
    RESIDUAL,
    as_convolution,
    deciding_macs,
    find_fires,
    fires_unasked,
    keeps_sum,
)
from saccade.kernels.table import find_rule
from saccade.masks import ValueSpec, broadcast

Lookup = Callable[[Ref], Tensor]


def is_gated(step: Step) -> bool:
    """Returns whether a step is a gated convolution that asks its gate."""
    return bool(step.calls) and step.form == "sparse" and find_rule(step.calls[0]) is GATED_CONVOLUTION


def last_name(value: str) -> str:
    """Returns what a state calls the copy of what a value last announced."""
    return f"{value}/last"


def sum_name(value: str) -> str:
    """Returns what a state calls z of the step that makes a value, kept before the non-linearity."""
    return f"{value}/z"


def input_of(step: Step) -> str:
    """Returns the name of the value x that a gated convolution reads."""
    name: str = step.calls[0].arguments["x"].name
    return name


def memory_specs(plan: Plan) -> dict[str, ValueSpec]:
    """Returns shape and type of everything a stream keeps for gated convolutions, by name."""
    specs: dict[str, ValueSpec] = {}
    for step in plan.steps:
        if is_gated(step):
            specs[last_name(input_of(step))] = plan.values[input_of(step)]
            if keeps_sum(step.calls):
                specs[sum_name(step.outputs[0])] = plan.values[step.outputs[0]]
    return specs


def gated_macs(plan: Plan, step: Step, *, fired: int, active: int) -> int:
    """Returns the macs of a gated step: the convolution where it fired, the epilogue where it was active."""
    positions = plan.values[step.outputs[0]].positions
    convolution = convolution_macs(plan, step)
    return convolution * fired // positions + (step.macs - convolution) * active // positions if positions else 0


def convolution_macs(plan: Plan, step: Step) -> int:
    """Returns the macs of a gated step's convolution at every position."""
    return GATED_CONVOLUTION.macs(step.calls[0], plan.scope, plan.values[step.outputs[0]].shape)


@dataclass(frozen=True, eq=False)
class Advanced:
    """What a frame did to a gated step.

    Attributes:
        result: y, of the output's shape; right where active.
        active: mask of what was computed.
        fired: how many positions the convolution was computed at.
        gate_macs: what asking the gate cost.
    """

    result: Tensor
    active: Tensor
    fired: int
    gate_macs: int


class GatedMemory:
    """What gated convolutions keep, on its way through one frame.

    Args:
        plan: the plan.
        held: what is kept, by name; empty before the first frame. Not changed.
        first: whether this is a reference frame.

    Attributes:
        held: what is kept after the steps so far.
    """

    def __init__(self, plan: Plan, held: Mapping[str, Tensor], *, first: bool) -> None:
        self.plan, self.first = plan, first
        self.held: dict[str, Tensor] = dict(held)
        self._residuals: dict[str, Tensor] = {}

    def advance(
        self,
        step: Step,
        old: Tensor | None,
        announced: Mapping[str, Tensor],
        lookup: Lookup,
        forced: Tensor | None = None,
    ) -> Advanced:
        """Returns what a frame makes of a gated step, and keeps what the next frame needs.

        Args:
            step: the step.
            old: what it last put out; None on the first frame.
            announced: masks of the values computed before it.
            lookup: returns a value of this frame, or a weight.
            forced: mask of positions where z is computed whole, whatever the gate says.
        """
        call, name = step.calls[0], input_of(step)
        out = self.plan.values[step.outputs[0]]
        residual = self._residual(name, lookup(Ref("value", name)), announced)
        if self.first:
            z = self._convolve(call, call.arguments["x"], lookup)
            fires, gate_macs = out.full_mask(True), 0
        else:
            before = self.held[sum_name(step.outputs[0])] if keeps_sum(step.calls) else old
            assert before is not None
            touched = GATED_CONVOLUTION.support(call, announced, self.plan.scope, out)
            fires = find_fires(call, residual, touched, lookup)
            told = bool(touched.any()) or fires_unasked(call, lookup)
            gate_macs = deciding_macs(
                call, self.plan.scope, announced=int(announced[name].sum()), touched=int(touched.sum())
            )
            if call.arguments["form"] == RESIDUAL:
                fires = fires & touched
                change = self._convolve(
                    call, Ref("value", last_name(name)), lambda ref: self._or(residual, ref, lookup)
                )
                z = torch.where(fires, before + change, before) if told else before
            else:
                z = torch.where(fires, self._convolve(call, call.arguments["x"], lookup), before) if told else before
        if forced is not None:
            z = torch.where(forced, self._convolve(call, call.arguments["x"], lookup), z)
            fires = fires | forced
        if keeps_sum(step.calls):
            self.held[sum_name(step.outputs[0])] = z.contiguous()
        active = fires
        for later in step.calls[1:]:
            for operand in later.values():
                active = active | broadcast(announced[operand], self.plan.values[operand], out)
        return Advanced(_epilogue(step, z, lookup), active, int(fires.sum()), gate_macs)

    def _residual(self, name: str, x: Tensor, announced: Mapping[str, Tensor]) -> Tensor:
        """Returns r of a value, and keeps what it announced; the same for every step that reads it."""
        if name not in self._residuals:
            if self.first:
                self._residuals[name] = torch.zeros_like(x)
                self.held[last_name(name)] = x.clone(memory_format=torch.contiguous_format)
            else:
                last = self.held[last_name(name)]
                self._residuals[name] = torch.where(announced[name], x - last, torch.zeros_like(x))
                self.held[last_name(name)] = torch.where(announced[name], x, last).contiguous()
        return self._residuals[name]

    def _convolve(self, call: Call, source: Ref, lookup: Lookup) -> Tensor:
        with_bias = source == call.arguments["x"]
        z: Tensor = as_convolution(call, source, bias=with_bias).run(lookup)
        return z

    @staticmethod
    def _or(residual: Tensor, ref: Ref, lookup: Lookup) -> Tensor:
        return residual if ref.kind == "value" else lookup(ref)


def _epilogue(step: Step, z: Tensor, lookup: Lookup) -> Tensor:
    result = z
    for call in step.calls[1:]:
        result = call.run(lambda ref: result if ref.kind == "result" else lookup(ref))  # noqa: B023
    return result
