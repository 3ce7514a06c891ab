"""The network that comes with Saccade."""

from __future__ import annotations

import torch

from saccade.data.street_vehicles import CLASSES
from saccade.preprocess import Preprocess
from saccade.zoo.loaded import LoadedModel
from saccade.zoo.street_detector import decode, street_detector

SIZE = (256, 448)  # (height, width) it was trained on


def load_street_detector() -> LoadedModel:
    """Returns the shipped street detector: pictures (1, 3, 256, 448), RGB in 0..1, to vehicles.

    Raises:
        FileFormatError: its weights are missing or damaged.
    """
    return LoadedModel(
        name="street-detector",
        model=street_detector(),
        example=(torch.zeros(1, 3, *SIZE),),
        preprocess=Preprocess(size=SIZE, channels="rgb"),
        decode=decode,
        kind="detection",
        class_names=tuple(CLASSES),
        weights="shipped",
    )
