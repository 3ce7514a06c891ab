"""Plots: the data behind the figures, where labels go, and one style that leaves the user's own alone."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.errors import InputError
from saccade.report.plot_labels import place_labels, spread
from saccade.report.plot_style import TINT, save_figure, style
from saccade.report.plots import (
    TINT_OPACITY,
    Curve,
    CurvePoint,
    accuracy_against_macs,
    firing_by_stage,
    gate_masks,
    tinted,
)

matplotlib = pytest.importorskip("matplotlib")


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


# --- gate masks


def test_a_mask_tints_the_share_of_the_picture_its_positions_cover() -> None:
    picture = np.random.default_rng(0).random((7, 11, 3))
    mask = np.random.default_rng(1).random((3, 4)) < 0.5
    drawn = tinted(picture, mask)
    for y, x in itertools.product(range(7), range(11)):
        fired = mask[y * 3 // 7, x * 4 // 11]
        opacity = TINT_OPACITY if fired else 0
        np.testing.assert_allclose(drawn[y, x], (1 - opacity) * picture[y, x] + opacity * np.array(TINT))


def test_masks_are_drawn_a_row_per_layer_and_a_column_per_frame() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 12, 3), dtype=np.uint8)
    first, second = np.zeros((3, 8, 12), bool), np.zeros((3, 2, 3), np.float32)
    first[0], second[2, 1, 2] = True, 1
    figure = gate_masks(frames, {"conv1": first, "deep": second})
    panels = np.array(figure.axes).reshape(3, 3)
    assert [row[0].get_ylabel() for row in panels] == ["frame", "conv1", "deep"]
    shown = [[panel.get_images()[0].get_array() for panel in row] for row in panels]
    np.testing.assert_allclose(shown[0][1], frames[1] / 255)
    faded = 0.45 * (frames / 255).mean(-1, keepdims=True).repeat(3, -1) + 0.55
    np.testing.assert_allclose(shown[1][1], faded[1])  # nothing fired
    np.testing.assert_allclose(shown[1][0], (1 - TINT_OPACITY) * faded[0] + TINT_OPACITY * np.array(TINT))
    changed = np.abs(shown[2][2] - faded[2]).max(-1) > 0
    expected = np.zeros((8, 12), bool)
    expected[4:, 8:] = True
    np.testing.assert_array_equal(changed, expected)
    assert [texts(panel) for panel in panels[1]] == [["100%"], ["0%"], ["0%"]]
    assert [texts(panel) for panel in panels[2]] == [["0%"], ["0%"], ["17%"]]
    assert texts(panels[0][0]) == []


def test_a_share_that_is_not_none_or_all_does_not_read_so() -> None:
    frames, mask = np.zeros((2, 30, 30, 3)), np.zeros((2, 30, 30), bool)
    mask[0, 0, 0], mask[1] = True, True
    mask[1, 0, 0] = False
    figure = gate_masks(frames, {"layer": mask})
    assert [texts(panel) for panel in figure.axes[2:]] == [["<1%"], ["99%"]]


def test_frames_and_masks_that_do_not_fit_are_refused() -> None:
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    with pytest.raises(InputError, match=r"\(3, 4, 4\); expected \(T, h, w\) with T = 2"):
        gate_masks(frames, {"layer": np.ones((3, 4, 4))})
    with pytest.raises(InputError, match="at least one layer"):
        gate_masks(frames, {})
    with pytest.raises(InputError, match=r"expected \(T, H, W, 3\)"):
        gate_masks(np.zeros((2, 3, 4, 4)), {"layer": np.ones((2, 4, 4))})
    with pytest.raises(InputError, match="reach from"):
        gate_masks(np.full((2, 4, 4, 3), 200.0), {"layer": np.ones((2, 4, 4))})


# --- firing by stage

SHARES = {
    5e-5: {"stem": 0.2, "stage 1": 0.3},
    1e-5: {"stage 1": 0.5, "stem": 0.6},
    1.5e-4: {"stem": 0.01, "stage 1": 0},
}


def test_firing_is_a_line_per_beta_over_the_stages() -> None:
    axes = firing_by_stage(SHARES).axes[0]
    lines = [list(line.get_ydata()) for line in axes.get_lines()]
    np.testing.assert_allclose(lines, [[60, 50], [20, 30], [1, 0]])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["stem", "stage 1"]
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > 60
    assert texts(axes) == ["β = 1e-5", "β = 5e-5", "β = 1.5e-4"]
    colours = [text.get_color() for text in axes.texts]
    assert colours == [line.get_color() for line in axes.get_lines()]
    assert len(set(colours)) == 3


def test_gates_that_never_fire_can_be_drawn() -> None:
    axes = firing_by_stage({0.01: {"all": 0.0}}).axes[0]
    assert axes.get_ylim()[0] == 0 < axes.get_ylim()[1]
    assert texts(axes) == ["β = 0.01"]


def test_shares_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="at least one beta"):
        firing_by_stage({})
    with pytest.raises(InputError, match=r"expected \['stem'\]"):
        firing_by_stage({1.0: {"stem": 0.1}, 2.0: {"head": 0.1}})
    with pytest.raises(InputError, match="expected 0 to 1"):
        firing_by_stage({1.0: {"stem": 10}})


# --- accuracy against macs

POINTS = [CurvePoint([4e9, 5e9, 6e9], [90.0, 92.0, 91.0]), CurvePoint([1e9, 1e9, 1e9], [80.0, 82.0, 84.0])]
DENSE = CurvePoint([10e9], [93.0])


def test_points_stand_at_the_mean_and_bars_reach_every_seed() -> None:
    axes = accuracy_against_macs([Curve("ours", POINTS)], dense=DENSE, accuracy="AP").axes[0]
    marked = axes.containers[0]
    np.testing.assert_allclose(marked[0].get_xdata(), [1, 5])  # by macs, in G
    np.testing.assert_allclose(marked[0].get_ydata(), [82, 91])
    along, up = ([segment for segment in bars.get_segments()] for bars in marked[2])
    np.testing.assert_allclose(along, [[[1, 82], [1, 82]], [[4, 91], [6, 91]]])
    np.testing.assert_allclose(up, [[[1, 80], [1, 84]], [[5, 90], [5, 92]]])
    level = next(line for line in axes.get_lines() if line.get_label() == "dense")
    assert list(level.get_ydata()) == [93, 93]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("G macs per frame", "AP")
    assert axes.get_xlim()[0] == 0
    assert axes.get_xlim()[1] > 10
    assert texts(axes) == ["ours", "dense"]


def test_single_runs_have_no_bars_and_macs_may_be_logarithmic() -> None:
    curves = [Curve(f"method {i}", [CurvePoint([m * (i + 1)], [m / 1e6]) for m in (1e6, 2e7)]) for i in range(9)]
    axes = accuracy_against_macs(curves, unit=1e6, log=True).axes[0]
    assert axes.get_xscale() == "log"
    assert axes.xaxis.get_major_formatter()(20.0, 0) == "20"
    assert all(not container[2] for container in axes.containers)
    looks = [(container[0].get_color(), container[0].get_marker()) for container in axes.containers]
    assert len(set(looks[:7])) == 7
    assert texts(axes) == [curve.method for curve in curves]


def test_labels_lie_within_the_axes_and_apart() -> None:
    curves = [Curve(f"method {i}", [CurvePoint([x], [i + x / 1e10]) for x in (1e9, 4e9)]) for i in range(4)]
    figure = accuracy_against_macs(curves, dense=CurvePoint([6e9], [3.45]))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    frame = axes.get_window_extent()
    boxes = [text.get_window_extent() for text in axes.texts]
    for box in boxes:
        assert box.x0 >= frame.x0 - 1
        assert box.x1 <= frame.x1 + 1
        assert box.y0 >= frame.y0 - 1
        assert box.y1 <= frame.y1 + 1
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    level = axes.transData.transform((0, 3.45))[1]
    assert not any(box.y0 < level < box.y1 for box in boxes)
    for curve, box in zip(axes.containers, boxes, strict=False):
        ends = axes.transData.transform(np.array(curve[0].get_data()).T)
        assert not any(box.contains(*end) for end in ends)


def test_points_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="same seeds"):
        CurvePoint([1.0, 2.0], [1.0])
    with pytest.raises(InputError, match="finite"):
        CurvePoint([1.0], [float("nan")])
    with pytest.raises(InputError, match="ours has no points"):
        Curve("ours", [])
    with pytest.raises(InputError, match="0 curves"):
        accuracy_against_macs([])
    with pytest.raises(InputError, match="use log=False"):
        accuracy_against_macs([Curve("free", [CurvePoint([0.0], [1.0])])], log=True)


# --- labels


@settings(max_examples=25)
@given(st.integers(1, 5), st.integers(0, 10**6))
def test_labels_of_lines_with_room_cover_nothing(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    heights = 60.0 + 80 * rng.permutation(count)
    lines = [np.stack([np.sort(rng.uniform(100, 500, 4)), np.full(4, height)], 1) for height in heights]
    sizes = [(float(rng.uniform(20, 90)), 12.0) for _ in lines]
    boxes = place_labels(lines, sizes, within=(0, 0, 600, 520))
    for box, (width, height), line in zip(boxes, sizes, lines, strict=True):
        np.testing.assert_allclose((box[2] - box[0], box[3] - box[1]), (width, height))
        near = min(
            np.hypot(max(box[0] - x, 0, x - box[2]), max(box[1] - y, 0, y - box[3]))
            for x in np.linspace(line[0, 0], line[-1, 0], 200)
            for y in (line[0, 1],)
        )
        assert near <= 25  # beside its own line
        for other in lines:
            crosses = box[1] < other[0, 1] < box[3] and box[0] < other[-1, 0] and box[2] > other[0, 0]
            assert not crosses
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_a_label_gives_way_to_lines_and_to_the_edge() -> None:
    line = np.array([[50.0, 100.0], [200.0, 100.0]])
    wall = np.array([[215.0, 0.0], [215.0, 300.0]])
    sizes = [(60.0, 12.0)]
    free = place_labels([line], sizes, within=(0, 0, 400, 300))[0]
    assert free[0] > 200  # nothing beside it: to the right of its end
    beside_a_wall = place_labels([line], sizes, within=(0, 0, 400, 300), others=[wall])[0]
    assert beside_a_wall[2] < 215 or beside_a_wall[0] > 215
    at_the_edge = place_labels([line], sizes, within=(0, 0, 220, 300))[0]
    assert at_the_edge[2] <= 220
    for box in (beside_a_wall, at_the_edge):
        assert box[1] > 100 or box[3] < 100


@settings(max_examples=200)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=6), st.floats(0.1, 1.5))
def test_labels_moved_apart_keep_their_order_and_move_as_little_as_needed(centres: list[float], height: float) -> None:
    moved = spread(centres, height, low=-100, high=100)
    order = sorted(range(len(centres)), key=lambda i: centres[i])
    for before, after in itertools.pairwise(order):
        assert moved[after] - moved[before] >= height - 1e-9
    cost = sum((a - b) ** 2 for a, b in zip(moved, centres, strict=True))
    rng = np.random.default_rng(0)
    for _ in range(30):  # no small step that keeps them apart is nearer: the problem is convex
        other = [value + 0.05 * rng.standard_normal() for value in moved]
        if all(other[b] - other[a] >= height for a, b in itertools.pairwise(order)):
            assert sum((a - b) ** 2 for a, b in zip(other, centres, strict=True)) >= cost - 1e-9


def test_labels_moved_apart_stay_between_the_limits() -> None:
    np.testing.assert_allclose(spread([0.0, 0.0, 0.1], 1, low=0, high=10), [0, 1, 2])
    np.testing.assert_allclose(spread([10.0, 10.0], 1, low=0, high=10), [9, 10])


# --- style and files


def test_the_users_style_stays_and_does_not_reach_in() -> None:
    with matplotlib.rc_context({"font.size": 31.0, "axes.facecolor": "red"}):
        figure = firing_by_stage(SHARES)
        assert matplotlib.rcParams["font.size"] == 31
        assert figure.axes[0].get_facecolor() == (1, 1, 1, 1)
        with style():
            assert matplotlib.rcParams["font.size"] == 9
        assert matplotlib.rcParams["font.size"] == 31


def test_a_figure_is_written_twice_and_the_same_each_time(tmp_path: Path) -> None:
    written = [save_figure(firing_by_stage(SHARES), tmp_path / name) for name in ("new/v1.5", "b.png")]
    assert [path.name for path in (*written[0], *written[1])] == ["v1.5.png", "v1.5.svg", "b.png", "b.svg"]
    for a, b in zip(*written, strict=True):
        assert a.read_bytes() == b.read_bytes()
    assert written[0][0].read_bytes().startswith(b"\x89PNG")
