"""EfficientDet with any number of classes, at any input size: D0 to D3, and a small one for two cores.

Tan, Pang and Le, "EfficientDet: scalable and efficient object detection" (CVPR 2020), the network Skip-Convolutions
are measured with on UA-DETRAC. The networks are effdet's, in the variants whose convolutions pad alike on all sides
(plain `nn.Conv2d`), without dropping paths at random in training: over a clip that would look like motion.
"""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import Tensor, nn

from saccade.data.street_vehicles import CLASSES
from saccade.errors import InputError, ModelError
from saccade.evaluate.detection import Detections
from saccade.preprocess import Preprocess
from saccade.zoo.effdet_boxes import decode_effdet
from saccade.zoo.loaded import LoadedModel
from saccade.zoo.making import IMAGENET_MEAN, IMAGENET_STD, PRETRAINED, SEED, create, split_pretrained
from saccade.zoo.torchvision_repair import import_extra

PREFIX = "efficientdet:"
PAPER = ("d0", "d1", "d2", "d3")
NAMES = ("tiny", *PAPER)
# Vehicles of a street of 128x224 pixels are 10 to 40 pixels large and 1.5 to 3.4 times as wide as high.
TINY: dict[str, Any] = {
    "name": "efficientdet_tiny",
    "backbone_name": "test_efficientnet",
    "backbone_indices": (1, 2, 3),
    "image_size": (128, 224),
    "num_classes": len(CLASSES),
    "min_level": 2,
    "max_level": 4,
    "num_levels": 3,
    "num_scales": 2,
    "anchor_scale": 3.0,
    "aspect_ratios": [(1.0, 1.0), (1.4, 0.7), (1.7, 0.6)],
    # Whole 3x3 convolutions: a gate costs as much as one of the layer's output channels, all of a depthwise layer.
    "separable_conv": False,
    "fpn_channels": 16,
    "fpn_cell_repeats": 2,
    "box_class_repeats": 1,
    "pad_type": "",
    "redundant_bias": False,
    "act_type": "relu",
    "norm_kwargs": {"eps": 0.001, "momentum": 0.1},  # effdet's 0.01 needs longer trainings than two cores give
}


