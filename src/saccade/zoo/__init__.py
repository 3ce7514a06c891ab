"""Models by name, each with an example input, its preprocess and, where it detects, its decoding."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from pathlib import Path

from saccade.errors import ModelError
from saccade.zoo.loaded import LoadedModel

__all__ = ["LoadedModel", "load_model"]

NAMES = (
    "street-detector",
    "actions",
    "timm:NAME",
    "timm:NAME@pretrained",
    "effdet:NAME",
    "effdet:NAME@pretrained",
    "hrnet-pose:WIDTH",
    "efficientdet:NAME",
    "tsn:BACKBONE",
    "r2plus1d:VARIANT",
    "i3d:VARIANT",
    "x3d:VARIANT",
    "tpn:VARIANT",
    "corrnet:VARIANT",
    "yowo:VARIANT",
    "pspnet:VARIANT",
    "frameexit:BACKBONE",
    "FILE.pt2",
    "package.module:factory",
)
SHIPPED = {"street-detector": "load_street_detector", "actions": "load_actions"}  # functions of `saccade.zoo.shipped`
# What stands before the colon: the module of this package that knows such names, imported when one is asked for, and
# its function that takes the whole name.
LOADERS = {
    "timm": ("image_models", "load_timm"),
    "effdet": ("image_models", "load_effdet"),
    "hrnet-pose": ("hrnet_pose", "load_hrnet_pose"),
    "efficientdet": ("efficientdet", "load_efficientdet"),
    "tsn": ("tsn", "load_tsn"),
    "r2plus1d": ("r2plus1d", "load_r2plus1d"),
    "i3d": ("i3d", "load_i3d"),
    "x3d": ("x3d", "load_x3d"),
    "tpn": ("tpn", "load_tpn"),
    "corrnet": ("corrnet", "load_corrnet"),
    "yowo": ("yowo", "load_yowo"),
    "pspnet": ("pspnet", "load_pspnet"),
    "frameexit": ("frame_exit", "load_frame_exit"),
}


def load_model(name: str) -> LoadedModel:
    """Returns the model called `name`.

    Names:
        street-detector: the detector that comes with Saccade, trained on rendered streets.
        actions: the FrameExit that comes with Saccade: fights in clips of surveillance cameras, by what moves.
        timm:NAME, effdet:NAME: a network of those libraries with random weights (the same every time); with
            `@pretrained` behind it, with the weights they download.
        hrnet-pose:WIDTH: HRNet with a pose head; tiny, small, w18, w32, w48, the last three also `@pretrained`.
        efficientdet:NAME: EfficientDet for training; tiny, d0, d1, d2, d3, the latter also `@pretrained`.
        tsn:BACKBONE: a temporal segment network for JHMDB's 21 actions; tiny, resnet18, resnet50, resnet101, the
            latter also `@pretrained`.
        r2plus1d:VARIANT, i3d:VARIANT, x3d:VARIANT: classifiers of clips; 18 (also `@pretrained`), inceptionv2, m and s,
            and tiny of each.
        tpn:VARIANT, corrnet:VARIANT: R(2+1)D, 18 or tiny, with a pyramid over time or with correlations of frames.
        yowo:VARIANT: actors and their actions in a clip's last frame; i3d, x3d, i3d-tiny, x3d-tiny.
        pspnet:VARIANT: a class per pixel; resnet18, tiny.
        frameexit:BACKBONE: a classifier of videos that can answer after each frame, or clip; tiny, resnet50,
            efficientnet-b3, mobilenetv3-small, shufflenetv2 (all but tiny also `@pretrained`), x3d-s,
            x3d-tiny, motion.
        FILE.pt2: a program written by `torch.export.save`.
        package.module:factory: a function of yours, found from the current folder too, that takes nothing and
            returns a `LoadedModel` or a pair (model, example).

    Raises:
        ModelError: there is no such model, or it cannot be made.
        FileFormatError: the file is missing, damaged, or no exported program.
        MissingExtraError: timm, effdet or torchvision is not installed.
    """
    if name in SHIPPED:
        shipped: Callable[[], LoadedModel] = getattr(importlib.import_module("saccade.zoo.shipped"), SHIPPED[name])
        return shipped()
    prefix, colon, _ = name.partition(":")
    if colon and prefix in LOADERS:
        module, function = LOADERS[prefix]
        loader: Callable[[str], LoadedModel] = getattr(importlib.import_module(f"saccade.zoo.{module}"), function)
        return loader(name)
    if name.endswith(".pt2") or Path(name).is_file():
        from saccade.zoo.programs import load_program_file

        return load_program_file(name)
    module, colon, attribute = name.partition(":")
    if colon and attribute.isidentifier() and all(part.isidentifier() for part in module.split(".")):
        from saccade.zoo.factory import load_from_factory

        return load_from_factory(name)
    raise ModelError(_unknown(name))


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]}?" if near else ""
    if name.isidentifier() and not near:
        hint = f" A timm network is called timm:{name}."
    return f"there is no model {name!r}; expected one of: {', '.join(NAMES)}.{hint}"
