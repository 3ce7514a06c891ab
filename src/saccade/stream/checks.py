"""What an executor refuses before it moves a state."""

from __future__ import annotations

import torch
from torch import Tensor

from saccade.errors import InputError


def refuse_not_finite(name: str, tensor: Tensor, frame: int) -> None:
    """Raises InputError where a frame holds NaN or infinite values: they would stay in the stream for ever.

    Args:
        name: the input's name.
        tensor: what was given for it.
        frame: the frame's number.
    """
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        bad = int((~torch.isfinite(tensor)).sum())
        raise InputError(
            f"input {name!r} of frame {frame} holds {bad} NaN or infinite values, expected finite ones; the frame was "
            "not used and the stream is where it was. Check the preprocessing (a division by 0?)"
        )
