"""Pictures of policies: what stands where, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.errors import InputError
from saccade.report.policy_plots import cheapest_and_dearest, cost_by_class, policy_map


def test_a_policy_map_has_a_column_per_layer_and_a_row_per_class() -> None:
    shares = np.array([[0.0, 0.25, 0.5], [1.0, 0.75, 0.5]])
    axes = policy_map(shares, layers=["conv1", "conv2"], classes=["idle", "wave", "jump"]).axes[0]
    assert np.array_equal(np.asarray(axes.images[0].get_array()), shares.T)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["conv1", "conv2"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["idle", "wave", "jump"]
    assert axes.images[0].get_clim() == (0, 1)


def test_many_layers_are_numbered() -> None:
    axes = policy_map(np.ones((60, 1)), layers=[f"layer{i}" for i in range(60)], classes=["idle"]).axes[0]
    assert "order" in axes.get_xlabel()


def test_costs_stand_by_class_the_cheapest_first() -> None:
    axes = cost_by_class({"jump": [0.5, 0.7], "idle": [0.2, 0.3, 0.4]}).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["idle", "jump"]
    dots = [line for line in axes.lines if line.get_marker() == "."]
    assert [sorted(line.get_xdata()) for line in dots] == [pytest.approx([20, 30, 40]), pytest.approx([50, 70])]
    means = [line.get_xdata()[0] for line in axes.lines if line.get_marker() != "."]
    assert means == pytest.approx([30, 60])


def test_clips_stand_in_pairs_with_their_costs() -> None:
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 255, (7, 4, 5, 3), dtype=np.uint8) for _ in range(4)]
    figure = cheapest_and_dearest(
        {"idle": ((clips[0], 0.21), (clips[1], 0.4)), "jump": ((clips[2], 0.5), (clips[3], 0.99))}, frames=3
    )
    assert [axes.get_title() for axes in figure.axes] == ["cheapest: 21%", "dearest: 40%", "50%", "99%"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["idle", "", "jump", ""]
    for axes, clip in zip(figure.axes, clips, strict=True):
        assert np.array_equal(np.asarray(axes.images[0].get_array()), np.concatenate(list(clip[[0, 3, 6]]), axis=1))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"shares are \(2, 1\); expected 1 layers x 2 classes"):
        policy_map(np.ones((2, 1)), layers=["a"], classes=["b", "c"])
    with pytest.raises(InputError, match=r"from 0 to 1\.5; expected 0 to 1"):
        policy_map([[0.0, 1.5]], layers=["a"], classes=["b", "c"])
    with pytest.raises(InputError, match="each with at least one clip"):
        cost_by_class({"idle": []})
    with pytest.raises(InputError, match="got no clips"):
        cheapest_and_dearest({})
    with pytest.raises(InputError, match=r"expected uint8 \(T, H, W, 3\)"):
        cheapest_and_dearest({"idle": ((np.zeros((3, 4, 4, 3)), 0.1), (np.zeros((3, 4, 4, 3)), 0.2))})
