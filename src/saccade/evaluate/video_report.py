"""What measuring a stream on a video finds (`saccade.evaluate.measure`): numbers only, JSON-able."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from saccade.evaluate.agreement import Timing
from saccade.evaluate.video_run import RunReport, finite


@dataclass(frozen=True)
class Nearness:
    """How near one frame's results are to the dense ones.

    Attributes:
        relative_error: L2 norm of the difference over the norm of the dense outputs; None for something over 0.
        argmax_agreement: share of positions with the same largest channel; None where outputs have one channel.
        f1: matched F1 (IoU 0.5) of the boxes; None for a network that does not detect.
        boxes: boxes on both sides together, by which frames weigh in the F1 of a run.
    """

    relative_error: float | None
    argmax_agreement: float | None = None
    f1: float | None = None
    boxes: int = 0


@dataclass(frozen=True)
class FrameRow:
    """One frame of the operating point.

    Attributes:
        index: from 0, in the order the frames were run.
        seconds: time in the video; None where it is not known.
        macs_fraction: (executed + gate) / dense macs.
        ms: of the stream alone.
        dense_ms: of the original torch program.
        near: how near the results are to the dense ones.
    """

    index: int
    seconds: float | None
    macs_fraction: float
    ms: float
    dense_ms: float
    near: Nearness


@dataclass(frozen=True)
class Point:
    """One way to run the video: its cost and how near it stays to the dense results, over all its frames.

    Attributes:
        name: "scale" (thresholds of the operating point times `value`), "repeat" (every `value`-th dense result is
            repeated until the next) or "floor" (the dense result of the frame before, what changes anyway).
        value: the factor, or the number of frames a result serves.
        macs_fraction: mean of (executed + gate) / dense macs; None for the floor, which is no way to run.
        ms: of a frame; None where nothing is run.
        relative_error_mean: over frames; None where no frame has one.
        relative_error_worst: the largest.
        argmax_agreement_mean: over frames; None for outputs of one channel.
        argmax_agreement_worst: the smallest.
        f1: matched F1 over the boxes of all frames; None for a network that does not detect.
        f1_worst: the smallest of a frame.
    """

    name: str
    value: float
    macs_fraction: float | None
    ms: Timing | None
    relative_error_mean: float | None
    relative_error_worst: float | None
    argmax_agreement_mean: float | None
    argmax_agreement_worst: float | None
    f1: float | None
    f1_worst: float | None


@dataclass(frozen=True)
class StepRow:
    """One step of the plan, over the frames after the first (which is computed whole) or the first alone.

    Attributes:
        name, op, source, form: as in the plan.
        macs_share: of the network's dense macs.
        executed_share: of the macs executed by all steps.
        threshold: of its output's gate; None where nothing is gated.
        active_share: positions computed over all.
        announced_share: positions announced over all.
        time_share: of the time of all steps; None where it was not measured.
    """

    name: str
    op: str
    source: str
    form: str
    macs_share: float
    executed_share: float
    threshold: float | None
    active_share: float
    announced_share: float
    time_share: float | None


@dataclass(frozen=True)
class VideoReport:
    """What `saccade.evaluate.measure.measure_video` found.

    Attributes:
        run: totals, settings and machine of the operating point.
        dense_ms_per_frame: of the original torch program.
        operating: the operating point.
        points: the other ones: thresholds scaled, results repeated, the floor.
        frames: of the operating point, one row each.
        steps: in the plan's order.
        command: what repeats the measurement.
    """

    run: RunReport
    dense_ms_per_frame: Timing
    operating: Point
    points: tuple[Point, ...]
    frames: tuple[FrameRow, ...]
    steps: tuple[StepRow, ...]
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON data: numbers stay numbers, and what is not finite becomes None."""
        data: dict[str, Any] = finite({**asdict(self), "run": self.run.to_json()})
        return data
