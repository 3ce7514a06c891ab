"""What an anchor-based detector is trained towards: focal loss of the classes, Huber loss of the boxes.

Focal loss: Lin et al., "Focal loss for dense object detection" (ICCV 2017), Eq. 5; the matching of anchors is its
section 4. Box offsets and the weights of the two losses are EfficientDet's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.errors import InputError

NOTHING, IGNORED = -1, -2  # labels of anchors that hold nothing, and of those that are not learnt from


class Truth(Protocol):
    """One picture's objects: `boxes` (N, 4) xyxy pixels, `labels` (N,) int64, `ignored` (N,) bool: not to be learnt."""

    @property
    def boxes(self) -> Tensor: ...  # noqa: D102

    @property
    def labels(self) -> Tensor: ...  # noqa: D102

    @property
    def ignored(self) -> Tensor: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class AnchorTargets:
    """What each of M anchors of a picture should give.

    `labels` (M,) int64: a class, -1 for nothing, -2 for an anchor that is not learnt from. `offsets` (M, 4): y, x,
    log height, log width of the matched box relative to the anchor; zeros elsewhere.
    """

    labels: Tensor
    offsets: Tensor


@dataclass(frozen=True, eq=False)
class DetectionLoss:
    """`total` = `classes` + box weight x `boxes`, each a scalar per positive anchor of the batch."""

    total: Tensor
    classes: Tensor
    boxes: Tensor


def match_anchors(truth: Truth, anchors: Tensor, *, positive: float = 0.5, negative: float = 0.4) -> AnchorTargets:
    """Returns the targets of one picture.

    An anchor takes the box it overlaps most (the first of equals) if their IoU is at least `positive`; it holds
    nothing if that IoU is below `negative`; in between it is not learnt from. The anchor a box overlaps most is that
    box's in any case, so that no box goes unlearnt (of two such boxes the later one's); boxes that touch no anchor
    are left out. Other anchors with half of their area in an ignored box are not learnt from.

    Args:
        truth: the picture's boxes.
        anchors: `(M, 4)` as (y0, x0, y1, x1) in pixels.
        positive: least IoU of a match.
        negative: least IoU of an anchor that is not learnt as holding nothing.

    Raises:
        InputError: boxes, labels and marks do not agree, or the thresholds are not 0 <= negative <= positive <= 1.
    """
    _check_truth(truth)
    if not 0 <= negative <= positive <= 1:
        raise InputError(f"match_anchors: got {positive=}, {negative=}; expected 0 <= negative <= positive <= 1")
    places = anchors[:, [1, 0, 3, 2]]
    areas = _area(places)
    labels = torch.full((len(anchors),), NOTHING, dtype=torch.int64, device=anchors.device)
    offsets = torch.zeros_like(anchors)
    marks = truth.ignored.to(anchors.device, torch.bool)
    given = truth.boxes.to(anchors)
    boxes, classes = given[~marks], truth.labels.to(anchors.device)[~marks]
    if marks.any():
        labels[_shared_area(given[marks], places).amax(0) >= 0.5 * areas] = IGNORED
    if not len(boxes):
        return AnchorTargets(labels, offsets)
    shared = _shared_area(boxes, places)
    overlap = shared / (_area(boxes)[:, None] + areas - shared)
    best, owner = overlap.max(0)
    labels[(best >= negative) & (best < positive)] = IGNORED
    taken = best >= positive
    for box, (value, anchor) in enumerate(zip(*(found.tolist() for found in overlap.max(1)), strict=True)):
        if value > 0:
            owner[anchor] = box
            taken[anchor] = True
    labels[taken] = classes[owner[taken]]
    offsets[taken] = _encode(boxes[owner[taken]], anchors[taken])
    return AnchorTargets(labels, offsets)


