"""The exit gates of FrameExit: whether what is known after t frames is enough (section 3, Fig. 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ExitGates(nn.Module):
    """T gates g_t(z_{t-1}, z_t); g_1 sees z_1 alone.

    Both inputs of a gate go through the same two layers; what comes out is concatenated and goes through a linear
    layer to one number, whose sigmoid is the probability that the video can be left.

    Args:
        frames: T.
        size: D, of z.
        hidden: units of the two layers.
        shared: all gates have the two layers in common, and a last layer of their own.
        pairs: False for gates that see z_t alone.
    """

    def __init__(self, frames: int, size: int, *, hidden: int = 64, shared: bool = False, pairs: bool = True) -> None:
        super().__init__()
        self.size, self.hidden, self.shared, self.pairs = size, hidden, shared, pairs
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
            for _ in range(1 if shared else frames)
        )
        self.last = nn.ModuleList(nn.Linear(self._inputs(t) * hidden, 1) for t in range(1, frames + 1))

    def forward(self, t: int, before: Tensor | None, z: Tensor) -> Tensor:
        """Returns the logit of g_t for every video, (B,).

        Args:
            t: how many frames have been seen, 1 to T.
            before: z_{t-1}, (B, D); None for t = 1, and not looked at by gates that see z_t alone.
            z: z_t, (B, D).
        """
        layers = self.layers[0 if self.shared else t - 1]
        inputs = [z] if before is None or self._inputs(t) == 1 else [before, z]
        logit: Tensor = self.last[t - 1](torch.cat([layers(x) for x in inputs], 1))
        return logit[:, 0]

    def macs(self, t: int) -> int:
        """Returns the macs of g_t for one video."""
        return self._inputs(t) * (self.size * self.hidden + self.hidden**2 + self.hidden)

    def _inputs(self, t: int) -> int:
        return 2 if self.pairs and t > 1 else 1
