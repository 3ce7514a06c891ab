"""`CountedModel`: a rival run over clips, and the macs of each: pruned weights are free, layers that decide say how."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from saccade.errors import InputError

_COUNTED = (nn.modules.conv._ConvNd, nn.Linear)


@dataclass(frozen=True, eq=False, repr=False)
class ClipCost:
    """What a network computed for the clips of a batch.

    Attributes:
        macs: of each clip, what deciding takes included, (B,) float64.
        dense_macs: of one clip with nothing left out.
        overhead: macs of deciding in each clip, (B,) float64.
    """

    macs: Tensor
    dense_macs: int
    overhead: Tensor

    def __repr__(self) -> str:
        return f"ClipCost(batch={len(self.macs)}, macs={float(self.macs.mean()) / max(self.dense_macs, 1):.3f})"


@dataclass(eq=False)
class Ledger:
    """The macs so far of the clips a network is working on, as `ClipCost` has them."""

    batch: int
    macs: Tensor = field(init=False)
    overhead: Tensor = field(init=False)
    dense_macs: int = 0

    def __post_init__(self) -> None:
        self.macs, self.overhead = (torch.zeros(self.batch, dtype=torch.float64) for _ in range(2))

    def enter(self, dense_macs: int, macs: Tensor | float, overhead: float = 0.0) -> None:
        """Enters one call of a layer: macs of a clip with everything computed, those computed, those of deciding.

        Macs may be of each clip, (B,), or of each of its pictures, (B * T,).
        """
        if isinstance(macs, Tensor):
            macs = macs.detach().double().cpu().reshape(self.batch, -1).sum(1)
        self.dense_macs += dense_macs
        self.macs = self.macs + macs + overhead
        self.overhead = self.overhead + overhead


_current: ContextVar[Ledger | None] = ContextVar("saccade_rivals_ledger", default=None)


def current_ledger() -> Ledger | None:
    """Returns the ledger of the clips being worked on, or None outside of a `CountedModel`."""
    return _current.get()


class CountedModel(nn.Module):
    """Runs a network over clips (B, C, T, H, W): its outputs, and what they cost.

    Counts convolutions and linear layers; of one that was pruned (`torch.nn.utils.prune`) the weights that are left, as
    an engine would need that skips every single one. What layers such as `ChannelGatedConv` report is counted as they
    say. Nothing is left on the network.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, clips: Tensor) -> tuple[Any, ClipCost]:
        """Returns the network's outputs and their cost; InputError for what are no clips."""
        if clips.dim() != 5 or 0 in clips.shape:
            raise InputError(f"got clips of shape {tuple(clips.shape)}; expected (B, C, T, H, W), none of them 0")
        ledger = Ledger(len(clips))
        token = _current.set(ledger)
        try:
            with _counting(self.model, ledger):
                outputs = self.model(clips)
        finally:
            _current.reset(token)
        return outputs, ClipCost(ledger.macs, ledger.dense_macs, ledger.overhead)


class CountsItself(nn.Module):
    """A layer that enters its own macs into `current_ledger`; the convolutions in it are not counted again."""


def kept_weights(module: nn.Module) -> float:
    """Returns which share of a layer's weights pruning has left."""
    mask = getattr(module, "weight_mask", None)
    return 1.0 if mask is None else float(mask.double().mean())


@contextmanager
def _counting(model: nn.Module, ledger: Ledger) -> Iterator[None]:
    def count(module: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        macs = output.numel() // ledger.batch * math.prod(module.weight.shape[1:])
        ledger.enter(macs, macs * kept_weights(module))

    own = {layer for module in model.modules() if isinstance(module, CountsItself) for layer in module.modules()}
    handles = [
        module.register_forward_hook(count)
        for module in model.modules()
        if isinstance(module, _COUNTED) and module not in own
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
