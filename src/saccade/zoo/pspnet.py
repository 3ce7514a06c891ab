"""PSPNet on a dilated ResNet-18: a class for every pixel, from means over coarser and coarser grids.

Zhao et al., "Pyramid scene parsing network" (CVPR 2017). Of VA-RED2's network only the encoder's cost is given, 10.6 G
macs; a ResNet-18 at stride 8 with a stem of three 3x3 convolutions (64, 64, 128 channels) has 10.64 G at 224x224, with
the plain 7x7 stem it has 9.21 G. The encoder is timm's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.errors import InputError
from saccade.preprocess import Preprocess
from saccade.zoo.clips import started
from saccade.zoo.loaded import LoadedModel
from saccade.zoo.making import IMAGENET_MEAN, IMAGENET_STD, SEED, check_classes, check_variant, create, weights_origin
from saccade.zoo.torchvision_repair import import_extra

CLASSES = 150  # ADE20K's
PREFIX = "pspnet:"
SIZES = {"resnet18": (224, 224), "tiny": (64, 64)}  # (height, width) of the example
STRIDE = 8  # of the encoder
GRIDS = (1, 2, 3, 6)
# channels of the stem's first two convolutions, residual blocks and channels of the four layers
SHAPES = {"resnet18": (64, (2, 2, 2, 2), (64, 128, 256, 512)), "tiny": (8, (1, 1, 1, 1), (16, 32, 48, 64))}


class PyramidPooling(nn.Module):
    """The features, and beside them their means over 1x1, 2x2, 3x3 and 6x6 cells, an equal share of channels each."""

    def __init__(self, channels: int) -> None:
        """Make a 1x1 convolution per grid; the output has twice the channels."""
        super().__init__()
        self.grids = nn.ModuleList(_unit(channels, channels // len(GRIDS), 1) for _ in GRIDS)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(N, 2 channels, h, w)`."""
        means = [unit(F.adaptive_avg_pool2d(x, grid)) for unit, grid in zip(self.grids, GRIDS, strict=True)]
        return torch.cat([x, *(_resize(mean, x.shape[2:]) for mean in means)], dim=1)


class PSPNet(nn.Module):
    """Class scores (logits) `(N, classes, H, W)` of the pixels of pictures `(N, 3, H, W)` of any size.

    InputError says so when it is given something else. The auxiliary classifier of the training is left out.

    Attributes:
        encoder: timm's ResNet, at an eighth of the picture's size.
        pyramid: the pooling.
        head: from there to scores, which are enlarged to the picture's size.
    """

    def __init__(self, encoder: nn.Module, *, channels: int, classes: int) -> None:
        """Put a pyramid on `encoder`, whose last layer has `channels` channels."""
        super().__init__()
        self.encoder = encoder
        self.pyramid = PyramidPooling(channels)
        self.head = nn.Sequential(_unit(2 * channels, channels, 3), nn.Conv2d(channels, classes, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the scores."""
        if pictures.ndim != 4 or pictures.shape[1] != 3 or 0 in pictures.shape:
            raise InputError(f"PSPNet: got a tensor {tuple(pictures.shape)}; expected pictures (N, 3, H, W)")
        return _resize(self.head(self.pyramid(self.encoder(pictures))), pictures.shape[2:])


def pspnet(variant: str = "tiny", *, classes: int = CLASSES, seed: int = SEED) -> PSPNet:
    """Returns PSPNet in evaluation mode.

    Args:
        variant: "resnet18" (14.4 G macs at 224x224, 10.6 G of them the encoder's) or "tiny" for two cores.
        classes: number of scores per pixel.
        seed: of the random weights. torch's own random state is not touched.

    Raises:
        MissingExtraError: timm is not installed.
        ModelError: there is no such variant.
    """
    name = f"{PREFIX}{variant}"
    check_variant(name, variant, SHAPES, prefix=PREFIX, what="PSPNet on")
    check_classes(name, classes)
    resnet = import_extra("timm.models.resnet", extra="zoo")

    def make() -> PSPNet:
        stem, blocks, channels = SHAPES[variant]
        encoder = resnet.ResNet(
            resnet.BasicBlock,
            blocks,
            num_classes=0,
            global_pool="",
            stem_type="deep",
            stem_width=stem,
            channels=channels,
            output_stride=STRIDE,
            zero_init_last=False,
        )
        return started(PSPNet(encoder, channels=channels[-1], classes=classes))

    return create(name, False, make, library="timm", seed=seed)


def load_pspnet(name: str) -> LoadedModel:
    """Returns the network called `pspnet:VARIANT`, with ADE20K's 150 classes; raises as `pspnet`."""
    variant = name.removeprefix(PREFIX)
    return LoadedModel(
        name=name,
        model=pspnet(variant),
        example=(torch.zeros(1, 3, *SIZES[variant]),),
        preprocess=Preprocess(size=SIZES[variant], mean=IMAGENET_MEAN, std=IMAGENET_STD),
        kind="segmentation",
        weights=weights_origin(False),
    )


def _resize(x: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def _unit(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
