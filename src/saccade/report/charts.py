"""Charts as HTML: lines stretch with the window, while text and marks keep their size. Colours come from the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from saccade.report.markup import Markup, tag

LABEL = (0.22, 0.085)  # width and height of a mark's label, as shares of a plane
GAP = 0.06  # of the axis, kept free at the ends of a logarithmic one


@dataclass(frozen=True)
class Axis:
    """Where numbers lie on an axis, 0..1 from its start, and which of them are written beside it."""

    label: str
    place: Callable[[float], float]
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Mark:
    """A point of a plane, with what is written beside it, what hovering says, and its class in the style sheet."""

    x: float
    y: float
    label: str
    says: str
    look: str


@dataclass(frozen=True)
class Line:
    """Points joined by a line, with its class in the style sheet."""

    points: tuple[tuple[float, float], ...]
    look: str


@dataclass(frozen=True)
class Level:
    """A line across a plane at one height, with what is written on it."""

    y: float
    label: str
    look: str


def percent(share: float) -> str:
    """Returns a share in percent, three digits; neither none nor all where it is not quite that."""
    if not math.isfinite(share):
        return str(share)
    if 0 < share < 5e-5:
        return "<0.01 %"
    if 0.9995 <= share < 1:
        return "99.9 %"
    return f"{100 * share:.3g} %" if share < 9.995 else f"{100 * share:,.0f} %"


def log_axis(
    values: Sequence[float],
    label: str,
    *,
    write: Callable[[float], str],
    least: float,
    most: float = math.inf,
    falling: bool = False,
    end: str = "",
) -> Axis:
    """Returns a logarithmic axis over the positive values.

    Args:
        values: what has to have a place; 0 and what is under `least` lies at the end, where `end` is written.
        label: the axis's name.
        write: a tick's number in words.
        least: nothing smaller is told apart.
        most: the largest number on the axis.
        falling: large numbers first.
        end: what is written at the place of 0; "" where that does not occur.
    """
    positive = [min(value, most) for value in values if math.isfinite(value) and value > least]
    top, bottom = max(positive, default=1.0), min(positive, default=0.001)
    low, high = math.log10(bottom), math.log10(top)
    if high - low < 0.5:
        low, high = low - 0.25, min(high + 0.25, math.log10(most))
    zero = bool(end) and any(value <= least for value in values)
    start = 3 * GAP if zero else GAP

    def place(value: float) -> float:
        if value <= least:
            share = GAP if zero else 0.0
        else:
            logarithm = min(max(math.log10(min(value, most)), low), high)
            share = start + (1 - start - GAP) * (logarithm - low) / (high - low)
        return 1 - share if falling else share

    ticks = [(place(value), write(value)) for value in _round_numbers(low, high)]
    if zero:
        ticks.append((place(0.0), end))
    return Axis(label, place, tuple(sorted(ticks)))


def plane(
    x: Axis, y: Axis, *, lines: Sequence[Line], levels: Sequence[Level], marks: Sequence[Mark], name: str
) -> Markup:
    """Returns a chart of marks, lines and levels; `name` says to a screen reader what it is."""
    drawn = [
        tag(
            "polyline",
            points=" ".join(f"{100 * x.place(a):.2f},{100 - 100 * y.place(b):.2f}" for a, b in line.points),
            class_=line.look,
            vector_effect="non-scaling-stroke",
        )
        for line in lines
        if len(line.points) > 1
    ]
    for level in levels:
        height = 100 - 100 * y.place(level.y)
        drawn.append(
            tag("path", d=f"M0 {height:.2f}L100 {height:.2f}", class_=level.look, vector_effect="non-scaling-stroke")
        )
    labels = [
        tag("span", level.label, class_=f"level-label {level.look}", style=_at(0, y.place(level.y))) for level in levels
    ]
    named = _told_apart(marks, lambda mark: (x.place(mark.x), y.place(mark.y)))
    shown = [
        tag(
            "button",
            tag("i"),
            tag("span", mark.label) if mark in named else None,
            type="button",
            class_=f"mark {mark.look}" + (" left" if x.place(mark.x) > 0.6 else ""),
            style=_at(x.place(mark.x), y.place(mark.y)),
            data_says=mark.says,
            aria_label=mark.says,
        )
        for mark in marks
    ]
    inner = tag("div", _svg(_grid(x, y), drawn), labels, shown, class_="area")
    return tag(
        "figure",
        tag("figcaption", y.label),
        tag(
            "div",
            _ticks(y, upright=True),
            inner,
            _ticks(x, upright=False),
            class_="plot",
            role="group",
            aria_label=name,
        ),
        tag("div", x.label, class_="axis-label"),
        tag("output", "Point at a mark for its numbers.", class_="says"),
        class_="chart",
    )


def course(
    values: Sequence[float], *, top: float, ticks: Sequence[float], write: Callable[[float], str], look: str
) -> Markup:
    """Returns one number per frame as a filled line from 0 to `top`; frames lie evenly from edge to edge.

    What is not finite is drawn as high as the chart.
    """
    count = len(values)
    heights = [min(max(value / top, 0.0), 1.0) if math.isfinite(value) else 1.0 for value in values]
    points = [(100 * frame_place(index, count), 100 - 100 * height) for index, height in enumerate(heights)]
    if count == 1:
        points = [(0.0, points[0][1]), (100.0, points[0][1])]
    path = " ".join(f"{a:.2f},{b:.2f}" for a, b in points)
    axis = Axis("", lambda value: value / top, tuple((value / top, write(value)) for value in ticks))
    grid = _grid(Axis("", lambda value: value, ()), axis)
    shape = [
        tag("polygon", points=f"0,100 {path} 100,100", class_=f"fill {look}"),
        tag("polyline", points=path, class_=look, vector_effect="non-scaling-stroke"),
    ]
    return tag(
        "div",
        _ticks(axis, upright=True),
        tag("div", _svg(grid, shape), class_="area", data_cursor=True),
        class_="plot course",
    )


def frame_place(index: int, count: int) -> float:
    """Returns where a frame lies on an axis of `count` frames, 0..1."""
    return index / (count - 1) if count > 1 else 0.5


def round_top(value: float) -> float:
    """Returns the smallest round number that is not under the value; 1 for 0 and what is not finite."""
    if not (value > 0 and math.isfinite(value)):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((factor * power for factor in (1, 1.2, 1.6, 2, 3, 4, 5, 6, 8) if factor * power >= value), 10 * power)


def _round_numbers(low: float, high: float) -> list[float]:
    """Returns the numbers to write on a logarithmic axis between two exponents."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    for factors in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
        found = [f * 10.0**d for d in decades for f in factors if low - 1e-9 <= math.log10(f) + d <= high + 1e-9]
        if len(found) >= 3:
            break
    return found[:: math.ceil(len(found) / 7)] if found else [10.0**high]


