"""A network run in evaluation mode for a while, and left as it was."""

from __future__ import annotations

from typing import Any

from torch import nn


class evaluating:  # noqa: N801 - a context, used like `torch.no_grad`
    """`with evaluating(network):` runs every module of it in evaluation mode, and gives each its own mode back."""

    def __init__(self, network: Any) -> None:
        self._modes = {m: m.training for m in network.modules()} if isinstance(network, nn.Module) else {}

    def __enter__(self) -> None:
        for module in self._modes:
            module.training = False

    def __exit__(self, *_: object) -> None:
        for module, training in self._modes.items():
            module.training = training
