"""Accumulated feature pooling (FrameExit, eq. 3): what is known of a video, from what was known and one more frame.

A pooling is called once per frame, with what it said to remember the last time, so that a frame costs the same however
many came before. Whatever it remembers has the videos along its first axis.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from saccade.errors import InputError

Memory = tuple[Tensor, ...]
PoolingName = Literal["max", "average", "lstm", "attention", "none"]


class Pooling(nn.Module, ABC):
    """What all have in common.

    Attributes:
        accumulates: whether z_t tells of all frames up to t, not of the last alone.
    """

    accumulates = True

    @abstractmethod
    def forward(self, memory: Memory, features: Tensor, t: int) -> tuple[Tensor, Memory]:
        """Returns z_t (B, D) and what to give it with the next frame.

        Args:
            memory: what it returned with the frame before; () with the first.
            features: of the t-th frame of every video, (B, D).
            t: how many frames this makes, from 1.
        """

    @abstractmethod
    def macs(self) -> int:
        """Returns the macs of one frame of one video; one for each number it only compares, adds or weighs."""


class MaxPooling(Pooling):
    """z_t = max(z_{t-1}, x_t): the paper's choice for videos with one label."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, memory: Memory, features: Tensor, t: int) -> tuple[Tensor, Memory]:
        """Returns as `Pooling.forward`."""
        z = torch.maximum(memory[0], features) if memory else features
        return z, (z,)

    def macs(self) -> int:
        """Returns as `Pooling.macs`."""
        return self.size


class AveragePooling(Pooling):
    """z_t = (x_1 + ... + x_t) / t: the paper's choice for videos with several labels."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, memory: Memory, features: Tensor, t: int) -> tuple[Tensor, Memory]:
        """Returns as `Pooling.forward`."""
        total = memory[0] + features if memory else features
        return total / t, (total,)

    def macs(self) -> int:
        """Returns as `Pooling.macs`."""
        return self.size


class LSTMPooling(Pooling):
    """z_t = h_t of one LSTM layer as wide as the features."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.cell = nn.LSTMCell(size, size)

    def forward(self, memory: Memory, features: Tensor, t: int) -> tuple[Tensor, Memory]:
        """Returns as `Pooling.forward`."""
        h, c = self.cell(features, (memory[0], memory[1]) if memory else None)
        return h, (h, c)

    def macs(self) -> int:
        """Returns as `Pooling.macs`."""
        return 2 * 4 * self.size**2


class AttentionPooling(Pooling):
    """z_t = sum over s <= t of softmax_s(q . x_s / sqrt(D / heads)) x_s, in every head a part of the channels.

    A query q per head is learned, as that of a class token, so that z does not depend on the order of the frames and
    what is remembered does not grow with them. It starts at 0, which is the average.

    Args:
        size: D, of the features.
        heads: into how many equal parts the channels go; all of D decides about every part.
    """

    def __init__(self, size: int, *, heads: int | None = None) -> None:
        super().__init__()
        heads = math.gcd(8, size) if heads is None else heads
        if heads < 1 or size % heads:
            raise InputError(f"attention of {size} features with {heads} heads; expected a divisor of {size}")
        self.size, self.heads = size, heads
        self.query = nn.Parameter(torch.zeros(heads, size))

    def forward(self, memory: Memory, features: Tensor, t: int) -> tuple[Tensor, Memory]:
        """Returns as `Pooling.forward`; remembers the sums of weights and of weighted features, and their scale."""
        score = features @ self.query.T * (self.heads / self.size) ** 0.5
        parts = features.unflatten(1, (self.heads, -1))
        if not memory:
            top, weight, total = score, torch.ones_like(score), parts
        else:
            top = torch.maximum(memory[0], score)
            old, new = (memory[0] - top).exp(), (score - top).exp()
            weight = memory[1] * old + new
            total = memory[2] * old[..., None] + parts * new[..., None]
        return (total / weight[..., None]).flatten(1), (top, weight, total)

    def macs(self) -> int:
        """Returns as `Pooling.macs`."""
        return self.heads * self.size + 2 * self.size


class NoPooling(Pooling):
    """z_t = x_t, the last frame alone: for the model that averages predictions instead (Table 4)."""

    accumulates = False

    def forward(self, memory: Memory, features: Tensor, t: int) -> tuple[Tensor, Memory]:
        """Returns as `Pooling.forward`."""
        return features, ()

    def macs(self) -> int:
        """Returns as `Pooling.macs`."""
        return 0


def make_pooling(name: PoolingName, size: int) -> Pooling:
    """Returns the pooling called so, of `size` features; raises InputError where there is none."""
    if name == "max":
        return MaxPooling(size)
    if name == "average":
        return AveragePooling(size)
    if name == "lstm":
        return LSTMPooling(size)
    if name == "attention":
        return AttentionPooling(size)
    if name == "none":
        return NoPooling()
    raise InputError(f"there is no pooling {name!r}; expected one of {', '.join(get_args(PoolingName))}")
