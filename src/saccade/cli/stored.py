"""Where the calibration of a model is kept, for `run` and `report` to find."""

from __future__ import annotations

import os
import re
from pathlib import Path

from saccade.cli.console import say
from saccade.errors import SaccadeError
from saccade.graph import Plan
from saccade.stream import Calibration

SUFFIX = ".calibration"


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
