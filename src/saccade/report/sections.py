"""The parts of a report's page, each from the numbers and pictures it shows."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence

from saccade.evaluate.video_report import FrameRow, Point, StepRow, VideoReport
from saccade.report import words
from saccade.report.album import KeyFrame, WorstFrame
from saccade.report.charts import Level, Line, Mark, course, frame_place, log_axis, percent, plane, round_top
from saccade.report.markup import Markup, joined, json_script, tag
from saccade.report.outputs import ClassBar, as_jpeg

DRAWN_FRAMES = 1500  # of a course; of more, those with the largest error stand for their neighbours
ROUNDING = 1e-5  # relative errors below are float32 arithmetic in another order
LEAST_DISAGREEMENT = 1e-5
LEAST_MACS = 1e-4


def trade_off(report: VideoReport) -> Markup:
    """Returns agreement against macs: the operating point, scaled thresholds, and what costs nothing to do."""
    points = [report.operating, *report.points]
    heading = tag("h2", "Agreement against macs")
    runs = sorted((p for p in points if p.macs_fraction is not None), key=lambda point: -(point.macs_fraction or 0))
    floor = [point for point in points if point.name == "floor"]
    if not report.run.dense_macs:
        return joined(heading, tag("p", "Nothing to show: the network has no macs to save, or no frame was run."))
    charts = [_plane(runs, floor, "relative error", lambda point: point.relative_error_mean, shares=False)]
    if report.operating.f1 is not None:
        charts.append(_plane(runs, floor, "boxes matched with the dense ones (F1)", lambda p: p.f1, shares=True))
    elif report.operating.argmax_agreement_mean is not None:
        charts.append(
            _plane(runs, floor, "argmax agreement with dense", lambda p: p.argmax_agreement_mean, shares=True)
        )
    alone = not any(point.name == "scale" for point in report.points)
    note = (
        "Each mark is the whole video, run in another way: up is nearer to the dense results, left is cheaper. The "
        "line joins this stream and its thresholds scaled. Squares are the simplest way to save: only some frames are "
        "computed, densely, and their results repeated in between. The dashed line is how much one dense result "
        "differs from the next anyway."
    )
    if alone:
        note += " All thresholds of this run are 0, so there is no other scale to show."
    return joined(
        heading, tag("p", note, class_="note"), tag("div", charts, class_="charts"), _points_table(runs + floor)
    )


def over_time(report: VideoReport, key_frames: Sequence[KeyFrame]) -> Markup:
    """Returns cost and error over time beside key frames, tinted where they were recomputed."""
    heading = tag("h2", "Cost over time")
    rows = thinned(report.frames)
    if not rows:
        return joined(heading, tag("p", "No frame was run."))
    errors = [math.nan if row.near.relative_error is None else row.near.relative_error for row in rows]
    later = [row.macs_fraction for row in rows[1:] or rows]
    tops = [round_top(max(filter(math.isfinite, values), default=0.0)) for values in (later, errors)]
    charts = tag(
        "div",
        tag("figcaption", "macs, share of dense"),
        course([row.macs_fraction for row in rows], top=tops[0], ticks=_half(tops[0]), write=percent, look="computed"),
        tag("figcaption", "relative error to dense"),
        course(errors, top=tops[1], ticks=_half(tops[1]), write=lambda value: f"{value:.3g}", look="error"),
        _frame_axis(rows),
        id="course",
        tabindex=0,
        role="slider",
        aria_label="frame",
        aria_valuemin=0,
        aria_valuemax=len(rows) - 1,
        aria_valuenow=0,
    )
    by_index = {row.index: row for row in report.frames}
    places = [_nearest([row.index for row in rows], key.index) for key in key_frames]
    figures = [
        tag(
            "figure",
            tag("img", src=data_uri(key.jpeg), alt=f"frame {key.index}, tinted where it was recomputed"),
            tag("figcaption", _key_caption(key, by_index[key.index])),
            class_="key",
            data_place=place,
        )
        for key, place in zip(key_frames, places, strict=True)
    ]
    chosen = next((i for i, key in enumerate(key_frames) if key.why == "most computed"), 0)
    note = "Pink is where a frame was recomputed: the stronger, the larger the share of the network's macs."
    if len(rows) < len(report.frames):
        note += f" {len(rows)} of {len(report.frames)} frames are drawn, the ones with the largest errors around."
    if len(rows) > 1:
        note += " The first frame is computed whole and may rise above the scale."
    says = [" · ".join([words.frame_name(row), *_row_words(row)]) for row in rows]
    return joined(
        heading,
        tag("p", note, class_="note"),
        tag("div", charts, tag("div", id="viewer"), class_="course-and-viewer"),
        tag("div", figures, class_="keys"),
        json_script("frames", {"says": says, "start": places[chosen] if places else 0}),
    )


def worst_frames(worst: Sequence[WorstFrame]) -> Markup:
    """Returns the frames furthest from the dense result, with input, both results and their difference."""
    heading = tag("h2", "Worst frames")
    if not worst:
        return joined(heading, tag("p", "Fewer than two frames were run: the first is always computed whole."))
    articles = []
    for frame in worst:
        panels = [
            tag(
                "figure",
                tag("figcaption", panel.title),
                tag("img", src=data_uri(as_jpeg(panel.picture)), alt=f"{panel.title}, frame {frame.row.index}"),
                tag("p", panel.note) if panel.note else None,
            )
            for panel in frame.drawn.panels
        ]
        articles.append(
            tag(
                "article",
                tag("h3", words.frame_name(frame.row).capitalize()),
                tag("p", " · ".join(_row_words(frame.row)), class_="numbers"),
                tag("div", panels, _class_table(frame.drawn.bars) if frame.drawn.bars else None, class_="panels"),
                tag("p", frame.drawn.note, class_="note") if frame.drawn.note else None,
            )
        )
    note = "Where the stream was furthest from the dense network, at most one of each moment."
    return joined(heading, tag("p", note, class_="note"), articles)


def steps_table(report: VideoReport) -> Markup:
    """Returns one row per step: what it could cost, what decides, what it computed and announced, and its time."""
    timed = any(step.time_share is not None for step in report.steps)
    columns = ["step", "macs", "threshold", "active", "announced", "executed", *(["time"] if timed else [])]
    head = [
        tag("th", tag("button", name, type="button"), scope="col", aria_sort="none", class_="" if i else "text")
        for i, name in enumerate(columns)
    ]
    rows = [tag("tr", _step_cells(place, step, timed=timed)) for place, step in enumerate(report.steps)]
    note = (
        "Means over the frames after the first. macs: share of the network's dense macs; active: positions computed; "
        "announced: positions whose change was passed on; executed: share of the macs this stream spent"
        + ("; time: share of the time of all steps." if timed else ".")
        + " A heading sorts by its column, once more turns the order."
    )
    table = tag("table", tag("thead", tag("tr", head)), tag("tbody", rows), id="step-rows")
    return joined(
        tag("h2", f"Steps ({len(rows)})"),
        tag("p", note, class_="note"),
        tag("div", table, class_="scroll tall", tabindex=0),
    )


def thinned(rows: Sequence[FrameRow], *, limit: int = DRAWN_FRAMES) -> list[FrameRow]:
    """Returns at most `limit` rows in order: of neighbours the one with the largest error, and always the first."""
    stride = math.ceil(len(rows) / limit)
    if stride <= 1:
        return list(rows)
    groups = [rows[i : i + stride] for i in range(0, len(rows), stride)]
    return [rows[0], *(max(group, key=lambda row: _size(row.near.relative_error)) for group in groups[1:])]


def data_uri(jpeg: bytes) -> str:
    """Returns a JPEG file as the address of itself."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _plane(
    runs: Sequence[Point], floor: Sequence[Point], label: str, read: Callable[[Point], float | None], *, shares: bool
) -> Markup:
    """Returns one measure against macs; shares are agreements, drawn by how much they lack."""
    lost = {id(point): _loss(read(point), shares=shares) for point in [*runs, *floor]}
    shown = [point for point in runs if math.isfinite(lost[id(point)]) and math.isfinite(point.macs_fraction or 0.0)]
    x = log_axis(
        [point.macs_fraction or 0.0 for point in shown],
        "macs, share of dense",
        write=percent,
        least=LEAST_MACS,
        end="0 %",
    )
    y = log_axis(
        [loss for loss in lost.values() if math.isfinite(loss)],
        label,
        write=(lambda loss: words.agreement(1 - loss)) if shares else (lambda loss: f"{loss:g}"),
        least=LEAST_DISAGREEMENT if shares else ROUNDING,
        most=1.0 if shares else math.inf,
        falling=True,
        end="100 %" if shares else "rounding",
    )

    def line(name: str) -> Line:
        chosen = sorted((point for point in shown if point.name == name), key=lambda point: point.value)
        return Line(tuple((point.macs_fraction or 0.0, lost[id(point)]) for point in chosen), name)

    marks = [
        Mark(
            point.macs_fraction or 0.0,
            lost[id(point)],
            words.point_label(point),
            words.point_says(point),
            "operating" if point.name == "scale" and point.value == 1 else point.name,
        )
        for point in sorted(shown, key=lambda point: abs(math.log2(point.value or 1e-9)) + (point.name != "scale"))
    ]
    levels = [Level(lost[id(point)], "frame before", "floor") for point in floor if math.isfinite(lost[id(point)])]
    return plane(x, y, lines=[line("repeat"), line("scale")], levels=levels, marks=marks, name=f"{label} against macs")


