"""The networks that come with Saccade."""

from __future__ import annotations

import torch

from saccade.data.actions import CLASSES as ACTIONS
from saccade.data.street_vehicles import CLASSES
from saccade.preprocess import Preprocess
from saccade.zoo.frame_exit import BACKBONES, frame_exit
from saccade.zoo.loaded import LoadedModel
from saccade.zoo.making import IMAGENET_MEAN, IMAGENET_STD
from saccade.zoo.shipped_weights import WEIGHTS_FOLDER, load_weights
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


def load_actions() -> LoadedModel:
    """Returns the shipped FrameExit of surveillance videos, fight or noFight, by what moves in 6 clips of 3 pictures.

    Raises:
        FileFormatError: its weights are missing or damaged.
    """
    model = frame_exit("motion", classes=len(ACTIONS), frames=6, pooling="average")
    load_weights(
        model,
        WEIGHTS_FOLDER / "actions.safetensors",
        of="actions classifier",
        made_by="saccade train recipes/exits.py",
    )
    size = BACKBONES["motion"].size
    return LoadedModel(
        name="actions",
        model=model,
        example=(torch.zeros(1, model.frames, *size),),
        preprocess=Preprocess(size=(size[-2], size[-1]), mean=IMAGENET_MEAN, std=IMAGENET_STD),
        kind="classification",
        class_names=ACTIONS,
        weights="shipped",
        frame_stride=10,  # of live streams: windows of 60 pictures, as long as the clips it learned from
    )
