"""Reading batches, in this thread or ahead of it in others: the same batches either way."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from saccade.errors import SaccadeError, TrainingError
from saccade.train.order import Order
from saccade.train.recipe import Recipe, Samples

AHEAD = 2  # batches being read while one is computed with


class Loader:
    """The batches of one process.

    Args:
        recipe: whose augment and collate are used.
        samples: the training data. With workers it is read by several threads at once.
        order: which samples a step sees.
        rank: this process, of `processes`.
        processes: how many share every batch.
        workers: threads that read ahead; 0 reads when asked.
    """

    def __init__(
        self, recipe: Recipe, samples: Samples, order: Order, *, rank: int, processes: int, workers: int
    ) -> None:
        self.recipe, self.samples, self.order = recipe, samples, order
        self.rank, self.processes, self.workers = rank, processes, workers

    def batches(self, first: int) -> Generator[Any]:
        """Yields the batches of steps `first` to the recipe's last.

        Raises:
            TrainingError: a sample cannot be read, augmented or collated; it is named.
        """
        steps = range(first, self.recipe.steps + 1)
        if not self.workers:
            for step in steps:
                yield self._collate([self._sample(*place) for place in self._places(step)])
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="saccade-data")
        waiting: deque[list[Future[Any]]] = deque()
        try:
            for step in steps:
                while len(waiting) <= AHEAD and step + len(waiting) < steps.stop:
                    places = self._places(step + len(waiting))
                    waiting.append([pool.submit(self._sample, *place) for place in places])
                yield self._collate([future.result() for future in waiting.popleft()])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _places(self, step: int) -> list[tuple[int, int]]:
        return list(self.order.step(step, rank=self.rank, processes=self.processes))

    def _sample(self, epoch: int, index: int) -> Any:
        try:
            sample = self.samples[index]
            if self.recipe.augment is not None:
                sample = self.recipe.augment(sample, np.random.default_rng([self.order.seed, 2, epoch, index]))
        except Exception as error:
            raise TrainingError(
                f"sample {index} of {self.order.length} cannot be made: {type(error).__name__}: {error}"
            ) from error
        return sample

    def _collate(self, samples: list[Any]) -> Any:
        try:
            return self.recipe.collate(samples)
        except SaccadeError:
            raise
        except Exception as error:
            raise TrainingError(f"collate failed: {type(error).__name__}: {error}") from error
