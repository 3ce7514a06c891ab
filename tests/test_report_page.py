"""The page of a report: its numbers are the report's, nothing from outside becomes markup, and any run has one."""

from __future__ import annotations

import base64
import dataclasses
import io
import itertools
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from saccade.evaluate.measure import Observation, measure_video
from saccade.evaluate.video_report import FrameRow, Nearness, VideoReport
from saccade.preprocess import Preprocess
from saccade.report import words
from saccade.report.album import APART, KEY_FRAMES, PEAKS, SPREAD, WORST_FRAMES, Album, KeyFrame, WorstFrame, badness
from saccade.report.charts import frame_place, log_axis, percent, round_top
from saccade.report.markup import Markup, joined, json_script, tag
from saccade.report.outputs import DIFFERS, WIDTH, SideBySide, as_jpeg, shrink, side_by_side
from saccade.report.page import write_page
from saccade.report.sections import thinned
from saccade.stream import Stream
from saccade.video import Frame
from saccade.zoo import LoadedModel

H, W = 12, 18
NASTY = """</script><img src=x onerror="alert('1')">&amp;'"""


class Reader(HTMLParser):
    """Reads a page as a browser would: elements with their attributes, and the text by element id."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[tuple[str, str | None]] = []
        self.rows: dict[str, list[list[str]]] = {}
        self.texts: dict[str, str] = {}
        self.feed(page)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.elements.append((name, given))
        if name in ("meta", "img", "br"):
            return
        self.open.append((name, given.get("id")))
        table = self.inside()
        if table and name == "tr":
            self.rows.setdefault(table, []).append([])
        if table and name in ("td", "th"):
            self.rows[table][-1].append("")

    def handle_endtag(self, name: str) -> None:
        opened, _ = self.open.pop()
        assert opened == name

    def handle_data(self, data: str) -> None:
        for name, identity in self.open:
            key = identity or name
            self.texts[key] = self.texts.get(key, "") + data
        table = self.inside()
        if table and self.rows.get(table) and self.rows[table][-1]:
            self.rows[table][-1][-1] += data

    def inside(self) -> str | None:
        return next((identity for name, identity in self.open if name == "table" and identity), None)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [given for kind, given in self.elements if kind == name]


def net(outputs: int = 4) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, outputs, 3, padding=1)).eval()


def frames(count: int, *, height: int = 2 * H, width: int = 2 * W) -> list[Frame]:
    draw = np.random.default_rng(3)
    still = draw.integers(0, 200, (height, width, 3))
    found = []
    for index in range(count):
        picture = still.copy()
        left = index % (width - 6)
        picture[4:10, left : left + 6] = 250
        found.append(Frame(picture.astype(np.uint8), index, index / 25))
    return found


def loaded(model: nn.Module | None = None, *, kind: Any = "segmentation", decode: Any = None) -> LoadedModel:
    how = Preprocess(size=(H, W))
    return LoadedModel("net", model or net(), (torch.zeros(1, 3, H, W),), how, decode, kind, weights="as given")


def measured(
    count: int, model: LoadedModel | None = None, *, tolerance: float = 0.1, **given: Any
) -> tuple[VideoReport, Album]:
    model = model or loaded()
    stream = Stream(model.model, model.example, tolerance=tolerance, preprocess=model.preprocess)
    album = Album(model, stream)
    report = measure_video(
        stream,
        frames(count),
        reference=model.as_callable(),
        decode=model.decode,
        observe=album.add,
        **{"model": "net", "video": "clip.mp4", "command": "saccade report clip.mp4", **given},
    )
    return report, album


@pytest.fixture(scope="module")
def run() -> tuple[VideoReport, Album]:
    return measured(20)


def page_of(report: VideoReport, album: Album | None = None) -> str:
    return write_page(report, key_frames=album.key_frames() if album else (), worst=album.worst if album else ())


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in re.findall(r"-?\d[\d,]*\.?\d*(?:e[-+]?\d+)?", text)]


# --- the numbers


def test_the_table_of_points_holds_the_points(run: tuple[VideoReport, Album]) -> None:
    report, album = run
    rows = Reader(page_of(report, album)).rows["points"][1:]
    points = [report.operating, *report.points]
    assert len(rows) == len(points) == 10
    for point in points:
        row = next(row for row in rows if row[0] == words.point_name(point))
        if point.macs_fraction is not None:
            assert numbers(row[1])[0] / 100 == pytest.approx(point.macs_fraction, rel=6e-3)
            assert numbers(row[2])[0] * point.macs_fraction == pytest.approx(1, rel=6e-3)
        assert numbers(row[4]) == pytest.approx([point.relative_error_mean, point.relative_error_worst], rel=6e-3)
        shown = [number / 100 for number in numbers(row[5])]
        assert shown == pytest.approx([point.argmax_agreement_mean, point.argmax_agreement_worst], abs=1.1e-4)


def test_the_table_of_steps_holds_the_steps_to_the_last_digit(run: tuple[VideoReport, Album]) -> None:
    report, album = run
    reader = Reader(page_of(report, album))
    rows = reader.rows["step-rows"]
    cells = [given["data-value"] for given in reader.all("td") + reader.all("th") if "data-value" in given]
    assert len(rows) == 1 + len(report.steps)
    wide = len(rows[0])
    values = [float(value or "nan") for value in cells if value is not None]
    assert len(values) == wide * len(report.steps)
    body = values[: (wide - 1) * len(report.steps)]  # the cells td; the names follow
    for place, step in enumerate(report.steps):
        assert rows[1 + place][0].startswith(step.name)
        row = body[place * (wide - 1) : (place + 1) * (wide - 1)]
        threshold = -1 if step.threshold is None else step.threshold
        expected = [step.macs_share, threshold, step.active_share, step.announced_share, step.executed_share]
        assert row[:5] == pytest.approx(expected, rel=1e-8)


def test_the_headline_and_every_frame_are_said(run: tuple[VideoReport, Album]) -> None:
    report, album = run
    reader = Reader(page_of(report, album))
    head = reader.texts["header"]
    assert report.run.macs_ratio is not None
    assert f"{report.run.macs_ratio:.3g}\u00d7" in head
    assert words.agreement(report.operating.argmax_agreement_mean) in head
    assert f"{report.run.state_bytes / 2**20:.3g} MiB" in head
    assert "20 frames" in head
    says = json.loads(reader.texts["frames"])["says"]
    assert len(says) == 20
    for line, row in zip(says, report.frames, strict=True):
        assert line.startswith(f"frame {row.index} at {row.index / 25:.2f} s")
        assert f"macs {percent(row.macs_fraction)}" in line
        assert f"relative error {row.near.relative_error:.3g}" in line
    origin = reader.texts["origin"]
    for fact in (report.run.machine, report.run.saccade_version, report.command, f"{report.run.state_bytes:,}"):
        assert str(fact) in origin


def test_every_picture_is_in_the_page_and_nothing_is_asked_for(run: tuple[VideoReport, Album]) -> None:
    report, album = run
    page = page_of(report, album)
    reader = Reader(page)
    sources = [given["src"] or "" for given in reader.all("img")]
    assert len(sources) == len(album.key_frames()) + sum(len(worst.drawn.panels) for worst in album.worst)
    for source in sources:
        kind, _, data = source.partition(",")
        assert kind == "data:image/jpeg;base64"
        with av.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert next(picture.decode(video=0)).width <= WIDTH
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\bhref|<link", re.sub(r"base64,[^\"]*", "", page))
    assert any("default-src 'none'" in (given.get("content") or "") for given in reader.all("meta"))


# --- what comes from outside


def test_names_from_outside_are_text(run: tuple[VideoReport, Album]) -> None:
    report, album = run
    plain = Reader(page_of(report, album))
    outside = dataclasses.replace(
        report,
        run=dataclasses.replace(report.run, model=NASTY, source=NASTY, weights=NASTY, machine=NASTY, damage=NASTY),
        steps=tuple(dataclasses.replace(step, name=NASTY, source=NASTY, op=NASTY) for step in report.steps),
        command=NASTY,
    )
    reader = Reader(page_of(outside, album))
    for name in ("script", "img", "style", "section", "tr"):
        assert len(reader.all(name)) == len(plain.all(name))
    assert not any("onerror" in given for _, given in reader.elements)
    assert NASTY.rpartition("/")[2] in reader.texts["title"]
    assert NASTY in reader.texts["origin"]
    assert all(row[0].startswith(NASTY) for row in reader.rows["step-rows"][1:])


def test_markup_escapes_all_but_markup() -> None:
    assert tag("p", "<b>", tag("b", "&"), ["'", None], class_='"', hidden=True, id=None, data_x=1) == (
        '<p class="&quot;" hidden data-x="1">&lt;b&gt;<b>&amp;</b>&#x27;</p>'
    )
    assert tag("img", alt="<") == '<img alt="&lt;">'
    assert joined(Markup("<i>"), "<i>", False, 0) == "<i>&lt;i&gt;0"
    text = json_script("x", {"a": "</script><!--"})
    assert text.count("</script>") == 1
    assert json.loads(Reader(text).texts["x"]) == {"a": "</script><!--"}
    with pytest.raises(ValueError, match="JSON"):
        json_script("x", math.inf)


# --- any run


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_short_runs_have_a_page(count: int) -> None:
    report, album = measured(count)
    reader = Reader(page_of(report, album))
    assert [given.get("id") for given in reader.all("section")] == ["agreement", "time", "worst", "steps", "origin"]
    assert f"{count} frame{'' if count == 1 else 's'} " in reader.texts["header"]
    assert len(album.key_frames()) == count
    assert len(album.worst) == min(max(count - 1, 0), 1)
    assert ("points" in reader.rows) == (count > 0)


@pytest.mark.parametrize("value", [1e300, 1e-300, math.inf, math.nan, 0.0, None])
def test_any_number_has_its_words(run: tuple[VideoReport, Album], value: float | None) -> None:
    report, album = run
    near = Nearness(value, None if value is None else min(value, 1.0), 1.0, 3)
    rows = tuple(
        dataclasses.replace(row, near=near, ms=value or 0.0, macs_fraction=value or 0.0) for row in report.frames
    )
    points = tuple(
        dataclasses.replace(point, relative_error_mean=value, relative_error_worst=value, macs_fraction=value, f1=1.0)
        for point in report.points
    )
    steps = tuple(dataclasses.replace(step, threshold=value, announced_share=0.0) for step in report.steps)
    run_report = dataclasses.replace(
        report.run, executed_macs=10**40, dense_macs=10**41, macs_ratio=value, state_bytes=10**20
    )
    page = page_of(dataclasses.replace(report, run=run_report, frames=rows, points=points, steps=steps), album)
    reader = Reader(page)
    for _, attributes in reader.elements:
        for name in ("style", "points", "d"):
            drawn_at = attributes.get(name) or ""
            assert not re.search(r"nan|inf", drawn_at), attributes
            assert all(0 <= float(number) <= 100 for number in re.findall(r"-?[\d.]+", drawn_at))


def test_what_cut_it_short_and_what_it_rests_on_is_said(run: tuple[VideoReport, Album]) -> None:
    report, _ = run

    def warnings(**changed: Any) -> str:
        changed_run = dataclasses.replace(report.run, **changed)
        page = write_page(dataclasses.replace(report, run=changed_run))
        return " ".join(re.findall(r'role="note">(.*?)</p>', page))

    executor = report.run.executor
    assert "Interrupted: this is of the 20 frames" in warnings(interrupted=True)
    assert "torn.mp4 is damaged" in warnings(damage="torn.mp4 is damaged.")
    assert "random weights (random, seed 0)" in warnings(weights="random, seed 0")
    assert "not faster than dense" in warnings(executor="reference")
    assert (warnings() == "") == (executor == "native")


def test_pictures_of_frames_the_report_lost_are_left_out(run: tuple[VideoReport, Album]) -> None:
    report, album = run
    shorter = dataclasses.replace(report, frames=report.frames[:5])
    reader = Reader(page_of(shorter, album))
    assert len(reader.all("img")) < len(Reader(page_of(report, album)).all("img"))


def test_a_network_without_macs_and_one_without_thresholds_have_a_page() -> None:
    class Sums(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :1]

    report, album = measured(4, loaded(Sums(), kind="dense-map"))
    assert report.run.dense_macs == 0
    assert "no macs to save" in page_of(report, album)
    report, album = measured(4, tolerance=0.0)
    assert "All thresholds of this run are 0" in page_of(report, album)


# --- the pictures


def drawn(model: LoadedModel, dense: Any, streamed: Any) -> SideBySide:
    stream = Stream(model.model, model.example, threshold=0.0, preprocess=model.preprocess)
    return side_by_side(frames(1)[0].data, dense, streamed, model, stream)


def test_labels_are_marked_where_they_differ_and_only_there() -> None:
    dense = torch.zeros(1, 4, H, W)
    dense[:, 1] = 1
    streamed = dense.clone()
    streamed[:, 2, 3, 5] = 2
    side = drawn(loaded(), dense, streamed)
    assert [panel.title for panel in side.panels] == ["input", "dense", "streamed", "difference"]
    marked = (side.panels[3].picture == np.array(DIFFERS, dtype=np.uint8)).all(-1)
    expected = np.zeros((2 * H, 2 * W), dtype=bool)
    expected[6:8, 10:12] = True  # one place of the input is two pixels of the frame
    np.testing.assert_array_equal(marked, expected)
    np.testing.assert_array_equal((side.panels[1].picture != side.panels[2].picture).any(-1), expected)
    assert "0.46 %" in side.panels[3].note


def test_maps_are_grey_on_one_scale_and_their_difference_on_its_own() -> None:
    dense = torch.linspace(-1, 3, H * W).reshape(1, 1, H, W)
    streamed = dense.clone()
    streamed[0, 0, 2, 2] += 0.5
    side = drawn(loaded(kind="dense-map"), dense, streamed)
    _, first, second, difference = side.panels
    assert first.picture.shape == (H, W, 3)
    np.testing.assert_array_equal(first.picture[..., 0], np.round(255 * np.linspace(0, 1, H * W)).reshape(H, W))
    assert (first.picture != second.picture).any(-1).sum() == 1
    assert first.note == "black: -1, white: 3"
    assert difference.note == "brightest: 0.5"
    assert difference.picture[2, 2].sum() > 3 * difference.picture[0, 0].sum()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308])
def test_maps_that_are_not_finite_are_drawn(value: float) -> None:
    dense = torch.zeros(1, 5, H, W, dtype=torch.float64)
    streamed = dense.clone()
    streamed[0, 0, 1, 1] = value
    for kind in ("dense-map", "unknown"):
        assert len(drawn(loaded(kind=kind), dense, streamed).panels) == 4
        assert len(drawn(loaded(kind=kind), streamed, streamed).panels) == 4


def test_classes_are_those_that_lead_with_their_probabilities() -> None:
    dense = torch.tensor([[0.0, 3.0, 1.0, 2.0, -1.0, -2.0, -3.0]])
    streamed = dense.clone()
    streamed[0, 6] = 5
    model = dataclasses.replace(loaded(kind="classification"), class_names=("a", "b", "c", "d"))
    side = drawn(model, dense, streamed)
    assert [bar.label for bar in side.bars] == ["b", "d", "c", "a", "class 4", "class 6"]
    given = dense.double().softmax(1), streamed.double().softmax(1)
    for bar, place in zip(side.bars, (1, 3, 2, 0, 4, 6), strict=True):
        assert (bar.dense, bar.streamed) == pytest.approx((float(given[0][0, place]), float(given[1][0, place])))
    probabilities = drawn(model, torch.tensor([[0.25, 0.75]]), torch.tensor([[0.5, 0.5]]))
    assert [(bar.label, bar.dense, bar.streamed) for bar in probabilities.bars] == [("b", 0.75, 0.5), ("a", 0.25, 0.5)]


def test_boxes_without_a_partner_are_drawn_in_the_difference() -> None:
    from saccade.evaluate.detection import Detections

    def decode(outputs: Tensor) -> list[Detections]:
        count = len(outputs)
        return [Detections(outputs.float(), torch.full((count,), 0.9), torch.zeros(count, dtype=torch.int64))]

    same, alone = [1.0, 1.0, 6.0, 6.0], [10.0, 2.0, 16.0, 9.0]
    model = loaded(kind="detection", decode=decode)
    side = drawn(model, torch.tensor([same, alone]), torch.tensor([same]))
    assert [panel.note for panel in side.panels[1:3]] == ["2 objects", "1 object"]
    blank = drawn(model, torch.tensor([same]), torch.tensor([same])).panels[3]
    assert blank.note == "every box has its pair"
    rows, columns = np.nonzero((side.panels[3].picture != blank.picture).any(-1))
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (4, 18, 20, 32)
    assert len(drawn(model, torch.zeros(0, 4), torch.zeros(0, 4)).panels) == 4


def test_what_has_no_place_in_the_picture_is_said() -> None:
    side = drawn(loaded(kind="unknown"), (torch.zeros(1, 7, 3),), (torch.zeros(1, 7, 3),))
    assert [panel.title for panel in side.panels] == ["input"]
    assert "(1x7x3) have no place" in side.note
    worst = WorstFrame(FrameRow(1, None, 0.5, 1.0, 1.0, Nearness(0.1)), side)
    report, _ = measured(3)
    assert "(1x7x3) have no place" in write_page(report, worst=[worst])


@pytest.mark.parametrize("kind", ["classification", "detection", "segmentation", "dense-map", "unknown"])
def test_a_model_of_every_kind_has_a_page(kind: Any) -> None:
    from saccade.zoo import street_detector

    body: nn.Module = (
        nn.Sequential(net(), nn.AdaptiveAvgPool2d(1), nn.Flatten()) if kind == "classification" else net(3)
    )
    model = loaded(body.eval(), kind=kind)
    if kind == "detection":
        shape = (1, 3, 32, 64)
        network = street_detector.street_detector(pretrained=False)
        model = LoadedModel(
            "d", network, (torch.zeros(shape),), Preprocess(size=shape[2:]), street_detector.decode, "detection"
        )
    report, album = measured(6, model)
    reader = Reader(page_of(report, album))
    assert len(album.worst) == 1
    assert len(album.worst[0].drawn.panels) == (1 if kind == "classification" else 4)
    assert bool(album.worst[0].drawn.bars) == (kind == "classification")
    assert ("F1" in reader.texts["agreement"]) == (kind == "detection")


def test_large_pictures_shrink_and_small_ones_stay() -> None:
    picture = frames(1, height=97, width=1303)[0].data
    assert shrink(picture).shape == (36, WIDTH, 3)
    assert shrink(picture.transpose(1, 0, 2)).shape == (2 * WIDTH, 71, 3)
    assert shrink(picture[:5, :7]) is not None
    np.testing.assert_array_equal(shrink(picture[:5, :7]), picture[:5, :7])
    flat = np.full((10, 2000, 3), 77, dtype=np.uint8)
    assert (shrink(flat) == 77).all()
    noise = np.random.default_rng(0).integers(0, 256, (270, 480, 3), dtype=np.uint8)
    assert len(as_jpeg(noise)) <= 100_000


# --- the album


def filled(costs: list[float], errors: list[float]) -> tuple[Album, list[FrameRow]]:
    """An album of a stream that stands still while rows of any numbers are told of it."""
    model = loaded()
    stream = Stream(model.model, model.example, threshold=0.0, preprocess=model.preprocess)
    frame = frames(1)[0]
    outputs = stream(frame)
    album = Album(model, stream)
    rows = []
    for index, (cost, wrong) in enumerate(zip(costs, errors, strict=True)):
        rows.append(FrameRow(index, index / 25, cost, 1.0, 1.0, Nearness(wrong, 1.0)))
        album.add(Observation(rows[-1], frame, outputs, outputs))
        assert len(album._pictures) <= SPREAD + 3 * PEAKS + 1
    return album, rows


@settings(max_examples=10)
@given(st.integers(2, 150), st.integers(0, 1000))
def test_an_album_is_small_and_holds_the_extremes(count: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    costs, errors = draw.random(count).tolist(), draw.random(count).tolist()
    costs[0] = 1.0
    album, rows = filled(costs, errors)
    keys = album.key_frames()
    assert len(keys) == min(KEY_FRAMES, count)
    assert [key.index for key in keys] == sorted({key.index for key in keys})
    by_why = {key.why: key.index for key in keys if key.why}
    assert by_why["first frame, computed whole"] == 0
    assert by_why["least computed"] == 1 + int(np.argmin(costs[1:]))
    if count > 2:
        assert by_why["most computed"] == 1 + int(np.argmax(costs[1:]))
    worst = album.worst
    assert 1 <= len(worst) <= WORST_FRAMES
    assert worst[0].row.index == 1 + int(np.argmax(errors[1:]))
    places = sorted(frame.row.index for frame in worst)
    assert all(b - a >= APART for a, b in itertools.pairwise(places))
    ranked = [badness(frame.row) for frame in worst]
    assert ranked == sorted(ranked, reverse=True)
    if count > 3 * APART * WORST_FRAMES:
        assert len(worst) == WORST_FRAMES
    for row in rows[1:]:  # nothing that is further off was passed over, but for what is near one that is worse still
        near = any(
            abs(row.index - frame.row.index) < 2 * APART and badness(frame.row) >= badness(row) for frame in worst
        )
        assert near or (len(worst) == WORST_FRAMES and badness(row) <= ranked[-1])


def test_key_frames_are_spread_over_a_long_video() -> None:
    album, _ = filled([0.5] * 700, [0.1] * 700)
    places = [key.index for key in album.key_frames()]
    assert places[0] == 0
    assert places[-1] > 600
    assert max(b - a for a, b in itertools.pairwise(places)) < 150


def test_an_error_that_rises_all_the_time_is_shown_at_several_times() -> None:
    album, _ = filled([0.5] * 60, [index / 60 for index in range(60)])
    assert [frame.row.index for frame in album.worst] == [59, 47, 39, 31]


def test_boxes_rank_before_errors_and_nan_is_the_worst() -> None:
    def row(error: float | None, f1: float | None = None) -> FrameRow:
        return FrameRow(1, None, 0.5, 1.0, 1.0, Nearness(error, None, f1))

    ranked = [row(0.1, 1.0), row(0.9, 1.0), row(math.nan, 1.0), row(0.1, 0.5)]
    assert sorted(ranked, key=badness) == ranked
    assert badness(row(None)) == badness(row(math.nan)) > badness(row(1e300))


# --- axes and words


@settings(max_examples=200)
@given(
    st.lists(st.floats(0, 1e6) | st.just(0.0), min_size=1, max_size=8),
    st.booleans(),
)
def test_a_logarithmic_axis_keeps_order_and_stays_on_the_plane(values: list[float], falling: bool) -> None:
    axis = log_axis(values, "x", write=str, least=1e-5, falling=falling, end="none")
    places = [axis.place(value) for value in sorted(values)]
    assert all(0 <= place <= 1 for place in places)
    assert places == sorted(places, reverse=falling)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place, _ in axis.ticks)
    assert axis.ticks
    apart = {round(place, 6) for place, _ in axis.ticks}
    assert len(apart) == len(axis.ticks)


@given(st.floats(1e-300, 1e300))
def test_the_top_of_an_axis_is_round_and_not_far_above(value: float) -> None:
    assert value <= round_top(value) * (1 + 1e-12)
    assert round_top(value) <= 1.7 * value


def test_frames_lie_from_edge_to_edge() -> None:
    assert [frame_place(i, 3) for i in range(3)] == [0, 0.5, 1]
    assert frame_place(0, 1) == 0.5
    assert round_top(0) == round_top(math.nan) == round_top(math.inf) == 1


@given(st.floats(0, 1))
def test_agreement_reads_all_or_nothing_only_where_it_is(share: float) -> None:
    assert (words.agreement(share) == "100 %") == (share > 1 - 1e-11)
    assert float(words.agreement(share).split()[0]) / 100 == pytest.approx(share, abs=1.1e-4)
    assert (percent(share) == "100 %") == (share == 1)
    assert (percent(share) == "0 %") == (share == 0)


def test_words() -> None:
    assert [
        words.ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102)
    ] == "1st 2nd 3rd 4th 11th 12th 13th 21st 102nd".split()
    assert [words.ratio(x) for x in (None, 0.0, 1.0, 0.25, 1e-4)] == ["-", "-", "1\u00d7", "4\u00d7", "10,000\u00d7"]
    assert [words.milliseconds(x) for x in (None, 0.1234, 12.34, 4586.0)] == ["-", "0.123 ms", "12.3 ms", "4,586 ms"]
    assert [percent(x) for x in (0, 1e-6, 0.1234, 0.9999, 1, 1.02, 12.0)] == [
        "0 %",
        "<0.01 %",
        "12.3 %",
        "99.9 %",
        "100 %",
        "102 %",
        "1,200 %",
    ]


def test_of_many_frames_those_with_the_largest_errors_are_drawn() -> None:
    rows = [FrameRow(i, None, 0.1, 1, 1, Nearness(float(i * 7919 % 1000))) for i in range(1000)]
    few = thinned(rows, limit=64)
    assert len(few) <= 64
    assert few[0] is rows[0]
    assert [row.index for row in few] == sorted(row.index for row in few)
    assert max(rows[1:], key=lambda row: row.near.relative_error or 0) in few
    assert thinned(rows, limit=1000) == rows
    report, _ = measured(3)
    long = dataclasses.replace(report, frames=tuple(rows * 2)[:1999])
    assert "are drawn, the ones with the largest errors" in write_page(long)


def test_keys_stand_at_their_frame() -> None:
    report, album = measured(6)
    keys = [KeyFrame(index, "", album.key_frames()[0].jpeg) for index in (0, 3, 5)]
    reader = Reader(write_page(report, key_frames=keys))
    assert [given["data-place"] for given in reader.all("figure") if "data-place" in given] == ["0", "3", "5"]


def test_a_page_stays_under_five_megabytes_even_of_noise() -> None:
    model = loaded()
    stream = Stream(model.model, model.example, tolerance=0.5, preprocess=model.preprocess)
    album = Album(model, stream)
    draw = np.random.default_rng(0)
    noise = [Frame(draw.integers(0, 256, (270, 480, 3), dtype=np.uint8), index, index / 25) for index in range(40)]
    report = measure_video(stream, noise, reference=model.as_callable(), factors=(), observe=album.add)
    assert len(album.worst) >= 3
    assert len(page_of(dataclasses.replace(report, frames=report.frames * 5), album)) < 5e6
