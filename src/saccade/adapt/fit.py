"""Training of gates: thresholds and channel weights that imitate the dense network at a budget of macs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saccade.adapt.rollout import Rollout, SoftGate
from saccade.calibrate.footage import Block, Footage
from saccade.calibrate.measures import Measure
from saccade.calibrate.trial import thinned
from saccade.graph.plan import Plan
from saccade.stream import Gate

SMOOTH, AVERAGED = 0.95, 0.98  # of running means: of what steps gave, and of the parameters
PULL, FARTHEST = 0.2, 0.05  # how far the common scale moves each step, of log(macs / budget), and at most
LEAST = 1e-12  # smallest error and macs to divide by


@dataclass(frozen=True, kw_only=True)
class Training:
    """How gates are trained.

    Attributes:
        temperature: of the sigmoids that stand in for steps, in units of the logarithm of a distance.
        noise: whether announcements are drawn (Gumbel gates); otherwise they are what a stream does.
        rate: Adam's, for the logarithm of thresholds.
        channel_rate: Adam's, for the logarithm of channel weights; 0 leaves them alone.
        frames: frames in a row whose error counts, behind an old one and one that brings all that changed since.
    """

    temperature: float = 0.2
    noise: bool = False
    rate: float = 0.02
    channel_rate: float = 0.02
    frames: int = 1


class Fit:
    """Gates in training, and all that a training that was stopped goes on from.

    Args:
        plan: the plan.
        gates: what to start from. Thresholds of 0 stay as they are.
        budget: share of the dense network's macs that a frame may cost.
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
        moving = {name: gate for name, gate in gates.items() if gate.threshold > 0}
        self._fixed = {name: gate for name, gate in gates.items() if gate.threshold == 0}
        self._base = {n: _weights(gate, plan.values[n].channels) for n, gate in moving.items()}
        self._logs = {n: torch.tensor(math.log(gate.threshold), requires_grad=True) for n, gate in moving.items()}
        self._channels = {n: torch.zeros_like(weights, requires_grad=True) for n, weights in self._base.items()}
        self._parameters = [*self._logs.values(), *self._channels.values()]
        self._means = [parameter.detach().clone() for parameter in self._parameters]
        self._best, self.least = self._means, math.inf
        groups: list[dict[str, Any]] = [{"params": list(self._logs.values()), "lr": how.rate}]
        groups += [{"params": list(self._channels.values()), "lr": how.channel_rate}]
        self._optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
        self._generator = torch.Generator().manual_seed(seed)
        self.steps = 0
        self.seen: dict[str, float] = {}  # running means of error and macs, and how they follow the common scale

    def gates(self) -> dict[str, Gate]:
        """Returns the gates as trained so far: those of a running mean of the parameters over steps."""
        return self._gates(self._means)

    def best(self) -> dict[str, Gate]:
        """Returns the gates that `judge` was told the least error of; those trained so far, where it was told none."""
        return self._gates(self._best)

    def judge(self, error: float) -> None:
        """Keeps the gates as trained so far, if this error of theirs is the least."""
        if error < self.least:
            self.least, self._best = error, [mean.clone() for mean in self._means]

    def _gates(self, parameters: Sequence[Tensor]) -> dict[str, Gate]:
        count = len(self._base)
        each = zip(self._base.items(), parameters[:count], parameters[count:], strict=True)
        trained = {name: Gate(math.exp(float(log)), base * by.exp()) for (name, base), log, by in each}
        return self._fixed | trained

    def learn(self, footage: Footage, blocks: Sequence[Block]) -> tuple[float, float]:
        """Makes one step on frames drawn from some blocks.

        Returns:
            Their squared relative error of the measure's view, and their share of the dense macs.
        """
        block = blocks[self._draw(0, len(blocks))]
        start = self._draw(block.first, max(block.first + 1, block.stop - self.how.frames))
        rollout = Rollout(
            self.plan,
            {n: SoftGate(self._logs[n], base * self._channels[n].exp()) for n, base in self._base.items()},
            temperature=self.how.temperature,
            noise=self._generator if self.how.noise else None,
        )
        with torch.no_grad():
            rollout.first(footage.inputs(block.clip, block.lead))
        rollout.next(footage.inputs(block.clip, start))
        errors, spent = [], []
        for number in range(start + 1, min(block.stop, start + 1 + self.how.frames)):
            done = rollout.next(footage.inputs(block.clip, number))
            errors.append(self._error(done.outputs, footage.outputs(block.clip, number)))
            spent.append(done.macs / self.plan.dense_macs)
        error, macs = torch.stack(errors).mean(), torch.stack(spent).mean()
        self._descend(error, macs)
        return float(error.detach()), float(macs.detach())

    def state(self) -> dict[str, Any]:
        """Returns all that training goes on from, for `torch.save`."""
        return {
            "steps": self.steps,
            "seen": self.seen,
            "parameters": [parameter.detach() for parameter in self._parameters],
            "means": self._means,
            "best": self._best,
            "least": self.least,
            "optimizer": self._optimizer.state_dict(),
            "generator": self._generator.get_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` returned, for the same plan, gates and training."""
        self.steps, self.seen = state["steps"], dict(state["seen"])
        self.least, self._best = state["least"], state["best"] if state["least"] < math.inf else self._means
        with torch.no_grad():
            for parameter, mean, value, kept in zip(
                self._parameters, self._means, state["parameters"], state["means"], strict=True
            ):
                parameter.copy_(value)
                mean.copy_(kept)
        self._optimizer.load_state_dict(state["optimizer"])
        self._generator.set_state(state["generator"])

    def _draw(self, first: int, stop: int) -> int:
        return int(torch.randint(first, stop, (), generator=self._generator))

    def _descend(self, error: Tensor, macs: Tensor) -> None:
        """Moves every parameter by what it does to log error + price x log macs; then the scale towards the budget.

        The price is that at which the scale common to all thresholds gains nothing, so that it is free to keep the
        budget.
        """
        by_error = _gradients(error, self._parameters, keep=True)
        by_macs = _gradients(macs, self._parameters, keep=False)
        count = len(self._logs)
        self._average(
            error=float(error.detach()),
            macs=float(macs.detach()),
            error_slope=float(sum(g for g in by_error[:count])),
            macs_slope=-float(sum(g for g in by_macs[:count])),
        )
        mean = {name: max(value, LEAST) for name, value in self.seen.items()}
        price = (mean["error_slope"] / mean["error"]) / (mean["macs_slope"] / mean["macs"])
        for parameter, up, down in zip(self._parameters, by_error, by_macs, strict=True):
            parameter.grad = up / mean["error"] + price * down / mean["macs"]
        self._optimizer.step()
        shift = max(-FARTHEST, min(FARTHEST, PULL * math.log(mean["macs"] / self.budget)))
        keep = min(AVERAGED, (self.steps - 1) / self.steps)
        with torch.no_grad():
            for log in self._logs.values():
                log += shift
            for kept, latest in zip(self._means, self._parameters, strict=True):
                kept.lerp_(latest, 1 - keep)

    def _error(self, outputs: Sequence[Tensor], dense: Sequence[Tensor]) -> Tensor:
        """Returns the squared relative error of the measure's view, as trials find it, with gradients."""
        with torch.no_grad():
            wanted = self.measure.view(thinned(dense))
        got = self.measure.view(thinned(outputs))
        off = torch.stack([(a - b).square().sum() for a, b in zip(got, wanted, strict=True)]).sum()
        return off / max(sum(float(b.square().sum()) for b in wanted), LEAST)

    def _average(self, **now: float) -> None:
        keep = min(SMOOTH, self.steps / (self.steps + 1))
        self.seen = {name: keep * self.seen.get(name, 0.0) + (1 - keep) * value for name, value in now.items()}
        self.steps += 1


def _weights(gate: Gate, channels: int) -> Tensor:
    return torch.full((channels,), 1 / channels) if gate.weights is None else gate.weights


def _gradients(of: Tensor, parameters: Sequence[Tensor], *, keep: bool) -> list[Tensor]:
    """Returns the derivative of a number by each parameter; 0 where it does not depend on one."""
    if not of.requires_grad:
        return [torch.zeros_like(parameter) for parameter in parameters]
    found = torch.autograd.grad(of, parameters, retain_graph=keep, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
