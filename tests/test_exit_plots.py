"""Pictures of early exits: what stands where, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.errors import InputError
from saccade.report.exit_plots import contact_sheet, exit_matrix, precision_against_frames, watermelon
from saccade.report.plot_style import COLOURS


def test_circles_are_as_large_as_the_share_that_left_and_as_high_as_it_was_right() -> None:
    figure = watermelon({"early": ([60, 0, 30, 10], [60, 0, 15, 1]), "late": ([0, 0, 0, 4], [0, 0, 0, 3])})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["early", "late"]
    circles = [axes.collections[0] for axes in figure.axes]
    assert np.asarray(circles[0].get_offsets()) == pytest.approx(np.array([[1, 100], [3, 50], [4, 10]]))
    assert np.asarray(circles[1].get_offsets()) == pytest.approx(np.array([[4, 75]]))
    whole = circles[1].get_sizes()[0]  # everyone; the same scale in every row
    assert np.asarray(circles[0].get_sizes()) == pytest.approx(whole * np.array([0.6, 0.3, 0.1]))
    assert [text.get_text() for text in figure.axes[0].texts] == ["60%", "30%", "10%"]


def test_the_matrix_has_the_share_that_would_be_right_and_frames_what_was_answered() -> None:
    left = [4, 0, 2]
    right = [[3, 4, 4], [0, 0, 0], [0, 1, 2]]
    axes = exit_matrix(left, right).axes[0]
    shown = np.ma.filled(axes.images[0].get_array(), np.nan)
    assert shown[0] == pytest.approx([75, 100, 100])
    assert np.isnan(shown[1]).all()
    assert shown[2] == pytest.approx([0, 50, 100])
    assert [text.get_text() for text in axes.texts] == ["75", "100", "100", "0", "50", "100"]
    assert [patch.get_xy() for patch in axes.patches] == [(-0.5, -0.5), (1.5, 1.5)]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["1  (4)", "2  (0)", "3  (2)"]


def test_classes_stand_at_their_frames_and_precision_by_group() -> None:
    axes = precision_against_frames(
        [0.9, None, 0.5, float("nan")],
        [1.5, None, 8.0, float("nan")],
        classes=["pool", "stage", "red card", "golf"],
        groups=["easy", "easy", "hard", "medium"],
    ).axes[0]
    drawn = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
    assert drawn == {"easy": ([1.5], [90.0]), "hard": ([8.0], [50.0])}
    assert [text.get_text() for text in axes.texts] == ["pool", "red card"]
    assert {line.get_color() for line in axes.lines} == set(COLOURS[:2])
    assert precision_against_frames([0.9], [1.0], classes=["pool"]).axes[0].get_legend() is None


def test_a_contact_sheet_shows_every_picture_in_order_and_numbers_the_visits() -> None:
    video = np.random.default_rng(0).integers(0, 255, (5, 4, 6, 3), dtype=np.uint8)
    figure = contact_sheet(
        video, [2, 0, 2], answers=["golf", "pool", "golf"], sureness=[0.4, 0.551, 0.99], columns=3, title="a film"
    )
    panels = figure.axes
    assert len(panels) == 6
    for panel, picture in zip(panels[:5], video, strict=True):
        assert np.array_equal(np.asarray(panel.images[0].get_array()), picture)
    assert not panels[5].images
    assert [panel.get_title() for panel in panels] == ["2", "", "1, 3", "", "", ""]
    assert [len(panel.patches) for panel in panels] == [1, 0, 1, 0, 0, 0]
    assert [panel.images[0].get_alpha() == 1 for panel in panels[:5]] == [True, False, True, False, False]
    assert panels[2].patches[0].get_linewidth() > panels[0].patches[0].get_linewidth()  # left after the last visit
    assert panels[0].texts[0].get_text() == "pool\n55%"
    assert panels[2].texts[0].get_text() == "golf\n40%\ngolf\n99%"


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="got no settings"):
        watermelon({})
    with pytest.raises(InputError, match=r"a: left is \(2,\) and right \(3,\)"):
        watermelon({"a": ([1, 2], [1, 2, 3])})
    with pytest.raises(InputError, match="not all 0"):
        watermelon({"a": ([0, 0], [0, 0])})
    with pytest.raises(InputError, match="as many as left"):
        watermelon({"a": ([1, 2], [1, 3])})
    with pytest.raises(InputError, match=r"right is \(2, 3\); expected \(2, 2\)"):
        exit_matrix([1, 2], np.zeros((2, 3)))
    with pytest.raises(InputError, match="above the number of videos"):
        exit_matrix([1, 2], [[2, 0], [0, 0]])
    with pytest.raises(InputError, match="expected one of each"):
        precision_against_frames([0.5], [1.0, 2.0], classes=["a", "b"])
    with pytest.raises(InputError, match="at least one class"):
        precision_against_frames([None], [None], classes=["a"])
    with pytest.raises(InputError, match="precisions of 0 to 1"):
        precision_against_frames([90.0], [2.0], classes=["a"])
    with pytest.raises(InputError, match="got 8 groups"):
        precision_against_frames([0.5] * 8, [1.0] * 8, classes=list("abcdefgh"), groups=list("abcdefgh"))
    video = np.zeros((3, 4, 4, 3), np.uint8)
    with pytest.raises(InputError, match=r"expected uint8 \(N, H, W, 3\)"):
        contact_sheet(video / 255, [0], answers=["a"], sureness=[0.5])
    with pytest.raises(InputError, match="got 2 visits, 1 answers"):
        contact_sheet(video, [0, 1], answers=["a"], sureness=[0.5, 0.5])
    with pytest.raises(InputError, match="expected pictures 0 to 2"):
        contact_sheet(video, [3], answers=["a"], sureness=[0.5])
    with pytest.raises(InputError, match="expected 0 to 1, and at least 1"):
        contact_sheet(video, [0], answers=["a"], sureness=[50])
