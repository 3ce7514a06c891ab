"""What YOWO is trained towards: one actor's box and action in the last frame of each clip.

As YOLOv2 (arXiv 1612.08242, sections 2 and 3), which YOWO's loss follows: the cell that holds the box's centre and, in
it, the anchor whose shape is nearest to the box's are to find it, all others are to find nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.evaluate.detection import box_iou
from saccade.zoo.yowo import STRIDE

THERE = 5.0  # how much more the one place that finds the box counts than one that finds nothing
FITS = 0.5  # intersection over union of a box that is right


def region_loss(outputs: Tensor, boxes: Tensor, labels: Tensor, *, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss, the mean over clips, and which clips (B,) were answered right: action, and box by FITS.

    Args:
        outputs: YOWO's map (B, A (5 + classes), rows, columns).
        boxes: (B, 4) xyxy pixels; where one has no width or height nobody is to be found.
        labels: (B,).
        anchors: (A, 2), widths and heights in cells.
    """
    batch, _, rows, columns = outputs.shape
    maps = outputs.view(batch, len(anchors), -1, rows, columns)
    anchors, cells = anchors.to(outputs), boxes.to(outputs) / STRIDE
    middle, size = (cells[:, :2] + cells[:, 2:]) / 2, cells[:, 2:] - cells[:, :2]
    somebody = (size > 0).all(1)
    size = torch.where(somebody[:, None], size, torch.ones_like(size))
    anchor = shape_iou(size, anchors).argmax(1)
    limit = torch.tensor([columns - 1, rows - 1], device=outputs.device)
    place = torch.minimum(middle.long(), limit)
    each = torch.arange(batch, device=outputs.device)
    here = maps[each, anchor, :, place[:, 1], place[:, 0]]  # (B, 5 + classes)
    offset, shape = here[:, :2].sigmoid(), here[:, 2:4]
    off_box = F.smooth_l1_loss(offset, middle - place, reduction="none").sum(1)
    off_box = off_box + F.smooth_l1_loss(shape, (size / anchors[anchor]).log(), reduction="none").sum(1)
    off_class = F.cross_entropy(here[:, 5:], labels, reduction="none")
    wanted = torch.zeros_like(maps[:, :, 4])
    wanted[each, anchor, place[:, 1], place[:, 0]] = somebody.to(outputs)
    off_presence = F.binary_cross_entropy_with_logits(
        maps[:, :, 4], wanted, weight=1 + (THERE - 1) * wanted, reduction="none"
    ).sum((1, 2, 3))
    loss = (off_presence + somebody * (off_box + off_class)).mean()
    with torch.no_grad():
        half = shape.exp() * anchors[anchor] / 2
        found = torch.cat([place + offset - half, place + offset + half], 1)
        overlap = box_iou(found, cells).diagonal()
        right = somebody & (overlap > FITS) & (here[:, 5:].argmax(1) == labels)
    return loss, right


def shape_iou(sizes: Tensor, anchors: Tensor) -> Tensor:
    """Return the intersection over union (B, A) of sizes (B, 2) and anchors (A, 2) laid upon each other."""
    both = torch.minimum(sizes[:, None], anchors[None]).prod(2)
    return both / (sizes.prod(1)[:, None] + anchors.prod(1)[None] - both)