def _loss(value: float | None, *, shares: bool) -> float:
    """Returns a relative error, or what an agreement lacks; NaN where there is none."""
    if value is None:
        return math.nan
    return max(1 - value, 0.0) if shares else value


def _points_table(points: Sequence[Point]) -> Markup:
    measures: list[tuple[str, Callable[[Point], tuple[str, str]]]] = [("relative error", _error_pair)]
    measures += [("argmax agreement", _labels_pair)] if any(p.argmax_agreement_mean is not None for p in points) else []
    measures += [("matched boxes, F1", _boxes_pair)] if any(p.f1 is not None for p in points) else []
    rows = []
    for point in points:
        cells = [
            words.share(point.macs_fraction),
            words.ratio(point.macs_fraction),
            words.milliseconds(point.ms.median if point.ms else None),
        ]
        pairs = [read(point) for _, read in measures]
        chosen = point.name == "scale" and point.value == 1
        name = tag("th", tag("i", class_=f"swatch {'operating' if chosen else point.name}"), words.point_name(point))
        shown = [tag("td", cell) for cell in cells]
        shown += [tag("td", mean, " ", tag("small", worst)) for mean, worst in pairs]
        rows.append(tag("tr", name, shown, class_="chosen" if chosen else None))
    head = [tag("th", "way to run the video", scope="col", class_="text")]
    head += [tag("th", column, scope="col") for column in ("macs", "fewer", "median")]
    head += [tag("th", measure, " ", tag("small", "worst"), scope="col") for measure, _ in measures]
    table = tag("table", tag("thead", tag("tr", head)), tag("tbody", rows), id="points")
    return tag("div", table, class_="scroll", tabindex=0)


