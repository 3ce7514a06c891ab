"""What is drawn: where it was computed, what was found, what it cost; pictures checked point by point."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import Tensor, nn

from saccade.evaluate.detection import Detections
from saccade.evaluate.video_run import follow
from saccade.graph import make_plan
from saccade.preprocess import Preprocess
from saccade.report.drawing import COMPUTED, cost_strip, draw_box, draw_text, label_colours, strip_height
from saccade.report.glyphs import text_points
from saccade.report.overlay import Overlay, blend, computed_share, label_map, resample, seen_from
from saccade.report.tables import explain_table, macs, number, run_table
from saccade.stream import Stream
from saccade.stream.native import native_forms
from saccade.zoo import LoadedModel

H, W = 16, 24


def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1, stride=2)).eval()


def opened(
    *, preprocess: Preprocess | None = None, decode: Any = None, kind: Any = "unknown"
) -> tuple[LoadedModel, Stream]:
    model, example = net(), (torch.zeros(1, 3, H, W),)
    how = preprocess or Preprocess(size=(H, W))
    loaded = LoadedModel("net", model, example, how, decode, kind, class_names=("cat",))
    return loaded, Stream(model, example, threshold=0.0, preprocess=how)


def text_of(table: Any) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


# --- where


def test_the_share_computed_is_one_on_the_first_frame_and_zero_when_nothing_changed() -> None:
    _, stream = opened()
    frame = torch.rand(1, 3, H, W)
    stream(frame)
    np.testing.assert_allclose(computed_share(stream.plan, stream.active), 1.0, rtol=1e-6)
    stream(frame)
    assert not computed_share(stream.plan, stream.active).any()


def test_the_share_computed_weighs_steps_by_macs_where_they_were_computed() -> None:
    _, stream = opened()
    frame = torch.rand(1, 3, H, W)
    stream(frame)
    frame = frame.clone()
    frame[:, :, 4, 6] += 3.0
    stream(frame)
    first, second = (step for step in stream.plan.steps if step.macs)
    whole = first.macs + second.macs
    expected = np.zeros((H, W))
    expected[4, 6] += first.macs / whole
    expected[4:6, 6:8] += second.macs / whole  # one position of the half-size map covers four places
    np.testing.assert_allclose(computed_share(stream.plan, stream.active), expected, rtol=1e-6)


def test_steps_without_a_place_do_not_count() -> None:
    model = nn.Sequential(net(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)).eval()
    stream = Stream(model, torch.zeros(1, 3, H, W), threshold=0.0)
    stream(torch.rand(1, 3, H, W))
    np.testing.assert_allclose(computed_share(stream.plan, stream.active), 1.0, rtol=1e-6)


@settings(max_examples=60)
@given(
    st.sampled_from(["resize", "letterbox", "crop"]),
    st.integers(20, 90),
    st.integers(20, 90),
    st.integers(20, 70),
    st.integers(20, 70),
)
def test_places_of_the_frame_are_found_where_boxes_come_from(
    fit: Any, height: int, width: int, rows: int, columns: int
) -> None:
    preprocess = Preprocess(size=(rows, columns), fit=fit)
    down, right = seen_from(preprocess, (rows, columns), (height, width))
    # A box from a place of the input to its end has to begin, in the frame, at the middle of the pixel.
    places = torch.tensor([[float(right[7]) * columns, float(down[5]) * rows, columns, rows]])
    x, y = preprocess.to_source(places, (height, width))[0, :2].tolist()
    assert x == pytest.approx(7.5, abs=0.01)
    assert y == pytest.approx(5.5, abs=0.01)


def test_without_a_preprocess_frame_and_input_are_the_same() -> None:
    values = np.arange(6).reshape(2, 3)
    down, right = seen_from(None, (2, 3), (2, 3))
    np.testing.assert_array_equal(resample(values, down, right, outside=-1), values)
    down, right = seen_from(None, (2, 3), (4, 6))
    np.testing.assert_array_equal(resample(values, down, right, outside=-1), values.repeat(2, axis=0).repeat(2, axis=1))
    outside = resample(values, np.array([-0.1, 0.5, 1.0]), np.array([0.5, 1.1]), outside=-1)
    np.testing.assert_array_equal(outside, [[-1, -1], [4, -1], [-1, -1]])


def test_what_the_network_does_not_see_is_not_tinted() -> None:
    loaded, stream = opened(preprocess=Preprocess(size=(H, W), fit="crop"))
    picture = np.full((H, 4 * W, 3), 100, dtype=np.uint8)  # the crop keeps a quarter, in the middle
    drawn = Overlay(loaded).draw(picture, stream(picture), stream)
    changed = (drawn[:H] != 100).any(axis=(0, 2))
    assert changed.nonzero()[0].tolist() == list(range(4 * W * 3 // 8, 4 * W * 5 // 8))


# --- the whole picture


def test_a_still_scene_is_shown_as_it_is() -> None:
    loaded, stream = opened()
    overlay, picture = Overlay(loaded), np.random.default_rng(0).integers(0, 256, (33, 51, 3), dtype=np.uint8)
    first = overlay.draw(picture, stream(picture), stream)
    second = overlay.draw(picture, stream(picture), stream)
    assert first.dtype == np.uint8
    assert first.shape == second.shape
    assert first.shape[0] % 2 == first.shape[1] % 2 == 0
    assert first.shape[0] >= 33 + strip_height(33)
    assert np.abs(first[:33, :51].astype(int) - picture).mean() > 20
    np.testing.assert_array_equal(second[:33, :51], picture)


def test_labels_are_blended_and_label_zero_is_left_alone() -> None:
    scores = torch.zeros(1, 5, 2, 2)
    scores[0, 3, 0, 0] = 1.0
    np.testing.assert_array_equal(label_map((torch.zeros(1, 7), scores)), [[3, 0], [0, 0]])
    assert label_map(torch.zeros(1, 1, 2, 2)) is None
    loaded, stream = opened(kind="segmentation")
    picture = np.full((H, W, 3), 90, dtype=np.uint8)
    overlay = Overlay(loaded)
    stream(picture)
    stream(picture)  # nothing is computed: no tint
    drawn = overlay.draw(picture, scores, stream)
    colour = label_colours(np.array([[3]]))[0, 0]
    np.testing.assert_allclose(drawn[0, 0], 90 + 0.55 * (colour - 90), atol=1)
    np.testing.assert_array_equal(drawn[H // 2 : H], 90)


def test_boxes_are_drawn_where_the_letterboxed_frame_has_them() -> None:
    found = Detections(torch.tensor([[6.0, 4.0, 18.0, 12.0]]), torch.tensor([0.9]), torch.tensor([0]))
    loaded, stream = opened(preprocess=Preprocess(size=(H, W), fit="letterbox"), decode=lambda outputs: [found])
    picture = np.zeros((160, 160, 3), dtype=np.uint8)  # lands as 16 x 16 with 4 columns of padding at both sides
    stream(picture)
    outputs = stream(picture)
    drawn = Overlay(loaded).draw(picture, outputs, stream)[:160]
    rows, columns = drawn.any(axis=2).nonzero()
    below = rows > 60  # the name is drawn above the box
    assert (columns[below].min(), columns[below].max()) == (20, 139)
    assert rows.max() == 119
    assert drawn[80, 20].any()
    assert not drawn[80, 80].any()
    assert drawn[40, 100].any()  # the upper edge, right of the name


def test_boxes_partly_outside_are_cut() -> None:
    canvas = np.zeros((20, 30, 3), dtype=np.float32)
    draw_box(canvas, (-5.0, -5.0, 100.0, 8.0), label="", colour=(1.0, 2.0, 3.0))
    assert canvas[7].all()
    assert not canvas[:7].any()
    draw_box(canvas, (50.0, 50.0, 60.0, 60.0), label="gone", colour=(1.0, 2.0, 3.0))
    assert draw_text(canvas, "A", x=28, y=18, scale=3, colour=(9.0, 9.0, 9.0)) == 28 + 12
    assert draw_text(canvas, "A", x=-50, y=90, scale=3, colour=(9.0, 9.0, 9.0)) == -50 + 12


# --- the strip


def bar_of(strip: Any) -> Any:
    return (strip == np.array(COMPUTED, dtype=np.float32)).all(axis=2)


@settings(max_examples=40)
@given(st.floats(0, 1))
def test_the_bar_is_as_long_as_the_share_of_macs(share: float) -> None:
    full, part = (cost_strip([x], width=640, height=20, history=120) for x in (1.0, share))
    middle = 10
    lengths = [int(bar_of(strip)[middle, :320].sum()) for strip in (full, part)]
    assert lengths[0] > 200
    assert lengths[1] == pytest.approx(share * lengths[0], abs=1)


def test_the_history_is_newest_at_the_right_and_as_high_as_the_share() -> None:
    strip = cost_strip([1.0, 0.0, 0.5], width=1000, height=20, history=10)
    half = bar_of(strip)[:, 510:]
    columns = half.sum(axis=0)
    seen = columns[columns > 0]
    assert seen.max() == half.any(axis=1).sum()
    assert seen[0] == seen.max()  # 1.0 three frames ago
    assert seen[-1] == pytest.approx(seen.max() / 2, abs=1)
    assert columns[-12] == seen[-1]  # the newest bar ends at the margin
    gap = columns[np.flatnonzero(columns)[0] : np.flatnonzero(columns)[-1]]
    assert (gap == 0).sum() > 20  # 0.0 between them


@pytest.mark.parametrize("size", [(1, 1), (12, 3), (12, 40), (60, 4000)])
def test_a_strip_of_any_size_is_drawn(size: tuple[int, int]) -> None:
    for values in ([], [0.0], [7.0], [0.1] * 500):
        assert cost_strip(values, width=size[1], height=size[0], history=120).shape == (*size, 3)


def test_letters_are_told_apart_and_unknown_ones_are_question_marks() -> None:
    letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ%.,:-+/_()?"
    patterns = {text_points(letter).tobytes() for letter in letters}
    assert len(patterns) == len(letters)
    np.testing.assert_array_equal(text_points("§"), text_points("?"))
    np.testing.assert_array_equal(text_points("a"), text_points("A"))
    assert text_points("AB", scale=3).shape == (15, 24)
    assert text_points("").shape == (5, 0)
    assert not text_points("W")[:, 3].any()


def test_blending_is_between_the_two() -> None:
    canvas = np.full((1, 3, 3), 100.0, dtype=np.float32)
    mixed = blend(canvas, np.array([200.0, 0.0, 100.0]), np.array([[0.0, 0.5, 1.0]]))
    np.testing.assert_allclose(mixed[0], [[100, 100, 100], [150, 50, 100], [200, 0, 100]])


# --- tables


def test_the_table_of_a_plan_has_every_step_and_the_reason_of_a_dense_one() -> None:
    class Sorted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sort(nn.functional.relu(x), dim=-1).values

    plan = make_plan(Sorted(), torch.zeros(1, 3, 4, 5), name="a [bold]name[/bold]")
    text = text_of(explain_table(plan, native_forms(plan)))
    assert "a [bold]name[/bold]" in text  # no markup is read from names
    dense = [step for step in plan.steps if step.form == "dense"]
    assert dense
    for step in plan.steps:
        assert step.name in text
    assert f"dense: {dense[0].reason[:30]}" in text
    assert f"1 of {len(plan.steps)} steps are dense" in text


def test_the_table_of_a_run_says_what_cut_it_short() -> None:
    _, stream = opened()
    model = net()
    frames = [torch.rand(1, 3, H, W)] * 3
    text = text_of(run_table(follow(stream, frames, verify=True, reference=model, model="net", video="clip")))
    assert "threshold 0" in text
    assert "argmax agreement" in text

    def stopped() -> Any:
        yield frames[0]
        raise KeyboardInterrupt

    assert "1 (interrupted)" in text_of(run_table(follow(stream, stopped())))
    assert text_of(run_table(follow(stream, [])))


def test_numbers_in_words() -> None:
    assert [macs(x) for x in (0, 999, 1.5e3, 2.25e6, 3e9, 4.5e12)] == [
        "0",
        "999",
        "1.5 k",
        "2.25 M",
        "3 G",
        "4.5 T",
    ]
    assert number(None, ".2f") == "-"
    assert number(1.234, ".2f", " x") == "1.23 x"
