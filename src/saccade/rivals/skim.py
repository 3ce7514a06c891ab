"""What a policy sees of a video before its frames are looked at: all of them, small, through a few convolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.errors import InputError

SIZE = 32  # height and width of a frame as it is skimmed
CHANNELS = (8, 16, 32)


class Skim(nn.Module):
    """Coarse features of frames, (B, T, C, H, W) to (B, T, F): of each map the mean and the largest, F = 64.

    Args:
        channels: C.
        size: height and width that frames are averaged down to.
    """

    def __init__(self, channels: int, *, size: int = SIZE) -> None:
        super().__init__()
        self.size = size
        layers: list[nn.Module] = []
        for before, after in zip((channels, *CHANNELS), CHANNELS, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.features = 2 * CHANNELS[-1]

    def forward(self, videos: Tensor) -> Tensor:
        """Returns the features."""
        maps = self.layers(F.adaptive_avg_pool2d(videos.flatten(0, 1), self.size))
        return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1).unflatten(0, videos.shape[:2])


def check_example(example: Tensor) -> None:
    """Raises InputError unless the example is one video of pictures."""
    if example.dim() != 5 or len(example) != 1 or 0 in example.shape:
        raise InputError(f"got an example {tuple(example.shape)}; expected one video (1, T, C, H, W), none of them 0")


def check_videos(videos: Tensor, frames: int) -> None:
    """Raises InputError unless these are videos of so many frames."""
    if videos.dim() != 5 or videos.shape[1] != frames or 0 in videos.shape:
        raise InputError(
            f"got videos {tuple(videos.shape)}; expected (B, {frames}, C, H, W) as the example, none of them 0"
        )
