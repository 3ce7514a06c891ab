"""Frames with what the network found, where it computed, and what that cost, drawn with numpy."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from saccade.report.drawing import COMPUTED, class_colour, cost_strip, draw_box, label_colours, strip_height

if TYPE_CHECKING:
    from saccade.evaluate.detection import Detections
    from saccade.graph import Plan
    from saccade.preprocess import Preprocess
    from saccade.stream import Stream
    from saccade.zoo import LoadedModel

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]

TINT_OPACITY = 0.5
LABEL_OPACITY = 0.55
HISTORY = 120  # frames in the strip


class Overlay:
    """Draws frame after frame of one stream; remembers what each cost, for the strip at the bottom.

    Args:
        loaded: the model; what it is decides what is drawn of its outputs.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        """See the class."""
        self._loaded = loaded
        self._costs: deque[float] = deque(maxlen=HISTORY)

    def draw(self, picture: Picture, outputs: Any, stream: Stream) -> Picture:
        """Returns the picture (H, W, 3) with what was found, tinted where it was computed, above its costs.

        The result is uint8 (H + strip, W, 3), both sizes even. Call it once per frame, right after the
        stream ran it.
        """
        height, width = picture.shape[:2]
        preprocess = stream.preprocess
        rows, columns = seen_from(preprocess, plan_input_size(stream.plan), (height, width))
        canvas = tint_computed(picture.astype(np.float32), stream)
        if self._loaded.kind == "segmentation":
            labels = label_map(outputs)
            if labels is not None:
                shown = resample(labels, rows, columns, outside=0)
                canvas = blend(canvas, label_colours(shown), LABEL_OPACITY * (shown > 0))
        if self._loaded.decode is not None:
            for found in self._loaded.decode(outputs)[:1]:
                draw_detections(canvas, found, preprocess, names=self._loaded.class_names)
        self._costs.append(stream.cost.macs_fraction)
        strip = cost_strip(list(self._costs), width=width, height=strip_height(height), history=HISTORY)
        drawn = np.concatenate([canvas, strip]).round().clip(0, 255).astype(np.uint8)
        return np.pad(drawn, ((0, drawn.shape[0] % 2), (0, drawn.shape[1] % 2), (0, 0)), mode="edge")


def tint_computed(canvas: Floats, stream: Stream) -> Floats:
    """Returns the canvas (H, W, 3), a whole frame at any size, tinted by the macs the stream last computed there."""
    rows, columns = seen_from(stream.preprocess, plan_input_size(stream.plan), canvas.shape[:2])
    share = resample(computed_share(stream.plan, stream.active), rows, columns, outside=0)
    return blend(canvas, np.array(COMPUTED), TINT_OPACITY * share)


def plan_input_size(plan: Plan) -> tuple[int, int]:
    """Returns height and width of the plan's first input with four axes; (1, 1) where it has none."""
    for name in plan.inputs:
        shape = plan.values[name].shape
        if len(shape) == 4:
            return shape[2], shape[3]
    return 1, 1


def computed_share(plan: Plan, active: Mapping[str, Tensor]) -> Floats:
    """Returns the share of the macs that was computed, 0 to 1, at every place of the input (h, w).

    Masks of steps over pictures are enlarged to the input and weighted by the macs of their step. Steps that
    have no place (a classifier's last layer) are left out.
    """
    height, width = plan_input_size(plan)
    by_size: dict[tuple[int, int], Tensor] = {}
    total = 0
    for step in plan.steps:
        mask = active.get(step.name)
        if mask is None or mask.ndim != 4 or mask.shape[1] != 1 or not step.macs or not step.outputs:
            continue
        total += step.macs
        size = (int(mask.shape[2]), int(mask.shape[3]))
        weighted = mask.double().mean(dim=(0, 1)) * step.macs
        by_size[size] = by_size[size] + weighted if size in by_size else weighted
    share = np.zeros((height, width), dtype=np.float32)
    for size, weights in by_size.items():
        rows = np.arange(height) * size[0] // height
        columns = np.arange(width) * size[1] // width
        share += (weights.numpy() / max(total, 1))[rows][:, columns].astype(np.float32)
    return share


def label_map(outputs: Any) -> NDArray[np.int64] | None:
    """Returns the largest channel at every place (h, w) of the first output that is a map, else None."""
    for output in pytree.tree_leaves(outputs):
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[1] > 1:
            return output[0].argmax(0).numpy()
    return None


def resample(values: NDArray[Any], rows: Floats, columns: Floats, *, outside: float) -> NDArray[Any]:
    """Returns the nearest values (len(rows), len(columns)); `outside` where a place is not in 0..1.

    Args:
        values: (h, w).
        rows: relative height, 0 at the upper edge of `values` and 1 at the lower.
        columns: relative width.
    """
    height, width = values.shape
    r, c = np.floor(rows * height).astype(np.int64), np.floor(columns * width).astype(np.int64)
    taken = values[r.clip(0, height - 1)][:, c.clip(0, width - 1)]
    inside = ((r >= 0) & (r < height))[:, None] & ((c >= 0) & (c < width))[None, :]
    return np.where(inside, taken, np.asarray(outside, dtype=values.dtype))


def blend(canvas: Floats, colour: NDArray[Any], opacity: NDArray[Any]) -> Floats:
    """Returns (1 - opacity) * canvas + opacity * colour; opacity is (H, W), colour (3,) or (H, W, 3)."""
    weight = opacity[..., None].astype(np.float32)
    return (canvas + weight * (colour.astype(np.float32) - canvas)).astype(np.float32)


def seen_from(
    preprocess: Preprocess | None, input_size: tuple[int, int], frame_size: tuple[int, int]
) -> tuple[Floats, Floats]:
    """Returns where rows (H,) and columns (W,) of the frame lie in the input, as shares of its size.

    0 is the input's upper or left edge, 1 its lower or right; what the preprocess cuts off lies outside 0..1.
    """
    (tall, wide), top, left = input_size, 0, 0
    if preprocess is not None:
        (tall, wide), top, left = preprocess.geometry(frame_size)
    rows = (top + tall * (np.arange(frame_size[0]) + 0.5) / frame_size[0]) / input_size[0]
    columns = (left + wide * (np.arange(frame_size[1]) + 0.5) / frame_size[1]) / input_size[1]
    return rows.astype(np.float32), columns.astype(np.float32)


def draw_detections(
    canvas: Floats, found: Detections, preprocess: Preprocess | None, *, names: tuple[str, ...]
) -> None:
    """Draws boxes given in pixels of the input, with class name and score, worst first."""
    boxes = found.boxes if preprocess is None else preprocess.to_source(found.boxes, canvas.shape[:2])
    for index in found.scores.argsort().tolist():
        label = int(found.labels[index])
        name = names[label] if label < len(names) else str(label)
        left, top, right, bottom = boxes[index].tolist()
        if not all(map(math.isfinite, (left, top, right, bottom))):
            continue
        text = f"{name} {100 * float(found.scores[index]):.0f}%"
        draw_box(canvas, (left, top, right, bottom), label=text, colour=class_colour(label))
