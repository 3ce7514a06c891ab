"""Key-frame interleaving: the network runs on every k-th frame, its result stands until the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from saccade.errors import InputError
from saccade.graph.mac_counter import MacCounter
from saccade.rivals.ledger import ClipRun, check_clip


def key_frames(network: Callable[[Tensor], Any], clip: Tensor, *, every: int) -> ClipRun:
    """Returns the outputs of the network on frames 0, k, 2k, ..., repeated until the next of them.

    Args:
        network: takes pictures (N, C, H, W), returns tensors whose first axis is theirs.
        clip: (B, T, C, H, W).
        every: k; 1 runs every frame.

    Returns:
        Outputs (B, T, ...); the macs of the network on key frames, 0 on the others.

    Raises:
        InputError: the clip is no clip, `every` no whole number from 1, or an output has another first axis.
    """
    check_clip(clip, every)
    keys = clip[:, ::every]
    with MacCounter() as counted:
        outputs = network(keys.flatten(0, 1))
    batch, frames, number = clip.shape[0], clip.shape[1], keys.shape[1]
    held = torch.arange(frames, device=clip.device) // every

    def over_time(output: Tensor) -> Tensor:
        if output.ndim == 0 or output.shape[0] != batch * number:
            raise InputError(
                f"the network returned {tuple(output.shape)} for {batch * number} pictures; expected their number as "
                "the first axis"
            )
        return output.unflatten(0, (batch, number)).index_select(1, held)

    macs = torch.zeros(frames, dtype=torch.int64)
    macs[::every] = counted.macs // (batch * number)
    return ClipRun(pytree.tree_map_only(Tensor, over_time, outputs), macs)