def _error_pair(point: Point) -> tuple[str, str]:
    return words.error(point.relative_error_mean), words.error(point.relative_error_worst)


def _labels_pair(point: Point) -> tuple[str, str]:
    return words.agreement(point.argmax_agreement_mean), words.agreement(point.argmax_agreement_worst)


def _boxes_pair(point: Point) -> tuple[str, str]:
    return words.agreement(point.f1), words.agreement(point.f1_worst)


def _step_cells(place: int, step: StepRow, *, timed: bool) -> list[Markup]:
    origin = " · ".join(part for part in dict.fromkeys((step.source, step.op)) if part and part != step.name)
    badge = tag("span", step.form, class_="badge") if step.form != "sparse" else None
    threshold = words.DASH if step.threshold is None else f"{step.threshold:.3g}"
    cells = [
        tag("th", step.name, " ", badge, tag("small", origin), scope="row", data_value=place),
        _bar(step.macs_share),
        tag("td", threshold, data_value=-1 if step.threshold is None else step.threshold),
        _bar(step.active_share),
        _bar(step.announced_share),
        _bar(step.executed_share),
    ]
    return [*cells, _bar(step.time_share or 0.0)] if timed else cells


def _bar(value: float) -> Markup:
    width = f"--share:{100 * min(max(value, 0.0), 1.0):.2f}%"
    return tag("td", percent(value), class_="bar", style=width, data_value=f"{value:.9g}")


def _class_table(bars: Sequence[ClassBar]) -> Markup:
    rows = [
        tag(
            "tr",
            tag("th", bar.label, scope="row"),
            *[
                tag("td", percent(value), class_="bar", style=f"--share:{100 * value:.2f}%")
                for value in (bar.dense, bar.streamed)
            ],
        )
        for bar in bars
    ]
    head = tag("tr", tag("th", "class", class_="text"), tag("th", "dense"), tag("th", "streamed"))
    return tag("table", tag("thead", head), tag("tbody", rows), class_="classes")


def _row_words(row: FrameRow) -> list[str]:
    spent = f"{words.milliseconds(row.ms)} (dense {words.milliseconds(row.dense_ms)})"
    return [f"macs {percent(row.macs_fraction)}", spent, *words.near_words(row.near)]


def _key_caption(key: KeyFrame, row: FrameRow) -> list[Markup]:
    why = tag("b", key.why) if key.why else None
    lines = [tag("span", words.frame_name(row)), tag("span", f"macs {percent(row.macs_fraction)}")]
    return [*lines, why] if why else lines


def _frame_axis(rows: Sequence[FrameRow]) -> Markup:
    """Returns the numbers of some frames under the course, and room for nothing else."""
    count = len(rows)
    chosen = sorted({round(i * (count - 1) / 5) for i in range(6)})
    ticks = [tag("span", rows[i].index, style=f"left:{100 * frame_place(i, count):.2f}%") for i in chosen]
    return tag("div", tag("div", ticks, class_="x-ticks frame-ticks"), class_="plot", aria_hidden="true")


def _nearest(values: Sequence[float], wanted: float) -> int:
    """Returns the place of the value nearest to the one wanted."""
    return min(range(len(values)), key=lambda place: abs(values[place] - wanted))


def _half(top: float) -> tuple[float, ...]:
    return 0.0, top / 2, top


def _size(value: float | None) -> float:
    """Returns an error to compare by: none is the least, NaN the most."""
    return -1.0 if value is None else math.inf if math.isnan(value) else value
