"""Which samples a step sees: a new permutation every epoch, cut into batches that do not care where an epoch ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from saccade.errors import TrainingError


class Order:
    """The order of training: a function of length, batch and seed alone.

    The permutations of the epochs stand one behind the other, and step s (from 1) takes places (s - 1) * batch to
    s * batch of that line. So every sample comes once per epoch, none is dropped, and a batch may hold the end of one
    epoch and the beginning of the next.

    Args:
        length: samples in an epoch.
        batch: samples per step, over all processes.
        seed: of the permutations.

    Raises:
        TrainingError: there are no samples.
    """

    def __init__(self, length: int, *, batch: int, seed: int) -> None:
        if length < 1:
            raise TrainingError("the training data has no samples; expected one or more")
        self.length, self.batch, self.seed = length, batch, seed
        self._epochs: dict[int, NDArray[np.int64]] = {}

    def step(self, step: int, *, rank: int = 0, processes: int = 1) -> Sequence[tuple[int, int]]:
        """Returns (epoch, sample) for each place of a step's batch, or of one of `processes` parts of it."""
        share = self.batch // processes
        first = (step - 1) * self.batch + rank * share
        return [self._at(place) for place in range(first, first + share)]

    def _at(self, place: int) -> tuple[int, int]:
        epoch, position = divmod(place, self.length)
        if epoch not in self._epochs:
            rng = np.random.default_rng([self.seed, 1, epoch])
            self._epochs = {e: kept for e, kept in self._epochs.items() if e == epoch - 1}
            self._epochs[epoch] = rng.permutation(self.length)
        return epoch, int(self._epochs[epoch][position])
