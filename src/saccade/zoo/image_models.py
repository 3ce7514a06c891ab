"""Networks by the names timm and effdet give them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import partial
from typing import Any, get_args

import torch

from saccade.errors import ModelError
from saccade.preprocess import Fit, Interpolation, Preprocess
from saccade.zoo.effdet_boxes import decode_effdet
from saccade.zoo.loaded import LoadedModel
from saccade.zoo.making import IMAGENET_MEAN, IMAGENET_STD, PRETRAINED, create, split_pretrained, weights_origin
from saccade.zoo.torchvision_repair import import_extra

KNOWN = get_args(Interpolation)


def load_timm(name: str) -> LoadedModel:
    """Returns the timm network `timm:NAME` with random weights, or with downloaded ones (`@pretrained`).

    Input size and preprocess are those timm evaluates the network with.

    Raises:
        MissingExtraError: timm is not installed.
        ModelError: timm has no such network, it takes no picture, or its weights cannot be downloaded.
    """
    timm = import_extra("timm", extra="zoo")
    architecture, pretrained = split_pretrained(name.removeprefix("timm:"))
    if not timm.is_model(architecture):
        raise ModelError(_unknown(name, architecture, timm.list_models(), library="timm"))
    model = create(name, pretrained, lambda: timm.create_model(architecture, pretrained=pretrained), library="timm")
    settings = timm.data.resolve_data_config(getattr(model, "pretrained_cfg", {}))
    channels, height, width = settings["input_size"]
    preprocess = None
    if channels == 3:
        preprocess = _timm_preprocess(settings)
    return LoadedModel(
        name=name,
        model=model,
        example=(torch.zeros(1, channels, height, width),),
        preprocess=preprocess,
        kind="classification",
        weights=weights_origin(pretrained),
    )


def load_effdet(name: str) -> LoadedModel:
    """Returns the EfficientDet `effdet:NAME` (or `effdet:NAME@pretrained`): body, pyramid and heads.

    Its outputs are two lists with one map per level, class logits `(1, anchors * classes, h, w)` and box offsets
    `(1, anchors * 4, h, w)`; `decode` turns them into boxes.

    Raises:
        MissingExtraError: effdet is not installed.
        ModelError: effdet has no such network, or its weights cannot be downloaded.
    """
    effdet = import_extra("effdet", extra="zoo")
    architecture, pretrained = split_pretrained(name.removeprefix("effdet:"))
    known = import_extra("effdet.config", extra="zoo").model_config.efficientdet_model_param_dict
    if architecture not in known:
        raise ModelError(_unknown(name, architecture, known, library="effdet"))
    model = create(
        name,
        pretrained,
        lambda: effdet.create_model(architecture, bench_task="", pretrained=pretrained, pretrained_backbone=False),
        library="effdet",
    )
    config = model.config
    height, width = (int(size) for size in config.image_size)
    mean = tuple(config.get("mean", IMAGENET_MEAN))
    size, classes = (height, width), int(config.num_classes)
    anchors = import_extra("effdet.anchors", extra="zoo").Anchors.from_config(config).boxes
    return LoadedModel(
        name=name,
        model=model,
        example=(torch.zeros(1, 3, height, width),),
        preprocess=Preprocess(
            size=size,
            fit="letterbox",
            mean=mean,
            std=tuple(config.get("std", IMAGENET_STD)),
            pad_value=tuple(255 * value for value in mean),
        ),
        decode=partial(decode_effdet, anchors=anchors, classes=classes, size=size),
        kind="detection",
        weights=weights_origin(pretrained),
    )


def _timm_preprocess(settings: dict[str, Any]) -> Preprocess:
    """Returns what timm does to a picture: crops its centre, squashes it or pads it."""
    _, height, width = settings["input_size"]
    fits: dict[str, Fit] = {"squash": "resize", "border": "letterbox"}
    fit = fits.get(settings.get("crop_mode", "center"), "crop")
    return Preprocess(
        size=(height, width),
        fit=fit,
        crop_fraction=settings.get("crop_pct", 1.0) if fit == "crop" else 1.0,
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        interpolation=settings["interpolation"] if settings["interpolation"] in KNOWN else "bilinear",
    )


def _unknown(name: str, architecture: str, known: Iterable[str], *, library: str) -> str:
    near = difflib.get_close_matches(architecture, list(known), n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(f'{library}:{other}' for other in near)}? " if near else ""
    return (
        f"{name}: {library} has no network {architecture!r}. {hint}"
        f"Expected {library}:NAME or {library}:NAME{PRETRAINED}."
    )
