"""What FrameExit learns from: the losses of its classifiers and gates, and the gates' pseudo-labels (eq. 4 to 7)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.errors import InputError
from saccade.exits.model import Outputs, Stage


def exit_losses(outputs: Outputs, labels: Tensor, *, beta: float, stage: Stage = "all") -> dict[str, Tensor]:
    """Returns scalars by name, means over the videos; "loss" is the one to minimise.

    It is L_cls (eq. 4) in stage "classifiers", L_gate (eq. 5) in stage "gates", and their sum (eq. 7) in stage "all".
    Both are there by name too: "classification", "gate", and "exits", the share of pseudo-labels that say exit.

    Args:
        outputs: of a model, (B, t, ...).
        labels: as of `classification_losses`.
        beta: as of `exit_thresholds`.
        stage: what is being trained, `model.stage`.

    Raises:
        InputError: as `classification_losses` and `exit_thresholds`.
    """
    each = classification_losses(outputs.logits, labels)
    targets = pseudo_labels(each, beta=beta)
    classification, gate = each.mean(), gate_loss(outputs.gate_logits, targets)
    total = {"classifiers": classification, "gates": gate, "all": classification + gate}[stage]
    exits = targets.float().mean()
    return {"loss": total, "classification": classification, "gate": gate, "exits": exits}


def classification_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns l_cls of every video and classifier, (B, t), of which eq. 4 is the mean.

    Args:
        logits: (B, t, K).
        labels: of videos with one label, class indices (B,) int64, for the cross entropy; of videos with several, 0 or
            1 for every class (B, K), for the binary cross entropy, of which the mean over the classes is taken.

    Raises:
        InputError: the shapes do not agree, or an index is no class.
    """
    if logits.dim() != 3 or 0 in logits.shape:
        raise InputError(f"got logits {tuple(logits.shape)}; expected (B, t, K), none of them 0")
    batch, frames, classes = logits.shape
    if labels.shape == (batch,) and not labels.is_floating_point():
        if not bool(((labels >= 0) & (labels < classes)).all()):
            raise InputError(f"got labels {int(labels.min())} to {int(labels.max())}; expected 0 to {classes - 1}")
        repeated = labels.long()[:, None].expand(batch, frames)
        return F.cross_entropy(logits.flatten(0, 1), repeated.flatten(), reduction="none").unflatten(0, (batch, frames))
    if labels.shape == (batch, classes):
        wanted = labels.to(logits.dtype)[:, None].expand_as(logits)
        return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(2)
    raise InputError(
        f"got labels {labels.dtype} {tuple(labels.shape)} for logits {tuple(logits.shape)}; expected class indices "
        f"({batch},), or 0 and 1 for each class ({batch}, {classes})"
    )


def exit_thresholds(frames: int, *, beta: float) -> Tensor:
    """Returns eps_t = beta exp(t / 2) for t = 1 to `frames`, float64.

    Args:
        frames: how many.
        beta: more than 0; the larger, the earlier videos are left (the paper: 1e-6 to 1e-2).

    Raises:
        InputError: beta is not more than 0.
    """
    if not beta > 0:
        raise InputError(f"beta is {beta}; expected more than 0")
    return beta * torch.exp(torch.arange(1, frames + 1, dtype=torch.float64) / 2)


def pseudo_labels(losses: Tensor, *, beta: float) -> Tensor:
    """Returns y_t of the gates, (B, t) bool: whether the t-th classifier's loss is at most eps_t (eq. 6).

    Args:
        losses: of `classification_losses`, (B, t).
        beta: as of `exit_thresholds`.

    Raises:
        InputError: beta is not more than 0.
    """
    return losses.detach() <= exit_thresholds(losses.shape[1], beta=beta).to(losses.device)


def gate_loss(gate_logits: Tensor, targets: Tensor) -> Tensor:
    """Returns L_gate (eq. 5), the mean binary cross entropy of gates (B, t) and pseudo-labels (B, t)."""
    return F.binary_cross_entropy_with_logits(gate_logits, targets.to(gate_logits.dtype))
