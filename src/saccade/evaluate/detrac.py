"""UA-DETRAC's truth as COCO average precision wants it, regions without labels included."""

from __future__ import annotations

import torch
from torch import Tensor

from saccade.data.detrac import CLASSES, DetracFrame, DetracSequence
from saccade.evaluate.detection import Detections


def detrac_truth(sequence: DetracSequence, frame: DetracFrame) -> tuple[Detections, Tensor]:
    """Return a frame's truth and the marks (N,) of what need not be found, for `average_precision`.

    The sequence's ignored regions are appended once per class and marked: a prediction half of which lies in
    one counts neither for nor against the detector, as UA-DETRAC asks.
    """
    regions = torch.from_numpy(sequence.ignored).repeat(len(CLASSES), 1)
    kinds = torch.arange(len(CLASSES)).repeat_interleave(len(sequence.ignored))
    boxes = torch.cat([torch.from_numpy(frame.boxes), regions])
    labels = torch.cat([torch.from_numpy(frame.classes), kinds])
    marks = torch.arange(len(boxes)) >= len(frame.boxes)
    return Detections(boxes, torch.ones(len(boxes)), labels), marks
