"""What "as good as the dense network" means: how far a frame's outputs are from the dense ones; 0 is equal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.evaluate.agreement import relative_error
from saccade.evaluate.detection import Detections, matched_f1
from saccade.graph.plan import Plan
from saccade.named import current_folder_importable, named_function

Outputs = list[Tensor]
NAMES = ("relative", "argmax", "keypoints", "detections", "package.module:function")
CERTAIN = 0.3  # score from which a detection counts


@dataclass(frozen=True, eq=False)
class Measure:
    """A distance between what a stream gave for a frame and what the dense network gives.

    Attributes:
        name: what it is called.
        unit: what a number of it means, in words.
        compare: returns the distance of what was read off a frame's outputs to what was read off the dense ones; at
            least 0, 0 where equal.
        view: what of the outputs the search looks at, differentiable; its relative error stands in for the distance,
            which may be too coarse to search by.
        read: reads off the outputs (flattened) what is compared, such as labels: kept for each frame in place of the
            dense outputs, it is small.
    """

    name: str
    unit: str
    compare: Callable[[Outputs, Outputs], float]
    view: Callable[[Outputs], Outputs]
    read: Callable[[Outputs], Outputs] = list

    def distance(self, got: Outputs, dense: Outputs) -> float:
        """Returns the distance of a frame's outputs to the dense ones."""
        return self.compare(self.read(got), self.read(dense))


def find_measure(
    name: str | Callable[[Any, Any], float],
    plan: Plan,
    *,
    decode: Callable[[Any], list[Detections]] | None = None,
) -> Measure:
    """Returns a measure by name, or a user's function as one.

    Names:
        relative: ||got - dense|| / ||dense|| over all outputs (L2).
        argmax: share of positions whose largest channel is another one; mean over the outputs with channels.
        keypoints: mean distance between the maxima of the maps of one output (N, K, H, W), in its pixels.
        detections: 1 - F1 between the boxes of both with scores of at least 0.3, paired from IoU 0.5 on.
        package.module:function: a function of yours, called with both outputs in the model's own structure, (got,
            dense); returns a number of at least 0.

    Args:
        name: the name or the function.
        plan: the plan whose outputs are measured.
        decode: turns outputs in the model's structure into detections.

    Raises:
        InputError: there is no such measure, or it does not fit the plan's outputs.
    """
    specs = [plan.values[ref.name] if ref.kind == "value" else None for ref in plan.outputs]
    shapes = [tuple(plan.values[ref.name].shape) for ref in plan.outputs if ref.kind == "value"]
    floating = [spec is not None and spec.torch_dtype.is_floating_point for spec in specs]

    def smooth(outputs: Outputs) -> Outputs:
        return [x for x, keep in zip(outputs, floating, strict=True) if keep]

    if callable(name):
        title = getattr(name, "__name__", type(name).__name__)
        return Measure(title, "as your function says", _own(name, title, plan.structured), smooth)
    if name == "relative":
        return Measure(name, "relative error, L2", _relative, smooth)
    if name == "argmax":
        axes = [spec.channel_axis if spec is not None else None for spec in specs]
        labelled = [
            axis if spec is not None and axis is not None and spec.shape[axis] > 1 and keep else None
            for spec, axis, keep in zip(specs, axes, floating, strict=True)
        ]
        kept = [spec for spec, axis in zip(specs, labelled, strict=True) if spec is not None and axis is not None]
        if not kept:
            raise InputError(f"the measure argmax needs an output with more than one channel; the outputs are {shapes}")

        def labels(outputs: Outputs) -> Outputs:
            chosen = [x.argmax(axis) for x, axis in zip(outputs, labelled, strict=True) if axis is not None]
            return [x.to(torch.uint8) if spec.channels <= 256 else x for x, spec in zip(chosen, kept, strict=True)]

        def chances(outputs: Outputs) -> Outputs:
            return [x.softmax(axis) for x, axis in zip(outputs, labelled, strict=True) if axis is not None]

        return Measure(name, "share of positions with another largest channel", _labels_differ, chances, labels)
    if name == "keypoints":
        if len(shapes) != 1 or len(shapes[0]) != 4:
            raise InputError(
                f"the measure keypoints needs one output of maps (N, K, H, W), one per joint; the outputs are {shapes}"
            )
        return Measure(name, "mean distance of the maps' maxima, output pixels", _keypoint_distance, smooth)
    if name == "detections":
        if decode is None:
            raise InputError(
                "the measure detections needs a model that says how its outputs become boxes; this one does not: use "
                "relative, or a function of yours"
            )
        return Measure(name, "1 - F1 of boxes paired from IoU 0.5 on", _detections(decode, plan.structured), smooth)
    module, colon, attribute = name.partition(":")
    if colon and attribute.isidentifier() and module:
        with current_folder_importable():
            found = named_function(name, expected="package.module:function of (got, dense)", error=InputError)
        return find_measure(torch.no_grad()(found), plan, decode=decode)
    raise InputError(f"there is no measure {name!r}; expected one of {', '.join(NAMES)}")


def _relative(got: Outputs, dense: Outputs) -> float:
    error = relative_error(got, dense)
    return math.inf if error is None else error


def _labels_differ(got: Outputs, dense: Outputs) -> float:
    shares = [float((a != b).double().mean()) for a, b in zip(got, dense, strict=True) if a.numel()]
    return sum(shares) / max(1, len(shares))


def _keypoint_distance(got: Outputs, dense: Outputs) -> float:
    width = got[0].shape[-1]
    left, right = (x[0].flatten(2).argmax(-1) for x in (got, dense))
    rows, columns = (left // width - right // width), (left % width - right % width)
    return float((rows.double().square() + columns.double().square()).sqrt().mean()) if left.numel() else 0.0


def _detections(
    decode: Callable[[Any], list[Detections]], structure: Callable[[Outputs], Any]
) -> Callable[[Outputs, Outputs], float]:
    def certain(outputs: Outputs) -> Sequence[Detections]:
        found = decode(structure(outputs))
        return [
            Detections(d.boxes[keep], d.scores[keep], d.labels[keep]) for d in found for keep in [d.scores >= CERTAIN]
        ]

    return lambda got, dense: 1.0 - matched_f1(certain(got), certain(dense))


def _own(
    function: Callable[[Any, Any], float], title: str, structure: Callable[[Outputs], Any]
) -> Callable[[Outputs, Outputs], float]:
    def distance(got: Outputs, dense: Outputs) -> float:
        try:
            number = float(function(structure(got), structure(dense)))
        except Exception as error:
            raise InputError(
                f"the measure {title} failed on the outputs {[tuple(x.shape) for x in got]}: {error!r}; it is called "
                "with (got, dense) in the model's own structure and returns a number"
            ) from error
        if not number >= 0:
            raise InputError(f"the measure {title} returned {number}; expected a number of at least 0, 0 where equal")
        return number

    return distance
