"""How the pictures a converted network is given lie in time, and what its gates did: kept beside the network.

A network between two gated layers sees plain pictures (B * T, C, H, W). Which of them belong to one clip, which are
reference frames, and what came before the clip is known to the layers through a context variable, so that nothing is
ever left on a module.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

from saccade.errors import InputError

CallKey = tuple[str, int]


@dataclass(eq=False, repr=False)
class ClipState:
    """What goes on from one clip of a video to the next: each layer's last input and output, and the frames so far."""

    frames: int = 0
    last: dict[CallKey, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"ClipState(frames={self.frames}, layers={len(self.last)})"


@dataclass(frozen=True, eq=False, repr=False)
class LayerFiring:
    """What one call of one layer did in a clip.

    Attributes:
        name: the layer, as in `named_modules`; a layer called several times has several entries.
        macs: of computing every position of one frame.
        gate_macs: of deciding for one frame at every position; 0 without a gate.
        share: (B, T) of the positions computed; 1 in reference frames, and everywhere without a gate. Differentiable
            while training. Of a layer of `saccade.reduce` the share of the macs that was executed, rebuilding included.
        decided: (B, T) of the positions the gate had to look at: where nothing under the kernel changed, its answer is
            known. 0 in reference frames; not found out, and 1, while training.
        gated: whether the layer has a gate.
        mask: (B, T, ...) bool, where it fired; None unless masks were asked for.
        warp_macs: of moving the frame before along the flow, for one frame; 0 without a flow.
        equivariance: how far the convolution is from taking a warped input for a warped output, see
            `equivariance_loss`; None unless that was asked for.
    """

    name: str
    macs: int
    gate_macs: int
    share: Tensor
    decided: Tensor
    gated: bool
    mask: Tensor | None = None
    warp_macs: int = 0
    equivariance: Tensor | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Firing:
    """What the gates of a network did in a clip, call by call.

    Attributes:
        calls: one entry per call of a convolution or linear layer, in order.
        reference: (T,) bool, which frames were reference frames.
    """

    calls: tuple[LayerFiring, ...]
    reference: Tensor

    @property
    def dense_macs(self) -> int:
        """Macs of one frame, every position computed and no gate asked."""
        return sum(call.macs for call in self.calls)

    @property
    def macs(self) -> Tensor:
        """Macs of each frame, gates and warps included, (B, T) float64."""
        shape = self.calls[0].share.shape if self.calls else (1, len(self.reference))
        total = torch.zeros(shape, dtype=torch.float64)
        later = (~self.reference).double()
        for call in self.calls:
            total += call.macs * call.share.detach().double().cpu() + call.gate_macs * call.decided.double().cpu()
            total += call.warp_macs * later
        return total

    def shares(self) -> dict[str, float]:
        """Returns by layer the mean share of positions computed, reference frames left out; gated layers only."""
        totals: dict[str, list[float]] = {}
        for call in self.calls:
            if call.gated and not bool(self.reference.all()):
                mean = float(call.share.detach()[:, ~self.reference.to(call.share.device)].mean())
                totals.setdefault(call.name, []).append(mean)
        return {name: sum(values) / len(values) for name, values in totals.items()}

    def __repr__(self) -> str:
        return f"Firing(calls={len(self.calls)}, frames={len(self.reference)}, dense_macs={self.dense_macs})"


@dataclass(eq=False)
class Clip:
    """The clip a converted network is working on.

    Attributes:
        batch, frames: B and T.
        reference: (T,) bool, which frames are computed whole.
        state: what came before; written to as layers finish. None: the clip stands alone.
        with_masks: whether to keep where gates fired.
        flow: (B, T, 2, H, W) in pixels of the clip: frame t looks at a place as frame t - 1 at that place + flow. None:
            residuals are plain differences.
        with_equivariance: whether to measure how near the layers are to equivariance.
        calls: the ledger so far.
        counts: how often each layer was called.
    """

    batch: int
    frames: int
    reference: Tensor
    state: ClipState | None = None
    with_masks: bool = False
    flow: Tensor | None = None
    with_equivariance: bool = False
    calls: list[LayerFiring] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def next_key(self, name: str) -> CallKey:
        """Returns the key of a layer's call: its name, and how often it was called before."""
        key = (name, self.counts[name])
        self.counts[name] += 1
        return key


_current: ContextVar[Clip | None] = ContextVar("saccade_clip", default=None)


def current_clip() -> Clip | None:
    """Returns the clip being worked on, or None outside of one."""
    return _current.get()


@contextmanager
def working_on(clip: Clip) -> Iterator[Clip]:
    """Makes `clip` the one the layers inside the block work on."""
    token = _current.set(clip)
    try:
        yield clip
    finally:
        _current.reset(token)


def reference_frames(start: int, frames: int, every: int | None) -> Tensor:
    """Returns which of `frames` frames are reference frames, the first being number `start` of its video.

    Args:
        start: frames of the video before.
        frames: T.
        every: a reference frame each so many frames; None: the video's first frame only.
    """
    if every is not None and (not isinstance(every, int) or every < 1):
        raise InputError(f"reference_every is {every!r}; expected a whole number of at least 1, or None for never")
    number = torch.arange(start, start + frames)
    return number == 0 if every is None else number % every == 0
