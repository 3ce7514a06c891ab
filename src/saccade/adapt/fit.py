"""Training of gates: thresholds and channel weights that imitate the dense network at a budget of macs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from saccade.adapt.rollout import Rollout, SoftGate
from saccade.calibrate.footage import Block, Footage
from saccade.calibrate.measures import Measure
from saccade.calibrate.trial import thinned
from saccade.graph.plan import Plan
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
        frames: frames with gradients in a row.
    """

    temperature: float = 0.5
    noise: bool = False
    rate: float = 0.05
    channel_rate: float = 0.05
    network_rate: float = 0.0
    frames: int = 2


SMOOTH = 0.95  # of running means of error and macs
PUSH, WEIGHT_RATE = 2.0, 0.05  # how the price of macs follows their excess: at once, and added up


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
        self.network: dict[str, Tensor] = {}
        if how.network_rate:
            self.network = {n: t.clone().requires_grad_() for n, t in plan.weights.items() if t.is_floating_point()}
            sizes = {n: float(t.detach().square().mean().sqrt()) for n, t in self.network.items()}
            groups += [{"params": [t], "lr": how.network_rate * sizes[n]} for n, t in self.network.items()]
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
        self.generator = torch.Generator().manual_seed(seed)
        self.step, self.price = 0, 1.0
        self.error = self.macs = 0.0

    def gates(self) -> dict[str, Gate]:
        """Returns the gates as they are now."""
        return {name: gate.hard() for name, gate in self._soft().items()}

    def _soft(self) -> dict[str, SoftGate]:
        return {n: SoftGate(self.logs[n], self.base[n] * self.channels[n].exp()) for n in self.base}

    def learn(self, footage: Footage, blocks: Sequence[Block]) -> tuple[float, float]:
        """Makes one step on frames drawn from some blocks; returns their relative error and share of macs."""
        block = blocks[int(torch.randint(len(blocks), (), generator=self.generator))]
        latest = block.stop - 1 - self.how.frames
        start = int(torch.randint(block.first, max(block.first, latest) + 1, (), generator=self.generator))
        noise = self.generator if self.how.noise else None
        rollout = Rollout(
            self.plan, self._soft(), temperature=self.how.temperature, weights=self.network, noise=noise
        )
        with torch.no_grad():
            rollout.first(footage.inputs(block.clip, block.lead))
            rollout.next(footage.inputs(block.clip, start))
        errors, macs = [], []
        for number in range(start + 1, min(block.stop, start + 1 + self.how.frames)):
            done = rollout.next(footage.inputs(block.clip, number))
            errors.append(self._error(done.outputs, footage.outputs(block.clip, number)))
            macs.append(done.macs / self.plan.dense_macs)
        error, spent = torch.stack(errors).mean(), torch.stack(macs).mean()
        self._average(float(error.detach()), float(spent.detach()))
        over = math.log(max(self.macs, 1e-9) / self.budget)
        price = self.price * math.exp(PUSH * over)
        loss = error / max(self.error, 1e-12) + price * spent / max(self.macs, 1e-9)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.price *= math.exp(WEIGHT_RATE * over)
        return float(error.detach()), float(spent.detach())

    def _error(self, outputs: Sequence[Tensor], dense: Sequence[Tensor]) -> Tensor:
        """Returns the squared relative error of the measure's view, as trials find it, with gradients."""
        with torch.no_grad():
            wanted = self.measure.view(thinned(dense))
        got = self.measure.view(thinned(outputs))
        off = sum(((a - b).square().sum() for a, b in zip(got, wanted, strict=True)), torch.zeros(()))
        return off / max(sum(float(b.square().sum()) for b in wanted), 1e-30)

    def _average(self, error: float, macs: float) -> None:
        keep = min(SMOOTH, self.step / (self.step + 1))
        self.error = keep * self.error + (1 - keep) * error
        self.macs = keep * self.macs + (1 - keep) * macs
        self.step += 1
