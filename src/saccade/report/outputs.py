"""A network's dense and streamed results of one frame side by side, drawn as what they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from saccade.evaluate.detection import Detections, box_iou
from saccade.report.drawing import draw_box, label_colours
from saccade.report.overlay import blend, draw_detections, label_map, plan_input_size, resample, seen_from
from saccade.video.still import encode_jpeg

if TYPE_CHECKING:
    from saccade.stream import Stream
    from saccade.zoo import LoadedModel

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]

QUANTISERS = (3, 5, 8, 12, 20, 31)
WIDTH = 480  # of a drawn picture, at most
TOP_CLASSES = 5
_LARGEST = 1e150  # of a value that is drawn
LABEL_OPACITY = 0.65
DIFFERS = (255.0, 176.0, 0.0)
ONLY_DENSE, ONLY_STREAMED = (86.0, 180.0, 233.0), (255.0, 176.0, 0.0)
_HEAT = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture (h, w, 3) of uint8 with its title, and a line on how to read it."""

    title: str
    picture: Picture
    note: str = ""


@dataclass(frozen=True)
class ClassBar:
    """A class and the probability that the dense and the streamed results give it."""

    label: str
    dense: float
    streamed: float


@dataclass(frozen=True, eq=False)
class SideBySide:
    """What was drawn of one frame: pictures, and for a classification the leading classes; or why neither."""

    panels: tuple[Panel, ...]
    bars: tuple[ClassBar, ...] = ()
    note: str = ""


def side_by_side(picture: Picture, dense: Any, streamed: Any, loaded: LoadedModel, stream: Stream) -> SideBySide:
    """Returns the frame (H, W, 3), its dense and its streamed result and where they differ, by the model's kind.

    Detections are drawn as boxes, segmentations as colours, maps as grey pictures, classifications as bars; what is
    unknown as the root mean square over channels.
    """
    shown = shrink(picture)
    first = Panel("input", shown)
    if loaded.decode is not None:
        found = [loaded.decode(outputs)[0] for outputs in (dense, streamed)]
        return SideBySide((first, *_boxes(shown, found[0], found[1], loaded, stream)))
    labels = [label_map(outputs) for outputs in (dense, streamed)]
    if loaded.kind == "segmentation" and labels[0] is not None and labels[1] is not None:
        return SideBySide((first, *_segments(shown, labels[0], labels[1], stream)))
    maps = [_first_map(outputs) for outputs in (dense, streamed)]
    if maps[0] is not None and maps[1] is not None:
        return SideBySide((first, *_maps(maps[0], maps[1], dense_map=loaded.kind == "dense-map")))
    scores = [_first_scores(outputs) for outputs in (dense, streamed)]
    if loaded.kind == "classification" and scores[0] is not None and scores[1] is not None:
        return SideBySide((first,), _classes(scores[0], scores[1], loaded.class_names))
    shapes = ", ".join("x".join(map(str, value.shape)) or "scalar" for value in _tensors(dense))
    return SideBySide(
        (first,), note=f"The outputs ({shapes}) have no place in the picture; only their numbers compare."
    )


