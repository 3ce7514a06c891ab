"""The gates' own loss (eq. 9)."""

from __future__ import annotations

import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.skip.clip import Firing


def gate_loss(firing: Firing) -> Tensor:
    """Returns L_gate (eq. 9): the mean share of the network's macs its gates let through, reference frames left out.

    m_l is the layer's share of the macs of all convolutions and linear layers that ran, gated or not; each counts with
    the mean of its gate over positions, frames and clips. A layer without a gate adds nothing that can be learned and
    is left out of the sum.

    Raises:
        InputError: every frame of the clip was a reference frame, or no layer has a gate.
    """
    gated = [call for call in firing.calls if call.gated]
    later = (~firing.reference).nonzero().flatten()
    if not gated or not len(later):
        raise InputError(
            f"a gate loss needs gated layers and frames after the reference frame; got {len(gated)} gated calls and "
            f"{len(later)} such frames in a clip of {len(firing.reference)}"
        )
    shares = torch.stack([call.share[:, later.to(call.share.device)].mean() for call in gated])
    weights = torch.tensor([call.macs for call in gated], dtype=torch.float64) / firing.dense_macs
    return (shares * weights.to(shares)).sum()
