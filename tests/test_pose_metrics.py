"""PCK, heatmaps and accuracy against their plain definitions, one joint and one sample at a time."""

from __future__ import annotations

import math

import pytest
import torch

from saccade.data.puppets import PuppetConfig, render_puppets
from saccade.evaluate.classify import top_k_accuracy
from saccade.evaluate.pose import PoseScores, heatmap_joints, joint_heatmaps, mean_over_splits, pck


def brute_pck(
    found: list, joints: list, visible: list, box: list, alpha: float
) -> tuple[float, list[float], list[int]]:
    """Go through every person and joint; the mean is over the joints that occur."""
    kinds = len(joints[0])
    hit, seen = [0] * kinds, [0] * kinds
    for f, j, v, (x0, y0, x1, y1) in zip(found, joints, visible, box, strict=True):
        limit = alpha * max(y1 - y0, x1 - x0)
        for k in range(kinds):
            if v[k]:
                seen[k] += 1
                hit[k] += math.hypot(f[k][0] - j[k][0], f[k][1] - j[k][1]) < limit
    shares = [h / s if s else math.nan for h, s in zip(hit, seen, strict=True)]
    real = [s for s in shares if not math.isnan(s)]
    return sum(real) / len(real) if real else math.nan, shares, seen


@pytest.mark.parametrize(("clips", "frames", "kinds"), [(1, 1, 1), (3, 5, 15), (2, 7, 4)])
@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5])
def test_pck_is_the_plain_definition(clips: int, frames: int, kinds: int, alpha: float) -> None:
    torch.manual_seed(kinds)
    joints = torch.rand(clips, frames, kinds, 2) * 100
    found = joints + torch.randn_like(joints) * 12
    visible = torch.rand(clips, frames, kinds) < 0.7
    visible[..., -1] = kinds < 2  # a joint nobody shows
    box = torch.cat([torch.rand(clips, frames, 2) * 40, 60 + torch.rand(clips, frames, 2) * 60], -1)
    scores = pck(found, joints, visible, box, alpha=alpha)
    flat = [x.double().flatten(0, 1).tolist() for x in (found, joints, visible, box)]
    overall, shares, seen = brute_pck(*flat, alpha)
    assert scores.pck == pytest.approx(overall, abs=1e-12)
    assert scores.per_joint == pytest.approx(shares, abs=1e-12, nan_ok=True)
    assert list(scores.counted) == seen
    assert kinds == 1 or math.isnan(scores.per_joint[-1])


def test_pck_is_strict_takes_the_longer_side_and_takes_nan_for_a_miss() -> None:
    joints, box = torch.zeros(1, 4, 2), torch.tensor([[0.0, 0.0, 10.0, 40.0]])
    found = torch.tensor([[[8.0, 0.0], [7.99, 0.0], [0.0, -7.99], [math.nan, 0.0]]])
    visible = torch.ones(1, 4, dtype=torch.bool)
    assert pck(found, joints, visible, box).per_joint == (0.0, 1.0, 1.0, 0.0)
    assert pck(found, joints, visible, box[:, [0, 1, 3, 2]]).per_joint == (0.0, 1.0, 1.0, 0.0)
    nothing = pck(found, joints, ~visible, box)
    assert math.isnan(nothing.pck)
    assert nothing.counted == (0, 0, 0, 0)
    assert math.isnan(pck(found, joints, ~visible, box * 0).pck)  # nobody there, no box needed


def test_pck_refuses_what_does_not_fit() -> None:
    joints, visible, box = torch.zeros(2, 3, 2), torch.ones(2, 3, dtype=torch.bool), torch.tensor([[0.0, 0, 1, 1]] * 2)
    with pytest.raises(ValueError, match=r"found \(2, 2, 2\), joints \(2, 3, 2\).*expected \(\.\.\., J, 2\) twice"):
        pck(joints[:, :2], joints, visible, box)
    with pytest.raises(ValueError, match=r"box \(3, 4\)"):
        pck(joints, joints, visible, torch.zeros(3, 4))
    with pytest.raises(ValueError, match="1 persons with visible joints have a box without extent"):
        pck(joints, joints, visible, box * torch.tensor([[1.0], [0.0]]))


def test_the_mean_over_splits_weighs_splits_equally() -> None:
    nan = math.nan
    splits = [
        PoseScores(0.5, (0.5, nan), (9, 0)),
        PoseScores(1.0, (1.0, 1.0), (1, 1)),
        PoseScores(0.6, (0.3, 0.9), (2, 2)),
    ]
    mean = mean_over_splits(splits)
    assert mean.pck == pytest.approx(0.7)
    assert mean.per_joint == pytest.approx((0.6, 0.95))
    assert mean.counted == (12, 3)
    with pytest.raises(ValueError, match=r"\[1, 2\] joints; expected at least one split, all with the same joints"):
        mean_over_splits([PoseScores(0.5, (0.5,), (1,)), splits[0]])
    with pytest.raises(ValueError, match="at least one split"):
        mean_over_splits([])


