"""The gates' own loss (eq. 9), and the one for layers whose outputs are warped (section 3.3)."""

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


def equivariance_loss(firing: Firing) -> Tensor:
    """Returns how far the layers are from taking a warped input for a warped output, (); 0 where they all do.

    The mean square of w * T(x_{t-1}) - T~(w * x_{t-1}) in each gated layer, mean over layers and over all frames but
    reference frames. What a layer gives for T(x) + r is w * T(x) + w * r and what it keeps is T~(z) + w * r: section
    3.3 asks that the two be pulled together and leaves the measure open.

    Raises:
        InputError: no layer measured it: the clip was run without `flow=` and `equivariance=True`, or has reference
            frames only.
    """
    measured = [call.equivariance for call in firing.calls if call.equivariance is not None]
    if not measured:
        raise InputError(
            "no layer measured its equivariance; run the clip with flow= and equivariance=True, and with frames after "
            "the reference frame"
        )
    return torch.stack(measured).mean()
