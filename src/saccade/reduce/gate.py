"""The soft modulation gate of VA-RED2 (eq. 4): from a layer's input, how much weight each option of the layer gets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

FIRST = 1.5  # what the bias of "all" starts from: a weight of tanh(1.5) = 0.91
OTHERS = 0.1  # and that of the other options: 0.10, so that the weights begin near a sum of 1
LEAST = 0.05  # of the cheapest option: were all at 0 the layer would give zeros, and no gradient would bring it back


class ModulationGate(nn.Module):
    """phi(W2 tanh(N(W1 G(x))) + beta), phi = max(tanh, 0), for one layer (eq. 4).

    G is the mean over space, N a batch norm. Of the last option of each dimension, the cheapest, phi = max(tanh, 0.05):
    so something is always in use.

    Args:
        channels, frames: of the layer's input.
        hidden: D_h.
        options: how many weights each dimension has that has a choice; its first stands for computing everything.
    """

    least: Tensor

    def __init__(self, channels: int, frames: int, *, hidden: int, options: Sequence[int]) -> None:
        super().__init__()
        # Linear layers of (C * T) and D_h numbers, written as convolutions of length T and 1 along time.
        self.inner = nn.Conv1d(channels, hidden, frames, bias=False)  # the norm takes any bias away
        self.norm = nn.BatchNorm1d(hidden)
        self.outer = nn.Conv1d(hidden, sum(options), 1)
        nn.init.normal_(self.outer.weight, std=0.1 / hidden**0.5)
        self.outer.bias = nn.Parameter(torch.tensor([x for n in options for x in [FIRST] + [OTHERS] * (n - 1)]))
        least = torch.tensor([x for n in options for x in [0.0] * (n - 1) + [LEAST]])
        self.register_buffer("least", least[:, None], persistent=False)

    def forward(self, pooled: Tensor) -> Tensor:
        """Returns the weights of the options, (B, options), each in [0, 1), for means over space (B, C, T)."""
        hidden = torch.tanh(self.norm(self.inner(pooled)))
        return torch.maximum(torch.tanh(self.outer(hidden)), self.least)[:, :, 0]

    def macs(self, inputs: int) -> int:
        """Returns the macs of one clip, of whose input the means over space are of `inputs` numbers: one for each."""
        return inputs + self.inner.weight.numel() + self.outer.weight.numel()
