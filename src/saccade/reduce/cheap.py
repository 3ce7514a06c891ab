"""The numbers of the cheap linear operations of VA-RED2: by what each option rebuilds what it leaves out.

The arithmetic is in `saccade.kernels.mixing`. Nothing here has a bias: where nothing was computed, nothing is rebuilt.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from saccade.kernels.mixing import Cheap
from saccade.reduce.space import CheapChannels, CheapTime, Space


class CheapOperations(nn.Module):
    """What rebuilds the frames and channels that a layer's options leave out.

    `before` and `after`, per option of time but the first, and `filters`, per option of channels but the first, are as
    of `saccade.kernels.mixing.Cheap`. They start at a straight line between the computed frames ("blend") or at a
    copy, and filters at random.
    """

    def __init__(self, space: Space, time: CheapTime, channels: CheapChannels, size: tuple[int, int]) -> None:
        super().__init__()
        self.space = space
        before, after, filters = [], [], []
        for option in range(1, space.time):
            shape = (space.stride(option) - 1, space.out_channels)
            place = torch.arange(1, space.stride(option)).reshape(-1, 1).expand(shape) / space.stride(option)
            start = 1 - place if time == "blend" else torch.ones(shape)
            before.append(start if time != "copy" else start[:0])
            after.append(place if time == "blend" else place[:0])
        for option in range(1, space.channels):
            side = size if channels == "depthwise" else (1, 1)
            rest = space.out_channels - space.kept_channels(option)
            filters.append(torch.empty(rest, 1, 1, *side).normal_(std=1 / math.sqrt(math.prod(side))))
        self.before, self.after, self.filters = (
            nn.ParameterList([nn.Parameter(start.clone()) for start in starts]) for starts in (before, after, filters)
        )

    def tensors(self) -> Cheap:
        """Returns the numbers as the arithmetic takes them."""
        return Cheap(list(self.before), list(self.after), list(self.filters))

    def macs(self, plane: int, used_time: Tensor, used_channels: Tensor) -> Tensor:
        """Returns the macs of rebuilding, (B,) float64; weighing is free, as batch norms and activations are.

        Args:
            plane: positions of one frame.
            used_time, used_channels: (B, options) bool, which options have a weight over 0.
        """
        space, total = self.space, torch.zeros(len(used_time), dtype=torch.float64)
        largest = torch.tensor([space.kept_channels(k) for k in range(space.channels)])[used_channels.int().argmax(1)]
        for k, (before, after) in enumerate(zip(self.before, self.after, strict=True), start=1):
            taps = (len(before) > 0) + (len(after) > 0)
            left_out = space.frames - space.kept_frames(k)
            total += used_time[:, k].double() * largest * taps * left_out * plane
        for k, filters in enumerate(self.filters, start=1):
            total += used_channels[:, k].double() * filters.numel() * space.frames * plane
        return total.masked_fill(~(used_time.any(1) & used_channels.any(1)), 0.0)
