"""A stream followed over a video: what it cost, and on request how near it stayed to the dense network."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from saccade import __version__
from saccade.errors import DamagedVideoError, InputError, VideoError
from saccade.evaluate.agreement import Agreement, Comparison, Timing
from saccade.evaluate.profile import KindProfile, Profiler

if TYPE_CHECKING:
    from saccade.stream import AuditReport, Stream
    from saccade.stream.calibration import Holdout

FORMAT = 1


@dataclass(frozen=True)
class CalibrationUsed:
    """What thresholds were calibrated for; see `saccade.Calibration`."""

    measure: str
    tolerance: float
    holdout: Holdout

    @classmethod
    def of(cls, stream: Stream) -> CalibrationUsed | None:
        """Returns this of a stream, None where it has no calibration."""
        known = stream.calibration
        return None if known is None else cls(known.measure, known.tolerance, known.holdout)


@dataclass(frozen=True)
class RunReport:
    """What following one video took. Fields are only ever added; none changes its meaning.

    Attributes:
        frames: frames run to the end.
        executor: which executor ran the plan.
        dense_macs: macs of computing every frame densely, all frames together.
        executed_macs: macs computed, all frames together.
        gate_macs: macs spent on deciding what to compute, all frames together.
        macs_ratio: dense / (executed + gate); None when nothing was executed.
        macs_fraction_per_frame: (executed + gate) / dense of each frame; 0 for a network without macs.
        ms_per_frame: wall-clock time of the stream alone, without decoding, preprocessing and drawing.
        state_bytes: memory the stream keeps between frames, weights not included.
        threshold: the stream's threshold where one was set, else None.
        tolerance: the stream's tolerance where one was set, else None.
        calibration: what the stream's thresholds were calibrated for, where they were: the measure, its tolerance and
            how held-out frames kept to it; else None.
        record: how announced values are kept.
        model: name of the model.
        weights: where its weights come from, in words.
        source: the video.
        interrupted: whether the run was stopped from the keyboard before the end.
        damage: what stopped the decoding before the end of the video, in words; None when nothing did.
        verify: how near the results stayed to the dense ones; None when that was not asked for.
        profile: where the time went, by kind of step, the dearest first; None when that was not asked for.
        camera: "still", or "moving": the history moves along with the picture where that pays.
        moved_frames: frames before which it did.
        audit: what the stream's audits have found; None where it is not audited. What they cost is among the macs and
            milliseconds.
        precision: what values are stored in, "float32" or "bfloat16".
        stream_threads: threads that shared the work of a frame.
        isa: the native engine's instruction set; "" on the reference executor.
        saccade_version, torch_version, threads, machine: where it ran; `threads` are torch's.
        format: version of this record.
    """

    frames: int
    executor: str
    dense_macs: int
    executed_macs: int
    gate_macs: int
    macs_ratio: float | None
    macs_fraction_per_frame: list[float]
    ms_per_frame: Timing
    state_bytes: int
    threshold: float | dict[str, float] | None
    tolerance: float | None
    record: str
    model: str
    weights: str
    source: str
    calibration: CalibrationUsed | None = None
    interrupted: bool = False
    damage: str | None = None
    verify: Agreement | None = None
    profile: list[KindProfile] | None = None
    camera: str = "still"
    moved_frames: int = 0
    audit: AuditReport | None = None
    precision: str = "float32"
    stream_threads: int = 1
    isa: str = ""
    saccade_version: str = __version__
    torch_version: str = torch.__version__
    threads: int = field(default_factory=torch.get_num_threads)
    machine: str = field(default_factory=lambda: machine_name())
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON data: numbers stay numbers, and what is not finite becomes None."""
        return finite(asdict(self))


