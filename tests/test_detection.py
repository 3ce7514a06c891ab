"""Average precision against hand-computed cases and a plain definition; agreement against brute force."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from saccade.errors import MissingExtraError
from saccade.evaluate.detection import Detections, average_precision, box_iou, matched_f1


def detections(*rows: tuple[float, ...]) -> Detections:
    """Rows are x0, y0, x1, y1, label and, for predictions, score."""
    table = torch.tensor([(*row, 1.0)[:6] for row in rows], dtype=torch.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 5], table[:, 4].long())


NONE = detections()
A, B = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 50.0, 10.0)


def scattered(rng: np.random.Generator, count: int, *, classes: int = 2) -> Detections:
    corner = rng.uniform(0, 12, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(3, 12, (count, 2))], axis=1).astype(np.float32)
    scores = rng.permutation(np.linspace(0.1, 0.9, count)).astype(np.float32)
    return Detections(*map(torch.from_numpy, (boxes, scores, rng.integers(0, classes, count))))


def plain_iou(a: list[float], b: list[float]) -> float:
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    tall = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * tall
    return wide * tall / both


def plain_ap(predictions: list[Detections], targets: list[Detections], *, label: int, iou: float) -> float:
    """COCO's definition in plain Python: best first, each takes the free target it overlaps most."""
    truth = {
        (i, k): target.boxes[k].tolist()
        for i, target in enumerate(targets)
        for k in range(len(target))
        if target.labels[k] == label
    }
    rows = [
        (float(found.scores[k]), i, found.boxes[k].tolist())
        for i, found in enumerate(predictions)
        for k in range(len(found))
        if found.labels[k] == label
    ]
    free, hits = dict(truth), []
    for _, frame, box in sorted(rows, key=lambda row: -row[0]):
        fits = [(plain_iou(box, b), key) for key, b in free.items() if key[0] == frame]
        best = max(fits, default=(0.0, None))
        hits.append(best[0] >= iou)
        if hits[-1]:
            del free[best[1]]
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    recall = found / len(truth)
    steps = [max(precision[recall >= r - 1e-12], default=0.0) for r in np.linspace(0, 1, 101)]
    return float(np.mean(steps))


def test_the_truth_itself_scores_one_and_nothing_scores_zero() -> None:
    targets = [detections((*A, 0), (*B, 2)), NONE, detections((*A, 2))]
    best = average_precision(targets, targets)
    assert (best.ap, best.ap50, best.ap75) == pytest.approx((1, 1, 1))
    assert best.per_class == pytest.approx({0: 1.0, 2: 1.0})
    worst = average_precision([NONE, NONE, NONE], targets)
    assert (worst.ap, worst.ap50, worst.ap75, worst.per_class) == (0, 0, 0, {0: 0, 2: 0})
    wrong_label = average_precision([detections((*A, 1)), NONE, NONE], targets)
    assert wrong_label.ap == 0


def test_hand_computed() -> None:
    targets = [detections((*A, 0), (*B, 0))]
    # One of two found, nothing wrong: precision 1 at the 51 recall steps 0, 0.01 ... 0.5, and 0 beyond.
    assert average_precision([detections((*A, 0, 0.9))], targets).ap50 == pytest.approx(51 / 101)
    # A false box that is surer halves the precision there; one that is less sure costs nothing.
    false = (70.0, 0.0, 80.0, 9.0, 0)
    surer = average_precision([detections((*A, 0, 0.5), (*false, 0.9))], targets)
    unsure = average_precision([detections((*A, 0, 0.5), (*false, 0.1))], targets)
    assert (surer.ap50, unsure.ap50) == pytest.approx((0.5 * 51 / 101, 51 / 101))
    # An overlap of 0.62 counts at 0.50, 0.55 and 0.60 of the ten thresholds.
    loose = average_precision([detections((0, 0, 10, 6.2, 0, 0.9))], [detections((*A, 0))])
    assert (loose.ap, loose.ap50, loose.ap75) == pytest.approx((0.3, 1.0, 0.0))


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_a_plain_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = [scattered(rng, int(rng.integers(1, 7))) for _ in range(5)]
    predictions = []
    for target in targets:
        moved = target.boxes + torch.from_numpy(rng.normal(0, 0.7, target.boxes.shape).astype(np.float32))
        extra = scattered(rng, 3)
        scores = torch.from_numpy(rng.random(len(target) + 3).astype(np.float32))
        predictions.append(
            Detections(torch.cat([moved, extra.boxes]), scores, torch.cat([target.labels, extra.labels]))
        )
    labels = sorted({int(x) for target in targets for x in target.labels})
    got = average_precision(predictions, targets)
    for name, iou in (("ap50", 0.5), ("ap75", 0.75)):
        expected = np.mean([plain_ap(predictions, targets, label=k, iou=iou) for k in labels])
        assert getattr(got, name) == pytest.approx(expected, abs=1e-9)
    steps = np.arange(10) * 0.05 + 0.5
    for k in labels:
        expected = np.mean([plain_ap(predictions, targets, label=k, iou=iou) for iou in steps])
        assert got.per_class[k] == pytest.approx(expected, abs=1e-9)
    assert got.ap == pytest.approx(np.mean(list(got.per_class.values())))


