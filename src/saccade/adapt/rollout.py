"""The change rule over a few frames, with gradients: forward exactly what a stream does, backward smooth.

What is computed and what is announced is decided as the reference executor decides it. Beside each mask goes its
margin (`saccade.adapt.margins`): of an announcement log |y - a|_s - log threshold, and at most the margin of being
active. Where a mask chooses between a fresh value and an old one, or counts macs, its gradient is that of
sigmoid(margin / temperature). So the gradient says both what announcing a position would save in error, through the
difference it makes to the values that read it, and what it would cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saccade.adapt.margins import active_margins, straight_through
from saccade.graph.plan import Plan, Step
from saccade.kernels.call import Ref
from saccade.masks import UNSET
from saccade.stream.gate import Gate, bits_differ
from saccade.stream.reference import find_active, run_step

TINY = 1e-30  # squared distances below count as this: their logarithm has to be finite


@dataclass(frozen=True, eq=False)
class SoftGate:
    """A gate with gradients.

    Attributes:
        log: natural logarithm of the threshold, a tensor without axes.
        weights: channel weights, (channels,), at least 0.
    """

    log: Tensor
    weights: Tensor

    def hard(self) -> Gate:
        """Returns the gate as a stream takes it."""
        return Gate(math.exp(float(self.log.detach())), self.weights.detach())


@dataclass(frozen=True, eq=False)
class Followed:
    """What one frame gave.

    Attributes:
        outputs: the plan's outputs, flattened, with gradients.
        macs: executed and gate macs, with gradients; a number a stream counts the same.
        active: by step name, the mask of what was computed.
        announced: by value name, the mask of what was announced.
        margins: by value name, over 0 where it was announced.
    """

    outputs: list[Tensor]
    macs: Tensor
    active: Mapping[str, Tensor]
    announced: Mapping[str, Tensor]
    margins: Mapping[str, Tensor]


class Rollout:
    """Follows frames with gates that have gradients.

    Values without a gate are exact: every change of a bit is announced.

    Args:
        plan: a plan without gated convolutions.
        gates: by value name.
        temperature: of the sigmoids, in units of the logarithm of a distance.
        noise: where given, logistic noise x temperature is added to every margin that is compared, drawn from this
            generator (Gumbel gates): announcements are then chances.
    """

    def __init__(
        self,
        plan: Plan,
        gates: Mapping[str, SoftGate],
        *,
        temperature: float,
        noise: torch.Generator | None = None,
    ) -> None:
        self.plan, self.gates, self.temperature, self.noise = plan, gates, temperature, noise
        self.hard = {name: gate.hard() for name, gate in gates.items()}
        self.values: dict[str, Tensor] = {}
        self.told: dict[str, Tensor] = {}  # what was last announced

    def first(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Returns the outputs of a frame computed whole, everything announced."""
        self.values = {}
        for step in self.plan.steps:
            made = self._compute(step, inputs)
            self.values |= dict(zip(step.outputs, made, strict=True))
        self.told = {name: self.values[name] for name in self.plan.kept if name in self.plan.consumed}
        outputs = [self._lookup(ref) for ref in self.plan.outputs]
        self.values = {name: self.values[name] for name in self.plan.kept}
        return outputs

    def next(self, inputs: Sequence[Tensor]) -> Followed:
        """Returns what the next frame gives."""
        old, self.values = self.values, {}
        announced: dict[str, Tensor] = {}
        margins: dict[str, Tensor] = {}
        actives: dict[str, Tensor] = {}
        macs = torch.zeros((), dtype=torch.float64)
        for step in self.plan.steps:
            specs = [self.plan.values[name] for name in step.outputs]
            told = any(bool(announced[name].any()) for name in step.inputs)
            active = find_active(self.plan, step, announced, told=told, first=False)
            actives[step.name] = active[0]
            if step.calls:
                reached = active_margins(self.plan, step, margins)
            else:
                reached = [torch.full(spec.mask_shape, -UNSET) for spec in specs]
            macs = macs + _cost(step, active, told) + self._extra(step, active, reached)
            if not step.gated:
                (name,) = step.outputs
                (self.values[name],) = self._compute(step, inputs)
                announced[name], margins[name] = active[0], reached[0]
                continue
            made = self._compute(step, inputs)
            for name, fresh, mask, margin in zip(step.outputs, made, active, reached, strict=True):
                soft = straight_through(margin, temperature=self.temperature)
                self.values[name] = _Choose.apply(soft, mask, fresh, old[name])
                if name in self.plan.consumed:
                    announced[name], margins[name] = self._announce(name, fresh.detach(), mask, margin)
                    macs = macs + int(mask.sum()) * self.plan.values[name].channels
        outputs = [self._lookup(ref) for ref in self.plan.outputs]
        self.values = {name: self.values[name] for name in self.plan.kept}
        return Followed(outputs, macs, actives, announced, margins)

    def _announce(self, name: str, fresh: Tensor, active: Tensor, reached: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mask and margin of what is announced, and remembers it.

        The margin of a position that is not active is that of the value it would have, were it computed.
        """
        spec, record = self.plan.values[name], self.told[name]
        gate = self.gates.get(name)
        if gate is None or self.hard[name].threshold == 0:
            differs = bits_differ(fresh, record, spec)
            told, margin = active & differs, torch.where(differs, reached, UNSET)
        else:
            squares = (fresh - record).square()
            shape = [1] * len(spec.shape)
            shape[spec.channel_axis or 0] = -1
            squared = (squares * gate.weights.reshape(shape)).sum(spec.channel_axis, keepdim=True)
            own = 0.5 * torch.log(squared + TINY) - gate.log
            if self.noise is None:
                told = active & ~(squared.detach().sqrt() <= self.hard[name].threshold)
            else:
                own = own + self.temperature * _logistic(own.shape, self.noise)
                told = active & (own.detach() > 0)
            margin = torch.minimum(own, reached)
        self.told[name] = torch.where(told, fresh, record)
        return told, margin

    def _extra(self, step: Step, active: Sequence[Tensor], reached: Sequence[Tensor]) -> Tensor:
        """Returns 0 with the gradient of what computing this step's positions costs."""
        total = torch.zeros((), dtype=torch.float64)
        positions = sum(mask.numel() for mask in active)
        for name, margin in zip(step.outputs, reached, strict=True):
            each = step.macs / max(1, positions)
            each += self.plan.values[name].channels if step.gated and name in self.plan.consumed else 0
            if each and margin.requires_grad:
                soft = each * straight_through(margin, temperature=self.temperature).sum().double()
                total = total + (soft - soft.detach())
        return total

    def _compute(self, step: Step, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        if not step.calls:
            return [inputs[self.plan.inputs.index(step.outputs[0])]]
        return run_step(step, self._lookup)

    def _lookup(self, ref: Ref) -> Tensor:
        return self.plan.weights[ref.name] if ref.kind == "weight" else self.values[ref.name]


class _Choose(torch.autograd.Function):
    """Fresh where the mask is set, else old; backward, fresh x soft + old x (1 - soft).

    A change of a margin may compute a position and also the positions that read it. What that does to the last of
    them is then counted once on average over both sides of the step: with the mask's 0 and 1 in place of `soft` it
    would be counted at every one of them where they are active, and at none where they are not.
    """

    @staticmethod
    def forward(ctx: Any, soft: Tensor, mask: Tensor, fresh: Tensor, old: Tensor) -> Tensor:
        ctx.save_for_backward(soft, fresh, old)
        return torch.where(mask, fresh, old)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor]:
        soft, fresh, old = ctx.saved_tensors
        (gradient,) = gradients
        of_soft = (gradient * (fresh - old)).sum_to_size(soft.shape) if ctx.needs_input_grad[0] else None
        through = gradient * soft
        return of_soft, None, through, gradient - through


def _cost(step: Step, active: Sequence[Tensor], told: bool) -> int:
    """Returns what the ledger counts for a step's active positions and for deriving their mask."""
    positions = sum(mask.numel() for mask in active)
    executed = step.macs * sum(int(mask.sum()) for mask in active) // positions if positions else 0
    return executed + (positions if step.calls and told else 0)


def _logistic(shape: torch.Size, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(shape, generator=generator).clamp_(1e-7, 1 - 1e-7)
    return uniform.log() - torch.log1p(-uniform)
