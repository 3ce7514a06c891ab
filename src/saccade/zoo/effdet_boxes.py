"""Boxes from EfficientDet's outputs, without effdet's own post-processing (which needs torchvision's nms)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from saccade.evaluate.detection import Detections
from saccade.zoo.street_detector import nms

CANDIDATES = 1000  # class scores per picture that suppression looks at, best first


def decode_effdet(
    outputs: tuple[Sequence[Tensor], Sequence[Tensor]],
    *,
    anchors: Tensor,
    classes: int,
    size: tuple[int, int],
    score_threshold: float = 0.3,
    iou_threshold: float = 0.5,
) -> list[Detections]:
    """Returns what was found in each picture, best first, in pixels of the input; labels count from 0.

    Args:
        outputs: per level class logits `(B, anchors * classes, h, w)`, and offsets `(B, anchors * 4, h, w)`:
            (y, x, log height, log width) relative to the anchor.
        anchors: `(N, 4)` as (y0, x0, y1, x1) in pixels, by levels, rows, columns, anchors.
        classes: number of classes.
        size: (height, width) of the input; boxes are cut to it.
        score_threshold: least score of a box.
        iou_threshold: of two boxes of one class that overlap by more, the better stays.
    """
    logits, offsets = (
        torch.cat([level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, last) for level in levels], dim=1)
        for levels, last in zip(outputs, (classes, 4), strict=True)
    )
    limit = torch.tensor([size[1], size[0], size[1], size[0]], dtype=offsets.dtype)
    found = []
    for picture_logits, picture_offsets in zip(logits, offsets, strict=True):
        scores = picture_logits.sigmoid().flatten()
        best = scores.topk(min(CANDIDATES, scores.numel())).indices
        best = best[scores[best] >= score_threshold]
        place, label, score = best // classes, best % classes, scores[best]
        boxes = torch.minimum(_boxes(picture_offsets[place], anchors[place]).clamp(min=0), limit)
        keep = nms(boxes, score, label, iou_threshold=iou_threshold)
        found.append(Detections(boxes[keep].float(), score[keep].float(), label[keep]))
    return found


def _boxes(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Returns boxes (N, 4) xyxy from offsets (N, 4) to anchors (N, 4) yxyx."""
    centre, extent = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
    centre = centre + offsets[:, :2] * extent
    extent = extent * offsets[:, 2:].exp()
    return torch.cat([(centre - extent / 2).flip(1), (centre + extent / 2).flip(1)], dim=1)
