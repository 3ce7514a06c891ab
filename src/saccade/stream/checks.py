"""What an executor refuses before it moves a state."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.graph.plan import Plan

NOTHING: Mapping[str, Tensor] = MappingProxyType({})  # no position is forced


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


def check_forced(plan: Plan, forced: Mapping[str, Tensor]) -> None:
    """Raises InputError where a mask of forced positions is not one of a value that a step of the plan computes."""
    computed = {name for step in plan.steps if step.gated and step.calls for name in step.outputs} if forced else set()
    for name, mask in forced.items():
        if name not in computed:
            raise InputError(
                f"positions of {name!r} are forced, which no step of {plan.name} computes; the names are those of the "
                "values of its steps that are neither an input nor moved data, as `print(plan)` lists them"
            )
        wanted = plan.values[name].mask_shape
        if tuple(mask.shape) != wanted or mask.dtype != torch.bool or mask.device.type != "cpu":
            raise InputError(
                f"the forced positions of {name!r} are a {mask.dtype} mask of shape {tuple(mask.shape)} on "
                f"{mask.device}, expected torch.bool, {wanted}, on the CPU"
            )
