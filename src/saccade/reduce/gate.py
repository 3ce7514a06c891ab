"""The soft modulation gate of VA-RED2 (eq. 4): from a layer's input, how much weight each option of the layer gets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FIRST = 1.5  # what the bias of "all" starts from: a weight of tanh(1.5) = 0.91
OTHERS = 0.1  # and that of the other options: 0.10, so that the weights begin near a sum of 1
VARIED = 0.5  # deviation from these from clip to clip, before the tanh, were the hidden units of variance 1
LEAST = 0.05  # of all options together: were all at 0 the layer would give zeros, and no gradient would bring it back


class ModulationGate(nn.Module):
    """phi(W2 tanh(N(W1 G(x))) + beta), phi = max(tanh, 0), for one layer (eq. 4).

    G is the mean over space, N a batch norm. The last option of each dimension, the cheapest, makes up what the others
    lack of 0.05 together: something is always in use, and beside a larger option it need not be.

    Args:
        channels, frames: of the layer's input.
        hidden: D_h.
        options: how many weights each dimension has that has a choice; its first stands for computing everything.
    """

    least: Tensor
    others: Tensor

    def __init__(self, channels: int, frames: int, *, hidden: int, options: Sequence[int]) -> None:
        super().__init__()
        # Linear layers of (C * T) and D_h numbers, written as convolutions of length T and 1 along time.
        self.inner = nn.Conv1d(channels, hidden, frames, bias=False)  # the norm takes any bias away
        self.norm = nn.BatchNorm1d(hidden)
        self.outer = nn.Conv1d(hidden, sum(options), 1)
        nn.init.normal_(self.outer.weight, std=VARIED / hidden**0.5)
        self.outer.bias = nn.Parameter(torch.tensor([x for n in options for x in [FIRST] + [OTHERS] * (n - 1)]))
        last = torch.tensor([k == n - 1 for n in options for k in range(n)])
        dimension = torch.tensor([d for d, n in enumerate(options) for _ in range(n)])
        others = last[:, None] & ~last & (dimension[:, None] == dimension)
        self.register_buffer("least", LEAST * last.float(), persistent=False)
        self.register_buffer("others", -others.float()[:, :, None], persistent=False)

    def forward(self, pooled: Tensor) -> Tensor:
        """Returns the weights of the options, (B, options), each in [0, 1), for means over space (B, C, T)."""
        weights = torch.tanh(self.outer(torch.tanh(self.norm(self.inner(pooled)))))
        floor = F.relu(F.conv1d(F.relu(weights), self.others, self.least))  # 0 of all but the last options
        return torch.maximum(weights, floor)[:, :, 0]

    def macs(self, inputs: int) -> int:
        """Returns the macs of one clip, of whose input the means over space are of `inputs` numbers: one for each."""
        return inputs + self.inner.weight.numel() + self.outer.weight.numel() + self.others.numel()
