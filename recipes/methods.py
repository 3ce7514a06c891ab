"""Ways to make a network cheaper, as the recipes and the claims name them.

A method changes the network a recipe builds, and may add a penalty to its loss. Names: "dense" (nothing), "gumbel"
(Skip-Convolutions with learned gates), "magnitude" (the same, gates on |r|), "frames" (CC-image: the same gates on raw
frames), "spatial-svd", "weight-svd", "l0", "reduce" (VA-RED2 on the channels of every frame), and of two,
"spatial-svd+magnitude" and "magnitude+reduce".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from saccade import reduce
from saccade.errors import RecipeError
from saccade.reduce import Policies, Reduce, ReducedModel, efficiency_loss
from saccade.reduce.cheap import CheapOperations
from saccade.reduce.gate import ModulationGate
from saccade.rivals.conditional import convert_conditional
from saccade.rivals.decompose import decompose
from saccade.rivals.prune import HardConcrete, insert_gates, l0_loss
from saccade.skip import ClipModel, Firing, Gumbel, Skip, convert, gate_loss
from saccade.skip.layer import GumbelGate

METHODS = (
    *("dense", "gumbel", "magnitude", "frames", "spatial-svd", "weight-svd", "l0", "reduce"),
    *("spatial-svd+magnitude", "magnitude+reduce"),
)
WIDE = 32  # input channels of the 3x3 convolutions that leave out channels where the others leave out positions
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of a layer's macs that a decomposition tries
EXAMPLES = 16  # training pictures that it looks at
WARM_UP = 0.5  # of the steps, over which a penalty grows to its weight: gates first learn what matters


@dataclass(frozen=True, kw_only=True)
class Method:
    """Which method, and how hard it presses.

    Attributes:
        name: one of METHODS.
        beta: weight of the penalty: L_gate (eq. 9) for gates, the expected macs for "l0", L_e of VA-RED2 (eq. 6) for
            channels.
        block, form: of gates, see `saccade.skip.Skip`.
        bias: what a learned gate's bias starts from.
        ratio: macs of the decomposed network over the dense one's, for the SVDs.
    """

    name: str = "dense"
    beta: float = 0.0
    block: int = 1
    form: str = "residual"
    bias: float | None = None
    ratio: float = 0.5

    def __post_init__(self) -> None:
        """Check the name."""
        if self.name not in METHODS:
            raise RecipeError(f"unknown method {self.name!r}; expected one of {', '.join(METHODS)}")

    @property
    def gated(self) -> bool:
        """Whether the network has gates."""
        return self.name == "frames" or self.skips

    @property
    def skips(self) -> bool:
        """Whether these are gates of Skip-Convolutions."""
        return not {"gumbel", "magnitude"}.isdisjoint(self.name.split("+"))

    def apply(self, network: nn.Module, example: Tensor) -> nn.Module:
        """Change a trained network (in place), and return it, or what runs it; `example` are pictures (N, 3, H, W)."""
        gate = Gumbel(bias=self.bias, magnitude="magnitude" in self.name.split("+"))
        what = Skip(gate, block=self.block, form=self.form)
        if "svd" in self.name:
            kind = "spatial" if "spatial" in self.name else "weight"
            decompose(network, ratio=self.ratio, kind=kind, example=example, shares=SHARES)  # type: ignore[arg-type]
        if "reduce" in self.name:
            reduce.convert(network, Reduce(time=1), wide if self.skips else None, example=example[:1])
        if self.skips:
            convert(network, what)
        elif self.name == "frames":
            convert_conditional(network, gate, block=self.block)
        elif self.name == "l0":
            insert_gates(network, example=example)
        return ReducedModel(network) if "reduce" in self.name else network

    def penalty(self, network: ClipModel, ran: Ran) -> Tensor:
        """Return what is added to the task's loss, before `beta`."""
        total = torch.zeros(())
        if self.gated:
            total = total + gate_loss(ran.firing)
        if ran.policies is not None:  # there are no wrong answers among places, so all are pressed
            total = total + efficiency_loss(ran.policies, torch.ones(ran.policies.batch, dtype=torch.bool))
        if self.name == "l0":
            total = total + l0_loss(network.model)
        return total


class Ran(NamedTuple):
    """What a network gave for clips, and what its gates chose: of positions, and of channels where it is reduced."""

    outputs: Any
    firing: Firing
    policies: Policies | None

    @classmethod
    def of(cls, found: tuple[Any, Firing]) -> Ran:
        """Return the parts of what a `ClipModel` returned."""
        outputs, firing = found
        if isinstance(outputs, tuple) and len(outputs) == 2 and isinstance(outputs[1], Policies):
            return cls(outputs[0], firing, outputs[1])
        return cls(outputs, firing, None)


def wide(name: str, module: nn.Module) -> bool:
    """Return whether a convolution has so many channels that leaving some out is worth it."""
    del name
    kernel: Any = getattr(module, "kernel_size", ())
    return isinstance(module, nn.Conv2d) and max(kernel) > 1 and module.in_channels >= WIDE


class Pressure:
    """The weight of a penalty, growing from 0 over the first half of the steps; `before_step` of a recipe."""

    def __init__(self, beta: float, steps: int) -> None:
        self.beta, self.steps, self.now = beta, steps, 0.0

    def __call__(self, model: nn.Module, step: int) -> None:
        """Set the weight of this step, and hold the statistics of batch norms still."""
        self.now = self.beta * min(1.0, (step - 1) / (WARM_UP * self.steps))
        freeze_norms(model)

    def losses(self, task: Tensor, how: Method, network: nn.Module, ran: Ran) -> dict[str, Tensor]:
        """Return the loss to minimise, and what it is made of: the task's and the method's penalty."""
        if not self.beta:
            return {"loss": task, "task": task}
        penalty = how.penalty(network, ran)  # type: ignore[arg-type]
        return {"loss": task + self.now * penalty, "task": task, "penalty": penalty}


def freeze_norms(model: nn.Module) -> None:
    """Hold the statistics of batch norms still: the few clips of a batch are too alike to take new ones.

    Those in the gates of channels have none before, and take them.
    """
    new = {part for module in model.modules() if isinstance(module, ModulationGate) for part in module.modules()}
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module not in new:
            module.eval()


def parameter_groups(model: nn.Module, *, rate: float, gate_rate: float) -> list[dict[str, Any]]:
    """Return the parameters for an optimizer: gates learn at a rate of their own."""
    gates: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, GumbelGate | HardConcrete | ModulationGate | CheapOperations):
            gates += module.parameters()
    own = {id(value) for value in gates}
    others = [value for value in model.parameters() if id(value) not in own]
    groups: list[dict[str, Any]] = [{"params": others, "lr": rate}]
    return groups + ([{"params": gates, "lr": gate_rate}] if gates else [])


def adam(model: nn.Module, *, rate: float, gate_rate: float, decay: float = 0.0) -> torch.optim.Optimizer:
    """Return the optimizer of a network: Adam, with decoupled weight decay."""
    groups = parameter_groups(model, rate=rate, gate_rate=gate_rate)
    return torch.optim.AdamW(groups, lr=rate, weight_decay=decay)


def one_cycle(optimizer: torch.optim.Optimizer, *, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Return the schedule: every rate rises for a tenth of the steps, then falls to almost nothing."""
    most = [group["lr"] for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, most, total_steps=steps, pct_start=0.1, cycle_momentum=False)
