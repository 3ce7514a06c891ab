"""How sure a few samples make one of their mean, and when they show that it has risen, whatever their distribution.

Errors of parts of frames are few and skewed: most are near 0, some are large. What is claimed here rests on bets
(Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSSB 2024): someone who stakes a
share of the money on every sample being over m, at odds fair for a mean of m, does not gain on average. All that needs
is samples of at least 0 whose mean, given those before, is at most m; they may depend on one another and be skewed.

- The lower end of the interval: who starts with 1 ends by Markov's inequality with 1 / alpha or more with a probability
  of at most alpha. The lower end is the largest m for which that much was made.
- The alarm: somebody new begins to bet at every sample. Without a rise they hold together as much as there were
  samples, on average, so the mean number of samples until they hold 1 / alpha is at least 1 / alpha: at most a share
  alpha of samples raises a false alarm (Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for
  sequential change detection", NEJSDS 2024; the e-SR detector). Who begins at the rise has lost nothing before it.
- The upper end has no such guarantee: nothing says how large a sample that was not seen may be. It is a bootstrap-t
  (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 12.5), as skewed as what was seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

STAKES = np.array([1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8])  # shares of the money, all tried
RESAMPLES = 2000

Floats = npt.NDArray[np.float64]


def log_evidence(samples: npt.ArrayLike, mean: float) -> Floats:
    """Returns ln of the money made by betting that the mean is over `mean`, on average over the stakes.

    Args:
        samples: (..., n), at least 0.
        mean: over 0; what the mean is at most if there is nothing to be won.
    """
    ratio = np.asarray(samples, dtype=np.float64)[..., None, :] / mean
    stakes = STAKES[:, None]
    logs: Floats = np.log1p(stakes * (ratio - 1)).sum(-1)
    top = logs.max(-1)
    return np.where(np.isinf(top), top, top + np.log(np.exp(logs - top[..., None]).mean(-1)))


def lower_end(samples: Sequence[float], confidence: float) -> float:
    """Returns the largest number the mean of samples is over at this confidence; 0 where there is none.

    With a probability of at least `confidence` it is at most the true mean.
    """
    largest = max(samples, default=0.0)
    if largest == 0 or math.isinf(largest):
        return largest
    needed = -math.log1p(-confidence)
    low, high = largest, largest
    while log_evidence(samples, low) < needed:
        low, high = low / 2, low
        if low < largest * 1e-12:
            return 0.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if log_evidence(samples, middle) >= needed else (low, middle)
    return low


def upper_end(samples: Sequence[float], confidence: float) -> float:
    """Returns what the mean of samples is under, at about this confidence; infinity where they do not tell.

    Two or more samples that differ are needed. The same samples give the same number.
    """
    values = np.asarray(samples, dtype=np.float64)
    count = len(values)
    if count < 2 or not np.isfinite(values).all() or np.ptp(values) == 0:
        return math.inf
    mean, spread = values.mean(), values.std(ddof=1)
    drawn = values[np.random.default_rng(0).integers(count, size=(RESAMPLES, count))]
    means, spreads = drawn.mean(1), drawn.std(1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        students = np.where(means == mean, 0.0, (means - mean) / spreads)  # infinite where all drawn are one sample
    lowest = float(np.quantile(students, 1 - confidence, method="lower"))
    return float(mean - lowest * spread)


class Alarm:
    """Watches samples for a mean over a bound; false alarms are at most a share 1 - confidence of the samples.

    Args:
        bound: what the mean is at most while nothing is wrong; at least 0.
        confidence: between 0 and 1.
    """

    def __init__(self, bound: float, confidence: float) -> None:
        self.bound, self.enough = bound, 1 / (1 - confidence)
        self._held = np.zeros(len(STAKES))

    def add(self, sample: float) -> bool:
        """Takes the next sample, at least 0; returns whether it raises the alarm, after which watching starts anew."""
        if self.bound == 0:
            return sample > 0
        self._held = (1 + self._held) * (1 + STAKES * (sample / self.bound - 1))
        raised = bool(self._held.mean() >= self.enough)
        if raised:
            self._held = np.zeros(len(STAKES))
        return raised
