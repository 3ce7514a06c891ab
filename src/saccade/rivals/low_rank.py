"""A convolution as two of lower rank: spatial SVD and weight SVD.

A convolution of a k_h x k_w kernel becomes

- ``spatial``: k_h x 1 to R channels, then 1 x k_w (Jaderberg et al. 2014, "Speeding up convolutional neural networks
  with low rank expansions"), from the singular vectors of the kernel seen as a (C_in k_h) x (C_out k_w) matrix;
- ``weight``: k_h x k_w to R channels, then 1 x 1 (Zhang et al. 2015, "Accelerating very deep convolutional networks"),
  from those of the (C_in k_h k_w) x C_out matrix.

Either is the nearest of its rank: the squared error of the kernel is the sum of the squared singular values left out.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from saccade.errors import InputError

Kind = Literal["spatial", "weight"]


class KernelSVD:
    """The singular values and vectors of one convolution's kernel, from which a pair of any rank is made.

    Raises InputError for a grouped or transposed convolution, or an unknown kind.

    Args:
        conv: a 2d convolution with groups = 1.
        kind: "spatial" or "weight".

    Attributes:
        values: singular values, largest first, (full rank,) float64.
    """

    def __init__(self, conv: nn.Conv2d, kind: Kind) -> None:
        if kind not in ("spatial", "weight"):
            raise InputError(f"kind={kind!r}: expected 'spatial' or 'weight'")
        if conv.groups != 1 or conv.transposed:
            raise InputError(f"{conv}: only convolutions with groups=1, not transposed, are decomposed")
        self._conv, self._kind = conv, kind
        w = conv.weight.detach().double()
        self._outputs, self._inputs, height, width = w.shape
        self._kernel = (height, width)
        if kind == "spatial":  # rows (C_in, k_h), columns (C_out, k_w)
            matrix = w.permute(1, 2, 0, 3).reshape(self._inputs * height, self._outputs * width)
        else:  # rows (C_in, k_h, k_w), columns C_out
            matrix = w.reshape(self._outputs, -1).T
        self._left, self.values, self._right = torch.linalg.svd(matrix, full_matrices=False)

    @property
    def full_rank(self) -> int:
        """The rank at which the pair equals the layer."""
        return len(self.values)

    def kernel_error(self, rank: int) -> float:
        """Returns |w - w_rank| / |w|, from the singular values left out."""
        whole = self.values.norm().item()
        return self.values[rank:].norm().item() / whole if whole else 0.0

    def pair(self, rank: int) -> nn.Sequential:
        """Returns the two convolutions of this rank; 1 <= rank <= full rank, else InputError."""
        if not 1 <= rank <= self.full_rank:
            raise InputError(f"rank {rank}: expected 1 to {self.full_rank}")
        conv, (height, width) = self._conv, self._kernel
        root = self.values[:rank].sqrt()  # on both sides: neither part starts with tiny weights if training goes on
        left, right = self._left[:, :rank] * root, root[:, None] * self._right[:rank]
        options: dict[str, Any] = {
            "padding_mode": conv.padding_mode,
            "device": conv.weight.device,
            "dtype": conv.weight.dtype,
        }
        along: dict[str, Any] = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation}
        if self._kind == "spatial":
            down = _axis(along, 0)
            across = _axis(along, 1)
            first = nn.Conv2d(self._inputs, rank, (height, 1), bias=False, **down, **options)
            second = nn.Conv2d(rank, self._outputs, (1, width), bias=conv.bias is not None, **across, **options)
            first_weight = left.T.reshape(rank, self._inputs, height, 1)
            second_weight = right.reshape(rank, self._outputs, 1, width).transpose(0, 1)
        else:
            first = nn.Conv2d(self._inputs, rank, (height, width), bias=False, **along, **options)
            second = nn.Conv2d(rank, self._outputs, 1, bias=conv.bias is not None, **options)
            first_weight = left.T.reshape(rank, self._inputs, height, width)
            second_weight = right.T.reshape(self._outputs, rank, 1, 1)
        with torch.no_grad():
            first.weight.copy_(first_weight)
            second.weight.copy_(second_weight)
            if conv.bias is not None and second.bias is not None:
                second.bias.copy_(conv.bias)
        pair = nn.Sequential(first, second).train(conv.training)
        return pair.requires_grad_(conv.weight.requires_grad)


def _axis(settings: dict[str, Any], axis: int) -> dict[str, Any]:
    """Returns the settings along one axis and the neutral ones along the other; a padding by name stays."""
    neutral = {"stride": 1, "padding": 0, "dilation": 1}
    return {
        name: value if isinstance(value, str) else tuple(value[i] if i == axis else neutral[name] for i in range(2))
        for name, value in settings.items()
    }
