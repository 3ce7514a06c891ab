"""Detection measured: COCO average precision against truth, and agreement between two detectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saccade.errors import MissingExtraError


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """What was found in one frame.

    `boxes` (N, 4) float32 xyxy pixels, `scores` (N,) float32 in 0..1, `labels` (N,) int64 class indices.
    Truth is written the same way, with scores of 1. Raises ValueError when the shapes do not agree.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        """Check that the shapes agree."""
        count = self.boxes.shape[0] if self.boxes.ndim else -1
        if self.boxes.shape != (count, 4) or self.scores.shape != (count,) or self.labels.shape != (count,):
            raise ValueError(
                f"Detections: boxes {tuple(self.boxes.shape)}, scores {tuple(self.scores.shape)}, labels "
                f"{tuple(self.labels.shape)}; expected (N, 4), (N,) and (N,) with one N"
            )
        if self.labels.is_floating_point():
            raise ValueError(f"Detections: labels are {self.labels.dtype}; expected whole numbers (int64)")

    def __len__(self) -> int:
        """Return N."""
        return int(self.boxes.shape[0])

    def __repr__(self) -> str:
        """Show N."""
        return f"Detections({len(self)})"


@dataclass(frozen=True)
class DetectionScores:
    """COCO's scores, each in 0..1: `ap` is the mean over IoU 0.50:0.05:0.95 and over classes.

    `per_class` maps the index of every class that occurs in the truth to its AP (0.50:0.95).
    """

    ap: float
    ap50: float
    ap75: float
    per_class: dict[int, float]


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the intersection over union (N, M) of boxes (N, 4) and (M, 4), xyxy; 0 where both are empty."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).clamp(min=0).prod(-1) for x in (a, b))
    union = area_a[:, None] + area_b[None, :] - overlap
    return torch.where(union > 0, overlap / union.clamp(min=1e-12), torch.zeros_like(overlap))


def matched_f1(a: Sequence[Detections], b: Sequence[Detections], *, iou: float = 0.5) -> float:
    """Return how far two detectors agree over the same frames, in 0..1: 2 x pairs / all boxes of both.

    A pair is two boxes of one frame and one label that overlap by at least `iou`; each box is in one pair at
    most, and the number of pairs is the largest possible. Two detectors that both find nothing agree: 1.
    Raises ValueError when the numbers of frames differ.
    """
    if len(a) != len(b):
        raise ValueError(f"matched_f1: {len(a)} and {len(b)} frames; expected the same frames on both sides")
    boxes = sum(len(x) for x in a) + sum(len(x) for x in b)
    if boxes == 0:
        return 1.0
    pairs = 0
    for left, right in zip(a, b, strict=True):
        fits = (box_iou(left.boxes, right.boxes) >= iou) & (left.labels[:, None] == right.labels[None, :])
        pairs += _most_pairs([torch.nonzero(row).flatten().tolist() for row in fits])
    return 2 * pairs / boxes


def _most_pairs(choices: list[list[int]]) -> int:
    """Return the size of the largest matching, where left i may be paired with any of `choices[i]`."""
    owner: dict[int, int] = {}

    def settle(left: int, tried: set[int]) -> bool:
        for right in choices[left]:
            if right not in tried:
                tried.add(right)
                if right not in owner or settle(owner[right], tried):
                    owner[right] = left
                    return True
        return False

    return sum(settle(left, set()) for left in range(len(choices)))


def average_precision(
    predictions: Sequence[Detections],
    targets: Sequence[Detections],
    *,
    ignored: Sequence[Tensor] | None = None,
) -> DetectionScores:
    """Return COCO average precision of `predictions` against `targets`, frame by frame.

    `ignored` marks targets (bool (N,) per frame) that need not be found, such as vehicles all but hidden:
    they count neither as missed nor, when half of a prediction lies in them, against the prediction. As COCO
    does, predictions of classes that never occur in the truth are left out, and so are all but the best 100
    of a frame and class.
    Raises ValueError when the frames do not agree or no target counts; MissingExtraError without the extra
    `evaluate`.
    """
    if len(predictions) != len(targets) or (ignored is not None and len(ignored) != len(targets)):
        raise ValueError(
            f"average_precision: {len(predictions)} frames predicted, {len(targets)} of truth"
            + ("" if ignored is None else f", {len(ignored)} of ignored marks")
            + "; expected the same frames"
        )
    marks = [torch.zeros(len(t), dtype=torch.bool) for t in targets] if ignored is None else list(ignored)
    counted = sorted({int(x) for t, m in zip(targets, marks, strict=True) for x in t.labels[~m]})
    if not counted:
        raise ValueError("average_precision: the truth holds no box that counts; precision has no meaning there")
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise MissingExtraError(
            "average_precision needs faster-coco-eval, which is not installed: pip install 'saccade[evaluate]'"
        ) from error
    annotations = _rows(targets, counted, marks)
    for number, row in enumerate(annotations, start=1):
        row["id"] = number
    truth = {
        "images": [{"id": i} for i in range(len(targets))],
        "categories": [{"id": c, "name": str(c)} for c in counted],
        "annotations": annotations,
    }
    found = _rows(predictions, counted, None)
    if not found:
        return DetectionScores(0.0, 0.0, 0.0, dict.fromkeys(counted, 0.0))
    coco = COCO(truth)
    judge = COCOeval_faster(coco, coco.loadRes(found), iouType="bbox", print_function=lambda *_: None)
    judge.evaluate()
    judge.accumulate()
    precision = np.asarray(judge.eval["precision"])[:, :, :, 0, -1]  # IoU, recall, class; all areas, 100 boxes
    per_class = {c: float(precision[:, :, k].mean()) for k, c in enumerate(counted)}
    steps = {round(float(t), 2): i for i, t in enumerate(judge.params.iouThrs)}
    scores = [float(precision[where].mean()) for where in (slice(None), steps[0.5], steps[0.75])]
    if not all(math.isfinite(score) and score >= 0 for score in scores):
        raise ValueError(f"average_precision: the evaluator returned {scores}; expected numbers in 0..1")
    return DetectionScores(scores[0], scores[1], scores[2], per_class)


def _rows(frames: Sequence[Detections], counted: list[int], marks: Sequence[Tensor] | None) -> list[dict[str, Any]]:
    """Return COCO's rows (xywh) of all frames, only of the classes `counted`; `marks` makes truth rows."""
    rows: list[dict[str, Any]] = []
    for image, frame in enumerate(frames):
        corners = frame.boxes.detach().double()
        sizes = (corners[:, 2:] - corners[:, :2]).clamp(min=0)
        boxes = torch.cat([corners[:, :2], sizes], 1).tolist()
        for k, (box, label) in enumerate(zip(boxes, frame.labels.tolist(), strict=True)):
            if label not in counted:
                continue
            row: dict[str, Any] = {"image_id": image, "category_id": label, "bbox": box}
            if marks is None:
                row["score"] = float(frame.scores[k])
            else:
                row |= {"area": box[2] * box[3], "iscrowd": int(marks[image][k])}
            rows.append(row)
    return rows