def test_ignored_truth_is_neither_missed_nor_false() -> None:
    targets, marks = [detections((*A, 0), (*B, 0))], [torch.tensor([False, True])]
    without, with_it = [detections((*A, 0, 0.5))], [detections((*A, 0, 0.5), (*B, 0, 0.9))]
    assert average_precision(without, targets, ignored=marks).ap == pytest.approx(1)
    assert average_precision(with_it, targets, ignored=marks).ap == pytest.approx(1)
    assert average_precision(without, targets).ap == pytest.approx(51 / 101)


def test_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    average_precision([detections((*A, 0))], [detections((*A, 0))])
    assert capfd.readouterr() == ("", "")


def test_misuse_is_told() -> None:
    with pytest.raises(ValueError, match="1 frames predicted, 2 of truth; expected the same frames"):
        average_precision([NONE], [NONE, NONE])
    with pytest.raises(ValueError, match="the truth holds no box that counts"):
        average_precision([NONE], [NONE])
    with pytest.raises(ValueError, match="1 and 0 frames; expected the same frames on both sides"):
        matched_f1([NONE], [])
    with pytest.raises(ValueError, match=r"boxes \(2, 4\), scores \(1,\), labels \(2,\)"):
        Detections(torch.zeros(2, 4), torch.zeros(1), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"labels are torch\.float32"):
        Detections(torch.zeros(2, 4), torch.zeros(2), torch.zeros(2))


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'saccade\[evaluate\]'"):
        average_precision([detections((*A, 0))], [detections((*A, 0))])


@pytest.mark.parametrize(("n", "m"), [(0, 3), (1, 1), (7, 13)])
def test_overlap_is_the_plain_one(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    a, b = scattered(rng, n).boxes, scattered(rng, m).boxes
    expected = [[plain_iou(x, y) for y in b.tolist()] for x in a.tolist()]
    torch.testing.assert_close(box_iou(a, b), torch.tensor(expected).reshape(n, m))
    point = torch.tensor([[3.0, 3.0, 3.0, 3.0]])
    assert box_iou(point, point).item() == 0


def brute_pairs(a: Detections, b: Detections, iou: float) -> int:
    """The largest number of pairs over every way to pair up."""
    small, large = (a, b) if len(a) <= len(b) else (b, a)
    overlaps: Tensor = box_iou(small.boxes, large.boxes)
    return max(
        sum(bool(overlaps[i, j] >= iou and small.labels[i] == large.labels[j]) for i, j in enumerate(order))
        for order in itertools.permutations(range(len(large)), len(small))
    )


@pytest.mark.parametrize("seed", range(20))
def test_agreement_is_the_best_pairing_and_obeys_its_laws(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = [scattered(rng, int(rng.integers(0, 6))) for _ in range(3)]
    b = [scattered(rng, int(rng.integers(0, 6))) for _ in range(3)]
    iou = float(rng.uniform(0.05, 0.5))
    total = sum(map(len, a)) + sum(map(len, b))
    pairs = sum(brute_pairs(x, y, iou) for x, y in zip(a, b, strict=True))
    score = matched_f1(a, b, iou=iou)
    assert score == pytest.approx(2 * pairs / total)
    assert score == matched_f1(b, a, iou=iou)
    assert matched_f1(a, a) == matched_f1(b, b) == 1
    mixed = []
    for x in b:
        order = torch.from_numpy(rng.permutation(len(x)))
        mixed.append(Detections(x.boxes[order], x.scores[order], x.labels[order]))
    assert matched_f1(a, mixed, iou=iou) == score
    assert matched_f1(a, b, iou=iou + 0.2) <= score


def test_agreement_gives_up_a_pair_when_that_makes_two() -> None:
    wide, left, right = (0.0, 0.0, 10.0, 10.0, 0.0), (0.0, 0.0, 6.0, 10.0, 0.0), (4.0, 0.0, 10.0, 10.0, 0.0)
    a, b = [detections(wide, left)], [detections(left, right)]  # `left` fits `left` only, `wide` fits both
    assert matched_f1(a, b) == matched_f1(b, a) == 1


def test_agreement_of_nothing() -> None:
    assert matched_f1([], []) == matched_f1([NONE], [NONE]) == 1
    assert matched_f1([detections((*A, 0))], [NONE]) == 0
    assert matched_f1([detections((*A, 0))], [detections((*A, 1))]) == 0
