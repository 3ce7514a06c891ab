"""What every layer of a reduced network chose for a batch of clips, what that cost, and the pass that collects it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.kernels.dynamic import first_used
from saccade.reduce.space import Policy, Space

Force = Policy | Mapping[str, Policy]


@dataclass(frozen=True, eq=False, repr=False)
class LayerUse:
    """What one call of one layer did with the clips of a batch.

    Attributes:
        name: the layer, as in `named_modules`.
        macs: of computing everything, for one clip.
        gate_macs: of its gate, for one clip.
        time, channels: weights of the options, (B, options), 0 where one is not used; None for a layer that is not
            reduced.
        cheap_macs: of rebuilding what was left out, and of weighing, (B,) float64.
        space: the layer's options; None for a layer that is not reduced.
    """

    name: str
    macs: int
    gate_macs: int = 0
    time: Tensor | None = None
    channels: Tensor | None = None
    cheap_macs: Tensor | None = None
    space: Space | None = None

    def largest(self) -> tuple[Tensor, Tensor]:
        """Returns the largest option in use of both dimensions, (B,) int64; the number of options where none is."""
        assert self.time is not None
        assert self.channels is not None
        return first_used(self.time), first_used(self.channels)

    def share(self) -> Tensor:
        """Returns which share of `macs` is left to compute, (B,) float64.

        Its value is that of the largest options in use (eq. 8). Its gradient is straight through: to the weight of the
        largest option in use goes what putting that option out of use would save; where no other is in use the last
        option would come in for it.
        """
        space = self.space
        assert space is not None
        assert self.time is not None
        assert self.channels is not None
        frames = [space.kept_frames(k) / space.frames for k in range(space.time)]
        channels = [space.kept_channels(k) / space.out_channels for k in range(space.channels)]
        return _left(self.time, frames) * _left(self.channels, channels)


@dataclass(frozen=True, eq=False, repr=False)
class Policies:
    """What a network did for the clips of a batch, layer by layer in order.

    Attributes:
        layers: one entry per call of a convolution or linear layer.
        batch: B.
    """

    layers: tuple[LayerUse, ...]
    batch: int

    @property
    def reduced(self) -> tuple[LayerUse, ...]:
        """The entries of the layers that have a gate."""
        return tuple(use for use in self.layers if use.space is not None)

    @property
    def dense_macs(self) -> int:
        """Macs of one clip without gates, everything computed."""
        return sum(use.macs for use in self.layers)

    @property
    def macs(self) -> Tensor:
        """Macs of each clip at inference, gates and cheap operations included, (B,) float64."""
        total = torch.zeros(self.batch, dtype=torch.float64)
        for use in self.layers:
            total += use.macs * (use.share().detach().cpu() if use.space is not None else 1.0)
        return total + self.overhead

    @property
    def overhead(self) -> Tensor:
        """Macs of gates and cheap operations in each clip, (B,) float64."""
        total = torch.zeros(self.batch, dtype=torch.float64)
        for use in self.reduced:
            assert use.cheap_macs is not None
            total += use.gate_macs + use.cheap_macs
        return total

    def __repr__(self) -> str:
        share = float(self.macs.mean()) / self.dense_macs if self.dense_macs else 0.0
        return f"Policies(layers={len(self.layers)}, reduced={len(self.reduced)}, batch={self.batch}, macs={share:.3f})"


@dataclass(eq=False)
class Pass:
    """A network at work on a batch of clips.

    Attributes:
        force: what layers have to choose, by name or for all; what is not named decides by itself.
        recompute: while training, keep a layer's input only and compute it again for the gradient.
        dense: layers are plain convolutions, for clips of any length.
        uses: the ledger so far.
    """

    force: Force | None = None
    recompute: bool = False
    dense: bool = False
    uses: list[LayerUse] = field(default_factory=list)

    def forced(self, name: str) -> Policy | None:
        """Returns what a layer has to choose, or None."""
        if isinstance(self.force, Policy) or self.force is None:
            return self.force
        return self.force.get(name)


_current: ContextVar[Pass | None] = ContextVar("saccade_reduce_pass", default=None)


def current_pass() -> Pass | None:
    """Returns the pass being worked on, or None outside of one."""
    return _current.get()


@contextmanager
def working_on(work: Pass) -> Iterator[Pass]:
    """Makes `work` the pass the layers inside the block work on."""
    token = _current.set(work)
    try:
        yield work
    finally:
        _current.reset(token)


def one_hot(policy: Policy, space: Space, batch: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Returns weights that choose one option of each dimension alone, or the last there is: (B, options) each."""
    weights = []
    for option, options in ((policy.time, space.time), (policy.channels, space.channels)):
        chosen = like.new_zeros(batch, options)
        chosen[:, min(option, options - 1)] = 1
        weights.append(chosen)
    return weights[0], weights[1]


def check_force(force: Force | None, names: set[str]) -> None:
    """Raises InputError where policies are forced on layers that are not there."""
    if force is None or isinstance(force, Policy):
        return
    unknown = [name for name in force if name not in names]
    if unknown:
        raise InputError(
            f"a policy is forced on {unknown[0]!r}, which is no reduced layer; there are {len(names)}: "
            f"{', '.join(sorted(names)[:5])}{', ...' if len(names) > 5 else ''}"
        )


def _left(weights: Tensor, shares: list[float]) -> Tensor:
    """Returns the share the largest option in use leaves; its gradient is what putting that option out would save."""
    options = len(shares)
    known = torch.tensor([*shares, 0.0], dtype=torch.float64, device=weights.device)
    first = first_used(weights.detach())
    value = known[first]
    if not weights.requires_grad:
        return value
    used = weights.detach() > 0
    after = used & (torch.arange(options, device=weights.device) > first[:, None])
    saved = torch.where(first < options, value - known[first_used(after).clamp_max(options - 1)], 0.0)
    weight = weights.gather(1, first.clamp_max(options - 1)[:, None])[:, 0].double()
    return value + saved * (weight - weight.detach())
