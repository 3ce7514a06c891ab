"""The macs of anything that torch computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from saccade.graph.evaluating import evaluating

_aten = torch.ops.aten


class MacCounter(TorchDispatchMode):
    """Counts the macs of convolutions and matrix products that torch runs inside `with MacCounter() as counted:`.

    As the papers count: one per multiply-add of a convolution (transposed ones too), a linear layer or a product
    of matrices, whoever calls it; biases, norms, activations and pooling are free.

    Attributes:
        macs: the sum so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operator and adds its macs."""
        out = func(*args, **(kwargs or {}))
        self.macs += _operator_macs(func.overloadpacket, args, out)
        return out


def _operator_macs(operator: Any, args: Any, out: Any) -> int:
    if operator is _aten.convolution:
        transposed = args[6]
        return int((args[0] if transposed else out).numel() * args[1][0].numel())
    if operator in (_aten.mm, _aten.bmm, _aten.linear):
        return int(out.numel() * args[0].shape[-1])
    if operator in (_aten.addmm, _aten.baddbmm):
        return int(out.numel() * args[1].shape[-1])
    return 0


def count_macs(network: Callable[..., Any], *example: Any) -> int:
    """Returns the macs of one call `network(*example)`; a module is run in evaluation mode and left as it was."""
    with torch.no_grad(), evaluating(network), MacCounter() as counted:
        network(*example)
    return counted.macs
