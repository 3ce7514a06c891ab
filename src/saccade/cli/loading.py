"""What commands on a video begin with: a model, its preprocess, its plan, and what the video is called."""

from __future__ import annotations

import re
from pathlib import Path

from saccade.cli.console import progress, say
from saccade.errors import InputError
from saccade.graph import Plan, make_plan
from saccade.preprocess import Preprocess
from saccade.zoo import LoadedModel, load_model


def load_planned(model: str, *, preprocess: Path | None) -> tuple[LoadedModel, Plan]:
    """Returns a model by name and its plan, which knows how a frame becomes the input; notes random weights.

    Raises:
        SaccadeError: the model or the preprocess cannot be used, or nothing says how a frame becomes the input.
    """
    loaded = load_noted(model)
    return loaded, plan_of(loaded, preprocess=preprocess)


def plan_of(loaded: LoadedModel, *, preprocess: Path | None) -> Plan:
    """Returns a model's plan, as `load_planned`."""
    how = find_preprocess(loaded, preprocess)
    with progress(f"planning {loaded.name}", None):
        return make_plan(loaded.model, loaded.example, preprocess=how, name=loaded.name)


def load_noted(model: str) -> LoadedModel:
    """Returns a model by name; notes random weights. Raises SaccadeError where it cannot be used."""
    with progress(f"loading {model}", None):
        loaded = load_model(model)
    if loaded.weights.startswith("random"):
        say(f"note: {loaded.name} has random weights ({loaded.weights}); its results mean nothing")
    return loaded


def is_of_clips(loaded: LoadedModel) -> bool:
    """Returns whether a model takes clips (1, C, T, H, W) one by one; raises InputError for clips in another layout."""
    shapes = [tuple(value.shape) for value in loaded.example]
    if len(shapes) != 1 or len(shapes[0]) != 5:
        return False
    if shapes[0][0] != 1 or shapes[0][1] not in (1, 3):
        raise InputError(
            f"{loaded.name} takes {shapes[0]}; run makes pictures (1, C, H, W) or clips (1, C, T, H, W) with 1 or 3 "
            "channels of a video. Call the network from Python, with saccade.Engine or saccade.Stream"
        )
    return True


def find_preprocess(loaded: LoadedModel, path: Path | None) -> Preprocess:
    """Returns how a frame becomes the model's input: as a file says, else the model itself.

    Raises:
        FileFormatError: the file cannot be read.
        InputError: neither says it.
    """
    how = loaded.preprocess if path is None else Preprocess.load(path)
    if how is None:
        shapes = ", ".join(str(tuple(value.shape)) for value in loaded.example)
        raise InputError(
            f"{loaded.name} does not say how a frame becomes its input {shapes}; give --preprocess FILE.json, as "
            "Preprocess.save writes it"
        )
    return how


def video_source(video: str) -> str | int:
    """Returns what `read_video` takes: the number of a camera, unless a file is called so."""
    return int(video) if video.isdecimal() and not Path(video).exists() else video


def shown_name(video: str) -> str:
    """Returns the video's name without the password that a camera's address may hold."""
    return re.sub(r"//[^/@]*@", "//", video)


def frames_to_run(estimate: int | None, limit: int | None) -> int | None:
    """Returns how many frames are to come, for a bar of progress; None where nobody knows."""
    return estimate if limit is None else min(limit, estimate or limit)
