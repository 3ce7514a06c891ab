"""I3D on Inception-V2: a network for pictures whose every convolution and pooling got a third dimension.

The picture network is Ioffe and Szegedy's ("Batch normalization", 2015, Fig. 5: two 3x3 convolutions in place of
Inception's 5x5), inflated as in Carreira and Zisserman, "Quo vadis, action recognition?" (CVPR 2017), and Xie et al.,
"Rethinking spatiotemporal feature learning" (ECCV 2018): k x k becomes k x k x k. VA-RED2 calls it I3D-InceptionV2 and
gives its cost, 56.0 G macs for 16 frames of 256x256, but not where it strides over time. Xie et al. halve the frames
in the stem and in the modules 3c and 4e, which costs 43.1 G; leaving 3c's stride out gives 54.7 G, the nearest.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn

from saccade.zoo.clips import CLASSES, ClipClassifier, load_clips, started
from saccade.zoo.loaded import LoadedModel
from saccade.zoo.making import SEED, check_classes, check_variant, create

PREFIX = "i3d:"
SIZES = {"inceptionv2": (16, 256, 256), "tiny": (16, 64, 64)}  # (T, H, W) of the example
TIME_STRIDES = (2, 1, 2)  # of the stem and the two modules that halve height and width
_EPS = 0.001


class Widths(NamedTuple):
    """Channels of an Inception module's branches; no `one` and no `pool` in one that strides over space.

    Attributes:
        one: of the 1x1x1 convolution.
        reduce3, three: of the 1x1x1 convolution and the 3x3x3 one behind it.
        reduce33, three3: of the 1x1x1 convolution and both 3x3x3 ones behind it.
        pool: of the 1x1x1 convolution behind the pooling.
        maximum: whether the pooling is a maximum, not an average.
    """

    one: int
    reduce3: int
    three: int
    reduce33: int
    three3: int
    pool: int
    maximum: bool = False


MODULES = {
    "inceptionv2": {
        "3a": Widths(64, 64, 64, 64, 96, 32),
        "3b": Widths(64, 64, 96, 64, 96, 64),
        "3c": Widths(0, 128, 160, 64, 96, 0),
        "4a": Widths(224, 64, 96, 96, 128, 128),
        "4b": Widths(192, 96, 128, 96, 128, 128),
        "4c": Widths(160, 128, 160, 128, 160, 96),
        "4d": Widths(96, 128, 192, 160, 192, 96),
        "4e": Widths(0, 128, 192, 192, 256, 0),
        "5a": Widths(352, 192, 320, 160, 224, 128),
        "5b": Widths(352, 192, 320, 192, 224, 128, maximum=True),
    },
    "tiny": {
        "3a": Widths(16, 16, 24, 16, 24, 16),
        "3c": Widths(0, 32, 40, 16, 24, 0),
        "4a": Widths(56, 16, 24, 24, 32, 32),
        "4e": Widths(0, 32, 48, 48, 64, 0),
        "5b": Widths(88, 48, 80, 48, 56, 32, maximum=True),
    },
}
# of the stem's first convolution the kernel and the channels, and the channels of its last one
STEMS = {"inceptionv2": (7, 64, 192), "tiny": (5, 12, 32)}


class Unit(nn.Sequential):
    """A convolution of a cubic kernel, batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, *, stride: int | tuple[int, int, int] = 1) -> None:
        """Pad so that only the stride makes the output smaller."""
        super().__init__(
            nn.Conv3d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
            nn.BatchNorm3d(outputs, eps=_EPS),
            nn.ReLU(inplace=True),
        )


