"""Average precision, against a walk over all thresholds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from saccade.evaluate.classify import average_precision, mean_average_precision


def by_thresholds(scores: list[float], own: list[bool]) -> float:
    """Returns the area under the steps of precision over recall, in float64: one step per different score."""
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        above = [mine for score, mine in zip(scores, own, strict=True) if score >= threshold]
        reached = sum(above) / sum(own)
        area += (reached - recall) * sum(above) / len(above)
        recall = reached
    return area


@pytest.mark.parametrize(("samples", "classes", "levels"), [(1, 1, 2), (63, 7, 5), (127, 3, 2), (40, 11, 10**9)])
def test_average_precision_is_the_area_under_precision_over_recall(samples: int, classes: int, levels: int) -> None:
    rng = np.random.default_rng(samples)
    for _ in range(3):
        scores = rng.integers(0, levels, (samples, classes)).astype(np.float64)  # few levels: many ties
        targets = rng.random((samples, classes)) < rng.uniform(0.05, 0.9, classes)
        targets[0] = True
        wanted = [by_thresholds(scores[:, k].tolist(), targets[:, k].tolist()) for k in range(classes)]
        for given in (targets, targets.astype(np.float32), targets.astype(np.int64)):
            found = average_precision(torch.from_numpy(scores), torch.from_numpy(given))
            np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)
        assert mean_average_precision(torch.from_numpy(scores), torch.from_numpy(targets)) == pytest.approx(
            np.mean(wanted)
        )
        turned = torch.from_numpy(rng.permutation(samples))
        again = average_precision(torch.from_numpy(scores)[turned], torch.from_numpy(targets)[turned])
        np.testing.assert_allclose(again.numpy(), wanted, rtol=1e-12)


def test_average_precision_of_videos_with_one_label() -> None:
    rng = np.random.default_rng(3)
    scores, labels = rng.random((50, 6)).astype(np.float32), rng.integers(0, 5, 50)  # nothing is of class 5
    found = average_precision(torch.from_numpy(scores), torch.from_numpy(labels)).numpy()
    wanted = [by_thresholds(scores[:, k].tolist(), (labels == k).tolist()) for k in range(5)]
    np.testing.assert_allclose(found[:5], wanted, rtol=1e-12)
    assert np.isnan(found[5])
    mean = mean_average_precision(torch.from_numpy(scores), torch.from_numpy(labels))
    assert mean == pytest.approx(np.mean(wanted))
    # Only the order within a class counts.
    assert mean == mean_average_precision(torch.from_numpy(scores.astype(np.float64) ** 3), torch.from_numpy(labels))


def test_the_best_order_gives_1_and_the_worst_the_least() -> None:
    targets = torch.tensor([[1], [1], [0], [0]])
    scores = torch.tensor([[4.0], [3.0], [2.0], [1.0]])
    assert mean_average_precision(scores, targets) == 1
    assert mean_average_precision(-scores, targets) == pytest.approx((1 / 3 + 2 / 4) / 2)


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(3, 2), r"scores \(2, 3\) and targets \(3, 2\); expected \(N, C\)"),
        (torch.zeros(0, 3), torch.zeros(0, 3), "with N and C >= 1"),
        (torch.zeros(6), torch.zeros(6), "with N and C >= 1"),
        (torch.full((2, 3), torch.nan), torch.zeros(2, 3), "NaN among the scores"),
        (torch.zeros(2, 3), torch.full((2, 3), 0.5), "neither 0 nor 1"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), "label 3; expected class indices 0 to 2"),
        (torch.zeros(2, 3), torch.tensor([-1, 2]), "label -1; expected class indices 0 to 2"),
        (torch.zeros(2, 3), torch.zeros(2, 3), "none of 2 samples has a class"),
    ],
)
def test_scores_that_cannot_be_measured_are_refused(scores: torch.Tensor, targets: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_average_precision(scores, targets)
