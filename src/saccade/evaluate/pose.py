"""Pose measured: heatmaps to joints and back, and PCK, the share of joints found near enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PoseScores:
    """Shares of joints found, each in 0..1: `pck` is the mean of `per_joint` over the joints that occur.

    `per_joint` has one share per joint, NaN for a joint that is visible nowhere; `counted` says how many times
    each joint was visible. `pck` is NaN when none ever was.
    """

    pck: float
    per_joint: tuple[float, ...]
    counted: tuple[int, ...]


def pck(found: Tensor, joints: Tensor, visible: Tensor, box: Tensor, *, alpha: float = 0.2) -> PoseScores:
    """Return PCK@alpha: a joint is found when it is less than alpha * max(h, w) of the person's box away.

    Skip-Convolutions, section 4.2. `found` and `joints` are (..., J, 2) xy in pixels, `visible` (..., J) bool
    says which joints count, `box` (..., 4) is xyxy, one per person. A NaN place is not found. Raises ValueError
    when the shapes do not agree, and for a person with visible joints and a box without extent.
    """
    shape = joints.shape
    if (
        joints.ndim < 2
        or shape[-1] != 2
        or found.shape != shape
        or visible.shape != shape[:-1]
        or box.shape != (*shape[:-2], 4)
    ):
        raise ValueError(
            f"pck: found {tuple(found.shape)}, joints {tuple(shape)}, visible {tuple(visible.shape)}, box "
            f"{tuple(box.shape)}; expected (..., J, 2) twice, (..., J) and (..., 4)"
        )
    found, joints, box = (x.detach().double().cpu() for x in (found, joints, box))
    counts = visible.detach().bool().cpu()
    size = torch.maximum(box[..., 2] - box[..., 0], box[..., 3] - box[..., 1])
    bad = counts.any(-1) & ~(size > 0)
    if bad.any():
        raise ValueError(
            f"pck: {int(bad.sum())} persons with visible joints have a box without extent; expected x1 > x0 or "
            "y1 > y0. Mark their joints invisible, or give their boxes"
        )
    near = torch.linalg.vector_norm(found - joints, dim=-1) < alpha * size[..., None]
    kinds = shape[-2]
    hits = (near & counts).reshape(-1, kinds).sum(0).double()
    times = counts.reshape(-1, kinds).sum(0)
    shares = hits / times  # 0 / 0 is NaN
    return PoseScores(float(shares.nanmean()), tuple(shares.tolist()), tuple(times.tolist()))


def mean_over_splits(scores: Sequence[PoseScores]) -> PoseScores:
    """Return the mean of the scores of several splits (JHMDB has three), each weighing the same.

    A joint's share is the mean over the splits it occurs in. Raises ValueError without scores, or when the
    splits have different joints.
    """
    if len({len(score.per_joint) for score in scores}) != 1:
        kinds = [len(score.per_joint) for score in scores]
        raise ValueError(
            f"mean_over_splits: scores of {kinds} joints; expected at least one split, all with the same joints"
        )
    shares = torch.tensor([score.per_joint for score in scores], dtype=torch.float64).nanmean(0)
    counted = torch.tensor([score.counted for score in scores]).sum(0)
    overall = torch.tensor([score.pck for score in scores], dtype=torch.float64).nanmean()
    return PoseScores(float(overall), tuple(shares.tolist()), tuple(counted.tolist()))


def joint_heatmaps(
    joints: Tensor, visible: Tensor, *, size: tuple[int, int], stride: int = 4, sigma: float = 2.0
) -> Tensor:
    """Return training targets (..., J, h, w) for `size` (h, w): a Gaussian round each visible joint, 1 at its middle.

    `joints` (..., J, 2) are xy in input pixels, the first pixel's middle at 0.5; cell k of a heatmap covers the
    pixels from k * stride to (k + 1) * stride. `sigma` is in cells. The middle of the Gaussian is the joint
    itself, not the nearest cell's. Joints that are not `visible` (..., J) have heatmaps of zeros. Raises
    ValueError when the shapes do not agree.
    """
    if joints.ndim < 2 or joints.shape[-1] != 2 or visible.shape != joints.shape[:-1]:
        raise ValueError(
            f"joint_heatmaps: joints {tuple(joints.shape)} and visible {tuple(visible.shape)}; expected "
            "(..., J, 2) and (..., J)"
        )
    shown = visible.bool()
    places = torch.where(shown[..., None], joints, torch.zeros_like(joints)).float() / stride  # NaN may mark the unseen
    curves = []
    for axis, cells in ((0, size[1]), (1, size[0])):
        middles = torch.arange(cells, device=joints.device, dtype=torch.float32) + 0.5
        curves.append(torch.exp(-((middles - places[..., axis, None]) ** 2) / (2 * sigma**2)))
    return curves[1][..., :, None] * curves[0][..., None, :] * shown[..., None, None]


def heatmap_joints(heatmaps: Tensor, *, stride: int = 4) -> tuple[Tensor, Tensor]:
    """Return the joints (..., J, 2), xy in input pixels, and scores (..., J) of heatmaps (..., J, h, w).

    The highest cell, moved by a quarter of a cell towards its higher neighbour along each axis, as the HRNet
    family does; a cell at the edge, or between equal neighbours, is not moved along that axis. The first of
    several highest cells counts. The score is the cell's value. Pixels as in `joint_heatmaps`.
    Raises ValueError for a heatmap without cells.
    """
    if heatmaps.ndim < 2 or 0 in heatmaps.shape[-2:]:
        raise ValueError(f"heatmap_joints: heatmaps {tuple(heatmaps.shape)}; expected (..., J, h, w) with h, w >= 1")
    height, width = heatmaps.shape[-2:]
    flat = heatmaps.detach().flatten(-2)
    scores, best = flat.max(-1)
    row, column = best // width, best % width

    def towards(at: Tensor, cells: int, step: int) -> Tensor:
        inside = (at > 0) & (at < cells - 1)
        before = flat.gather(-1, torch.where(inside, best - step, best)[..., None])[..., 0]
        after = flat.gather(-1, torch.where(inside, best + step, best)[..., None])[..., 0]
        return 0.25 * torch.sign(after - before).float()

    x, y = column + towards(column, width, 1), row + towards(row, height, width)
    return (torch.stack([x, y], -1) + 0.5) * stride, scores
