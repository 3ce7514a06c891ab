"""Temporal segment networks: one classifier for every sampled frame, and the mean of what it says.

Wang et al., "Temporal segment networks: towards good practices for deep action recognition" (ECCV 2016), Eq. 1 with
average consensus; Skip-Convolutions classify JHMDB's actions with one on a ResNet-101 (appendix, Table 5).
"""

from __future__ import annotations

import difflib

import torch
from torch import Tensor, nn

from saccade.errors import InputError, ModelError
from saccade.preprocess import Preprocess
from saccade.zoo.loaded import LoadedModel
from saccade.zoo.making import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PRETRAINED,
    SEED,
    create,
    split_pretrained,
    weights_origin,
)
from saccade.zoo.torchvision_repair import import_extra

CLASSES = 21  # JHMDB's actions
PREFIX = "tsn:"
TIMM = ("resnet18", "resnet50", "resnet101")
BACKBONES = ("tiny", *TIMM)
SIZES = {"tiny": (112, 112)} | dict.fromkeys(TIMM, (224, 224))  # (height, width) of the example


class TSN(nn.Module):
    """Class scores (logits) of clips, from their frames one by one.

    `forward` takes clips `(B, T, 3, H, W)` with T = `segments` and gives `(B, classes)`, the `consensus` of their
    frames; or frames `(N, 3, H, W)` and gives `(N, classes)`, which is what it is given inside a `ClipModel`:
    `consensus` then comes after. InputError says so when a clip has another number of frames.
    """

    def __init__(self, backbone: nn.Module, *, segments: int) -> None:
        """Classify frames with `backbone`, `segments` of them per clip."""
        super().__init__()
        self.backbone, self.segments = backbone, segments

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the scores of clips or of frames."""
        if pictures.ndim not in (4, 5) or pictures.shape[-3] != 3:
            raise InputError(
                f"TSN: got a tensor {tuple(pictures.shape)}; expected clips (B, {self.segments}, 3, H, W) or frames "
                "(N, 3, H, W)"
            )
        if pictures.ndim == 4:
            return self.backbone(pictures)
        batch, frames = pictures.shape[:2]
        if frames != self.segments:
            raise InputError(
                f"TSN: got clips of {frames} frames; expected {self.segments}: take those `segment_frames` names, or "
                "make the network with another segments="
            )
        return consensus(self.backbone(pictures.flatten(0, 1)).unflatten(0, (batch, frames)))


def consensus(scores: Tensor) -> Tensor:
    """Returns the scores `(B, classes)` of clips: the mean over the frames of `(B, T, classes)`."""
    return scores.mean(1)


def segment_frames(frames: int, segments: int) -> list[int]:
    """Returns which frames of a video stand for its segments: the middle one of each of equally long parts.

    A video shorter than `segments` has frames that stand for several. Raises InputError below one frame or segment.
    """
    if frames < 1 or segments < 1:
        raise InputError(f"segment_frames: got {frames} frames and {segments} segments; expected at least 1 of each")
    return [(2 * segment + 1) * frames // (2 * segments) for segment in range(segments)]


def tsn(
    backbone: str = "tiny",
    *,
    classes: int = CLASSES,
    segments: int = 8,
    pretrained: bool = False,
    seed: int = SEED,
) -> TSN:
    """Returns a temporal segment network in evaluation mode.

    Args:
        backbone: "resnet101" (the paper's; 7.8 G macs per frame of 224x224), "resnet50", "resnet18"; or "tiny" for two
            cores, a ResNet-10 of 16 to 128 channels (19 M macs per frame of 112x112, 0.31 M parameters).
        classes: number of scores.
        segments: frames per clip (the paper: 25 and 6).
        pretrained: with timm's ImageNet weights, downloaded; the last layer stays random.
        seed: of the random weights. torch's own random state is not touched.

    Raises:
        MissingExtraError: timm is not installed.
        ModelError: there is no such backbone, it has no trained weights, or they cannot be downloaded.
    """
    name = f"{PREFIX}{backbone}{PRETRAINED if pretrained else ''}"
    if backbone not in BACKBONES:
        near = difflib.get_close_matches(backbone, BACKBONES, n=1)
        hint = f" Did you mean {PREFIX}{near[0]}?" if near else ""
        raise ModelError(f"{name}: there is no backbone {backbone!r}; expected one of {', '.join(BACKBONES)}.{hint}")
    if classes < 1 or segments < 1:
        raise ModelError(f"{name}: got {classes} classes and {segments} segments; expected at least 1 of each")
    if pretrained and backbone == "tiny":
        raise ModelError(
            f"{name}: nobody has trained this backbone on ImageNet; leave {PRETRAINED} away, or take one of "
            f"{', '.join(TIMM)}"
        )
    timm = import_extra("timm", extra="zoo")

    def make() -> TSN:
        if backbone != "tiny":
            return TSN(timm.create_model(backbone, pretrained=pretrained, num_classes=classes), segments=segments)
        resnet = import_extra("timm.models.resnet", extra="zoo")
        small = resnet.ResNet(
            resnet.BasicBlock, (1, 1, 1, 1), classes, stem_type="deep", stem_width=8, channels=(16, 32, 64, 128)
        )
        return TSN(small, segments=segments)

    return create(name, pretrained, make, library="timm", seed=seed)


def load_tsn(name: str) -> LoadedModel:
    """Returns the network called `tsn:BACKBONE` or `tsn:BACKBONE@pretrained`, frame by frame, with JHMDB's 21 classes.

    Raises:
        MissingExtraError: timm is not installed.
        ModelError: as `tsn`.
    """
    backbone, pretrained = split_pretrained(name.removeprefix(PREFIX))
    model = tsn(backbone, pretrained=pretrained)
    return LoadedModel(
        name=name,
        model=model,
        example=(torch.zeros(1, 3, *SIZES[backbone]),),
        preprocess=Preprocess(size=SIZES[backbone], fit="crop", mean=IMAGENET_MEAN, std=IMAGENET_STD),
        kind="classification",
        weights=weights_origin(pretrained),
    )
