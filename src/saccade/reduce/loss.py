"""The efficiency loss of VA-RED2 (eq. 6)."""

from __future__ import annotations

import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.reduce.policies import Policies


def efficiency_loss(policies: Policies, correct: Tensor, *, scale: float = 1.0) -> Tensor:
    """Returns L_e (eq. 6), the mean over the clips; add it to the task's loss times lambda_e (the paper: 0.8).

    For a clip that was classified correctly: (mu_0 sum_l C(f_l) / sum_k C(f_k) r_l / R_l)^2 over the reduced layers,
    r_l and 1 / R_l the shares of channels and frames that the largest option in use computes. For any other a
    constant, so that it presses on nothing.

    Args:
        policies: of the clips, while training.
        correct: (B,) bool, which were classified correctly.
        scale: mu_0.

    Raises:
        InputError: no layer is reduced, or there is not one answer per clip.
    """
    reduced = policies.reduced
    if not reduced:
        raise InputError("an efficiency loss needs reduced layers; convert the network first")
    if correct.shape != (policies.batch,):
        raise InputError(f"got {tuple(correct.shape)} answers for {policies.batch} clips; expected one per clip")
    whole = sum(use.macs for use in reduced)
    share = torch.stack([use.macs / whole * use.share() for use in reduced]).sum(0)
    cost = (scale * share).square()
    return torch.where(correct.to(cost.device), cost, torch.full_like(cost, scale**2)).mean()
