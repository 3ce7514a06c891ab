"""What the measure `left` says: whether who left early was right, and what leaving at another time would have given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from saccade.data.puppets_films import FILM_CLASSES


@dataclass(frozen=True)
class Left:
    """Of one network. Accuracies in percent, NaN where there are no such videos.

    Attributes:
        early, late: accuracy of the videos left after at most half of the T frames, and of the others.
        early_share: share of the videos in `early`, percent.
        lost_earlier: points lost, had each video been left earlier than decided: its answers after fewer frames,
            averaged, against the one given. Videos left after the first frame do not count.
        gained_later: the same with the answers after more frames, as a gain. Videos left after the last do not count.
    """

    early: float
    late: float
    early_share: float
    lost_earlier: float
    gained_later: float


def left(found: Mapping[str, Any]) -> Left:
    """Returns what the measure `left` of a network with one label per video says."""
    frames, right = np.asarray(found["frames"], float), np.asarray(found["right"], float)
    matrix = np.asarray(found["matrix"], float)
    half = len(frames) // 2
    steps = np.arange(len(frames))
    # Right answers of the videos that left after i frames, had they left after fewer or more: a mean over those j.
    earlier = [matrix[i, :i].mean() for i in steps[1:]]
    later = [matrix[i, i + 1 :].mean() for i in steps[:-1]]
    return Left(
        early=_percent(right[:half].sum(), frames[:half].sum()),
        late=_percent(right[half:].sum(), frames[half:].sum()),
        early_share=_percent(frames[:half].sum(), frames.sum()),
        lost_earlier=_percent(right[1:].sum() - sum(earlier), frames[1:].sum()),
        gained_later=_percent(sum(later) - right[:-1].sum(), frames[:-1].sum()),
    )


def by_class(found: Mapping[str, Any]) -> str:
    """Returns the classes of films from few frames to many, with their average precision, in words (Fig. 5)."""
    known = [
        (count, name, precision)
        for count, name, precision in zip(found["class_frames"], FILM_CLASSES, found["ap"], strict=True)
        if count is not None and precision is not None
    ]
    return ", ".join(f"{name} {count:.1f} ({100 * precision:.0f})" for count, name, precision in sorted(known))


def _percent(part: float, whole: float) -> float:
    return float(100 * part / whole) if whole else float("nan")
