"""Models by name, each with an example input, its preprocess and, where it detects, its decoding."""

from __future__ import annotations

import difflib
from pathlib import Path

from saccade.errors import ModelError
from saccade.zoo.loaded import LoadedModel

__all__ = ["LoadedModel", "load_model"]

NAMES = (
    "street-detector",
    "timm:NAME",
    "timm:NAME@pretrained",
    "effdet:NAME",
    "effdet:NAME@pretrained",
    "hrnet-pose:WIDTH",
    "efficientdet:NAME",
    "tsn:BACKBONE",
    "FILE.pt2",
    "package.module:factory",
)


def load_model(name: str) -> LoadedModel:
    """Returns the model called `name`.

    Names:
        street-detector: the detector that comes with Saccade, trained on rendered streets.
        timm:NAME, effdet:NAME: a network of those libraries with random weights (the same every time); with
            `@pretrained` behind it, with the weights they download.
        hrnet-pose:WIDTH: HRNet with a pose head; tiny, small, w18, w32, w48, the last three also `@pretrained`.
        efficientdet:NAME: EfficientDet for training; tiny, d0, d1, d2, d3, the latter also `@pretrained`.
        tsn:BACKBONE: a temporal segment network for JHMDB's 21 actions; tiny, resnet18, resnet50, resnet101, the
            latter also `@pretrained`.
        FILE.pt2: a program written by `torch.export.save`.
        package.module:factory: a function of yours, found from the current folder too, that takes nothing and
            returns a `LoadedModel` or a pair (model, example).

    Raises:
        ModelError: there is no such model, or it cannot be made.
        FileFormatError: the file is missing, damaged, or no exported program.
        MissingExtraError: timm or effdet is not installed.
    """
    if name == "street-detector":
        from saccade.zoo.shipped import load_street_detector

        return load_street_detector()
    if name.startswith("timm:"):
        from saccade.zoo.image_models import load_timm

        return load_timm(name)
    if name.startswith("effdet:"):
        from saccade.zoo.image_models import load_effdet

        return load_effdet(name)
    if name.startswith("hrnet-pose:"):
        from saccade.zoo.hrnet_pose import load_hrnet_pose

        return load_hrnet_pose(name)
    if name.startswith("efficientdet:"):
        from saccade.zoo.efficientdet import load_efficientdet

        return load_efficientdet(name)
    if name.startswith("tsn:"):
        from saccade.zoo.tsn import load_tsn

        return load_tsn(name)
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
