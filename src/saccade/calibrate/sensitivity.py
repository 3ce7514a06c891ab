"""How much a small change of each channel of each value moves the network's output: the norm that gates compare in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.graph.plan import Plan
from saccade.stream.dense import dense_values

EVENED = 0.1
View = Callable[[list[Tensor]], list[Tensor]]


def channel_weights(
    plan: Plan, frames: Sequence[Sequence[Tensor]], *, view: View, projections: int = 3, seed: int = 0
) -> dict[str, Tensor]:
    """Returns by value name the mean squared gradient of the output with respect to each channel, (channels,).

    With J the derivative of view(outputs) / ||view(outputs)|| by a value, the gradient of a random projection u J
    (u standard normal) has the expected square (J^T J)_cc. So with weights w, the sum over positions of |d|_s^2 =
    sum_c w_c d_c^2 estimates the squared relative change of the output that a change d of the value makes, to first
    order and with changes of different channels and positions taken as independent.

    Args:
        plan: the plan.
        frames: inputs of some frames, one list of tensors each.
        view: what of the outputs counts, differentiable.
        projections: random projections per frame.
        seed: of the projections.

    Returns:
        One vector per kept floating-point value with a channel axis, evened out a little. Values without any
        gradient are left out, such as those that only whole numbers are made of: nothing is known of their changes.

    Raises:
        InputError: an operator of the plan has no derivative.
    """
    generator = torch.Generator().manual_seed(seed)
    wanted = {name for name in plan.kept if is_gated_by_norm(plan, name)}
    sums = {name: torch.zeros(plan.values[name].channels, dtype=torch.float64) for name in sorted(wanted)}
    for inputs in frames:
        values, outputs = dense_values(plan, inputs, gradients_of=wanted)
        seen = view(outputs)
        size = math.sqrt(sum(float(x.detach().double().square().sum()) for x in seen)) or 1.0
        for last in [False] * (projections - 1) + [True]:
            drawn = [torch.randn(x.shape, generator=generator) for x in seen]
            total = sum(((u * x).sum() for u, x in zip(drawn, seen, strict=True)), torch.zeros(())) / size
            names = [name for name in sums if values[name].requires_grad]
            if not total.requires_grad:
                break
            wrt = [values[name] for name in names]
            try:
                found = torch.autograd.grad(total, wrt, retain_graph=not last, allow_unused=True)
            except (RuntimeError, NotImplementedError) as error:
                raise InputError(
                    f"{plan.name} cannot be differentiated ({error}), which thresholds are found by; use saccade run "
                    "--tolerance"
                ) from error
            for name, gradient in zip(names, found, strict=True):
                if gradient is not None:
                    sums[name] += _per_channel(gradient.double().square(), plan.values[name].channel_axis)
    count = max(1, projections * len(frames))
    return {name: evened(total / count).float() for name, total in sums.items() if bool(total.any())}


def evened(weights: Tensor) -> Tensor:
    """Returns weights with a tenth of their sum shared out evenly.

    A channel that happens to be silent on the frames looked at has no gradient, and would never be heard again.
    """
    return (1 - EVENED) * weights + EVENED * weights.mean()


def is_gated_by_norm(plan: Plan, name: str) -> bool:
    """Returns whether a value's gate compares a norm over channels: floating-point, with channels, and read."""
    spec = plan.values[name]
    return name in plan.consumed and spec.torch_dtype.is_floating_point and spec.channel_axis is not None


def _per_channel(squares: Tensor, axis: int | None) -> Tensor:
    assert axis is not None
    return squares.transpose(0, axis).flatten(1).mean(1) if squares.ndim > 1 else squares


def announcing_costs(plan: Plan) -> dict[str, float]:
    """Returns by value name the macs per position of the steps that read it: what announcing a position costs them.

    Data that only moves passes the cost of its own readers on.
    """
    costs: Mapping[str, float] = dict.fromkeys(plan.values, 0.0)
    costs = dict(costs)
    for step in reversed(plan.steps):
        for name in step.inputs:
            costs[name] += step.macs if step.gated else sum(costs[out] for out in step.outputs)
    return {name: cost / max(1, plan.values[name].positions) for name, cost in costs.items()}
