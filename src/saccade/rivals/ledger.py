"""What a rival gives for a clip, which `saccade.graph.mac_counter` counts the macs of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from saccade.errors import InputError, ModelError


@dataclass(frozen=True, eq=False)
class ClipRun:
    """What a rival gives for clips (B, T, C, H, W).

    Attributes:
        outputs: the network's outputs, every tensor (B, T, ...).
        macs: macs of each frame of one clip, (T,) int64; what is not macs is not in it.
        flow_ms: milliseconds per frame of work that has no macs (optical flow), 0 where there is none.
    """

    outputs: Any
    macs: Tensor
    flow_ms: float = 0.0

    @property
    def macs_per_frame(self) -> float:
        """Mean of `macs` over the clip."""
        return self.macs.double().mean().item()


def check_clip(clip: Tensor, every: int) -> None:
    """Raises InputError unless `clip` is (B, T, C, H, W), not empty, and `every` a positive whole number."""
    if clip.ndim != 5 or clip.shape[0] < 1 or clip.shape[1] < 1:
        raise InputError(f"a clip is (B, T, C, H, W) with at least one frame, got {tuple(clip.shape)}")
    if int(every) != every or every < 1:
        raise InputError(f"every={every}: expected a whole number of frames, 1 or more (1 computes every frame)")


def stack_frames(frames: list[Any]) -> Any:
    """Returns the outputs of T frames, each tensor (B, ...), as one structure with tensors (B, T, ...)."""
    first, spec = pytree.tree_flatten(frames[0])
    rows = [pytree.tree_leaves(frame) for frame in frames]
    leaves = [
        torch.stack([row[i] for row in rows], 1) if isinstance(first[i], Tensor) else first[i]
        for i in range(len(first))
    ]
    return pytree.tree_unflatten(leaves, spec)


def places(model: nn.Module, wanted: nn.Module) -> list[tuple[nn.Module, str]]:
    """Returns every (parent, attribute) at which the module `wanted` stands in `model`.

    Raises ModelError when it stands nowhere below: the model itself cannot be replaced in place.
    """
    found = [(parent, name) for parent in model.modules() for name, child in parent._modules.items() if child is wanted]
    if not found:
        raise ModelError(
            "the model is itself the layer to replace, which cannot be done in place. Wrap it: nn.Sequential(model)"
        )
    return found


def replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Puts `new` wherever `old` stands in `model`."""
    for parent, name in places(model, old):
        parent._modules[name] = new
