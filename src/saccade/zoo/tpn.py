"""TPN: a pyramid over time on the last two layers of R(2+1)D.

Yang et al., "Temporal pyramid network for action recognition" (CVPR 2020): features of different depth are brought to
one size and one number of channels (spatial modulation), each to its own tempo (temporal modulation), exchanged
between the levels in both directions (the parallel flow), and classified together. VA-RED2 puts one on R(2+1)D-18.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.zoo.clips import CLASSES, check_clips, load_clips, mean_over_clip, started
from saccade.zoo.loaded import LoadedModel
from saccade.zoo.making import SEED, check_classes, check_variant, create
from saccade.zoo.r2plus1d import CHANNELS, SIZES, R2Plus1D, make_body

PREFIX = "tpn:"
LEVELS = 2  # the last layers of R(2+1)D
RATES = (1, 1)  # by which the levels' frames are divided; R(2+1)D's own strides already give one twice the other's
GROUPS = {"18": 32, "tiny": 8}  # of the temporal modulation and of the fusions' first convolutions


class SpatialModulation(nn.Sequential):
    """1x3x3 convolutions of stride 2 over space, each doubling the channels until there are `outputs`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Make as many as are needed; none for the last level."""
        super().__init__()
        while inputs < outputs:
            wider = min(2 * inputs, outputs)
            self.append(_unit(inputs, wider, (1, 3, 3), stride=(1, 2, 2)))
            inputs = wider


class TemporalModulation(nn.Module):
    """A 3x1x1 convolution in groups, then the maximum of every `rate` frames; the last may have fewer."""

    def __init__(self, inputs: int, outputs: int, *, rate: int, groups: int) -> None:
        """Make the convolution."""
        super().__init__()
        self.rate = rate
        self.conv = nn.Conv3d(inputs, outputs, (3, 1, 1), padding=(1, 0, 0), groups=groups, bias=False)
        self.norm = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, outputs, t / rate, h, w)`, rounded up."""
        return F.max_pool3d(self.norm(self.conv(x)), (self.rate, 1, 1), ceil_mode=True)


class Fusion(nn.Module):
    """Brings the levels to the shortest one's frames, a 1x1x1 convolution in groups on each and one on all."""

    def __init__(self, levels: int, channels: int, outputs: int, *, groups: int) -> None:
        """Make the convolutions."""
        super().__init__()
        self.each = nn.ModuleList(_unit(channels, channels, groups=groups) for _ in range(levels))
        self.all = _unit(levels * channels, outputs)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Return `(B, outputs, t, h, w)` with the least t of all levels."""
        least = min(level.shape[2] for level in levels)
        made = [unit(_fewer(level, least)) for unit, level in zip(self.each, levels, strict=True)]
        return self.all(torch.cat(made, dim=1))


class TPN(nn.Module):
    """Class scores (logits) `(B, classes)` of clips `(B, 3, T, H, W)` of any length and size.

    InputError says so when it is given something else. The auxiliary head that trains the paper's spatial modulation
    is left out.

    Attributes:
        body: R(2+1)D, whose last layers are the pyramid's levels.
        spatial, temporal: the modulations of each level, finest first.
        down, up: the fusions after the flow towards the finer levels and after that towards the coarser ones.
        both: the convolution on the two flows' results.
        head: the last layer.
    """

    def __init__(self, body: R2Plus1D, inputs: Sequence[int], classes: int, *, rates: Sequence[int], groups: int):
        """Put a pyramid on `body`, whose last layers have `inputs` channels."""
        super().__init__()
        top, width, count = inputs[-1], inputs[-1] // 2, len(inputs)
        self.body, self.count = body, count
        self.spatial = nn.ModuleList(SpatialModulation(channels, top) for channels in inputs)
        self.temporal = nn.ModuleList(TemporalModulation(top, width, rate=rate, groups=groups) for rate in rates)
        self.down, self.up = (Fusion(count, width, top, groups=groups) for _ in range(2))
        self.both = _unit(2 * top, 4 * top)
        self.head = nn.Linear(4 * top, classes)

    def forward(self, clips: Tensor) -> Tensor:
        """Return the scores."""
        check_clips(clips, who="TPN")
        levels = self.body.levels(clips)[-self.count :]
        levels = [tempo(place(x)) for tempo, place, x in zip(self.temporal, self.spatial, levels, strict=True)]
        flows = [self.down(top_down(levels)), self.up(bottom_up(levels))]
        return self.head(mean_over_clip(self.both(torch.cat(flows, dim=1))))


def top_down(levels: Sequence[Tensor]) -> list[Tensor]:
    """Returns every level plus what the coarser ones give it, their frames repeated; finest first, as it is given."""
    made = [levels[-1]]
    for level in reversed(levels[:-1]):
        made.append(level + F.interpolate(made[-1], size=level.shape[2:], mode="nearest"))
    return made[::-1]


def bottom_up(levels: Sequence[Tensor]) -> list[Tensor]:
    """Returns every level plus what the finer ones give it, the maxima of their frames; finest first."""
    made = [levels[0]]
    for level in levels[1:]:
        made.append(level + _fewer(made[-1], level.shape[2]))
    return made


def tpn(
    variant: str = "tiny",
    *,
    classes: int = CLASSES,
    rates: tuple[int, int] = RATES,
    seed: int = SEED,
) -> TPN:
    """Returns a temporal pyramid on R(2+1)D in evaluation mode.

    Args:
        variant: that of R(2+1)D: "18" (26.8 G macs for 8 frames of 128x128, 36.0 M parameters) or "tiny".
        classes: number of scores.
        rates: by how much the temporal modulation divides the frames of the finer and the coarser level.
        seed: of the random weights. torch's own random state is not touched.

    Raises:
        MissingExtraError: torchvision is not installed.
        ModelError: there is no such variant.
    """
    name = f"{PREFIX}{variant}"
    check_variant(name, variant, GROUPS, prefix=PREFIX, what="TPN on R(2+1)D")
    check_classes(name, classes)

    def make() -> TPN:
        inputs = CHANNELS[variant][-LEVELS:]
        return started(TPN(make_body(variant), inputs, classes, rates=rates, groups=GROUPS[variant]))

    return create(name, False, make, library="torchvision", seed=seed)


def load_tpn(name: str) -> LoadedModel:
    """Returns the network called `tpn:VARIANT`, with Kinetics' 400 classes; raises as `tpn`."""
    variant = name.removeprefix(PREFIX)
    return load_clips(name, tpn(variant), SIZES[variant])


def _fewer(x: Tensor, frames: int) -> Tensor:
    """Returns the maxima of `frames` runs of x's frames, `(B, C, frames, h, w)`."""
    if x.shape[2] == frames:
        return x
    return F.adaptive_max_pool3d(x, (frames, *x.shape[3:]))


def _unit(
    inputs: int,
    outputs: int,
    kernel: tuple[int, int, int] = (1, 1, 1),
    *,
    stride: tuple[int, int, int] = (1, 1, 1),
    groups: int = 1,
) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel, stride=stride, padding=padding, groups=groups, bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
    )
