"""A small network and footage for it: a square that wanders over noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade import Plan, Preprocess, make_plan
from saccade.calibrate.footage import Clip

H, W = 26, 32


class Net(nn.Module):
    """A strided convolution, a residual block and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.c = nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (1, 3, H/2, W/2)."""
        x = F.silu(self.a(x))
        out: Tensor = self.c(x + F.silu(self.b(x)))
        return out


def small_plan() -> Plan:
    """Returns the network's plan, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make_plan(Net().eval(), torch.zeros(1, 3, H, W), preprocess=Preprocess(size=(H, W)), name="net")


def pictures(count: int, *, still: bool = False) -> list[np.ndarray[Any, Any]]:
    """Noise everywhere, and an inverted square that wanders."""
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 255, (H, W, 3), dtype=np.uint8)
    frames = []
    for index in range(count):
        frame = ground.copy()
        if not still:
            left = index % (W - 6)
            frame[5:11, left : left + 6] = 255 - frame[5:11, left : left + 6]
            frame = np.clip(frame.astype(int) + rng.integers(-3, 4, frame.shape), 0, 255).astype(np.uint8)
        frames.append(frame)
    return frames


def clip(count: int = 60, **options: Any) -> Clip:
    """Returns such pictures as a clip to calibrate on."""
    return Clip("made.mp4", lambda: pictures(count, **options))
