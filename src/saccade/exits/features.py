"""phi: what is known of one frame, from a backbone and the layer behind it (FrameExit, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saccade.errors import InputError


def frame_features(backbone: nn.Module, embed: nn.Linear, frames: Tensor) -> Tensor:
    """Returns phi, (N, D), of frames (N, ...), each by itself; a ReLU is the last of it.

    Args:
        backbone: from frames (N, ...) to features (N, features) or maps (N, features, ...), which are averaged.
        embed: from features to D.
        frames: as the backbone takes them.

    Raises:
        InputError: the backbone gives something else than `embed` takes.
    """
    found = backbone(frames)
    if not isinstance(found, Tensor) or found.dim() < 2 or found.shape[:2] != (len(frames), embed.in_features):
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(
            f"the backbone returned {got} for {len(frames)} frames; expected ({len(frames)}, {embed.in_features}), or "
            "maps of as many channels: make the model with the number of its features"
        )
    return torch.relu(embed(found.flatten(2).mean(2) if found.dim() > 2 else found))
