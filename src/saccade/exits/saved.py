"""What a backbone left out of each frame, where that depends on what it sees: its layers tell the ledger.

Layers that `saccade.reduce` converted tell, and so does a backbone on the native engine. One of your own tells by
`saccade.graph.ledger.tell`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.graph.ledger import Spent, listening


class Saved:
    """The macs that were left out of N frames, less those of deciding about it.

    Attributes:
        decided: whether any layer had a choice, so that the cost of a frame depends on what is seen in it.
    """

    def __init__(self, frames: int) -> None:
        self.decided = False
        self._macs = torch.zeros(frames, dtype=torch.float64)

    @property
    def macs(self) -> Tensor:
        """Of each frame, (N,) int64; under 0 where deciding cost more than it saved."""
        return self._macs.round().long()

    def add(self, spent: Spent) -> None:
        """Enters what a layer spent.

        Raises:
            InputError: it told of another number of clips than there are frames.
        """
        if spent.executed.shape != self._macs.shape:
            raise InputError(
                f"layer {spent.name} of the backbone decided about {spent.executed.numel()} clips of {spent.pictures} "
                f"pictures where there are {len(self._macs)} frames; expected a decision about each frame. Convert the "
                "backbone with one frame as the example"
            )
        self.decided |= spent.gate_macs > 0 or bool((spent.executed != spent.macs).any())
        self._macs += spent.macs - spent.gate_macs - spent.executed.cpu()


@contextmanager
def saving(frames: int) -> Iterator[Saved]:
    """Gives what a backbone leaves out of so many frames that go through it, once, inside the block."""
    saved = Saved(frames)
    with listening(saved.add):
        yield saved
