"""Ways to make a network of clips cheaper, as the recipe and the claims of VA-RED2 name them.

"both", "time" and "channels" are VA-RED2 and its halves. Its rivals: "weights" and "filters" (pruned by size, single
weights or whole output channels), "gating" (CGNet) and "resolution" (AR-Net, by clip). "dense" changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from recipes.methods import adam, one_cycle
from saccade.errors import RecipeError
from saccade.graph.conversion import Where
from saccade.reduce import Reduce, ReducedModel, convert, efficiency_loss
from saccade.rivals.channel_gating import gate_channels, threshold_loss
from saccade.rivals.counted import CountedModel
from saccade.rivals.resolution import ChoiceCost, ResolutionChoice
from saccade.train import read_weights

# Whether time and channels have a choice: what "temporal only" and "channel only" leave alone.
REDUCED = {"both": (True, True), "time": (True, False), "channels": (False, True)}
METHODS = ("dense", *REDUCED, "weights", "filters", "gating", "resolution")
STAGES = 0.1  # of the steps go by before the efficiency loss begins
RAMP = 0.3  # of the steps it takes to come to its full weight
GROUPS = 4  # of input channels, of which channel gating always reads one
THRESHOLDS = 0.5  # weight of the thresholds' loss
SIZES = (1, 2 / 3, 1 / 2)  # sides of the clips that resolution selection chooses from, over the whole side
EVEN = 0.3  # weight of the loss for using all sizes alike


@dataclass(frozen=True, kw_only=True)
class ClipMethod:
    """Which method, and how hard it presses.

    Attributes:
        name: one of METHODS.
        what: of VA-RED2, the search space and the cheap operations; its options are of the dimensions the name says.
        efficiency: of VA-RED2, the paper's lambda_e.
        press: of its rivals: the share of each convolution to prune; the thresholds' target of channel gating; the
            weight of the macs in the loss of resolution selection.
    """

    name: str
    what: Reduce
    efficiency: float
    press: float = 0.0

    def __post_init__(self) -> None:
        """Check the name and the pressure."""
        if self.name not in METHODS:
            raise RecipeError(f"unknown method {self.name!r}; expected one of {', '.join(METHODS)}")
        if self.name in ("weights", "filters") and not 0 < self.press < 1:
            raise RecipeError(
                f"method {self.name!r} prunes {self.press:g} of each layer; expected press between 0 and 1"
            )

    @property
    def reduced(self) -> bool:
        """Whether the network has dynamic convolutions."""
        return self.name in REDUCED

    def apply(self, run: ReducedModel, where: Where | None, *, example: Tensor) -> nn.Module:
        """Change a trained network (in place), and return what runs it: (scores, cost) for clips like the example."""
        network = run.model
        if self.name == "dense":
            return run
        if self.reduced:
            convert(network, self.what, where, example=example)
            return run
        if self.name == "resolution":
            sides = [round(example.shape[-1] * size) for size in SIZES]
            return ResolutionChoice(network, sides, example=example)
        if self.name == "gating":
            gate_channels(network, groups=GROUPS, where=where)
        else:
            for layer in list(network.modules()):
                if isinstance(layer, nn.Conv3d):
                    prune_layer(layer, self.press, whole_filters=self.name == "filters")
        return CountedModel(network)

    def penalty(self, model: nn.Module, cost: Any, correct: Tensor) -> Tensor:
        """Return what is added to the task's loss in the second stage."""
        if self.reduced:
            return self.efficiency * efficiency_loss(cost, correct)
        if self.name == "gating":
            return THRESHOLDS * threshold_loss(model, target=self.press)
        if isinstance(cost, ChoiceCost):
            return self.press * cost.expected() + EVEN * cost.unevenness()
        return torch.zeros(())


def options_of(method: str, space: int) -> dict[str, int]:
    """Return how many options of time and of channels a method has in a search space, for `Reduce`."""
    return {
        name: space if chosen else 1
        for name, chosen in zip(("time", "channels"), REDUCED.get(method, (True, True)), strict=True)
    }


def begin(network: nn.Module, start: str, *, trunk: str = "", recompute: bool = False) -> ReducedModel:
    """Return what runs a network, with the weights of the dense one in the folder `start`, or those `take_trunk` takes.

    RecipeError says so where it is told both.
    """
    if start and trunk:
        raise RecipeError(
            f"got start={start!r} and trunk={trunk!r}; expected one: start has weights of the whole network"
        )
    run = ReducedModel(network, recompute=recompute)
    if start:
        read_weights(Path(start)).load_into(run)
    if trunk:
        take_trunk(run, trunk)
    return run


