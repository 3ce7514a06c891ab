"""R(2+1)D: residual networks whose 3D convolutions are a 2D one over space and then a 1D one over time.

Tran et al., "A closer look at spatiotemporal convolutions for action recognition" (CVPR 2018), the network VA-RED2
measures most with. The 18-layer one is torchvision's. It gives both convolutions of a block the number of middle
channels that the first one has by the paper's formula, where the paper computes it for each.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from saccade.zoo.clips import CLASSES, ClipClassifier, load_clips, started
from saccade.zoo.loaded import LoadedModel
from saccade.zoo.making import (
    PRETRAINED,
    SEED,
    check_classes,
    check_variant,
    create,
    split_pretrained,
)
from saccade.zoo.torchvision_repair import import_extra

PREFIX = "r2plus1d:"
CHANNELS = {  # of the four layers; tiny has one block in each
    "18": (64, 128, 256, 512),
    "tiny": (8, 24, 48, 96),
    "tiny-narrow": (6, 18, 36, 72),
    "tiny-half": (4, 12, 24, 48),
}
LAYERS = ("stem", "layer1", "layer2", "layer3", "layer4")
SIZES = {"18": (16, 128, 128)} | dict.fromkeys(
    ("tiny", "tiny-narrow", "tiny-half"), (16, 56, 56)
)  # (T, H, W) of the example
# how torchvision's pretrained network was trained, on (T, H, W) = (16, 112, 112) of frames with a shorter side of 128
KINETICS_MEAN, KINETICS_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
KINETICS_SIZE, KINETICS_CROP = (16, 112, 112), 112 / 128
KINETICS_STRIDE = 2  # 15 frames a second, of the usual 30


class R2Plus1D(nn.Sequential):
    """Features `(B, C, T/8, H/16, W/16)`, rounded up, of clips `(B, 3, T, H, W)`: `stem`, `layer1` ... `layer4`.

    `levels` gives what each of the four layers makes; T/1, T/2, T/4, T/8 frames of H/2 ... H/16.
    """

    def levels(self, clips: Tensor) -> list[Tensor]:
        """Return the features of the four layers, finest first."""
        found = [clips]
        for part in self:
            found.append(part(found[-1]))
        return found[2:]


def r2plus1d(
    variant: str = "tiny", *, classes: int = CLASSES, pretrained: bool = False, seed: int = SEED
) -> ClipClassifier:
    """Returns R(2+1)D in evaluation mode.

    Args:
        variant: "18", torchvision's (26.5 G macs for 8 frames of 128x128, 31.5 M parameters); or "tiny" for two cores:
            one block per layer, of 8 to 96 channels (122 M macs for 16 frames of 56x56, 0.47 M parameters); or
            "tiny-narrow" and "tiny-half" with three quarters and half of its channels.
        classes: number of scores.
        pretrained: with torchvision's weights, trained on Kinetics-400, downloaded; with another number of classes
            the last layer stays random. For 18 only.
        seed: of the random weights. torch's own random state is not touched.

    Raises:
        MissingExtraError: torchvision is not installed.
        ModelError: there is no such variant, it has no trained weights, or they cannot be downloaded.
    """
    name = f"{PREFIX}{variant}{PRETRAINED if pretrained else ''}"
    check_variant(name, variant, CHANNELS, prefix=PREFIX, what="R(2+1)D")
    check_classes(name, classes)
    if pretrained:
        check_variant(name, variant, ("18",), prefix=PREFIX, what="pretrained R(2+1)D")
    video = import_extra("torchvision.models.video", extra="zoo")

    def make() -> ClipClassifier:
        if pretrained and classes == CLASSES:
            net = video.r2plus1d_18(weights="KINETICS400_V1")
            return ClipClassifier(_as_body(net), net.fc)
        body = _as_body(video.r2plus1d_18(weights="KINETICS400_V1")) if pretrained else make_body(variant)
        return ClipClassifier(body, started(nn.Linear(CHANNELS[variant][-1], classes)))

    return create(name, pretrained, make, library="torchvision", seed=seed)


def load_r2plus1d(name: str) -> LoadedModel:
    """Returns the network called `r2plus1d:VARIANT` or `r2plus1d:18@pretrained`, with Kinetics' 400 classes.

    Raises:
        MissingExtraError: torchvision is not installed.
        ModelError: as `r2plus1d`.
    """
    variant, pretrained = split_pretrained(name.removeprefix(PREFIX))
    model = r2plus1d(variant, pretrained=pretrained)
    if not pretrained:
        return load_clips(name, model, SIZES[variant])
    return load_clips(
        name,
        model,
        KINETICS_SIZE,
        pretrained=True,
        mean=KINETICS_MEAN,
        std=KINETICS_STD,
        crop_fraction=KINETICS_CROP,
        frame_stride=KINETICS_STRIDE,
    )


def make_body(variant: str) -> R2Plus1D:
    """Returns the network without its last layer, with random weights; MissingExtraError without torchvision."""
    if variant == "18":
        return _as_body(import_extra("torchvision.models.video", extra="zoo").r2plus1d_18())
    blocks = import_extra("torchvision.models.video.resnet", extra="zoo")
    channels = CHANNELS[variant]
    layers = [_stem(channels[0])]
    for before, after in zip((channels[0], *channels), channels, strict=False):
        stride = 1 if len(layers) == 1 else 2
        shortcut = None
        if stride > 1:
            shortcut = nn.Sequential(nn.Conv3d(before, after, 1, stride=stride, bias=False), nn.BatchNorm3d(after))
        layers.append(nn.Sequential(blocks.BasicBlock(before, after, blocks.Conv2Plus1D, stride, shortcut)))
    return started(R2Plus1D(OrderedDict(zip(LAYERS, layers, strict=True))))


def _as_body(net: Any) -> R2Plus1D:
    return R2Plus1D(OrderedDict((layer, getattr(net, layer)) for layer in LAYERS))


def _stem(channels: int) -> nn.Sequential:
    """Returns torchvision's stem for another number of channels."""
    return nn.Sequential(
        nn.Conv3d(3, channels, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
        nn.BatchNorm3d(channels),
        nn.ReLU(inplace=True),
        nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0), bias=False),
        nn.BatchNorm3d(channels),
        nn.ReLU(inplace=True),
    )