def shrink(picture: Picture, *, width: int = WIDTH) -> Picture:
    """Returns the picture (H, W, 3) at most `width` wide and twice as high, averaged down; smaller ones as they are."""
    factor = min(1.0, width / picture.shape[1], 2 * width / picture.shape[0])
    if factor == 1:
        return picture
    size = [max(1, round(side * factor)) for side in picture.shape[:2]]
    planes = torch.from_numpy(np.array(picture, copy=True)).permute(2, 0, 1)[None].float()
    small = F.interpolate(planes, size=size, mode="bilinear", antialias=True)
    return small[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()


def as_jpeg(picture: Picture, *, most_bytes: int = 100_000) -> bytes:
    """Returns a picture as a JPEG file of at most so many bytes, where a coarser quantiser gets it there."""
    jpeg = b""
    for quantiser in QUANTISERS:
        jpeg = encode_jpeg(picture, quantiser=quantiser)
        if len(jpeg) <= most_bytes:
            break
    return jpeg


def _boxes(shown: Picture, dense: Detections, streamed: Detections, loaded: LoadedModel, stream: Stream) -> list[Panel]:
    panels = []
    for title, found in (("dense", dense), ("streamed", streamed)):
        canvas = shown.astype(np.float32)
        draw_detections(canvas, found, stream.preprocess, names=loaded.class_names)
        count = len(found)
        panels.append(Panel(title, _bytes(canvas), f"{count} object{'' if count == 1 else 's'}"))
    canvas = _faded(shown)
    lonely = 0
    for found, other, colour in ((dense, streamed, ONLY_DENSE), (streamed, dense, ONLY_STREAMED)):
        alone = ~((box_iou(found.boxes, other.boxes) >= 0.5) & (found.labels[:, None] == other.labels[None])).any(1)
        boxes = found.boxes[alone]
        lonely += len(boxes)
        if stream.preprocess is not None:
            boxes = stream.preprocess.to_source(boxes, (shown.shape[0], shown.shape[1]))
        for left, top, right, bottom in boxes.tolist():
            if all(map(math.isfinite, (left, top, right, bottom))):
                draw_box(canvas, (left, top, right, bottom), label="", colour=colour)
    note = "blue: found by dense only, orange: by the stream only" if lonely else "every box has its pair"
    return [*panels, Panel("difference", _bytes(canvas), note)]


def _segments(shown: Picture, dense: NDArray[Any], streamed: NDArray[Any], stream: Stream) -> list[Panel]:
    rows, columns = seen_from(stream.preprocess, plan_input_size(stream.plan), (shown.shape[0], shown.shape[1]))
    grey = shown.astype(np.float32).mean(-1, keepdims=True).repeat(3, -1)
    inside = resample(np.ones((1, 1), dtype=np.float32), rows, columns, outside=0)
    panels = []
    for title, labels in (("dense", dense), ("streamed", streamed)):
        colours = label_colours(resample(labels, rows, columns, outside=0))
        panels.append(Panel(title, _bytes(blend(grey, colours, LABEL_OPACITY * inside))))
    differs = dense != streamed
    marked = resample(differs.astype(np.float32), rows, columns, outside=0)
    share = f"{100 * differs.mean():.2g} % of the places have another label"
    return [*panels, Panel("difference", _bytes(blend(_faded(shown), np.array(DIFFERS), marked)), share)]


def _maps(dense: Tensor, streamed: Tensor, *, dense_map: bool) -> list[Panel]:
    """Returns the panels of two maps (C, h, w)."""
    as_picture = dense_map and dense.shape[0] in (1, 3)
    values = [_plain(x if as_picture else x.square().mean(0, keepdim=True).sqrt()) for x in (dense, streamed)]
    low = float(values[0].min()) if as_picture else 0.0
    span = float(values[0].max()) - low
    drawn = []
    for value in values:
        share = _share_of(value - low, span)
        colours = 255 * share.repeat(3 // share.shape[2], -1) if as_picture else _heat(share[..., 0])
        drawn.append(shrink(_bytes(colours)))
    difference = _plain((dense - streamed).square().mean(0, keepdim=True).sqrt())[..., 0]
    largest = float(difference.max())
    note = f"black: {low:.3g}, white: {low + span:.3g}" if as_picture else f"RMS over channels; brightest: {span:.3g}"
    heat = shrink(_bytes(_heat(_share_of(difference, largest))))
    return [
        Panel("dense", drawn[0], note),
        Panel("streamed", drawn[1], note),
        Panel("difference", heat, f"brightest: {largest:.3g}"),
    ]


def _classes(dense: Tensor, streamed: Tensor, names: tuple[str, ...]) -> tuple[ClassBar, ...]:
    given = [_probabilities(scores) for scores in (dense, streamed)]
    leading = [scores.argsort(descending=True)[:TOP_CLASSES].tolist() for scores in given]
    chosen = list(dict.fromkeys([*leading[0], leading[1][0]]))
    return tuple(
        ClassBar(names[i] if i < len(names) else f"class {i}", float(given[0][i]), float(given[1][i])) for i in chosen
    )


def _probabilities(scores: Tensor) -> Tensor:
    """Returns scores as they are where they are probabilities, else their softmax."""
    scores = torch.nan_to_num(scores.detach().double())
    if bool((scores >= 0).all()) and abs(float(scores.sum()) - 1) < 1e-3:
        return scores
    return scores.softmax(0)


def _tensors(outputs: Any) -> list[Tensor]:
    return [value for value in pytree.tree_leaves(outputs) if isinstance(value, Tensor)]


def _first_map(outputs: Any) -> Tensor | None:
    for value in _tensors(outputs):
        if value.ndim == 4 and value.numel() and value.shape[2] * value.shape[3] > 1:
            return value[0].detach().double()
    return None


def _first_scores(outputs: Any) -> Tensor | None:
    for value in _tensors(outputs):
        if value.ndim == 2 and value.numel():
            return value[0]
    return None


def _plain(values: Tensor) -> NDArray[Any]:
    """Returns a map (C, h, w) as (h, w, C), without what is not finite."""
    plain = torch.nan_to_num(values, nan=0.0, posinf=_LARGEST, neginf=-_LARGEST).clamp(-_LARGEST, _LARGEST)
    return plain.permute(1, 2, 0).contiguous().numpy()


def _share_of(values: NDArray[Any], span: float) -> NDArray[Any]:
    """Returns values / span, cut to 0..1; all 0 where there is no span."""
    with np.errstate(over="ignore"):
        share: NDArray[Any] = (values / span).clip(0, 1) if span > 0 else np.zeros_like(values)
    return share


def _heat(share: NDArray[Any]) -> Floats:
    """Returns the colours (h, w, 3) of a map of 0..1: black over red to yellow."""
    place = share.clip(0, 1) * (len(_HEAT) - 1)
    low = np.floor(place).astype(np.int64).clip(0, len(_HEAT) - 2)
    weight = (place - low)[..., None]
    mixed: Floats = ((1 - weight) * _HEAT[low] + weight * _HEAT[low + 1]).astype(np.float32)
    return mixed


def _faded(picture: Picture) -> Floats:
    return 0.35 * picture.astype(np.float32).mean(-1, keepdims=True).repeat(3, -1) + 20


def _bytes(canvas: NDArray[Any]) -> Picture:
    drawn: Picture = np.asarray(canvas).round().clip(0, 255).astype(np.uint8)
    return drawn