class Inception(nn.Module):
    """Four branches over one input, their outputs one behind the other; three where it strides.

    Attributes:
        outputs: their number of channels.
    """

    def __init__(self, inputs: int, widths: Widths, *, stride: tuple[int, int, int] = (1, 1, 1)) -> None:
        """Make the branches; `stride` is of the last convolution of each, and of the pooling."""
        super().__init__()
        w, self.outputs = widths, widths.one + widths.three + widths.three3 + (widths.pool or inputs)
        branches: dict[str, nn.Module] = {}
        if w.one:
            branches["one"] = Unit(inputs, w.one)
        branches["three"] = nn.Sequential(Unit(inputs, w.reduce3), Unit(w.reduce3, w.three, 3, stride=stride))
        double = (Unit(inputs, w.reduce33), Unit(w.reduce33, w.three3, 3), Unit(w.three3, w.three3, 3, stride=stride))
        branches["three3"] = nn.Sequential(*double)
        pool = nn.MaxPool3d(3, stride, padding=1) if w.maximum or not w.pool else _average()
        branches["pool"] = nn.Sequential(pool, Unit(inputs, w.pool)) if w.pool else pool
        self.branches = nn.ModuleDict(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, outputs, t, h, w)`."""
        return torch.cat([branch(x) for branch in self.branches.values()], dim=1)


class I3D(nn.Sequential):
    """Features `(B, channels, t, H/32, W/32)`, rounded up, of clips `(B, 3, T, H, W)`.

    Attributes:
        channels: of the features.
    """

    def __init__(self, variant: str, *, time_strides: tuple[int, int, int] = TIME_STRIDES) -> None:
        """Make the stem and the modules that `variant` names; strides over time as in `i3d`."""
        kernel, first, last = STEMS[variant]
        strides = dict(zip(("stem", "3c", "4e"), time_strides, strict=True))
        parts: list[tuple[str, nn.Module]] = [
            ("conv1", Unit(3, first, kernel, stride=(strides["stem"], 2, 2))),
            ("pool1", _halve()),
            ("conv2", nn.Sequential(Unit(first, first), Unit(first, last, 3))),
            ("pool2", _halve()),
        ]
        channels = last
        for name, widths in MODULES[variant].items():
            stride = (strides[name], 2, 2) if name in strides else (1, 1, 1)
            module = Inception(channels, widths, stride=stride)
            channels = module.outputs
            parts.append((f"mixed{name}", module))
        super().__init__(OrderedDict(parts))
        self.channels = channels


def i3d(
    variant: str = "tiny",
    *,
    classes: int = CLASSES,
    time_strides: tuple[int, int, int] = TIME_STRIDES,
    seed: int = SEED,
) -> ClipClassifier:
    """Returns I3D in evaluation mode.

    Args:
        variant: "inceptionv2" (54.7 G macs for 16 frames of 256x256, 24.4 M parameters); or "tiny" for two cores, five
            of its ten modules with a quarter of the channels (121 M macs for 16 frames of 64x64, 0.86 M parameters).
        classes: number of scores.
        time_strides: how the stem and the modules 3c and 4e stride over time. Xie et al. have (2, 2, 2).
        seed: of the random weights. torch's own random state is not touched.

    Raises:
        ModelError: there is no such variant.
    """
    name = f"{PREFIX}{variant}"
    check_variant(name, variant, MODULES, prefix=PREFIX, what="I3D")
    check_classes(name, classes)

    def make() -> ClipClassifier:
        body = I3D(variant, time_strides=time_strides)
        return started(ClipClassifier(body, nn.Linear(body.channels, classes)))

    return create(name, False, make, library="saccade", seed=seed)


def load_i3d(name: str) -> LoadedModel:
    """Returns the network called `i3d:VARIANT`, with Kinetics' 400 classes; raises ModelError as `i3d`."""
    variant = name.removeprefix(PREFIX)
    return load_clips(name, i3d(variant), SIZES[variant])


def _halve() -> nn.MaxPool3d:
    return nn.MaxPool3d((1, 3, 3), (1, 2, 2), padding=(0, 1, 1))


def _average() -> nn.Sequential:
    """Returns the mean over 3x3x3 places, those outside counted as 0; `nn.AvgPool3d` alone refuses short clips."""
    return nn.Sequential(nn.ConstantPad3d(1, 0.0), nn.AvgPool3d(3, stride=1))
