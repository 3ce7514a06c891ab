"""`saccade::gated_convolution`: the convolution a gate decides on, as an operator that torch.export carries.

The operator has no memory. Called as it is, it gives a reference frame: the whole convolution. What a gate does with
the frames after that (Skip-Convolutions, eq. 3-8) is defined by `saccade.skip` on clips, and done by a stream that
finds the operator in its plan.
"""

from __future__ import annotations

import torch
from torch import Tensor

GATED = "saccade.gated_convolution.default"


@torch.library.custom_op("saccade::gated_convolution", mutates_args=())
def gated_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    gate_weight: Tensor,
    gate_bias: Tensor,
    norm: bool,
    block: int,
    form: str,
) -> Tensor:
    """Returns the convolution of x, every position of it.

    Args:
        x: (B, C, H, W), or (B, C, D, H, W).
        weight, bias, stride, padding, dilation, groups: as of a convolution.
        gate_weight: (1, C, kernel...), or (1, 1, kernel...) where `norm`; the gate's own convolution has this layer's
            stride, padding and dilation, and no groups.
        gate_bias: (1,). The gate fires where its convolution plus this is more than 0.
        norm: whether the gate's convolution reads sum_c |r| instead of r, the change of x since the last frame.
        block: side of the square of positions, in H and W, that fire together; in 3D each depth is on its own.
        form: "residual" (z += w * r where the gate fires) or "refresh" (z = w * x + bias there).
    """
    return torch.ops.aten.convolution.default(
        x, weight, bias, stride, padding, dilation, False, [0] * len(stride), groups
    )


@gated_convolution.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    gate_weight: Tensor,
    gate_bias: Tensor,
    norm: bool,
    block: int,
    form: str,
) -> Tensor:
    return torch.ops.aten.convolution.default(
        x, weight, bias, stride, padding, dilation, False, [0] * len(stride), groups
    )
