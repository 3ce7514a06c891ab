"""A model as the commands that follow a video use it: loaded, planned, and told what was calibrated for it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from saccade.cli.console import progress, say
from saccade.errors import InputError, SaccadeError
from saccade.graph import Plan, make_plan
from saccade.preprocess import Preprocess
from saccade.stream import Calibration
from saccade.zoo import LoadedModel, load_model

SUFFIX = ".calibration"


def load_planned(model: str, preprocess: Path | None) -> tuple[LoadedModel, Plan]:
    """Returns a model by name, and its plan for video frames.

    Args:
        model: as `load_model` takes it.
        preprocess: file with how a frame becomes the input, instead of the model's own.

    Raises:
        SaccadeError: the model cannot be loaded or planned, or does not say how a frame becomes its input.
    """
    with progress(f"loading {model}", None):
        loaded = load_model(model)
    if loaded.weights.startswith("random"):
        say(f"note: {loaded.name} has random weights ({loaded.weights}); its results mean nothing")
    how = loaded.preprocess if preprocess is None else Preprocess.load(preprocess)
    if how is None:
        shapes = ", ".join(str(tuple(value.shape)) for value in loaded.example)
        raise InputError(
            f"{model} does not say how a frame becomes its input {shapes}; give --preprocess FILE.json, as "
            "Preprocess.save writes it"
        )
    with progress(f"planning {model}", None):
        return loaded, make_plan(loaded.model, loaded.example, preprocess=how, name=loaded.name)


def calibration_path(model: str) -> Path:
    """Returns where the calibration of a model is kept: beside a file, else in the user's own folder for Saccade."""
    if Path(model).is_file():
        return Path(model).with_suffix(SUFFIX)
    home = os.environ.get("SACCADE_HOME") or Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "saccade"
    return Path(home).expanduser() / "calibrations" / (re.sub(r"[^\w.@-]+", "-", model) + SUFFIX)


def stored_calibration(model: str, plan: Plan) -> Calibration | None:
    """Returns the calibration kept for a model and says so; None where there is none, or it is of another plan."""
    path = calibration_path(model)
    if not path.is_file():
        return None
    found = Calibration.load(path)
    if found.plan != plan.digest:
        say(f"note: {path} was made for other weights, another input size or preprocess; it is not used")
        return None
    say(f"note: thresholds from {path} ({found.measure} within {found.tolerance:g}); --tolerance overrules them")
    return found


def check_folder(path: Path) -> None:
    """Makes the folder of a file that is to be written; raises SaccadeError where that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaccadeError(f"the folder {path.parent} cannot be made: {error.strerror or error}; give --out") from error
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise SaccadeError(f"{path} cannot be written; give --out FILE in a folder of yours")
