"""Where the values of an engine lie: one over the other, where they are never needed at the same time.

A stream keeps every value for the next frame. Where inputs have nothing to do with one another, a value is needed from
the step that makes it to the last that reads it, and the memory of one pass is that of the values alive at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from saccade.graph.plan import Plan
from saccade.stream.native.pages import LINE


class Life(NamedTuple):
    """The steps over which a buffer is needed, by number, the first and the last included."""

    first: int
    last: int


def lives(plan: Plan, buffers: dict[str, int]) -> list[Life]:
    """Returns how long each buffer is needed for one pass over a plan.

    Args:
        plan: the plan.
        buffers: by value, the number of the buffer it lies in, maybe with others.
    """
    count = max(buffers.values(), default=-1) + 1
    first, last = [len(plan.steps)] * count, [-1] * count

    def needed(name: str, at: int) -> None:
        number = buffers[name]
        first[number], last[number] = min(first[number], at), max(last[number], at)

    for row, step in enumerate(plan.steps):
        for name in (*step.inputs, *step.outputs):
            needed(name, row)
    for ref in plan.outputs:
        if ref.name in buffers:
            needed(ref.name, len(plan.steps))
    return [Life(*life) for life in zip(first, last, strict=True)]


def places(sizes: Sequence[int], alive: Sequence[Life]) -> tuple[list[int], int]:
    """Returns where each buffer begins, and the bytes of all: no two that are alive at one step share a byte.

    The largest are placed first, each as low as it fits. All begin a cache line.

    Args:
        sizes: of the buffers, in bytes.
        alive: how long each is needed.
    """
    rounded = [-(-size // LINE) * LINE for size in sizes]
    begins, ends = np.zeros(len(sizes), np.int64), np.zeros(len(sizes), np.int64)
    first, last = (np.array([life[k] for life in alive], np.int64) for k in (0, 1))
    placed = np.zeros(len(sizes), bool)
    for number in sorted(range(len(sizes)), key=lambda k: (-rounded[k], k)):
        beside = placed & (first <= last[number]) & (last >= first[number])
        order = np.argsort(begins[beside], kind="stable")
        begin = 0
        for other, end in zip(begins[beside][order].tolist(), ends[beside][order].tolist(), strict=True):
            if other - begin >= rounded[number]:
                break
            begin = max(begin, end)
        begins[number], ends[number], placed[number] = begin, begin + rounded[number], True
    return begins.tolist(), int(ends.max(initial=0))
