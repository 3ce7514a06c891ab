"""The pictures of a report, kept while a video runs: few, whatever its length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from saccade.evaluate.measure import Observation
from saccade.evaluate.video_report import FrameRow
from saccade.report.outputs import Picture, SideBySide, as_jpeg, shrink, side_by_side
from saccade.report.overlay import tint_computed

if TYPE_CHECKING:
    from saccade.stream import Stream
    from saccade.zoo import LoadedModel

KEY_FRAMES, WORST_FRAMES = 12, 4
SPREAD, PEAKS = 32, 4  # candidates for key frames: evenly over time, and of each extreme
APART = 8  # frames from one of the worst to another, so that one bad moment is shown once
MOMENTS = 3 * WORST_FRAMES  # held while it runs: each that is chosen rules out its two neighbours at most
QUANTILES = {0.0: "least computed", 0.5: "median cost", 1.0: "most computed"}


@dataclass(frozen=True)
class KeyFrame:
    """A frame tinted where it was recomputed, as a JPEG file, and why it was chosen ("" for its time alone)."""

    index: int
    why: str
    jpeg: bytes


@dataclass(frozen=True, eq=False)
class WorstFrame:
    """One of the frames furthest from the dense result, drawn side by side."""

    row: FrameRow
    drawn: SideBySide


class Album:
    """Collects key frames and the worst frames of one stream.

    Args:
        loaded: the model; what it is decides how its results are drawn.
        stream: the stream that runs.
    """

    def __init__(self, loaded: LoadedModel, stream: Stream) -> None:
        self._loaded, self._stream = loaded, stream
        self._rows: list[tuple[int, float]] = []  # of every frame: index and share of the macs
        self._stride = 1
        self._pictures: dict[int, bytes] = {}
        self._peaks: dict[str, dict[int, float]] = {"most": {}, "least": {}, "jump": {}}
        self._worst: dict[int, WorstFrame] = {}  # by moment, of `APART` frames each

    def add(self, seen: Observation) -> None:
        """Takes a frame in, right after the stream ran it."""
        row, picture = seen.row, seen.frame.data
        self._consider_key(row, picture)
        if row.index:  # the first is computed whole
            self._consider_worst(seen, picture)

    @property
    def worst(self) -> tuple[WorstFrame, ...]:
        """The frames furthest from the dense result and `APART` frames from one another, the furthest first."""
        chosen: list[WorstFrame] = []
        for frame in sorted(self._worst.values(), key=lambda frame: badness(frame.row), reverse=True):
            near = any(abs(frame.row.index - other.row.index) < APART for other in chosen)
            if not near and len(chosen) < WORST_FRAMES:
                chosen.append(frame)
        return tuple(chosen)

    def key_frames(self) -> tuple[KeyFrame, ...]:
        """Returns frames that show what a stream does: the first, quantiles of cost, the largest jump, and spread."""
        if not self._pictures:
            return ()
        cost = dict(self._rows)
        why: dict[int, str] = {0: "first frame, computed whole"}
        later = sorted((index for index in self._pictures if index), key=lambda index: cost[index])
        if later:
            jumps = self._peaks["jump"]
            costs = [fraction for index, fraction in self._rows if index]
            for quantile, name in QUANTILES.items():
                away = {index: abs(cost[index] - float(np.quantile(costs, quantile))) for index in later}
                why.setdefault(min(later, key=lambda index: away[index]), name)
            if jumps:
                why.setdefault(max(jumps, key=lambda index: jumps[index]), "largest change of cost")
        while len(why) < min(KEY_FRAMES, len(self._pictures)):
            free = [index for index in self._pictures if index not in why]
            why[max(free, key=lambda index: min(abs(index - other) for other in why))] = ""
        return tuple(KeyFrame(index, why[index], self._pictures[index]) for index in sorted(why))

    def _consider_key(self, row: FrameRow, picture: Picture) -> None:
        fraction, index = row.macs_fraction, row.index
        before = self._rows[-1][1] if self._rows else fraction
        self._rows.append((index, fraction))
        kept = index % self._stride == 0
        if index:
            extremes = {"most": fraction, "least": -fraction, "jump": abs(fraction - before) if index > 1 else 0.0}
            kept = sum([_enter(self._peaks[name], index, value) for name, value in extremes.items()]) > 0 or kept
        if not kept:
            return
        tinted = tint_computed(shrink(picture).astype(np.float32), self._stream)
        self._pictures[index] = as_jpeg(tinted.round().clip(0, 255).astype(np.uint8))
        if index // self._stride >= SPREAD:
            self._stride *= 2
        peaks = {index for each in self._peaks.values() for index in each}
        self._pictures = {
            index: jpeg for index, jpeg in self._pictures.items() if index % self._stride == 0 or index in peaks
        }

    def _consider_worst(self, seen: Observation, picture: Picture) -> None:
        moment, bad = seen.row.index // APART, badness(seen.row)
        held = self._worst.get(moment)
        if held is not None and badness(held.row) >= bad:
            return
        if held is None and len(self._worst) >= MOMENTS:
            least = min(self._worst, key=lambda other: badness(self._worst[other].row))
            if badness(self._worst[least].row) >= bad:
                return
            del self._worst[least]
        drawn = side_by_side(picture, seen.dense, seen.outputs, self._loaded, self._stream)
        self._worst[moment] = WorstFrame(seen.row, drawn)


def badness(row: FrameRow) -> tuple[float, float]:
    """Returns what frames are ranked by: boxes that do not match, then the relative error; NaN is the worst."""
    error = row.near.relative_error
    if error is None or math.isnan(error):
        error = math.inf
    return 1 - (1.0 if row.near.f1 is None else row.near.f1), error


def _enter(best: dict[int, float], index: int, value: float) -> bool:
    """Puts an index among the largest values; returns whether it got in."""
    if len(best) >= PEAKS:
        least = min(best, key=lambda other: best[other])
        if best[least] >= value:
            return False
        del best[least]
    best[index] = value
    return True
