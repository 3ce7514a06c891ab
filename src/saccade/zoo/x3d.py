"""X3D: bottlenecks whose middle convolution is 3x3x3 and depthwise, narrow, deep, and without strides over time.

Feichtenhofer, "X3D: expanding architectures for efficient video recognition" (CVPR 2020), Table 1 for M and S, which
differ in the clips they take alone. VA-RED2 removes the swish behind the depthwise convolutions and keeps it inside
the squeeze-and-excitation; so does this, unless told otherwise.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from saccade.zoo.clips import CLASSES, ClipClassifier, load_clips, started
from saccade.zoo.loaded import LoadedModel
from saccade.zoo.making import SEED, check_classes, check_variant, create

PREFIX = "x3d:"
SIZES = {"m": (16, 256, 256), "s": (13, 160, 160), "tiny": (16, 64, 64), "tiny-half": (16, 64, 64)}  # (T, H, W)
STRIDES = {"m": 5, "s": 6, "tiny": 5, "tiny-half": 5}  # a clip takes one frame in so many
EXPANSION = 2.25  # channels of the middle of a bottleneck per channel of its output


class Shape(NamedTuple):
    """Channels and blocks of the four stages, and of the hidden layer of the head."""

    channels: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]
    hidden: int


_PAPER = Shape((24, 48, 96, 192), (3, 5, 11, 7), 2048)
_TINY = Shape((24, 48, 72, 96), (1, 2, 3, 2), 256)
_HALF = Shape((12, 24, 36, 48), (1, 2, 3, 2), 128)
SHAPES = {"m": _PAPER, "s": _PAPER, "tiny": _TINY, "tiny-half": _HALF}


class SqueezeExcite(nn.Module):
    """Scales every channel by a number in 0..1 that the mean of all channels over the clip decides."""

    def __init__(self, channels: int) -> None:
        """Squeeze `channels` to a sixteenth, a multiple of 8."""
        super().__init__()
        hidden = _multiple_of_8(channels / 16)
        self.squeeze = nn.Conv3d(channels, hidden, 1)
        self.excite = nn.Conv3d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x, `(B, C, t, h, w)`, scaled."""
        return x * self.excite(F.silu(self.squeeze(F.adaptive_avg_pool3d(x, 1)))).sigmoid()


class Bottleneck(nn.Module):
    """1x1x1, depthwise 3x3x3, squeeze-and-excitation where asked for, 1x1x1, and the shortcut."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, excite: bool, swish: bool) -> None:
        """Make the layers; `stride` is over space, `swish` behind the depthwise convolution."""
        super().__init__()
        middle = int(EXPANSION * outputs)
        self.expand = nn.Sequential(_conv(inputs, middle), nn.ReLU(inplace=True))
        self.depthwise = _conv(middle, middle, 3, stride=stride, groups=middle)
        self.excite = SqueezeExcite(middle) if excite else nn.Identity()
        self.act = nn.SiLU() if swish else nn.Identity()
        self.project = _conv(middle, outputs)
        plain = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if plain else _conv(inputs, outputs, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, outputs, t, h / stride, w / stride)`, rounded up."""
        middle = self.act(self.excite(self.depthwise(self.expand(x))))
        return F.relu(self.project(middle) + self.shortcut(x))


class X3D(nn.Sequential):
    """Features `(B, channels, T, H/32, W/32)`, rounded up, of clips `(B, 3, T, H, W)`.

    Attributes:
        channels: of the features.
    """

    def __init__(self, variant: str, *, swish: bool = False) -> None:
        """Make the stem, the four stages and the last convolution; `swish` as in `x3d`."""
        shape = SHAPES[variant]
        first = shape.channels[0]
        parts: list[tuple[str, nn.Module]] = [("stem", _stem(first))]
        inputs = first
        for index, (outputs, blocks) in enumerate(zip(shape.channels, shape.blocks, strict=True), start=2):
            stage = nn.Sequential()
            for block in range(blocks):
                stride, excite = (1 if block else 2), block % 2 == 0
                stage.append(Bottleneck(inputs, outputs, stride=stride, excite=excite, swish=swish))
                inputs = outputs
            parts.append((f"res{index}", stage))
        channels = int(EXPANSION * inputs)
        parts.append(("conv5", nn.Sequential(_conv(inputs, channels), nn.ReLU(inplace=True))))
        super().__init__(OrderedDict(parts))
        self.channels = channels


def x3d(variant: str = "tiny", *, classes: int = CLASSES, swish: bool = False, seed: int = SEED) -> ClipClassifier:
    """Returns X3D in evaluation mode.

    Args:
        variant: "m" (6.18 G macs for 16 frames of 256x256, 3.8 M parameters), "s" (the same layers, made for 13 frames
            of 160x160, 1.96 G); or "tiny" for two cores, 8 blocks of 24 to 96 channels (119 M macs for 16 frames of
            64x64, 0.42 M parameters), and "tiny-half" with half of its channels.
        classes: number of scores.
        swish: with the swish of the X3D paper behind the depthwise convolutions; VA-RED2 has nothing there.
        seed: of the random weights. torch's own random state is not touched.

    Raises:
        ModelError: there is no such variant.
    """
    name = f"{PREFIX}{variant}"
    check_variant(name, variant, SHAPES, prefix=PREFIX, what="X3D")
    check_classes(name, classes)

    def make() -> ClipClassifier:
        body, hidden = X3D(variant, swish=swish), SHAPES[variant].hidden
        head = nn.Sequential(
            nn.Linear(body.channels, hidden, bias=False), nn.ReLU(inplace=True), nn.Linear(hidden, classes)
        )
        return started(ClipClassifier(body, head))

    return create(name, False, make, library="saccade", seed=seed)


def load_x3d(name: str) -> LoadedModel:
    """Returns the network called `x3d:VARIANT`, with Kinetics' 400 classes; raises ModelError as `x3d`."""
    variant = name.removeprefix(PREFIX)
    return load_clips(name, x3d(variant), SIZES[variant], frame_stride=STRIDES[variant])


def _conv(inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Returns a convolution that strides over space alone, and its batch norm."""
    pad, strides = kernel // 2, (1, stride, stride)
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel, stride=strides, padding=pad, groups=groups, bias=False),
        nn.BatchNorm3d(outputs),
    )


def _stem(channels: int) -> nn.Sequential:
    """Returns 1x3x3 over space, then depthwise 5x1x1 over time."""
    return nn.Sequential(
        nn.Conv3d(3, channels, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False),
        nn.Conv3d(channels, channels, (5, 1, 1), padding=(2, 0, 0), groups=channels, bias=False),
        nn.BatchNorm3d(channels),
        nn.ReLU(inplace=True),
    )


def _multiple_of_8(width: float) -> int:
    """Returns the nearest multiple of 8, at least 8 and not below nine tenths of `width`."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * width else nearest + 8
