"""Where a plot's labels go: beside what they name, over nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Box = tuple[float, float, float, float]  # left, bottom, right, top

# Where a label may stand beside a point: how much of its own width and height its lower left corner is from there, and
# in which direction the gap is added.
_SIDES = (
    *(((0.0, -0.5), (1, 0)), ((-1.0, -0.5), (-1, 0))),
    *(((across, up), (0, 1 if up == 0 else -1)) for up in (0.0, -1.0) for across in (-0.5, -0.25, -0.75)),
    *(((0.0, 0.0), (1, 1)), ((0.0, -1.0), (1, -1)), ((-1.0, 0.0), (-1, 1)), ((-1.0, -1.0), (-1, -1))),
)


def place_labels(
    lines: Sequence[Points],
    sizes: Sequence[tuple[float, float]],
    *,
    within: Box,
    others: Sequence[Points] = (),
    gap: float = 5.0,
) -> list[Box]:
    """Returns a box for the label of each line, all in pixels, y upward.

    A label stands beside its own line, close to a point and near the line's end if it can, where it covers no line and
    no other label and stays within the axes. Where there is no such place, it stands where it covers least.

    Args:
        lines: the points of each line, (P, 2) each, at least one.
        sizes: width and height of each label.
        within: where labels may stand.
        others: more lines that labels should not cover.
        gap: between a line and its label, at least.
    """
    traces = [_filled_in(line, 3.0) for line in (*lines, *others)]
    placed: list[Box] = []
    for index, (width, height) in enumerate(sizes):
        best: tuple[float, Box] | None = None
        for rank, (x, y) in enumerate(_filled_in(lines[index], 25.0)[::-1]):
            for far, ((across, up), (right, above)) in itertools.product((1.0, 2.0, 3.5), _SIDES):
                left, bottom = x + across * width + right * far * gap, y + up * height + above * far * gap
                box = (left, bottom, left + width, bottom + height)
                cost = 0.1 * far + 0.02 * rank + _outside(box, within)
                cost += sum(100 * _overlap(box, other) for other in placed)
                cost += 20 * sum(_inside(trace, _grown(box, 2.0)) for trace in traces)
                between = _between(x, y, box)  # no other line runs between a line and its label
                cost += 2 * sum(_inside(trace, between) for i, trace in enumerate(traces) if i != index)
                if best is None or cost < best[0]:
                    best = (cost, box)
        assert best is not None
        placed.append(best[1])
    return placed


def spread(centres: Sequence[float], height: float, *, low: float, high: float) -> list[float]:
    """Returns the centres moved apart to at least `height` between neighbours, in the same order, as little as needed.

    They stay between low and high where there is room.
    """
    order = sorted(range(len(centres)), key=lambda i: centres[i])
    groups: list[list[float]] = []  # sum of the centres the members want for the group's first, and how many they are
    for rank, index in enumerate(order):
        groups.append([centres[index] - rank * height, 1.0])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            total, count = groups.pop()
            groups[-1][0] += total
            groups[-1][1] += count
    firsts = [total / count for total, count in groups for _ in range(int(count))]
    top = max(high - (len(centres) - 1) * height, low)
    moved = [0.0] * len(centres)
    for rank, index in enumerate(order):
        moved[index] = min(max(firsts[rank], low), top) + rank * height
    return moved


def _filled_in(line: Points, step: float) -> Points:
    """Returns the line's points and others between them, in order, at most `step` apart."""
    parts = [line[:1]]
    for start, end in itertools.pairwise(line):
        count = int(np.hypot(*(end - start)) // step) + 1
        parts.append(start + (end - start) * np.arange(1, count + 1)[:, None] / count)
    return np.concatenate(parts)


def _inside(points: Points, box: Box) -> int:
    left, bottom, right, top = box
    x, y = points[:, 0], points[:, 1]
    return int(((x > left) & (x < right) & (y > bottom) & (y < top)).sum())


def _between(x: float, y: float, box: Box) -> Box:
    """Returns the rectangle between a point and the nearest point of a box."""
    near_x, near_y = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
    return _grown((min(x, near_x), min(y, near_y), max(x, near_x), max(y, near_y)), 1.5)


def _overlap(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def _outside(box: Box, within: Box) -> float:
    over = (within[0] - box[0], within[1] - box[1], box[2] - within[2], box[3] - within[3])
    return 1000 * sum(max(part, 0.0) for part in over)


def _grown(box: Box, by: float) -> Box:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by
