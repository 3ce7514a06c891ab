"""A training kept in a file, so that a stopped one goes on to the bit."""

from __future__ import annotations

import pickle

import torch

from saccade.adapt.fit import Fit
from saccade.calibrate.notes import Kept


class Checkpoint(Kept):
    """The file of one training."""

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
        """Keeps a training."""
        self._replace(lambda path: torch.save({"key": self._key, "seconds": seconds, "fit": fit.state()}, path))
