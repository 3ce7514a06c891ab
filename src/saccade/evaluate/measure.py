"""A video run once through a stream, the dense network, and the same stream with scaled thresholds, side by side.

One pass, so a live camera will do, and nothing but numbers is kept of a frame.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from saccade.evaluate.agreement import Timing, argmax_agreement, channel_axes, relative_error, tensors_of
from saccade.evaluate.detection import Detections, matched_f1
from saccade.evaluate.video_report import FrameRow, Nearness, Point, StepRow, VideoReport
from saccade.evaluate.video_run import RunReport, follow
from saccade.stream import Stream

if TYPE_CHECKING:
    from saccade.graph import Plan

FACTORS = (0.0, 0.25, 0.5, 2.0, 4.0)  # of the operating point's thresholds; 1 is the stream itself
REPEATS = (2, 4, 8)


@dataclass(frozen=True)
class Observation:
    """One frame as it was measured: its numbers, the frame itself, and both results."""

    row: FrameRow
    frame: Any
    outputs: Any
    dense: Any


def measure_video(
    stream: Stream,
    source: Iterable[Any],
    *,
    reference: Callable[..., Any],
    decode: Callable[[Any], list[Detections]] | None = None,
    factors: Iterable[float] = FACTORS,
    repeats: Iterable[int] = REPEATS,
    frames: int | None = None,
    observe: Callable[[Observation], None] | None = None,
    on_frame: Callable[[Any, Any], None] | None = None,
    model: str = "",
    weights: str = "",
    video: str = "",
    command: str = "",
) -> VideoReport:
    """Runs a video through a stream and beside it, frame by frame, through the dense network and scaled streams.

    The thresholds of the scaled streams are those the stream has after its first frame, times each factor: whatever
    they came from. Where all are 0 there is nothing to scale. Ends early as `follow` does.

    Args:
        stream: the operating point, fresh.
        source: as of `follow`.
        reference: the original torch program.
        decode: from outputs to `Detections`, for a network that detects.
        factors: of the thresholds.
        repeats: for how many frames a dense result may serve.
        frames: stop after this many; None runs to the end.
        observe: called with every frame as it is measured; its time is not counted.
        on_frame: called with (frame, outputs) after every frame.
        model, weights, video, command: for the report.

    Raises:
        InputError: as `follow`; or the reference gives outputs of other shapes.
    """
    watcher = _Watcher(stream, reference, decode, tuple(factors), tuple(repeats), observe)
    run = follow(
        stream,
        source,
        frames=frames,
        observe=watcher.add,
        on_frame=on_frame,
        model=model,
        weights=weights,
        video=video,
    )
    return watcher.result(run, command)


@dataclass(frozen=True)
class _Seen:
    """Results as they are compared: the tensors, and the boxes where there are some."""

    tensors: list[Tensor]
    found: Detections | None


class _Running:
    """Adds up a point's frames."""

    def __init__(self, name: str, value: float) -> None:
        self.name, self.value = name, value
        self.fractions = 0.0
        self.frames = 0
        self.ms: list[float] = []
        self.nears: list[Nearness] = []

    def add(self, near: Nearness, fraction: float, ms: float | None = None) -> None:
        self.frames += 1
        self.fractions += fraction
        self.nears.append(near)
        if ms is not None:
            self.ms.append(ms)

    def result(self) -> Point:
        errors = [near.relative_error for near in self.nears if near.relative_error is not None]
        same = [near.argmax_agreement for near in self.nears if near.argmax_agreement is not None]
        matched = [near for near in self.nears if near.f1 is not None]
        boxes = sum(near.boxes for near in matched)
        f1 = sum((near.f1 or 0.0) * near.boxes for near in matched) / boxes if boxes else 1.0
        return Point(
            name=self.name,
            value=self.value,
            macs_fraction=None if self.name == "floor" or not self.frames else self.fractions / self.frames,
            ms=Timing.of(self.ms) if self.ms else None,
            relative_error_mean=_mean(errors),
            relative_error_worst=max(errors, key=_nan_last, default=None),
            argmax_agreement_mean=_mean(same),
            argmax_agreement_worst=min(same, default=None),
            f1=f1 if matched else None,
            f1_worst=min((near.f1 for near in matched if near.f1 is not None), default=None),
        )


