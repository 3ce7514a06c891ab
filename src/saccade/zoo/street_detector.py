"""Small anchor-free vehicle detector trained on the rendered street.

Ordinary 3x3 and 1x1 convolutions, batch norm, ReLU, add and nearest upsampling only: no dilation, no pooling
over the frame and no normalisation over it, so a local change stays local as long as it can.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.data.street_vehicles import CLASSES
from saccade.errors import InputError
from saccade.evaluate.detection import Detections, box_iou
from saccade.zoo.shipped_weights import WEIGHTS_FOLDER, load_weights

STRIDE = 8
WEIGHTS = WEIGHTS_FOLDER / "street_detector.safetensors"


def _conv(inputs: int, outputs: int, *, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class StreetDetector(nn.Module):
    """Finds vehicles in pictures (B, 3, H, W) in 0..1; H and W must be multiples of 32.

    `forward` returns {"scores": (B, classes, H/8, W/8) logits, "boxes": (B, 4, H/8, W/8)}; the boxes are
    log(distance / 8 pixels) from the centre of the cell, at ((column + 0.5) * 8, (row + 0.5) * 8), to the
    left, top, right and bottom edge. `decode` turns them into boxes. Raises InputError for other sizes.
    """

    def __init__(self, *, classes: int = len(CLASSES)) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.stem = _conv(3, 16, stride=2)
        self.stage4 = nn.Sequential(_conv(16, 24, stride=2), _Residual(24))
        self.stage8 = nn.Sequential(_conv(24, 48, stride=2), _Residual(48), _Residual(48))
        self.stage16 = nn.Sequential(_conv(48, 64, stride=2), _Residual(64), _Residual(64))
        self.stage32 = nn.Sequential(_conv(64, 64, stride=2), _Residual(64), _Residual(64))
        self.lateral32 = nn.Conv2d(64, 48, 1)
        self.lateral16 = nn.Conv2d(64, 48, 1)
        self.lateral8 = nn.Conv2d(48, 48, 1)
        self.merge16 = _conv(48, 48)
        self.merge8 = _conv(48, 48)
        self.score_tower = _conv(48, 48)
        self.box_tower = _conv(48, 48)
        self.score = nn.Conv2d(48, classes, 1)
        self.box = nn.Conv2d(48, 4, 1)
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.constant_(self.score.bias, -4.0)  # type: ignore[arg-type]
        nn.init.normal_(self.box.weight, std=0.01)
        nn.init.constant_(self.box.bias, 1.0)  # type: ignore[arg-type]

    def forward(self, frame: Tensor) -> dict[str, Tensor]:
        """Return score logits and log distances for pictures (B, 3, H, W) in 0..1."""
        if frame.ndim != 4 or frame.shape[1] != 3 or frame.shape[2] % 32 or frame.shape[3] % 32:
            raise InputError(
                f"StreetDetector: got a tensor {tuple(frame.shape)}; expected (B, 3, H, W) with H and W "
                "multiples of 32; pad or crop the picture"
            )
        x8 = self.stage8(self.stage4(self.stem(frame)))
        x16 = self.stage16(x8)
        x32 = self.stage32(x16)
        up16 = F.interpolate(self.lateral32(x32), scale_factor=2.0, mode="nearest")
        y16 = self.merge16(self.lateral16(x16) + up16)
        y8 = self.merge8(self.lateral8(x8) + F.interpolate(y16, scale_factor=2.0, mode="nearest"))
        return {"scores": self.score(self.score_tower(y8)), "boxes": self.box(self.box_tower(y8))}


def corners(logs: Tensor) -> Tensor:
    """Return boxes (B, 4, h, w), xyxy in pixels, from the detector's log distances (B, 4, h, w)."""
    height, width = logs.shape[2:]
    x = (torch.arange(width, dtype=logs.dtype, device=logs.device) + 0.5) * STRIDE
    y = (torch.arange(height, dtype=logs.dtype, device=logs.device) + 0.5) * STRIDE
    left, top, right, bottom = (logs.clamp(max=6.0).exp() * STRIDE).unbind(1)
    return torch.stack([x - left, y[:, None] - top, x + right, y[:, None] + bottom], dim=1)


def nms(boxes: Tensor, scores: Tensor, labels: Tensor, *, iou_threshold: float) -> Tensor:
    """Return the indices of the boxes that stay, best first.

    A box stays when no better one of its label that stays overlaps it by more than `iou_threshold`; of equal
    scores the earlier is the better.
    """
    order = torch.sort(scores, descending=True, stable=True).indices
    overlap = box_iou(boxes[order], boxes[order]) > iou_threshold
    rivals = (overlap & (labels[order][:, None] == labels[order][None, :])).triu(diagonal=1)
    stays = torch.ones(len(order), dtype=torch.bool, device=boxes.device)
    for i in range(len(order)):
        if stays[i]:
            stays &= ~rivals[i]
    return order[stays]


def decode(outputs: dict[str, Tensor], *, score_threshold: float = 0.3, iou_threshold: float = 0.5) -> list[Detections]:
    """Return what was found in each of the B frames, best first, from the detector's outputs.

    Boxes are cut to the picture. A cell may hold several classes; suppression is per class (`nms`).
    """
    scores, boxes = outputs["scores"].sigmoid(), corners(outputs["boxes"])
    height, width = scores.shape[2] * STRIDE, scores.shape[3] * STRIDE
    limit = torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device)
    found = []
    for frame_scores, frame_boxes in zip(scores, boxes, strict=True):
        label, row, column = torch.nonzero(frame_scores >= score_threshold, as_tuple=True)
        score = frame_scores[label, row, column]
        box = torch.minimum(frame_boxes[:, row, column].T.clamp(min=0), limit)
        keep = nms(box, score, label, iou_threshold=iou_threshold)
        found.append(Detections(box[keep].float(), score[keep].float(), label[keep]))
    return found


def street_detector(*, pretrained: bool = True, weights: Path | None = None) -> StreetDetector:
    """Return the detector in evaluation mode, with the shipped weights unless `pretrained` is False.

    `weights` names another safetensors file. Raises FileFormatError when the file is missing, damaged or of
    another network.
    """
    model = StreetDetector()
    if pretrained or weights is not None:
        load_weights(model, weights or WEIGHTS, of="street detector", made_by="python -m recipes.street_detector")
    return model.eval()
