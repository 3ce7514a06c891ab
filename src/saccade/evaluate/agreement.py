"""How near a stream's results are to the dense ones, frame by frame."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from saccade.errors import InputError

if TYPE_CHECKING:
    from saccade.graph import Plan
    from saccade.stream import Stream


@dataclass(frozen=True)
class Timing:
    """Milliseconds per frame over a run: median and 90th percentile; None when no frame was run."""

    median: float | None
    p90: float | None

    @classmethod
    def of(cls, ms: list[float]) -> Timing:
        """Returns the summary of a list of milliseconds."""
        if not ms:
            return cls(None, None)
        return cls(float(np.median(ms)), float(np.percentile(ms, 90)))


@dataclass(frozen=True)
class Course:
    """A number per frame, summed up: its mean over the run, and over its last tenth (at least one frame).

    A last tenth that is worse than the mean tells of drift. Both are None when no frame has the number.
    """

    mean: float | None
    last_tenth: float | None

    @classmethod
    def of(cls, values: list[float | None]) -> Course:
        """Returns the summary of a number per frame; frames without it (None) are left out."""
        return cls(_mean(values), _mean(values[-math.ceil(len(values) / 10) :] if values else []))


@dataclass(frozen=True)
class Agreement:
    """How near the results of a run stayed to the dense ones.

    Attributes:
        max_abs_diff_self: largest absolute difference to the same executor computing every position, over all
            frames and outputs; exactly 0 at threshold 0. None before the first frame.
        relative_error: per frame, L2 norm of the difference to the original torch program over all outputs,
            divided by the L2 norm of its outputs; 0 where both are 0, no number where only the latter is.
        argmax_agreement: per frame, share of positions where the largest channel is that of the original program,
            mean over the outputs that have more than one channel; None when none has.
        dense_ms_per_frame: wall-clock time of the original torch program, run in turn with the stream.
    """

    max_abs_diff_self: float | None
    relative_error: Course
    argmax_agreement: Course | None
    dense_ms_per_frame: Timing


class Comparison:
    """Compares a stream's results with its full pass and with the original torch program, frame by frame."""

    def __init__(self, stream: Stream, reference: Callable[..., Any]) -> None:
        """See the class."""
        self._stream, self._reference = stream, reference
        self._rows: list[tuple[float, float | None, float | None, float]] = []

    def add(self, inputs: tuple[Any, ...], outputs: Any) -> None:
        """Compares the outputs the stream gave for the inputs of one frame.

        Raises:
            InputError: the original program's outputs have other shapes.
        """
        got = tensors_of(outputs)
        own = tensors_of(self._stream.full_pass(*inputs))
        began = time.perf_counter()
        with torch.no_grad():
            wanted = tensors_of(self._reference(*inputs))
        ms = 1000 * (time.perf_counter() - began)
        shapes, expected = [tuple(x.shape) for x in got], [tuple(x.shape) for x in wanted]
        if shapes != expected:
            raise InputError(
                f"the stream gives outputs {shapes}, the original program {expected}; compare like with like"
            )
        self._rows.append(
            (
                max((largest_difference(a, b) for a, b in zip(got, own, strict=True)), default=0.0),
                relative_error(got, wanted),
                argmax_agreement(got, wanted, channel_axes(self._stream.plan, got)),
                ms,
            )
        )

    def result(self) -> Agreement:
        """Returns the comparison over all frames so far."""
        rows = self._rows
        unknown = bool(rows) and all(row[2] is None for row in rows)
        return Agreement(
            max_abs_diff_self=float(np.max([row[0] for row in rows])) if rows else None,  # NaN stays in sight
            relative_error=Course.of([row[1] for row in rows]),
            argmax_agreement=None if unknown else Course.of([row[2] for row in rows]),
            dense_ms_per_frame=Timing.of([row[3] for row in rows]),
        )


def channel_axes(plan: Plan, outputs: list[Tensor]) -> list[int | None]:
    """Returns the plan's channel axis of each output, or 1 where the plan does not say; None where there is none."""
    if len(plan.outputs) != len(outputs):
        return [1 if x.ndim > 1 else None for x in outputs]
    axes: list[int | None] = []
    for ref, output in zip(plan.outputs, outputs, strict=True):
        spec = plan.values.get(ref.name) if ref.kind == "value" else None
        axes.append(spec.channel_axis if spec is not None else 1 if output.ndim > 1 else None)
    return axes


def largest_difference(got: Tensor, wanted: Tensor) -> float:
    """Returns the largest absolute difference of two tensors; 0 for empty ones, NaN where one holds a NaN."""
    if got.numel() == 0:
        return 0.0
    difference = (got.double() - wanted.double()).abs()
    return float(torch.where(got == wanted, torch.zeros_like(difference), difference).max())  # inf - inf is no change


def relative_error(got: list[Tensor], wanted: list[Tensor]) -> float | None:
    """Returns ||got - wanted|| / ||wanted||, L2 over all tensors; 0 for 0 / 0, None for x / 0."""
    difference = math.sqrt(
        sum(float((a.double() - b.double()).square().sum()) for a, b in zip(got, wanted, strict=True))
    )
    norm = math.sqrt(sum(float(b.double().square().sum()) for b in wanted))
    if norm == 0:
        return 0.0 if difference == 0 else None
    return difference / norm


def argmax_agreement(got: list[Tensor], wanted: list[Tensor], axes: list[int | None]) -> float | None:
    """Returns the share of positions with the same largest channel; mean over outputs with channels."""
    shares = []
    for a, b, axis in zip(got, wanted, axes, strict=True):
        if axis is not None and axis < a.ndim and a.shape[axis] > 1 and a.numel():
            shares.append(float((a.argmax(axis) == b.argmax(axis)).double().mean()))
    return sum(shares) / len(shares) if shares else None


def tensors_of(outputs: Any) -> list[Tensor]:
    """Returns the tensors among a network's outputs, in their order."""
    return [value for value in pytree.tree_leaves(outputs) if isinstance(value, Tensor)]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