def follow(
    stream: Stream,
    source: Iterable[Any],
    *,
    frames: int | None = None,
    verify: bool = False,
    reference: Callable[..., Any] | None = None,
    observe: Callable[[Any, tuple[Any, ...], Any], None] | None = None,
    on_frame: Callable[[Any, Any], None] | None = None,
    model: str = "",
    weights: str = "",
    video: str = "",
) -> RunReport:
    """Runs a stream over a video and returns what it took.

    A damaged video and Ctrl-C end the run, not the report: it holds the frames run until then and says what
    happened. After Ctrl-C the stream may have stopped within a frame: reset it before using it again.

    Args:
        stream: the stream; it is not reset first, so a run can go on where another ended.
        source: frames, pictures (H, W, 3) uint8, or what the model takes: a tensor, or a tuple of them.
        frames: stop after this many; None runs to the end.
        verify: compare every frame with a full pass of the same executor and with `reference`.
        reference: the original torch program, needed to verify.
        observe: called with (frame, inputs, outputs) before the frame counts: one that is stopped meanwhile is not in
            the report. Its time is not counted.
        on_frame: called with (frame, outputs) after every frame; its time is not counted.
        model: the model's name, for the report.
        weights: where its weights come from, for the report.
        video: what the source is called, for the report.

    Raises:
        InputError: a frame does not fit the model, `frames` is negative, or `verify` lacks a reference.
    """
    if frames is not None and frames < 0:
        raise InputError(f"frames is {frames}; expected how many to run at most, 0 or more")
    if verify and reference is None:
        raise InputError("verify compares with the original torch program, and no reference was given")
    comparison = Comparison(stream, reference) if verify and reference is not None else None
    profiler = Profiler(stream.plan) if stream.profile else None
    rows: list[tuple[int, int, int, float]] = []  # dense, executed and gate macs, milliseconds
    interrupted, damage, moved = False, None, 0
    try:
        iterator = iter(source)
        while frames is None or len(rows) < frames:
            try:
                frame = next(iterator, None)
            except VideoError as error:
                if not rows and not isinstance(error, DamagedVideoError):
                    raise
                damage = str(error)
                break
            if frame is None:
                break
            inputs = _as_inputs(stream, frame)
            began = time.perf_counter()
            outputs = stream(*inputs)
            elapsed = 1000 * (time.perf_counter() - began)
            cost = stream.cost
            moved += stream.camera_shift != (0, 0)
            if profiler is not None and rows:  # the first frame is computed whole, and would stand for the others
                profiler.add(stream)
            if comparison is not None:
                comparison.add(inputs, outputs)
            if observe is not None:
                observe(frame, inputs, outputs)
            rows.append((cost.dense_macs, cost.executed_macs, cost.gate_macs, elapsed))
            if on_frame is not None:
                on_frame(frame, outputs)
    except KeyboardInterrupt:
        interrupted = True
    dense, executed, gate = (sum(int(row[i]) for row in rows) for i in range(3))
    return RunReport(
        frames=len(rows),
        executor=stream.executor,
        dense_macs=dense,
        executed_macs=executed,
        gate_macs=gate,
        macs_ratio=dense / (executed + gate) if executed + gate else None,
        macs_fraction_per_frame=[(e + g) / d if d else 0.0 for d, e, g, _ in rows],
        ms_per_frame=Timing.of([row[3] for row in rows]),
        state_bytes=stream.state.nbytes,
        threshold=_threshold(stream.settings.threshold),
        calibration=CalibrationUsed.of(stream),
        tolerance=stream.settings.tolerance,
        record=stream.state.record,
        model=model,
        weights=weights,
        source=video,
        interrupted=interrupted,
        damage=damage,
        verify=None if comparison is None else comparison.result(),
        profile=None if profiler is None else profiler.result(),
        camera=stream.camera,
        moved_frames=moved,
        audit=stream.audit,
        precision=stream.precision,
        stream_threads=stream.threads,
        isa=stream.isa,
    )


def machine_name() -> str:
    """Returns the processor's name and number of cores this process may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores, {platform.system()}"


def _as_inputs(stream: Stream, frame: Any) -> tuple[Any, ...]:
    """Returns what the model is called with for this frame; preprocessing is done here, and so not timed."""
    if isinstance(frame, torch.Tensor):
        return (frame,)
    if isinstance(frame, tuple):
        return frame
    if stream.preprocess is None:
        raise InputError(
            f"got a video frame ({type(frame).__name__}), and nothing says how it becomes the model's input; "
            "give the stream a preprocess"
        )
    return (stream.preprocess(frame),)


def _threshold(given: Any) -> float | dict[str, float] | None:
    """Returns the threshold as JSON data; of gates only their threshold."""
    if given is None or isinstance(given, int | float):
        return given
    return {name: float(getattr(gate, "threshold", gate)) for name, gate in given.items()}


def finite(data: Any) -> Any:
    """Returns the data with None for every number that is NaN or infinite, which JSON has no word for."""
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
