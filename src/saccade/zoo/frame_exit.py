"""FrameExit on the backbones of its paper, and on smaller ones.

Ghodrati, Ehteshami Bejnordi and Habibian, "FrameExit: conditional early exiting for efficient video recognition" (CVPR
2021): ResNet-50 and EfficientNet-b3 on pictures, X3D-S on clips, each without its last layer. Gates and classifiers are
in `saccade.exits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from saccade.errors import InputError
from saccade.exits import FrameExit, Order
from saccade.exits.pooling import PoolingName
from saccade.preprocess import Preprocess
from saccade.zoo.clips import started
from saccade.zoo.loaded import LoadedModel
from saccade.zoo.making import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PRETRAINED,
    SEED,
    check_classes,
    check_variant,
    create,
    split_pretrained,
    weights_origin,
)
from saccade.zoo.motion import FEATURES as MOTION_FEATURES
from saccade.zoo.motion import MotionHistogram
from saccade.zoo.torchvision_repair import import_extra
from saccade.zoo.tsn import tsn
from saccade.zoo.x3d import SIZES as X3D_SIZES
from saccade.zoo.x3d import X3D

PREFIX = "frameexit:"
CLASSES = 200  # ActivityNet's and Mini-Kinetics'


class Source(NamedTuple):
    """Where a backbone comes from.

    Attributes:
        library: "timm", "torchvision", or "saccade".
        name: what it is called there.
        features: numbers it gives for a frame.
        size: of a frame, (3, H, W), or (3, t, H, W) of a clip.
        hidden: neurons of the layer behind it.
    """

    library: str
    name: str
    features: int
    size: tuple[int, ...]
    hidden: int = 4096


_PICTURE = (3, 224, 224)
BACKBONES = {
    "tiny": Source("saccade", "tsn:tiny", 128, (3, 112, 112), 256),
    "resnet50": Source("timm", "resnet50", 2048, _PICTURE),
    "efficientnet-b3": Source("timm", "efficientnet_b3", 1536, _PICTURE),
    "mobilenetv3-small": Source("timm", "mobilenetv3_small_100", 1024, _PICTURE, 1024),
    "shufflenetv2": Source("torchvision", "shufflenet_v2_x1_0", 1024, _PICTURE, 1024),
    "x3d-s": Source("saccade", "x3d:s", 432, (3, *X3D_SIZES["s"])),
    "x3d-tiny": Source("saccade", "x3d:tiny", 216, (3, *X3D_SIZES["tiny"]), 256),
    "motion": Source("saccade", "motion", MOTION_FEATURES, (3, 3, 112, 112), 32),
}


def frame_exit(
    backbone: str = "tiny",
    *,
    classes: int = CLASSES,
    frames: int = 10,
    hidden: int | None = None,
    pooling: PoolingName = "max",
    gate_hidden: int = 64,
    shared_gates: bool = False,
    multi_label: bool = False,
    order: Order = "coarse-to-fine",
    pretrained: bool = False,
    seed: int = SEED,
) -> FrameExit:
    """Returns a FrameExit in evaluation mode.

    Args:
        backbone: the paper's "resnet50" (4.1 G macs for a frame of 224x224), "efficientnet-b3" (1.0 G; 1.8 G at the
            300x300 it was made for) and "x3d-s" (1.96 G for a clip of 13 frames of 160x160); for small machines
            "mobilenetv3-small" (55 M) and "shufflenetv2" (144 M); for two cores "tiny", a ResNet-10 (19 M for 112x112),
            and "x3d-tiny" (119 M for 16 frames of 64x64); for a few videos "motion", a histogram of what moves between
            the first and the last of 3 pictures, without convolutions (`MotionHistogram`).
        classes, frames, pooling, gate_hidden, shared_gates, multi_label, order: as of `FrameExit`.
        hidden: neurons of the layer behind the backbone; by default the paper's 4096, of networks for small machines
            1024, of tiny ones 256.
        pretrained: the backbone with the ImageNet weights that timm or torchvision download.
        seed: of the random weights. torch's own random state is not touched.

    Raises:
        MissingExtraError: timm or torchvision is not installed.
        ModelError: there is no such backbone, it has no trained weights, or they cannot be downloaded.
        InputError: as `FrameExit`.
    """
    check_classes(f"{PREFIX}{backbone}", classes)
    module = frame_backbone(backbone, pretrained=pretrained, seed=seed)
    source = BACKBONES[backbone]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FrameExit(
            module,
            features=source.features,
            classes=classes,
            frames=frames,
            hidden=source.hidden if hidden is None else hidden,
            pooling=pooling,
            gate_hidden=gate_hidden,
            shared_gates=shared_gates,
            multi_label=multi_label,
            order=order,
        )
    return model.eval()


def frame_backbone(backbone: str = "tiny", *, pretrained: bool = False, seed: int = SEED) -> nn.Module:
    """Returns a backbone alone, without its last layer, in evaluation mode.

    Args:
        backbone, pretrained, seed: as of `frame_exit`; a frame gives `BACKBONES[backbone].features` numbers.

    Raises:
        MissingExtraError, ModelError: as `frame_exit`.
    """
    name = f"{PREFIX}{backbone}{PRETRAINED if pretrained else ''}"
    check_variant(name, backbone, BACKBONES, prefix=PREFIX, what="backbone")
    if pretrained:
        known = [key for key, source in BACKBONES.items() if source.library != "saccade"]
        check_variant(name, backbone, known, prefix=PREFIX, what="pretrained backbone")
    module: nn.Module = _backbone(name, BACKBONES[backbone], pretrained, seed)
    return module


def frame_exit_of(backbone: str, state: Mapping[str, Tensor], options: Mapping[str, Any]) -> FrameExit:
    """Returns a FrameExit as large as trained weights say, with random ones, in evaluation mode.

    Args:
        backbone: as of `frame_exit`.
        state: the weights by name, as `state_dict` of a FrameExit gives them.
        options: what weights do not tell, where it is not the default: `pooling` ("max" or "average"; by default as the
            paper has it), `multi_label` and `order`. Others are not looked at.

    Raises:
        InputError: these are not a FrameExit's weights.
        MissingExtraError, ModelError: as `frame_exit`.
    """
    try:
        hidden, gate_hidden = len(state["embed.weight"]), len(state["gates.layers.0.0.weight"])
        classes, inputs = len(state["classifiers.0.weight"]), state["gates.last.1.weight"].shape[1]
    except KeyError as error:
        if error.args[0] != "gates.last.1.weight":
            raise InputError(f"these are not the weights of a FrameExit: there is no {error}") from error
        inputs = 2 * gate_hidden
    multi_label = options.get("multi_label") is True
    pooling: PoolingName
    if "pooling.query" in state or "pooling.cell.weight_ih" in state:
        pooling = "attention" if "pooling.query" in state else "lstm"
    elif inputs == gate_hidden:
        pooling = "none"
    else:
        named = options.get("pooling")
        averages = named == "average" if named in ("max", "average") else multi_label
        pooling = "average" if averages else "max"
    frames = sum(name.startswith("gates.last.") and name.endswith(".weight") for name in state)
    return frame_exit(
        backbone,
        classes=classes,
        frames=frames,
        hidden=hidden,
        pooling=pooling,
        gate_hidden=gate_hidden,
        shared_gates=frames > 1 and "gates.layers.1.0.weight" not in state,
        multi_label=multi_label,
        order=options.get("order") or "coarse-to-fine",
    )


def load_frame_exit(name: str) -> LoadedModel:
    """Returns the model called `frameexit:BACKBONE` or `frameexit:BACKBONE@pretrained`, for 200 classes.

    Its example is a video, (1, 10, 3, H, W), or (1, 10, 3, t, H, W) of clips; its preprocess makes one picture.

    Raises:
        MissingExtraError: timm or torchvision is not installed.
        ModelError: as `frame_exit`.
    """
    backbone, pretrained = split_pretrained(name.removeprefix(PREFIX))
    model = frame_exit(backbone, pretrained=pretrained)
    size = BACKBONES[backbone].size
    return LoadedModel(
        name=name,
        model=model,
        example=(torch.zeros(1, model.frames, *size),),
        preprocess=Preprocess(size=(size[-2], size[-1]), fit="crop", mean=IMAGENET_MEAN, std=IMAGENET_STD),
        kind="classification",
        weights=weights_origin(pretrained),
    )


def _backbone(name: str, source: Source, pretrained: bool, seed: int) -> Any:
    """Returns the network without its last layer."""
    if source.name == "motion":
        return MotionHistogram()
    if source.name == "tsn:tiny":
        network: Any = tsn("tiny", seed=seed).backbone
        network.reset_classifier(0)
        return network
    if source.library == "saccade":
        variant = source.name.removeprefix("x3d:")
        return create(name, False, lambda: started(X3D(variant)), library="saccade", seed=seed)
    if source.library == "timm":
        timm = import_extra("timm", extra="zoo")
        return create(
            name,
            pretrained,
            lambda: timm.create_model(source.name, pretrained=pretrained, num_classes=0),
            library="timm",
            seed=seed,
        )
    models = import_extra("torchvision.models", extra="zoo")

    def make() -> nn.Module:
        network = getattr(models, source.name)(weights="DEFAULT" if pretrained else None)
        network.fc = nn.Identity()
        return network

    return create(name, pretrained, make, library="torchvision", seed=seed)
