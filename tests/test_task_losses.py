"""The losses of the tasks, against float64 loops over their definition, and against effdet's own."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.train.detection_loss import IGNORED, NOTHING, detection_loss, match_anchors
from saccade.train.pose_loss import pose_loss

needs_effdet = pytest.mark.skipif(importlib.util.find_spec("effdet") is None, reason="effdet is not installed")


@dataclass(frozen=True, eq=False)
class Truth:
    boxes: Tensor
    labels: Tensor
    ignored: Tensor


def truth(count: int, *, seed: int, classes: int = 3, size: float = 40.0, ignore: float = 0.0) -> Truth:
    draw = torch.Generator().manual_seed(seed)
    start = torch.rand(count, 2, generator=draw, dtype=torch.float64) * size
    extent = 3 + torch.rand(count, 2, generator=draw, dtype=torch.float64) * size / 2
    return Truth(
        torch.cat([start, start + extent], 1),
        torch.randint(0, classes, (count,), generator=draw),
        torch.rand(count, generator=draw) < ignore,
    )


def grid_anchors(sides: tuple[tuple[int, int, float], ...], sizes: tuple[tuple[float, float], ...]) -> Tensor:
    """(M, 4) yxyx: per level (rows, columns, stride), per place one anchor for each (height, width) in strides."""
    found = []
    for rows, columns, stride in sides:
        for row in range(rows):
            for column in range(columns):
                for height, width in sizes:
                    y, x, h, w = (row + 0.5) * stride, (column + 0.5) * stride, height * stride, width * stride
                    found.append([y - h / 2, x - w / 2, y + h / 2, x + w / 2])
    return torch.tensor(found, dtype=torch.float64)


SIDES = ((7, 9, 8.0), (4, 5, 16.0))
SIZES = ((1.0, 1.0), (1.5, 3.0))
ANCHORS = grid_anchors(SIDES, SIZES)


# --- detection: which anchor should give what


def overlap_of(box: list[float], anchor: list[float]) -> tuple[float, float]:
    """IoU of an xyxy box with a yxyx anchor, and the share of the anchor inside the box."""
    x0, y0, x1, y1 = box
    a0, b0, a1, b1 = anchor[1], anchor[0], anchor[3], anchor[2]
    shared = max(0.0, min(x1, a1) - max(x0, a0)) * max(0.0, min(y1, b1) - max(y0, b0))
    area = (a1 - a0) * (b1 - b0)
    return shared / ((x1 - x0) * (y1 - y0) + area - shared), shared / area


def expected_targets(case: Truth, positive: float, negative: float) -> tuple[list[int], list[list[float]]]:
    boxes, labels, marks = case.boxes.tolist(), case.labels.tolist(), case.ignored.tolist()
    real = [k for k in range(len(boxes)) if not marks[k]]
    anchors = ANCHORS.tolist()
    owner: dict[int, int] = {}
    wanted = []
    for m, anchor in enumerate(anchors):
        overlaps = {k: overlap_of(boxes[k], anchor)[0] for k in real}
        best = max(overlaps.values(), default=0.0)
        state = NOTHING
        if any(overlap_of(boxes[k], anchor)[1] >= 0.5 for k in range(len(boxes)) if marks[k]):
            state = IGNORED
        if real and negative <= best < positive:
            state = IGNORED
        if real and best >= positive:
            owner[m] = next(k for k in real if overlaps[k] == best)
        wanted.append(state)
    for k in real:
        overlaps = [overlap_of(boxes[k], anchor)[0] for anchor in anchors]
        if max(overlaps) > 0:
            owner[overlaps.index(max(overlaps))] = k
    offsets = [[0.0] * 4 for _ in anchors]
    for m, k in owner.items():
        (y0, x0, y1, x1), (left, top, right, bottom) = anchors[m], boxes[k]
        wanted[m] = labels[k]
        offsets[m] = [
            ((top + bottom) / 2 - (y0 + y1) / 2) / (y1 - y0),
            ((left + right) / 2 - (x0 + x1) / 2) / (x1 - x0),
            math.log((bottom - top) / (y1 - y0)),
            math.log((right - left) / (x1 - x0)),
        ]
    return wanted, offsets


@pytest.mark.parametrize(("positive", "negative"), [(0.5, 0.4), (0.5, 0.5), (0.3, 0.1)])
@pytest.mark.parametrize(("count", "ignore"), [(0, 0.0), (1, 0.0), (7, 0.0), (9, 0.4), (3, 1.0)])
def test_anchors_are_matched_as_defined(count: int, ignore: float, positive: float, negative: float) -> None:
    for seed in range(3):
        case = truth(count, seed=100 * count + seed, ignore=ignore)
        got = match_anchors(case, ANCHORS, positive=positive, negative=negative)
        labels, offsets = expected_targets(case, positive, negative)
        assert got.labels.tolist() == labels
        torch.testing.assert_close(got.offsets, torch.tensor(offsets, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_no_box_goes_unlearnt_however_small_and_one_outside_is_left_out() -> None:
    tiny = Truth(torch.tensor([[20.0, 20.0, 21.0, 21.0], [500.0, 500.0, 510.0, 510.0]]), torch.tensor([2, 1]), _no(2))
    labels = match_anchors(tiny, ANCHORS).labels
    assert (labels == 2).sum() == 1
    assert (labels == 1).sum() == 0


@needs_effdet
def test_matches_and_losses_are_effdets() -> None:
    """With its rule (0.5 for both thresholds, nothing ignored) and its settings."""
    from saccade.zoo.efficientdet import efficientdet
    from saccade.zoo.torchvision_repair import import_extra

    model = efficientdet("tiny", classes=3, size=(64, 96))
    config = model.net.config  # type: ignore[union-attr]
    theirs = import_extra("effdet.anchors", extra="zoo")
    labeler = theirs.AnchorLabeler(theirs.Anchors.from_config(config), 3, match_threshold=0.5)
    cases = [truth(count, seed=count, size=45.0) for count in (1, 4, 8)]
    single = [Truth(case.boxes.float(), case.labels, case.ignored) for case in cases]
    labels, offsets, positives = labeler.batch_label_anchors(
        [case.boxes[:, [1, 0, 3, 2]] for case in single], [case.labels + 1 for case in single]
    )
    for n, case in enumerate(single):
        got = match_anchors(case, model.anchors, positive=0.5, negative=0.5)
        assert torch.equal(got.labels, torch.cat([level[n].flatten() for level in labels]))
        wanted = torch.cat([level[n].reshape(-1, 4) for level in offsets])
        torch.testing.assert_close(got.offsets, wanted, rtol=1e-4, atol=1e-5)
    draw = torch.Generator().manual_seed(1)
    outputs = tuple(
        [torch.randn(3, 6 * width, 64 // s, 96 // s, generator=draw) for s in (4, 8, 16)] for width in (3, 4)
    )
    total, classes, boxes = import_extra("effdet.loss", extra="zoo").DetectionLoss(config)(
        *outputs, labels, offsets, positives
    )
    got_loss = detection_loss(outputs, single, anchors=model.anchors, classes=3, negative=0.5)
    for mine, other in ((got_loss.total, total), (got_loss.classes, classes), (got_loss.boxes, boxes)):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


# --- detection: the loss


def drawn_outputs(pictures: int, classes: int, *, seed: int) -> tuple[list[Tensor], list[Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    maps = [
        [torch.randn(pictures, len(SIZES) * width, h, w, generator=draw, dtype=torch.float64) for h, w, _ in SIDES]
        for width in (classes, 4)
    ]
    return maps[0], maps[1]


def expected_loss(
    outputs: tuple[list[Tensor], list[Tensor]], cases: list[Truth], classes: int, *, alpha: float, gamma: float
) -> tuple[float, float]:
    class_sum, box_sum, count, delta = 0.0, 0.0, 0, 0.1
    for n, case in enumerate(cases):
        labels, offsets = expected_targets(case, 0.5, 0.4)
        m = 0
        for level, (rows, columns, _) in enumerate(SIDES):
            for row in range(rows):
                for column in range(columns):
                    for anchor in range(len(SIZES)):
                        for c in range(classes):
                            logit = outputs[0][level][n, anchor * classes + c, row, column].item()
                            p = 1 / (1 + math.exp(-logit))
                            p_t, alpha_t = (p, alpha) if labels[m] == c else (1 - p, 1 - alpha)
                            if labels[m] != IGNORED:
                                class_sum -= alpha_t * (1 - p_t) ** gamma * math.log(p_t)
                        if labels[m] >= 0:
                            count += 1
                            for k in range(4):
                                error = abs(outputs[1][level][n, anchor * 4 + k, row, column].item() - offsets[m][k])
                                box_sum += error**2 / 2 if error < delta else delta * (error - delta / 2)
                        m += 1
    return class_sum / (count + 1), box_sum / (4 * (count + 1))


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 1.5), (0.4, 2.0), (0.5, 0.0)])
def test_the_detection_loss_is_its_definition(alpha: float, gamma: float) -> None:
    cases = [truth(5, seed=1, ignore=0.3), truth(0, seed=2), truth(2, seed=3)]
    outputs = drawn_outputs(3, 3, seed=4)
    got = detection_loss(outputs, cases, anchors=ANCHORS, classes=3, alpha=alpha, gamma=gamma, box_weight=7.0)
    classes, boxes = expected_loss(outputs, cases, 3, alpha=alpha, gamma=gamma)
    assert float(got.classes) == pytest.approx(classes, rel=1e-9)
    assert float(got.boxes) == pytest.approx(boxes, rel=1e-9)
    assert float(got.total) == pytest.approx(classes + 7.0 * boxes, rel=1e-9)


def test_clips_and_pictures_have_one_loss() -> None:
    cases = [truth(count, seed=count) for count in (1, 2, 3, 4, 5, 6)]
    logits, offsets = drawn_outputs(6, 3, seed=5)
    clips = ([x.unflatten(0, (2, 3)) for x in logits], [x.unflatten(0, (2, 3)) for x in offsets])
    a = detection_loss((logits, offsets), cases, anchors=ANCHORS, classes=3)
    b = detection_loss(clips, cases, anchors=ANCHORS, classes=3)
    assert float(a.total) == float(b.total)


def test_what_is_ignored_has_no_gradient_and_what_is_sure_stays_finite() -> None:
    case = Truth(torch.tensor([[-9.0, -9.0, 99.0, 99.0]]), torch.tensor([0]), torch.tensor([True]))
    logits, offsets = drawn_outputs(1, 2, seed=6)
    logits = [x.requires_grad_() for x in logits]
    detection_loss((logits, offsets), [case], anchors=ANCHORS, classes=2).total.backward()
    share = match_anchors(case, ANCHORS).labels
    assert (share == IGNORED).all()
    assert all(x.grad is not None and not x.grad.any() for x in logits)
    sure = [torch.full_like(x, 200.0).requires_grad_() for x in logits]
    detection_loss((sure, offsets), [truth(3, seed=7, classes=2)], anchors=ANCHORS, classes=2).total.backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in sure)


def test_gradients_are_those_of_the_definition() -> None:
    cases = [truth(3, seed=8, classes=2)]
    logits, offsets = drawn_outputs(1, 2, seed=9)

    def total(*maps: Tensor) -> Tensor:
        return detection_loss((maps[:2], maps[2:]), cases, anchors=ANCHORS, classes=2).total

    inputs = [x.requires_grad_() for x in (*logits, *offsets)]
    assert torch.autograd.gradcheck(total, inputs, fast_mode=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": 2}, r"got an output|expected 166 anchors in both"),
        ({"anchors": ANCHORS[1:]}, r"expected 165 anchors in both"),
        ({"truths": []}, r"got 0 truths for 1 pictures"),
        (
            {"truths": [Truth(torch.zeros(1, 4), torch.tensor([3]), torch.tensor([False]))]},
            r"label 3; expected .* 0 to 2",
        ),
        (
            {"truths": [Truth(torch.zeros(2, 4), torch.tensor([1]), torch.tensor([False]))]},
            r"boxes \(2, 4\), labels \(1,\)",
        ),
        ({"negative": 0.6}, r"positive=0.5, negative=0.6; expected 0 <= negative <= positive"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(change: dict[str, object], said: str) -> None:
    given: dict[str, object] = {"truths": [truth(2, seed=1)], "anchors": ANCHORS, "classes": 3} | change
    truths = given.pop("truths")
    with pytest.raises(InputError, match=said):
        detection_loss(drawn_outputs(1, 3, seed=1), truths, **given)  # type: ignore[arg-type]


# --- pose


@pytest.mark.parametrize("shape", [(2, 3, 4, 6, 5), (3, 1, 7, 9)])
@pytest.mark.parametrize("share", [0.6, 1.0, 0.0])
def test_the_pose_loss_is_its_definition(shape: tuple[int, ...], share: float) -> None:
    draw = torch.Generator().manual_seed(len(shape))
    lead, (rows, columns) = shape[:-2], shape[-2:]
    heatmaps = torch.randn(*shape, generator=draw, dtype=torch.float64)
    joints = torch.rand(*lead, 2, generator=draw, dtype=torch.float64) * 30 - 3  # some lie outside
    visible = torch.rand(*lead, generator=draw) < share
    joints[~visible] = math.nan  # what nobody marked has no place
    total, count = 0.0, 0
    for index in torch.cartesian_prod(*(torch.arange(n) for n in lead)).tolist():
        if not visible[tuple(index)]:
            continue
        x, y = (float(value) / 3 for value in joints[tuple(index)])
        count += 1
        for row in range(rows):
            for column in range(columns):
                distance = (row + 0.5 - y) ** 2 + (column + 0.5 - x) ** 2
                error = heatmaps[(*index, row, column)].item() - math.exp(-distance / (2 * 1.5**2))
                total += error**2 / (rows * columns)
    got = pose_loss(heatmaps, joints, visible, stride=3, sigma=1.5)
    assert float(got) == pytest.approx(total / max(count, 1), rel=1e-5)  # the targets are float32


def test_unseen_joints_have_no_gradient() -> None:
    heatmaps = torch.randn(2, 3, 4, 4, requires_grad=True)
    visible = torch.tensor([[True, False, True], [False, False, False]])
    pose_loss(heatmaps, torch.full((2, 3, 2), 8.0), visible).backward()
    assert heatmaps.grad is not None
    assert torch.equal(heatmaps.grad.flatten(2).any(-1), visible)


def test_poses_that_do_not_fit_are_one_clear_error() -> None:
    joints, visible = torch.zeros(2, 5, 2), torch.ones(2, 5, dtype=torch.bool)
    with pytest.raises(InputError, match=r"heatmaps \(2, 4, 8, 8\), joints \(2, 5, 2\) and visible \(2, 5\)"):
        pose_loss(torch.zeros(2, 4, 8, 8), joints, visible)
    with pytest.raises(InputError, match=r"visible \(2, 4\); expected"):
        pose_loss(torch.zeros(2, 5, 8, 8), joints, visible[:, :4])


def _no(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.bool)
