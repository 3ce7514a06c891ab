"""Training of gates: thresholds and channel weights that imitate the dense network at a budget of macs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from saccade.adapt.rollout import Rollout, SoftGate
from saccade.calibrate.footage import Block, Footage
from saccade.calibrate.measures import Measure
from saccade.calibrate.trial import thinned
from saccade.graph.plan import Plan
from saccade.kernels.lines import LINEAR
from saccade.kernels.table import find_rule
from saccade.kernels.window import CONVOLUTION
from saccade.stream import Gate


@dataclass(frozen=True, kw_only=True)
class Training:
    """How gates are trained.

    Attributes:
        temperature: of the sigmoids that stand in for steps, in units of the logarithm of a distance.
        noise: whether announcements are drawn (Gumbel gates); otherwise they are what a stream does.
        rate: Adam's, for the logarithm of thresholds.
        channel_rate: Adam's, for the logarithm of channel weights.
        network_rate: Adam's, for the network's own weights, relative to their size; 0 leaves them alone.
        frames: frames in a row whose error counts.
    """

    temperature: float = 0.2
    noise: bool = False
    rate: float = 0.02
    channel_rate: float = 0.02
    network_rate: float = 0.0
    frames: int = 1


AVERAGED = 0.98  # of the running mean of parameters
SMOOTH = 0.95  # of running means of error and macs
SHIFT = 0.05  # of the excess of macs over the budget, as logarithms: how far the common scale moves each step


class Fit:
    """Gates in training, and all that a training that was stopped goes on from.

    Args:
        plan: the plan.
        gates: what to start from; those with channel weights are trained, the others stay as they are.
        budget: macs, of the dense network's, that a frame may cost.
        measure: whose view is imitated.
        how: how to train.
        seed: of which frames are drawn, and of noise.
    """

    def __init__(
        self,
        plan: Plan,
        gates: Mapping[str, Gate],
        *,
        budget: float,
        measure: Measure,
        how: Training,
        seed: int,
    ) -> None:
        self.plan, self.budget, self.measure, self.how = plan, budget, measure, how
        self.base = {name: gate.weights for name, gate in gates.items() if gate.weights is not None}
        self.logs = {n: torch.tensor(math.log(gates[n].threshold), requires_grad=True) for n in self.base}
        self.channels = {n: torch.zeros_like(w, requires_grad=True) for n, w in self.base.items()}
        groups = [
            {"params": list(self.logs.values()), "lr": how.rate},
            {"params": list(self.channels.values()), "lr": how.channel_rate},
        ]
        self.mean_logs = {n: t.detach().clone() for n, t in self.logs.items()}
        self.mean_channels = {n: t.detach().clone() for n, t in self.channels.items()}
        self.network: dict[str, Tensor] = {}
        if how.network_rate:
            self.network = {n: plan.weights[n].clone().requires_grad_() for n in learnable_weights(plan)}
            sizes = {n: float(t.detach().square().mean().sqrt()) for n, t in self.network.items()}
            groups += [{"params": [t], "lr": how.network_rate * sizes[n]} for n, t in self.network.items()]
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
        self.generator = torch.Generator().manual_seed(seed)
        self.step, self.price = 0, 1.0
        self.means: dict[str, float] = {}

    def adapted(self) -> Plan:
        """Returns the plan with the network's weights as they are now."""
        return replace(self.plan, weights={**self.plan.weights, **{n: t.detach() for n, t in self.network.items()}})

    def gates(self) -> dict[str, Gate]:
        """Returns the gates found so far, a running mean over steps."""
        return {
            name: Gate(math.exp(float(self.mean_logs[name])), base * self.mean_channels[name].exp())
            for name, base in self.base.items()
        }

    def _soft(self) -> dict[str, SoftGate]:
        return {n: SoftGate(self.logs[n], self.base[n] * self.channels[n].exp()) for n in self.base}

    def learn(self, footage: Footage, blocks: Sequence[Block]) -> tuple[float, float]:
        """Makes one step on frames drawn from some blocks; returns their relative error and share of macs."""
        block = blocks[int(torch.randint(len(blocks), (), generator=self.generator))]
        latest = block.stop - 1 - self.how.frames
        start = int(torch.randint(block.first, max(block.first, latest) + 1, (), generator=self.generator))
        noise = self.generator if self.how.noise else None
        soft = self._soft()
        rollout = Rollout(self.plan, soft, temperature=self.how.temperature, weights=self.network, noise=noise)
        with torch.no_grad():
            rollout.first(footage.inputs(block.clip, block.lead))
        rollout.next(footage.inputs(block.clip, start))
        errors, spent = [], []
        for number in range(start + 1, min(block.stop, start + 1 + self.how.frames)):
            done = rollout.next(footage.inputs(block.clip, number))
            errors.append(self._error(done.outputs, footage.outputs(block.clip, number)))
            spent.append(done.macs / self.plan.dense_macs)
        self._descend(torch.stack(errors).mean(), torch.stack(spent).mean())
        return float(errors[-1].detach()), float(spent[-1].detach())

    def _descend(self, error: Tensor, macs: Tensor) -> None:
        """Moves every parameter by what it does to log error + price x log macs; then the scale towards the budget.

        The price is that at which the scale common to all thresholds gains nothing, so that the scale is free to
        keep the budget.
        """
        parameters = [t for group in self.optimizer.param_groups for t in group["params"]]
        by_error = torch.autograd.grad(error, parameters, retain_graph=True, allow_unused=True)
        by_macs = torch.autograd.grad(macs, parameters, allow_unused=True)
        count = len(self.logs)
        self._average(
            error=float(error.detach()),
            macs=float(macs.detach()),
            error_slope=sum(float(g) for g in by_error[:count] if g is not None),
            macs_slope=-sum(float(g) for g in by_macs[:count] if g is not None),
        )
        mean = self.means
        price = 0.0
        if mean["macs_slope"] > 0 and mean["error_slope"] > 0:
            price = mean["error_slope"] / mean["macs_slope"] * max(mean["macs"], 1e-9) / max(mean["error"], 1e-12)
        self.price = price
        for parameter, up, down in zip(parameters, by_error, by_macs, strict=True):
            gradient = torch.zeros_like(parameter)
            if up is not None:
                gradient += up / max(mean["error"], 1e-12)
            if down is not None:
                gradient += price * down / max(mean["macs"], 1e-9)
            parameter.grad = gradient
        self.optimizer.step()
        over = math.log(max(mean["macs"], 1e-9) / self.budget)
        with torch.no_grad():
            for log in self.logs.values():
                log += max(-SHIFT, min(SHIFT, SHIFT * over))
            pairs = [(self.mean_logs, self.logs), (self.mean_channels, self.channels)]
            keep = min(AVERAGED, self.step / (self.step + 1))
            for means, latest in pairs:
                for name, value in latest.items():
                    means[name].lerp_(value, 1 - keep)

    def _error(self, outputs: Sequence[Tensor], dense: Sequence[Tensor]) -> Tensor:
        """Returns the squared relative error of the measure's view, as trials find it, with gradients."""
        with torch.no_grad():
            wanted = self.measure.view(thinned(dense))
        got = self.measure.view(thinned(outputs))
        off = sum(((a - b).square().sum() for a, b in zip(got, wanted, strict=True)), torch.zeros(()))
        return off / max(sum(float(b.square().sum()) for b in wanted), 1e-30)

    def _average(self, **now: float) -> None:
        keep = min(SMOOTH, self.step / (self.step + 1))
        self.means = {name: keep * self.means.get(name, 0.0) + (1 - keep) * value for name, value in now.items()}
        self.step += 1


def learnable_weights(plan: Plan) -> list[str]:
    """Returns the names of the weights and biases of convolutions and linear layers, in the plan's order."""
    found: dict[str, None] = {}
    for step in plan.steps:
        for call in step.calls:
            if find_rule(call) in (CONVOLUTION, LINEAR):
                refs = [call.arguments["weight"], call.arguments["bias"]]
                found |= {ref.name: None for ref in refs if ref is not None and ref.kind == "weight"}
    return [name for name in found if plan.weights[name].is_floating_point()]
