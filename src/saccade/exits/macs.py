"""The ledger of a video: what its frames, its answer and the decisions whether to go on cost, in macs."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saccade.exits.model import FrameExit
from saccade.exits.saved import Saved
from saccade.graph.evaluating import evaluating
from saccade.graph.ledger import Spent, listening
from saccade.graph.mac_counter import MacCounter


@dataclass(frozen=True)
class ExitMacs:
    """What the parts of a model cost for one video, in macs.

    Attributes:
        backbone: of one frame; where that depends on what is seen in it, of everything computed.
        head: of one frame, the layer behind the backbone.
        pooling: of one frame.
        classifier: of one classifier.
        gates: of each of the T gates.
        averages: all classifiers up to the exit are part of the answer, which is the mean of theirs.
        varies: whether the backbone decides frame by frame how much it computes, and tells.
    """

    backbone: int
    head: int
    pooling: int
    classifier: int
    gates: tuple[int, ...]
    averages: bool = False
    varies: bool = False

    @property
    def frame(self) -> int:
        """Macs of one more frame, without classifier and gate."""
        return self.backbone + self.head + self.pooling

    @property
    def dense(self) -> int:
        """Macs of all T frames and the answer after them, without any deciding: "w/o exit"."""
        return self.executed(len(self.gates))

    def executed(self, frames: int, *, saved: int = 0) -> int:
        """Returns the macs of so many frames and the answer after them, without the deciding.

        Args:
            frames: looked at.
            saved: what the backbone left out of them.
        """
        return frames * self.frame + (frames if self.averages else 1) * self.classifier - saved

    def deciding(self, t: int, *, classifier: bool, gate: bool, left: bool) -> int:
        """Returns the macs that deciding after frame t cost, beside what the answer costs in any case.

        Args:
            t: frames seen, from 1.
            classifier, gate: whether the t-th were computed.
            left: whether the video is left here, so that the classifier's is the answer.
        """
        spent = self.classifier if classifier and not (self.averages or left) else 0
        return spent + (self.gates[t - 1] if gate else 0)


def exit_macs(model: FrameExit, frame: Tensor) -> ExitMacs:
    """Returns what the parts of a model cost.

    Counted as everywhere here: convolutions, linear layers and products of matrices by their multiply-adds; pooling
    one per number it reads; biases, norms and activations nothing. Layers of the backbone that `saccade.reduce`
    converted count as if they computed everything, without their gates: what they left out and what that took is found
    frame by frame. A backbone that computes less for some frames and tells nobody has what it computes for this one.

    Args:
        model: the model.
        frame: one frame as the backbone takes it, (1, ...); its numbers do not matter.
    """
    backbone, varies = backbone_macs(model.backbone, frame)
    return ExitMacs(
        backbone=backbone,
        head=model.embed.weight.numel(),
        pooling=model.pooling.macs(),
        classifier=model.hidden * model.classes,
        gates=tuple(model.gates.macs(t) for t in range(1, model.frames + 1)),
        averages=not model.pooling.accumulates,
        varies=varies,
    )


def backbone_macs(backbone: nn.Module, frame: Tensor) -> tuple[int, bool]:
    """Returns the macs of a frame, everything computed, and whether the backbone decides how much of that it computes.

    Of a module that tells the ledger what it spent, what it says it has at most is taken for what torch ran in it.

    Args:
        backbone: it is run in evaluation mode, and left as it was.
        frame: (1, ...), as it takes them.
    """
    saved, entered = Saved(len(frame)), list[int]()

    def enter(*_: object) -> None:
        entered.append(counted.macs)

    def leave(*_: object) -> None:
        entered.pop()

    def told(spent: Spent) -> None:
        saved.add(spent)
        counted.macs = entered[-1] + spent.macs

    with torch.no_grad(), evaluating(backbone), ExitStack() as stack, MacCounter() as counted:
        for module in backbone.modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # takes no hooks, and tells nothing
            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        stack.enter_context(listening(told))
        backbone(frame)
    return counted.macs, saved.decided
