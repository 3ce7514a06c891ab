"""The ledger of a video: what its frames, its answer and the decisions whether to go on cost, in macs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from saccade.exits.model import FrameExit
from saccade.graph.mac_counter import count_macs


@dataclass(frozen=True)
class ExitMacs:
    """What the parts of a model cost for one video, in macs.

    Attributes:
        backbone: of one frame.
        head: of one frame, the layer behind the backbone.
        pooling: of one frame.
        classifier: of one classifier.
        gates: of each of the T gates.
        averages: all classifiers up to the exit are part of the answer, which is the mean of theirs.
    """

    backbone: int
    head: int
    pooling: int
    classifier: int
    gates: tuple[int, ...]
    averages: bool = False

    @property
    def frame(self) -> int:
        """Macs of one more frame, without classifier and gate."""
        return self.backbone + self.head + self.pooling

    @property
    def dense(self) -> int:
        """Macs of all T frames and the answer after them, without any deciding: "w/o exit"."""
        return self.executed(len(self.gates))

    def executed(self, frames: int) -> int:
        """Returns the macs of so many frames and the answer after them, without the deciding."""
        return frames * self.frame + (frames if self.averages else 1) * self.classifier

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
    one per number it reads; biases, norms and activations nothing. A backbone whose cost depends on what it sees has
    that of this frame.

    Args:
        model: the model.
        frame: one frame as the backbone takes it, (1, ...); its numbers do not matter.
    """
    return ExitMacs(
        backbone=count_macs(model.backbone, frame),
        head=model.embed.weight.numel(),
        pooling=model.pooling.macs(),
        classifier=model.hidden * model.classes,
        gates=tuple(model.gates.macs(t) for t in range(1, model.frames + 1)),
        averages=not model.pooling.accumulates,
    )