class EfficientDet(nn.Module):
    """Class logits and box offsets of pictures `(N, 3, H, W)` of the one size it was made for.

    `forward` gives two lists with a map per level, finest first: logits `(N, A * classes, h, w)` and offsets
    `(N, A * 4, h, w)` with A anchors per place, each (y, x, log height, log width) relative to its anchor. `decode`
    turns them into boxes. InputError says so when pictures have another size.

    Attributes:
        net: effdet's network: `backbone`, `fpn`, `class_net`, `box_net`.
        size: (height, width) of the input.
        classes: number of classes.
        anchors: `(M, 4)` as (y0, x0, y1, x1) in pixels, by levels, rows, columns, anchors. Not in the state_dict.
    """

    anchors: Tensor

    def __init__(self, net: nn.Module, *, size: tuple[int, int], classes: int, anchors: Tensor) -> None:
        """Hold effdet's network and its anchors."""
        super().__init__()
        self.net, self.size, self.classes = net, size, classes
        self.register_buffer("anchors", anchors, persistent=False)

    def forward(self, pictures: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return logits and offsets per level."""
        if pictures.ndim != 4 or pictures.shape[1:] != (3, *self.size):
            raise InputError(
                f"EfficientDet: got a tensor {tuple(pictures.shape)}; expected (N, 3, {self.size[0]}, {self.size[1]}): "
                "resize the pictures, or make the network with another size="
            )
        logits, offsets = self.net(pictures)
        return logits, offsets

    def decode(
        self,
        outputs: tuple[list[Tensor], list[Tensor]],
        *,
        score_threshold: float = 0.3,
        iou_threshold: float = 0.5,
    ) -> list[Detections]:
        """Return what was found in each of the N pictures, best first, in pixels of the input."""
        return decode_effdet(
            outputs,
            anchors=self.anchors,
            classes=self.classes,
            size=self.size,
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
        )


def efficientdet(
    name: str = "tiny",
    *,
    classes: int | None = None,
    size: tuple[int, int] | None = None,
    pretrained: bool = False,
    seed: int = SEED,
) -> EfficientDet:
    """Returns an EfficientDet in evaluation mode.

    Args:
        name: "d0", "d1", "d2", "d3"; or "tiny": fused and plain inverted residuals without squeeze-and-excitation,
            two repeats of a pyramid of 16 channels over strides 4, 8, 16, whole 3x3 convolutions there and in the
            heads; 63 M macs at 128x224, 55 k parameters.
        classes: number of classes; by default COCO's 90, and the rendered street's 4 for "tiny".
        size: (height, width) of the input, multiples of 128 (16 for "tiny"); by default 512x512, 640x640, 768x768,
            896x896, and 128x224 for "tiny".
        pretrained: with downloaded weights: COCO's for d0 and d1, which stay whole only with 90 classes; only the
            backbone's ImageNet ones for d2 and d3, as there are no others for these variants.
        seed: of the random weights. torch's own random state is not touched.

    Raises:
        MissingExtraError: effdet is not installed.
        ModelError: there is no such network or size, it has no trained weights, or they cannot be downloaded.
    """
    full = f"{PREFIX}{name}{PRETRAINED if pretrained else ''}"
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f" Did you mean {PREFIX}{near[0]}?" if near else ""
        raise ModelError(f"{full}: there is no EfficientDet {name!r}; expected one of {', '.join(NAMES)}.{hint}")
    if classes is not None and classes < 1:
        raise ModelError(f"{full}: got {classes} classes; expected at least 1")
    if pretrained and name == "tiny":
        raise ModelError(f"{full}: tiny has no trained weights; leave {PRETRAINED} away, or take one of {PAPER}")
    effdet = import_extra("effdet", extra="zoo")
    config = _tiny_config() if name == "tiny" else _paper_config(name)
    if size is not None:
        config.image_size = size
    height, width = (int(side) for side in config.image_size)
    step = 2**config.max_level
    if height < step or width < step or height % step or width % step:
        raise ModelError(f"{full}: got a size of {height}x{width}; expected multiples of {step}")

    def make() -> EfficientDet:
        whole = pretrained and bool(config.get("url"))
        net = effdet.create_model_from_config(
            config, num_classes=classes, pretrained=whole, pretrained_backbone=pretrained and not whole
        )
        if name == "tiny":
            net.backbone.blocks = net.backbone.blocks[:-1]  # the last stage, at stride 32, which timm computes in vain
        anchors = import_extra("effdet.anchors", extra="zoo").Anchors.from_config(net.config).boxes
        return EfficientDet(net, size=(height, width), classes=int(net.config.num_classes), anchors=anchors)

    return create(full, pretrained, make, library="effdet", seed=seed)


def load_efficientdet(name: str) -> LoadedModel:
    """Returns the network called `efficientdet:NAME` or `efficientdet:NAME@pretrained`.

    Raises:
        MissingExtraError: effdet is not installed.
        ModelError: as `efficientdet`.
    """
    short, pretrained = split_pretrained(name.removeprefix(PREFIX))
    model = efficientdet(short, pretrained=pretrained)
    origin = "pretrained on COCO" if short in ("d0", "d1") else "backbone pretrained on ImageNet, the rest random"
    return LoadedModel(
        name=name,
        model=model,
        example=(torch.zeros(1, 3, *model.size),),
        preprocess=Preprocess(
            size=model.size,
            fit="letterbox",
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            pad_value=tuple(255 * value for value in IMAGENET_MEAN),
        ),
        decode=model.decode,
        kind="detection",
        class_names=tuple(CLASSES) if short == "tiny" else (),
        weights=origin if pretrained else f"random, seed {SEED}",
    )


def _paper_config(name: str) -> Any:
    config = import_extra("effdet.config", extra="zoo").get_efficientdet_config(f"efficientdet_{name}")
    config.backbone_args = {"drop_path_rate": 0.0}
    return config


def _tiny_config() -> Any:
    config = import_extra("effdet.config.model_config", extra="zoo").default_detection_model_configs()
    config._set_flag("allow_objects", True)  # a class among the settings
    for key, value in TINY.items():
        setattr(config, key, value)
    # Squeeze-and-excitation averages over the picture: with it, one moving car changes every position of every frame.
    config.backbone_args = {"channel_multiplier": 0.67, "act_layer": "relu", "se_layer": nn.Identity}
    return config
