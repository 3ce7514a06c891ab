"""Classification measured: top-k accuracy, and average precision where a video may have several labels."""

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


def average_precision(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the average precision of every class, (C,) float64 in 0..1; NaN for a class that no sample has.

    It is the mean, over the samples of the class, of the precision among all samples that score at least as high as
    that one: the area under the steps of precision over recall, not interpolated. Samples of equal scores are taken
    together, so that their order does not matter.

    Args:
        scores: (N, C), any numbers that rise with how sure the model is of a class.
        targets: 1 or True where a sample has a class, else 0, (N, C); or class indices (N,) where each has one.

    Raises:
        ValueError: the shapes do not agree, there are no samples, a score is NaN, a target is neither 0 nor 1, or an
            index is no class.
    """
    own = _targets(scores, targets)
    found = torch.full((scores.shape[1],), torch.nan, dtype=torch.float64)
    for k in range(scores.shape[1]):
        column = scores[:, k].detach().double().cpu().contiguous()
        positive = column[own[:, k]]
        if len(positive):
            among = len(column) - torch.searchsorted(column.sort().values, positive)
            right = len(positive) - torch.searchsorted(positive.sort().values, positive)
            found[k] = (right.double() / among).mean()
    return found


def mean_average_precision(scores: Tensor, targets: Tensor) -> float:
    """Return the mean of `average_precision`, 0..1, over the classes that some sample has.

    This is the mAP of ActivityNet (untrimmed videos, softmax scores) and of HVU (sigmoid scores) in the papers on
    efficient video classification. Some of their codes count a class that no sample has as 0; here it does not count.

    Args:
        scores, targets: as of `average_precision`.

    Raises:
        ValueError: as `average_precision`, and when no sample has a class.
    """
    found = average_precision(scores, targets)
    if found.isnan().all():
        raise ValueError(f"mean_average_precision: none of {len(scores)} samples has a class")
    return float(found.nanmean())


def _targets(scores: Tensor, targets: Tensor) -> Tensor:
    """Return which sample has which class, (N, C) bool."""
    if scores.ndim != 2 or 0 in scores.shape or targets.shape not in (scores.shape, scores.shape[:1]):
        raise ValueError(
            f"average_precision: scores {tuple(scores.shape)} and targets {tuple(targets.shape)}; expected (N, C), and "
            "(N, C) or class indices (N,), with N and C >= 1"
        )
    if scores.isnan().any():
        raise ValueError("average_precision: there are NaN among the scores; they cannot be put in order")
    given = targets.detach().cpu()
    if given.ndim == 2:
        if not bool(((given == 0) | (given == 1)).all()):
            raise ValueError("average_precision: targets that are neither 0 nor 1")
        return given.bool()
    classes = torch.arange(scores.shape[1])
    found = given[:, None] == classes
    if not bool(found.any(1).all()):
        wrong = given[~found.any(1)][0]
        raise ValueError(f"average_precision: label {wrong.item()}; expected class indices 0 to {scores.shape[1] - 1}")
    return found