@pytest.mark.parametrize(("size", "stride", "sigma"), [((7, 5), 4, 1.0), ((1, 1), 4, 2.0), ((13, 31), 3, 2.0)])
def test_targets_are_the_plain_gaussian(size: tuple[int, int], stride: int, sigma: float) -> None:
    torch.manual_seed(0)
    joints = torch.rand(2, 3, 2) * 50 - 5
    visible = torch.tensor([[True, False, True], [True, True, False]])
    joints[0, 1] = math.nan  # an unlabelled joint
    maps = joint_heatmaps(joints, visible, size=size, stride=stride, sigma=sigma)
    assert maps.shape == (2, 3, *size)
    for n in range(2):
        for j in range(3):
            for y in range(size[0]):
                for x in range(size[1]):
                    if not visible[n, j]:
                        assert maps[n, j, y, x] == 0
                        continue
                    dx, dy = (x + 0.5) - float(joints[n, j, 0]) / stride, (y + 0.5) - float(joints[n, j, 1]) / stride
                    wanted = math.exp(-(dx * dx + dy * dy) / (2 * sigma**2))
                    assert float(maps[n, j, y, x]) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 6), (5, 1), (2, 2), (7, 5)])
def test_decoding_is_the_plain_definition(h: int, w: int) -> None:
    torch.manual_seed(h * w)
    maps = torch.randint(0, 6, (40, 3, h, w)).float()  # many equal values
    joints, scores = heatmap_joints(maps, stride=4)
    for n in range(40):
        for j in range(3):
            grid = maps[n, j].tolist()
            top = max(max(row) for row in grid)
            y, x = next((y, x) for y in range(h) for x in range(w) if grid[y][x] == top)
            dx = dy = 0.0
            if 0 < x < w - 1:
                left, right = grid[y][x - 1], grid[y][x + 1]
                dx = 0.25 * ((right > left) - (right < left))
            if 0 < y < h - 1:
                above, below = grid[y - 1][x], grid[y + 1][x]
                dy = 0.25 * ((below > above) - (below < above))
            assert joints[n, j].tolist() == [4 * (x + 0.5 + dx), 4 * (y + 0.5 + dy)]
            assert float(scores[n, j]) == top


def test_decoding_finds_what_was_encoded() -> None:
    """Within a quarter of a cell and a little, for every place but the rim."""
    torch.manual_seed(1)
    joints = 8 + torch.rand(200, 2, 2) * 100
    maps = joint_heatmaps(joints, torch.ones(200, 2, dtype=torch.bool), size=(31, 30), stride=4)
    found, scores = heatmap_joints(maps, stride=4)
    assert float((found - joints).abs().max()) <= 1.0 + 1e-4
    assert float(scores.min()) > 0.9


def test_true_heatmaps_of_puppets_score_full_marks() -> None:
    video = render_puppets(PuppetConfig(seed=1, frames=3, height=64, width=96))
    joints, visible, box = (torch.from_numpy(x)[None] for x in (video.joints, video.visible, video.box))
    maps = joint_heatmaps(joints, visible, size=(16, 24))
    assert maps.shape == (1, 3, 15, 16, 24)
    assert pck(heatmap_joints(maps)[0], joints, visible, box).pck == 1.0


def test_heatmaps_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"joints \(3, 2\) and visible \(2,\)"):
        joint_heatmaps(torch.zeros(3, 2), torch.ones(2), size=(4, 4))
    with pytest.raises(ValueError, match=r"heatmaps \(2, 0, 4\); expected \(\.\.\., J, h, w\)"):
        heatmap_joints(torch.zeros(2, 0, 4))


@pytest.mark.parametrize(("count", "classes"), [(1, 1), (63, 5), (40, 17)])
def test_top_k_is_the_plain_definition(count: int, classes: int) -> None:
    torch.manual_seed(classes)
    scores = torch.randint(0, 7, (count, classes)).float()  # many equal scores
    labels = torch.randint(0, classes, (count,))
    for k in range(1, classes + 1):
        right = 0
        for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
            order = sorted(range(classes), key=lambda c, row=row: (-row[c], c))
            right += label in order[:k]
        assert top_k_accuracy(scores, labels, k=k) == pytest.approx(right / count)
    assert top_k_accuracy(scores, labels, k=classes) == 1.0
    assert top_k_accuracy(torch.full_like(scores, math.nan), labels, k=classes) == 0.0


def test_top_k_refuses_what_does_not_fit() -> None:
    scores = torch.zeros(3, 4)
    with pytest.raises(ValueError, match=r"scores \(3, 4\) and labels \(2,\)"):
        top_k_accuracy(scores, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="N >= 1"):
        top_k_accuracy(scores[:0], torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="k is 5; expected 1 to 4"):
        top_k_accuracy(scores, torch.zeros(3, dtype=torch.int64), k=5)
    with pytest.raises(ValueError, match="label 4; expected class indices 0 to 3"):
        top_k_accuracy(scores, torch.tensor([0, 4, 1]))
