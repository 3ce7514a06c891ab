"""A call's arguments as JSON data and back."""

from __future__ import annotations

import math
from typing import Any

import torch

from saccade.kernels.call import Ref

_TORCH_TYPES = {"dtype": torch.dtype, "layout": torch.layout, "memory_format": torch.memory_format}


def encode(tree: Any) -> Any:
    """Returns a call's argument tree as JSON data."""
    if isinstance(tree, Ref):
        return {"ref": tree.kind, "name": tree.name}
    if isinstance(tree, (list, tuple)):
        return [encode(item) for item in tree]
    if isinstance(tree, float) and not math.isfinite(tree):
        return {"float": str(tree)}
    for kind, cls in _TORCH_TYPES.items():
        if isinstance(tree, cls):
            return {kind: str(tree).removeprefix("torch.")}
    if isinstance(tree, torch.device):
        return {"device": str(tree)}
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    raise TypeError(f"a plan cannot hold an argument of type {type(tree).__name__}: {tree!r}")


def decode(data: Any) -> Any:
    """Returns the argument tree that `encode` made the data from."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if isinstance(data, dict):
        if "ref" in data:
            return Ref(data["ref"], data["name"])
        ((kind, value),) = data.items()
        if kind == "float":
            return float(value)
        if kind == "device":
            return torch.device(value)
        decoded = getattr(torch, value)
        if not isinstance(decoded, _TORCH_TYPES[kind]):
            raise ValueError(f"{value!r} is not a torch {kind}")
        return decoded
    return data
