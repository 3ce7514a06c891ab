"""Maps warped along a flow: T and T~ of the generalised residuals (Skip-Convolutions, section 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.errors import InputError

READS_PER_VALUE = 4  # a bilinear sample


def warp(value: Tensor, flow: Tensor) -> Tensor:
    """Returns a map sampled bilinearly where the flow points; beyond its edges the edge goes on.

    Args:
        value: (N, C, h, w).
        flow: (N, 2, H, W), x and y in pixels of a picture of H x W, which the map covers: the result at a place is the
            map at that place + flow.

    Raises:
        InputError: the map does not have four axes, or another N than the flow.
    """
    if value.ndim != 4 or flow.ndim != 4 or value.shape[0] != flow.shape[0] or flow.shape[1] != 2:
        raise InputError(
            f"got a value {tuple(value.shape)} to move along a flow {tuple(flow.shape)}; expected a map (N, C, h, w) "
            "and (N, 2, H, W)"
        )
    height, width = value.shape[2:]
    small = F.interpolate(flow.to(value.dtype), size=(height, width), mode="area")
    x = torch.arange(width, device=value.device) + small[:, 0] * (width / flow.shape[3])
    y = torch.arange(height, device=value.device)[:, None] + small[:, 1] * (height / flow.shape[2])
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    return F.grid_sample(value, grid, mode="bilinear", padding_mode="border", align_corners=False)


def warp_macs(value: Tensor) -> int:
    """Returns the macs of warping one map (N, C, h, w): four for each value, two for each place of the flow."""
    places = value.shape[2] * value.shape[3]
    return places * (READS_PER_VALUE * value.shape[1] + 2)
