"""Classification measured: top-k accuracy."""

from __future__ import annotations

import torch
from torch import Tensor


def top_k_accuracy(scores: Tensor, labels: Tensor, *, k: int = 1) -> float:
    """Return the share, in 0..1, of samples whose true class is among the k best.

    `scores` (N, C) may be logits or probabilities, `labels` (N,) are class indices. Of classes with equal scores
    the lower index is the better one; a true class with a NaN score is never among the best. Raises ValueError
    when the shapes do not agree, without samples, for a label that is no class, and for k outside 1..C.
    """
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or len(labels) == 0:
        raise ValueError(
            f"top_k_accuracy: scores {tuple(scores.shape)} and labels {tuple(labels.shape)}; expected (N, C) and "
            "(N,) with N >= 1"
        )
    classes = scores.shape[1]
    if not 1 <= k <= classes:
        raise ValueError(f"top_k_accuracy: k is {k}; expected 1 to {classes}, the number of classes")
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        raise ValueError(f"top_k_accuracy: label {int(labels[wrong][0])}; expected class indices 0 to {classes - 1}")
    given = scores.detach()
    own = given.gather(1, labels[:, None].long())
    earlier = torch.arange(classes, device=given.device)[None] < labels[:, None]
    better = (given > own) | ((given == own) & earlier)
    return float(((better.sum(1) < k) & ~own[:, 0].isnan()).double().mean())