class _Watcher:
    """Measures every frame the operating stream has run."""

    def __init__(
        self,
        stream: Stream,
        reference: Callable[..., Any],
        decode: Callable[[Any], list[Detections]] | None,
        factors: tuple[float, ...],
        repeats: tuple[int, ...],
        observe: Callable[[Observation], None] | None,
    ) -> None:
        self._stream, self._reference, self._decode, self._observe = stream, reference, decode, observe
        self._factors = factors
        self._scaled: list[tuple[Stream, _Running]] = []
        self._held: dict[int, _Seen] = {}
        self._repeats = {every: _Running("repeat", every) for every in repeats}
        self._floor = _Running("floor", 1)
        self._before: _Seen | None = None
        self._rows: list[FrameRow] = []
        self._steps = _Steps(stream.plan)

    def add(self, frame: Any, inputs: tuple[Any, ...], outputs: Any) -> None:
        """Measures one frame; where it is stopped meanwhile, the frame counts nowhere."""
        stream = self._stream
        began = time.perf_counter()
        with torch.no_grad():
            dense = self._reference(*inputs)
        dense_ms = 1000 * (time.perf_counter() - began)
        wanted = self._seen(dense)
        got = self._seen(outputs)
        index = len(self._rows)
        if index == 0:
            self._scaled = self._scaled_streams()
        seconds = getattr(frame, "pts_seconds", None)
        near = self._near(got, wanted)
        row = FrameRow(index, seconds, stream.cost.macs_fraction, stream.cost.ms, dense_ms, near)
        added: list[tuple[_Running, Nearness, float, float | None]] = []
        for scaled, running in self._scaled:
            near = self._near(self._seen(scaled(*inputs)), wanted)
            added.append((running, near, scaled.cost.macs_fraction, scaled.cost.ms))
        held = {every: wanted if index % every == 0 else self._held[every] for every in self._repeats}
        for every, running in self._repeats.items():
            added.append((running, self._near(held[every], wanted), float(index % every == 0), None))
        if self._before is not None:
            added.append((self._floor, self._near(self._before, wanted), 0.0, None))
        if self._observe is not None:
            self._observe(Observation(row, frame, outputs, dense))
        for running, near, fraction, ms in added:
            running.add(near, fraction, ms)
        self._held, self._before = held, wanted
        self._steps.add(stream)
        self._rows.append(row)

    def result(self, run: RunReport, command: str) -> VideoReport:
        """Returns what was measured over the frames of the run."""
        rows = self._rows[: run.frames]
        operating = _Running("scale", 1.0)
        for row in rows:
            operating.add(row.near, row.macs_fraction, row.ms)
        points = [running.result() for _, running in self._scaled]
        points += [running.result() for every, running in self._repeats.items() if len(rows) > every]
        if self._floor.frames:
            points.append(self._floor.result())
        return VideoReport(
            run=run,
            dense_ms_per_frame=Timing.of([row.dense_ms for row in rows]),
            operating=operating.result(),
            points=tuple(points),
            frames=tuple(rows),
            steps=self._steps.result(self._stream),
            command=command,
        )

    def _scaled_streams(self) -> list[tuple[Stream, _Running]]:
        """Returns a stream for each factor, with the gates the operating point has after its first frame."""
        stream, gates = self._stream, self._stream.state.gates
        if not any(gate.threshold for gate in gates.values()):
            return []
        return [
            (
                Stream(
                    stream.plan,
                    threshold={name: gate.scaled(factor) for name, gate in gates.items()},
                    reference_every=stream.settings.reference_every,
                    executor=stream.executor,
                    precision=stream.precision,
                    threads=stream.threads,
                    record=stream.state.record,
                    preprocess=stream.preprocess,
                ),
                _Running("scale", factor),
            )
            for factor in self._factors
        ]

    def _seen(self, outputs: Any) -> _Seen:
        found = self._decode(outputs)[0] if self._decode is not None else None
        return _Seen(tensors_of(outputs), found)

    def _near(self, got: _Seen, wanted: _Seen) -> Nearness:
        axes = channel_axes(self._stream.plan, got.tensors)
        f1, boxes = None, 0
        if got.found is not None and wanted.found is not None:
            f1, boxes = matched_f1([got.found], [wanted.found]), len(got.found) + len(wanted.found)
        return Nearness(
            relative_error(got.tensors, wanted.tensors), argmax_agreement(got.tensors, wanted.tensors, axes), f1, boxes
        )


class _Steps:
    """Adds up what each step did."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._frames = 0
        self._sums = [(0, 0, 0, 0, 0.0) for _ in plan.steps]  # executed macs, positions, active, announced, seconds

    def add(self, stream: Stream) -> None:
        """Adds the stream's last frame; the first counts only while it is the only one."""
        seconds = stream.step_seconds or (0.0,) * len(self._sums)
        before = self._sums if self._frames > 1 else [(0, 0, 0, 0, 0.0)] * len(self._sums)
        self._sums = [
            (e + c.executed_macs, p + c.positions, a + c.active, n + c.announced, s + spent)
            for (e, p, a, n, s), c, spent in zip(before, stream.step_costs, seconds, strict=True)
        ]
        self._frames += 1

    def result(self, stream: Stream) -> tuple[StepRow, ...]:
        """Returns one row per step."""
        plan = self._plan
        executed, seconds = sum(row[0] for row in self._sums), sum(row[4] for row in self._sums)
        rows = []
        for step, (macs, positions, active, announced, spent) in zip(plan.steps, self._sums, strict=True):
            gate = stream.state.gates.get(step.outputs[0]) if step.outputs else None
            rows.append(
                StepRow(
                    name=step.name,
                    op=step.op if step.calls else "input",
                    source=step.source,
                    form=step.form,
                    macs_share=step.macs / plan.dense_macs if plan.dense_macs else 0.0,
                    executed_share=macs / executed if executed else 0.0,
                    threshold=None if gate is None else gate.threshold,
                    active_share=active / positions if positions else 0.0,
                    announced_share=announced / positions if positions else 0.0,
                    time_share=spent / seconds if seconds else None,
                )
            )
        return tuple(rows)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value
