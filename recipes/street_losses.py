"""What the street detector is trained towards: a peak per vehicle, and its box around the peak.

Peaks and their loss follow CornerNet (arXiv 1808.01244, eq. 1), peaks shaped to the box and boxes learnt all
around them TTFNet (arXiv 1909.00700, sections 3.2 and 3.3), the box loss generalised IoU (arXiv 1902.09630).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.zoo.street_detector import STRIDE, corners

PEAK_SHARE = 0.54  # of the box that its peak covers, TTFNet's alpha


@dataclass(frozen=True, eq=False)
class Truth:
    """One picture's vehicles: `boxes` (N, 4) xyxy pixels, `labels` (N,), `ignored` (N,) not to be learnt."""

    boxes: Tensor
    labels: Tensor
    ignored: Tensor

    def mirrored(self, width: int) -> Truth:
        """Return the truth of the picture flipped left to right."""
        left, top, right, bottom = self.boxes.unbind(1)
        return Truth(torch.stack([width - right, top, width - left, bottom], 1), self.labels, self.ignored)


@dataclass(frozen=True, eq=False)
class Targets:
    """What a batch should give, at the detector's stride.

    `peaks` (B, C, h, w) in 0..1, `counts` (B, 1, h, w) 0 where nothing is to be learnt, `boxes` (B, 4, h, w)
    xyxy pixels and their `weights` (B, h, w), which add up to 1 for each vehicle.
    """

    peaks: Tensor
    counts: Tensor
    boxes: Tensor
    weights: Tensor


def make_targets(truths: list[Truth], *, classes: int, height: int, width: int) -> Targets:
    """Return the targets of pictures of height x width pixels."""
    h, w, batch = height // STRIDE, width // STRIDE, len(truths)
    y, x = torch.arange(h)[:, None], torch.arange(w)[None, :]
    middle_y, middle_x = (y + 0.5) * STRIDE, (x + 0.5) * STRIDE
    peaks, counts = torch.zeros(batch, classes, h, w), torch.ones(batch, 1, h, w)
    boxes, weights, best = torch.zeros(batch, 4, h, w), torch.zeros(batch, h, w), torch.zeros(batch, h, w)
    for b, truth in enumerate(truths):
        for box, label, ignored in zip(truth.boxes, truth.labels, truth.ignored, strict=True):
            left, top, right, bottom = box.tolist()
            inside = (middle_x > left) & (middle_x < right) & (middle_y > top) & (middle_y < bottom)
            if ignored:
                counts[b, 0][inside] = 0
                continue
            column, row = int((left + right) / 2 / STRIDE), int((top + bottom) / 2 / STRIDE)
            sigma_x = (PEAK_SHARE * (right - left) / STRIDE + 1) / 6
            sigma_y = (PEAK_SHARE * (bottom - top) / STRIDE + 1) / 6
            peak = torch.exp(-((x - column) ** 2) / (2 * sigma_x**2) - (y - row) ** 2 / (2 * sigma_y**2))
            peak[peak < 0.01] = 0
            peaks[b, label] = torch.maximum(peaks[b, label], peak)
            near = inside & (peak > 0.05) & (peak > best[b])
            if near.any():
                best[b][near] = peak[near]
                boxes[b][:, near] = box[:, None]
                weights[b][near] = peak[near] / peak[near].sum()
    counts[peaks.amax(1, keepdim=True) > 0] = 1
    return Targets(peaks, counts, boxes, weights)


def peak_loss(logits: Tensor, targets: Targets) -> Tensor:
    """Return the focal loss of the score logits (B, C, h, w), per vehicle."""
    chance = logits.sigmoid()
    found = targets.peaks == 1
    hit = -F.logsigmoid(logits) * (1 - chance) ** 2
    miss = -F.logsigmoid(-logits) * chance**2 * (1 - targets.peaks) ** 4
    return (torch.where(found, hit, miss) * targets.counts).sum() / found.sum().clamp(min=1)


def box_loss(logs: Tensor, targets: Targets) -> Tensor:
    """Return 1 - generalised IoU of the log distances (B, 4, h, w), averaged around the vehicles' peaks."""
    where = targets.weights > 0
    boxes, truth = (t.movedim(1, -1)[where] for t in (corners(logs), targets.boxes))
    low, high = torch.maximum(boxes[:, :2], truth[:, :2]), torch.minimum(boxes[:, 2:], truth[:, 2:])
    overlap = (high - low).clamp(min=0).prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (truth[:, 2:] - truth[:, :2]).prod(1) - overlap
    around = torch.maximum(boxes[:, 2:], truth[:, 2:]) - torch.minimum(boxes[:, :2], truth[:, :2])
    hull = around.prod(1).clamp(min=1e-6)
    giou = overlap / union.clamp(min=1e-6) - (hull - union) / hull
    weight = targets.weights[where]
    return ((1 - giou) * weight).sum() / weight.sum().clamp(min=1e-6)
