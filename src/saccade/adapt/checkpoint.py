"""A training kept in a file, so that a stopped one goes on to the bit."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import torch

from saccade.adapt.fit import Fit


class Checkpoint:
    """The file of one training.

    Args:
        path: the file; None keeps nothing.
        **what: everything that makes it this training and no other, as JSON data.
    """

    def __init__(self, path: Path | None, **what: Any) -> None:
        self.path = path
        self._key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def read(self, fit: Fit) -> float:
        """Sets the training to what was kept and returns the seconds it had taken; 0 where nothing was of this one."""
        if self.path is None or not self.path.is_file():
            return 0.0
        try:
            found = torch.load(self.path, weights_only=True)
            if found["key"] != self._key:
                return 0.0
            state, seconds = found["fit"], float(found["seconds"])
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError):
            return 0.0  # damaged by whatever stopped it: begin anew
        fit.restore(state)
        return seconds

    def write(self, fit: Fit, seconds: float) -> None:
        """Keeps a training; whoever reads meanwhile sees the old or the new, never a part."""
        if self.path is not None:
            part = self.path.with_name(self.path.name + ".part")
            torch.save({"key": self._key, "seconds": seconds, "fit": fit.state()}, part)
            part.replace(self.path)

    def close(self) -> None:
        """Deletes the file: the training has come to its end."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
