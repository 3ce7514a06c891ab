"""How much moves in a clip, as numbers: a backbone with almost nothing to learn, for collections of a few videos.

Differences of pictures are a modality of their own in Wang et al., "Temporal segment networks" (ECCV 2016). A
convolutional network of them learns the scenes of a small collection by heart; a histogram cannot.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDES = (1, 4, 14)  # of the squares, in pixels
LEVELS = 8  # thresholds per side
LOWEST, HIGHEST = 0.3, 3.5  # of them: log(1 + grey levels)
FLOOR = 1e-3  # where nothing is above a threshold
GREY = 57.6  # grey levels in one unit of a normalised picture: 255 times ImageNet's mean deviation
FEATURES = len(SIDES) * LEVELS


class MotionHistogram(nn.Module):
    """From clips (N, 3, t, H, W) to (N, 24) numbers: how far squares of three sizes exceed eight levels of change.

    Change is log(1 + |last - first picture|), pictures in grey. For each side it is averaged over squares, and of
    these, for each level, the mean of what is above it is taken, and its logarithm, which a batch norm scales.
    The rows and columns that fill no square are left out.
    """

    levels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("levels", torch.linspace(LOWEST, HIGHEST, LEVELS), persistent=False)
        self.norm = nn.BatchNorm1d(FEATURES)

    def forward(self, clips: Tensor) -> Tensor:
        """Returns (N, 24) for clips whose pictures are normalised by ImageNet's mean and deviation."""
        change = torch.log1p(GREY * (clips[:, :, -1] - clips[:, :, 0]).mean(1, keepdim=True).abs())
        found = []
        for side in SIDES:
            squares = F.avg_pool2d(change, side).flatten(1)[:, None]
            found.append(F.relu(squares - self.levels[:, None]).mean(2))
        return self.norm(torch.log(torch.cat(found, 1) + FLOOR))
