"""What a pose network is trained towards: heatmaps with a peak at every visible joint."""

from __future__ import annotations

from torch import Tensor

from saccade.errors import InputError
from saccade.evaluate.pose import joint_heatmaps


def pose_loss(heatmaps: Tensor, joints: Tensor, visible: Tensor, *, stride: int = 4, sigma: float = 2.0) -> Tensor:
    """Returns the mean squared error of the heatmaps of visible joints, a scalar; 0 when no joint is visible.

    Mean over the cells of a heatmap and over all visible joints of the batch: a joint counts the same wherever it is.

    Args:
        heatmaps: `(..., J, h, w)`, a network's.
        joints: `(..., J, 2)` xy in input pixels.
        visible: `(..., J)` bool; the other joints are not learnt.
        stride: input pixels per cell.
        sigma: of the peaks, in cells.

    Raises:
        InputError: the shapes do not agree.
    """
    lead = heatmaps.shape[:-2]
    if heatmaps.ndim < 3 or joints.shape != (*lead, 2) or visible.shape != lead:
        raise InputError(
            f"pose_loss: got heatmaps {tuple(heatmaps.shape)}, joints {tuple(joints.shape)} and visible "
            f"{tuple(visible.shape)}; expected (..., J, h, w), (..., J, 2) and (..., J)"
        )
    seen = visible.bool()
    size = (heatmaps.shape[-2], heatmaps.shape[-1])
    wanted = joint_heatmaps(joints, seen, size=size, stride=stride, sigma=sigma).to(heatmaps)
    error = (heatmaps - wanted).square().mean((-2, -1))
    return (error * seen).sum() / seen.sum().clamp(min=1)
