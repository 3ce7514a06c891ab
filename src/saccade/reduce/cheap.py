"""The cheap linear operations of VA-RED2: what was left out, rebuilt from what was computed (eq. 1, 7).

Maps are (B, C, T, H, W). Nothing here has a bias: where nothing was computed, nothing is rebuilt.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.reduce.space import ALL, CheapChannels, CheapTime, Policy, Space


class CheapFrames(nn.Module):
    """Frames that option k leaves out, from those it computes: Phi_t of eq. 1.

    Frame i R + j is a_j y_i + b_j y_{i+1} per channel, y_i the i-th frame computed; the last has itself for a next.
    "copy": a = 1, b = 0; "scale": a learned; "blend": both. They start at what a straight line between the frames
    has ("blend"), or at the copy.
    """

    def __init__(self, space: Space, option: int, kind: CheapTime) -> None:
        super().__init__()
        self.space, self.option, self.kind = space, option, kind
        stride = space.stride(option)
        shape = (stride - 1, space.out_channels)
        after = torch.arange(1, stride).reshape(-1, 1).expand(shape) / stride
        self.before = nn.Parameter(1 - after if kind == "blend" else torch.ones(shape)) if kind != "copy" else None
        self.after = nn.Parameter(after.clone()) if kind == "blend" else None

    def forward(self, y: Tensor) -> Tensor:
        """Returns all frames (B, c, T, H, W) from those computed (B, c, n, H, W), the first c channels of the layer."""
        stride, channels = self.space.stride(self.option), y.shape[1]
        following = torch.cat([y[:, :, 1:], y[:, :, -1:]], 2) if self.after is not None else None
        parts = [y]
        for j in range(stride - 1):
            part = y
            if self.before is not None:
                part = y * self.before[j, :channels].reshape(-1, 1, 1, 1)
            if self.after is not None and following is not None:
                part = part + following * self.after[j, :channels].reshape(-1, 1, 1, 1)
            parts.append(part)
        return torch.stack(parts, 3).flatten(2, 3)[:, :, : self.space.frames]

    def macs(self, plane: int, channels: int) -> int:
        """Returns the macs of one clip: `channels` of them, planes of so many positions."""
        taps = (self.before is not None) + (self.after is not None)
        left_out = self.space.frames - self.space.kept_frames(self.option)
        return taps * left_out * plane * channels


class CheapMaps(nn.Module):
    """Channels that option k leaves out, from those it computes: Phi_c.

    Channel K + g is rebuilt from channel g mod K, K the number computed: times a number, or by a filter over space.
    """

    def __init__(self, space: Space, option: int, kind: CheapChannels, size: tuple[int, int]) -> None:
        super().__init__()
        self.space, self.option = space, option
        kept = space.kept_channels(option)
        rest = space.out_channels - kept
        self.size = size if kind == "depthwise" else (1, 1)
        self.source = [g % kept for g in range(rest)]
        weight = torch.empty(rest, 1, 1, *self.size).normal_(std=1 / math.sqrt(math.prod(self.size)))
        self.weight = nn.Parameter(weight)

    def forward(self, y: Tensor) -> Tensor:
        """Returns the channels left out, (B, C - K, T, H, W), from those computed, (B, K, T, H, W)."""
        rest = self.weight.shape[0]
        source = y[:, :rest] if rest <= y.shape[1] else y[:, self.source]
        if self.size == (1, 1):
            return source * self.weight.reshape(-1, 1, 1, 1)
        around = [0, self.size[0] // 2, self.size[1] // 2]
        return F.conv3d(source, self.weight, padding=around, groups=rest)

    def macs(self, positions: int) -> int:
        """Returns the macs of one clip with so many positions (frames x height x width)."""
        return self.weight.numel() * positions


class Mixture(nn.Module):
    """A layer's output as the sum of its options, each with its weight (eq. 5), from the largest that was computed.

    First the options of time, then, on what they give, those of channels.
    """

    def __init__(self, space: Space, time: CheapTime, channels: CheapChannels, size: tuple[int, int]) -> None:
        super().__init__()
        self.space = space
        self.frames = nn.ModuleList([CheapFrames(space, k, time) for k in range(1, space.time)])
        self.maps = nn.ModuleList([CheapMaps(space, k, channels, size) for k in range(1, space.channels)])

    def forward(self, y: Tensor, time: Tensor, channels: Tensor, largest: Policy = ALL) -> Tensor:
        """Returns the layer's output, (B, C, T, H, W).

        Args:
            y: what was computed, (B, K, n, H, W): the frames and channels of the options in `largest`.
            time, channels: weights of the options, (B, options); 0 for all larger than those computed.
            largest: the options computed.
        """
        if self.space.time > 1:
            y = _sum(time, largest.time, partial(self._time, y, largest.time))
        if self.space.channels > 1:
            y = _sum(channels, largest.channels, partial(self._maps, y))
        return y

    def _time(self, y: Tensor, largest: int, option: int) -> Tensor:
        kept = y[:, :, :: 2 ** (option - largest)]
        return kept if option == 0 else self.frames[option - 1](kept)

    def _maps(self, y: Tensor, option: int) -> Tensor:
        kept = y[:, : self.space.kept_channels(option)]
        return kept if option == 0 else torch.cat([kept, self.maps[option - 1](kept)], 1)

    def macs(self, plane: int, used_time: Tensor, used_channels: Tensor) -> Tensor:
        """Returns the macs of rebuilding, (B,) float64; weighing is free, as batch norms and activations are.

        Args:
            plane: positions of one frame.
            used_time, used_channels: (B, options) bool, which options have a weight over 0.
        """
        space, total = self.space, torch.zeros(len(used_time), dtype=torch.float64)
        largest = torch.tensor([space.kept_channels(k) for k in range(space.channels)])[used_channels.int().argmax(1)]
        for k, frames in enumerate(self.frames, start=1):
            total += used_time[:, k].double() * largest * frames.macs(plane, 1)  # type: ignore[operator]
        for k, maps in enumerate(self.maps, start=1):
            total += used_channels[:, k].double() * maps.macs(space.frames * plane)  # type: ignore[operator]
        return total.masked_fill(~(used_time.any(1) & used_channels.any(1)), 0.0)


def _sum(weights: Tensor, largest: int, option: Callable[[int], Tensor]) -> Tensor:
    """Returns the sum of the options that some clip gives a weight, each times its weights."""
    some = (weights > 0).any(0).tolist()
    used = [k for k in range(largest, len(some)) if some[k] or k == largest]
    return functools.reduce(torch.add, [option(k) * weights[:, k].reshape(-1, 1, 1, 1, 1) for k in used])