def take_trunk(run: ReducedModel, folder: str) -> None:
    """Give a network that is put on another (TPN and CorrNet on R(2+1)D) the weights of that one's `body`.

    RecipeError says so where the folder's network has no body that fits; the network is then as it was.
    """
    given, own = read_weights(Path(folder)), run.state_dict()
    body = {name: value for name, value in given.state.items() if name.startswith("model.body.")}
    strange = [name for name, value in body.items() if name not in own or own[name].shape != value.shape]
    if strange or not body:
        raise RecipeError(
            f"{given.path} (recipe {given.recipe!r}, options {given.options}) has no body for this network: "
            f"{', '.join(strange[:3]) or 'nothing in it is called model.body'}; expected the dense network it is put on"
        )
    run.load_state_dict(body, strict=False)


class Teacher:
    """The dense network that a method goes on from, whose answers are a share of the task's loss.

    Where there is no folder `start`, or the share is 0, the task's loss is left as it is.
    """

    def __init__(self, make: Callable[[], nn.Module], start: str, share: float) -> None:
        self.make, self.start, self.share = make, start, share
        self.networks: dict[torch.device, nn.Module] = {}

    def blend(self, task: Tensor, scores: Tensor, inputs: Tensor) -> Tensor:
        """Return the loss of scores (B, classes, ...), of what the network was given."""
        if not (self.start and self.share):
            return task
        if scores.device not in self.networks:
            dense = begin(self.make(), self.start).eval().requires_grad_(False)
            self.networks[scores.device] = dense.to(scores.device)
        answers = self.networks[scores.device](inputs)[0].softmax(1)
        return (1 - self.share) * task + self.share * F.cross_entropy(scores, answers)


def schooling(stage: Stage, *, rate: float, gate_rate: float, seed: int) -> dict[str, Any]:
    """Return what the recipes of reduced networks have in common, as arguments of `Recipe`."""
    return {
        "optimizer": partial(adam, rate=rate, gate_rate=gate_rate, decay=0.01),
        "schedule": partial(one_cycle, steps=stage.steps),
        "steps": stage.steps,
        "batch": 16,
        "seed": seed,
        "before_step": stage,
        "clip_norm": 10.0,
        "log_every": 50,
    }


def in_batches(data: Any, size: int) -> Iterator[list[Any]]:
    """Return the samples of a data set in their order, so many at a time."""
    for first in range(0, len(data), size):
        yield [data[index] for index in range(first, min(first + size, len(data)))]


class Stage:
    """How much of the penalty counts: nothing in the first stage, then more and more; `before_step` of a recipe."""

    def __init__(self, steps: int, *, ramp: float = RAMP) -> None:
        self.steps, self.ramp, self.now = steps, ramp, 0.0

    def __call__(self, model: nn.Module, step: int) -> None:
        """Set what counts in this step; a network that chooses resolutions chooses at random in the first stage."""
        self.now = min(1.0, max(0.0, (step / self.steps - STAGES) / self.ramp))
        if isinstance(model, ResolutionChoice):
            model.exploring = self.now == 0

    def losses(self, task: Tensor, how: ClipMethod, model: nn.Module, cost: Any, correct: Tensor) -> dict[str, Tensor]:
        """Return the loss to minimise, what it is made of, and the share of the dense network's macs that was used."""
        if how.name == "dense":
            return {"loss": task, "task": task}
        penalty = how.penalty(model, cost, correct)
        share = (cost.macs.mean() / cost.dense_macs).float()
        return {"loss": task + self.now * penalty, "task": task, "penalty": penalty, "macs": share}


class Spending:
    """The macs of clips, batch by batch, and what there is to say of them."""

    def __init__(self) -> None:
        self.macs: list[Tensor] = []
        self.dense = self.overhead = 0.0

    def add(self, cost: Any) -> None:
        """Take in what a batch cost."""
        self.macs.append(cost.macs.cpu())
        self.dense, self.overhead = cost.dense_macs, self.overhead + float(cost.overhead.sum())

    def measures(self) -> dict[str, float]:
        """Return macs per clip: the mean, the least, the most, the dense network's; and the overhead over the last."""
        each = torch.cat(self.macs)
        return {
            "macs": float(each.mean()),
            "least_macs": float(each.min()),
            "most_macs": float(each.max()),
            "dense_macs": self.dense,
            "macs_ratio": self.dense / float(each.mean()),
            "overhead": self.overhead / len(each) / self.dense,
        }


def prune_layer(layer: nn.Conv3d, amount: float, *, whole_filters: bool) -> None:
    """Leave out a share of a layer's weights for good, the smallest, or of its output channels, by the sum of abs(w).

    Output channels that are left out are zeros, which a batch norm makes a constant. A layer with one is left alone.
    """
    if not whole_filters:
        prune.l1_unstructured(layer, "weight", amount=amount)
    elif layer.out_channels > 1:
        prune.ln_structured(layer, "weight", amount=amount, n=1, dim=0)