def _told_apart(marks: Sequence[Mark], place: Callable[[Mark], tuple[float, float]]) -> list[Mark]:
    """Returns the marks whose labels have room beside those of the marks before them."""
    room: list[tuple[float, float]] = []
    named = []
    for mark in marks:
        x, y = place(mark)
        if all(abs(x - a) > LABEL[0] or abs(y - b) > LABEL[1] for a, b in room):
            room.append((x, y))
            named.append(mark)
    return named


def _svg(*parts: object) -> Markup:
    return tag("svg", *parts, viewBox="0 0 100 100", preserveAspectRatio="none", aria_hidden="true")


def _grid(x: Axis, y: Axis) -> list[Markup]:
    level = [(0.0, 100 - 100 * place, 100.0, 100 - 100 * place) for place, _ in y.ticks]
    upright = [(100 * place, 0.0, 100 * place, 100.0) for place, _ in x.ticks]
    return [
        tag("path", d=f"M{a:.2f} {b:.2f}L{c:.2f} {d:.2f}", class_="grid", vector_effect="non-scaling-stroke")
        for a, b, c, d in [*level, *upright]
    ]


def _ticks(axis: Axis, *, upright: bool) -> Markup:
    side = "bottom" if upright else "left"
    ticks = [tag("span", text, style=f"{side}:{100 * place:.2f}%") for place, text in axis.ticks]
    return tag("div", ticks, class_="y-ticks" if upright else "x-ticks", aria_hidden="true")


def _at(x: float, y: float) -> str:
    return f"left:{100 * x:.2f}%;bottom:{100 * y:.2f}%"
