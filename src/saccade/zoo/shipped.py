"""The networks that come with Saccade."""

from __future__ import annotations

from pathlib import Path

import torch

from saccade.data.actions import CLASSES as ACTIONS
from saccade.data.street_vehicles import CLASSES
from saccade.errors import FileFormatError
from saccade.preprocess import Preprocess
from saccade.zoo.loaded import LoadedModel
from saccade.zoo.making import IMAGENET_MEAN, IMAGENET_STD
from saccade.zoo.street_detector import decode, street_detector

SIZE = (256, 448)  # (height, width) it was trained on
ACTIONS_SIZE = (112, 112)
ACTIONS_WEIGHTS = Path(__file__).parent / "weights" / "actions.safetensors"


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
    """Returns the shipped FrameExit for surveillance clips of about two seconds, a fight or none.

    Trained by `recipes/exits.py` with data=actions on 180 clips; what it reached on 60 others is in the record beside
    its weights. Its example is a video, (1, 10, 3, 112, 112).

    Raises:
        FileFormatError: its weights are missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from saccade.zoo.frame_exit import frame_exit_of

    try:
        state = load_file(ACTIONS_WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise FileFormatError(
            f"the weights of actions, {ACTIONS_WEIGHTS}, cannot be read: {error}; install Saccade again"
        ) from error
    model = frame_exit_of("tiny", state, {})
    model.load_state_dict(state)
    return LoadedModel(
        name="actions",
        model=model.eval(),
        example=(torch.zeros(1, model.frames, 3, *ACTIONS_SIZE),),
        preprocess=Preprocess(size=ACTIONS_SIZE, mean=IMAGENET_MEAN, std=IMAGENET_STD),
        kind="classification",
        class_names=ACTIONS,
        weights="shipped",
    )