def detection_loss(
    outputs: tuple[Sequence[Tensor], Sequence[Tensor]],
    truths: Sequence[Truth],
    *,
    anchors: Tensor,
    classes: int,
    positive: float = 0.5,
    negative: float = 0.4,
    alpha: float = 0.25,
    gamma: float = 1.5,
    delta: float = 0.1,
    box_weight: float = 50.0,
) -> DetectionLoss:
    """Returns the loss of an EfficientDet's outputs.

    With p the score of an anchor and class and p_t = p where that class is there, 1 - p elsewhere, the class loss is
    the sum of -alpha_t (1 - p_t)^gamma log p_t over anchors that are learnt from, the box loss the sum of the Huber
    loss (quadratic up to `delta`) of the offsets of positive anchors over 4; both over 1 + positive anchors.

    Args:
        outputs: per level class logits `(N, A * classes, h, w)` and offsets `(N, A * 4, h, w)`; for clips
            `(B, T, ...)`, in which case `truths` are those of the first clip's frames, then the second's ...
        truths: one per picture.
        anchors: `(M, 4)` as (y0, x0, y1, x1) in pixels, in the order of the outputs (`EfficientDet.anchors`).
        classes: number of classes.
        positive: as `match_anchors`.
        negative: as `match_anchors`; EfficientDet's own training has 0.5.
        alpha: weight of what is there; 1 - alpha is that of what is not.
        gamma: how much less what is already right counts.
        delta: where the Huber loss becomes linear.
        box_weight: of the box loss in the total.

    Raises:
        InputError: numbers of pictures, anchors or classes do not agree.
    """
    logits, offsets = (_rows(maps, width) for maps, width in zip(outputs, (classes, 4), strict=True))
    if logits.shape[:2] != offsets.shape[:2] or logits.shape[1] != len(anchors):
        raise InputError(
            f"detection_loss: got logits of {tuple(logits.shape[:2])} pictures x anchors and offsets of "
            f"{tuple(offsets.shape[:2])}; expected {len(anchors)} anchors in both. Give the anchors and the number of "
            "classes of the network that made the outputs"
        )
    if len(truths) != len(logits):
        raise InputError(f"detection_loss: got {len(truths)} truths for {len(logits)} pictures; expected one each")
    wrong = [label for truth in truths for label in truth.labels.tolist() if not 0 <= label < classes]
    if wrong:
        raise InputError(f"detection_loss: got a label {wrong[0]}; expected classes 0 to {classes - 1}")
    matched = [match_anchors(truth, anchors, positive=positive, negative=negative) for truth in truths]
    labels = torch.stack([target.labels for target in matched])
    wanted = torch.stack([target.offsets for target in matched]).to(offsets)
    found = labels >= 0
    count = found.sum() + 1.0
    learnt = (labels != IGNORED).to(logits)[..., None]
    there = logits[found].gather(1, labels[found][:, None])  # the few that are; everything else is not
    class_loss = (
        (1 - alpha) * ((_focal(logits, gamma) * learnt).sum() - _focal(there, gamma).sum())
        + alpha * _focal(-there, gamma).sum()
    ) / count
    box_loss = F.huber_loss(offsets[found], wanted[found], delta=delta, reduction="sum") / (4 * count)
    return DetectionLoss(class_loss + box_weight * box_loss, class_loss, box_loss)


def _focal(logits: Tensor, gamma: float) -> Tensor:
    """Returns p^gamma * -log(1 - p) for p = sigmoid(logits): the loss of what is not there."""
    cost = F.softplus(logits)
    return torch.exp(gamma * (logits - cost)) * cost


def _rows(maps: Sequence[Tensor], width: int) -> Tensor:
    """Returns `(N, M, width)` from maps `(..., A * width, h, w)`, by levels, rows, columns, anchors."""
    for level in maps:
        if level.ndim < 4 or level.shape[-3] % width:
            raise InputError(
                f"detection_loss: got an output {tuple(level.shape)}; expected (N, A * {width}, h, w) for a whole "
                f"number A of anchors"
            )
    flat = [level.reshape(-1, *level.shape[-3:]) for level in maps]
    return torch.cat([level.permute(0, 2, 3, 1).reshape(len(level), -1, width) for level in flat], dim=1)


def _encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Returns offsets (N, 4) of boxes (N, 4) xyxy to anchors (N, 4) yxyx."""
    boxes = boxes[:, [1, 0, 3, 2]]
    extent, wanted = anchors[:, 2:] - anchors[:, :2], (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)
    centre = (boxes[:, :2] + boxes[:, 2:] - anchors[:, :2] - anchors[:, 2:]) / 2
    return torch.cat([centre / extent, (wanted / extent).log()], dim=1)


def _shared_area(boxes: Tensor, places: Tensor) -> Tensor:
    """Returns the area (N, M) that boxes (N, 4) and (M, 4), xyxy, have in common; plane by plane, which is fastest."""
    left, top, right, bottom = boxes.T[:, :, None]
    x0, y0, x1, y1 = places.T.contiguous()
    width = torch.minimum(right, x1).sub_(torch.maximum(left, x0)).clamp_(min=0)
    return torch.minimum(bottom, y1).sub_(torch.maximum(top, y0)).clamp_(min=0).mul_(width)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


def _check_truth(truth: Truth) -> None:
    count = len(truth.labels)
    if truth.boxes.shape != (count, 4) or truth.labels.shape != (count,) or truth.ignored.shape != (count,):
        raise InputError(
            f"match_anchors: got boxes {tuple(truth.boxes.shape)}, labels {tuple(truth.labels.shape)}, ignored "
            f"{tuple(truth.ignored.shape)}; expected (N, 4), (N,) and (N,) with one N"
        )
