"""`saccade run` of a network of clips: window after window of the video, and the classes it sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saccade.cli.console import end, progress, write_results
from saccade.cli.loading import frames_to_run, shown_name
from saccade.cli.options import StreamOptions
from saccade.errors import InputError
from saccade.evaluate.clip_run import ClipRunReport, run_clips
from saccade.graph import Plan
from saccade.report.tables import REFERENCE_NOTE, clip_run_table, clips_seen_table
from saccade.stream import Engine
from saccade.zoo import LoadedModel


def refuse_options(options: StreamOptions, *, out: Path | None, verify: bool, why: str) -> None:
    """Raises InputError for options that are of streams of frames; `why` says what the model does instead."""
    names = ("threshold", "tolerance", "calibration", "record", "audit_every", "audit_tolerance", "audit_action")
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) is not None]
    given += ["--camera"] if options.camera != "still" else []
    given += ["--profile"] if options.profile else []
    given += ["--out"] if out is not None else []
    given += ["--verify"] if verify else []
    if given:
        raise InputError(f"{why}; leave {', '.join(given)} away: they are of streams of frames")


def refuse_stream_options(loaded: LoadedModel, options: StreamOptions, *, out: Path | None, verify: bool) -> None:
    """Raises InputError for options that are of streams of frames, and for a network that does not classify."""
    refuse_options(
        options, out=out, verify=verify, why=f"{loaded.name} takes clips, which are computed whole, one by one"
    )
    if loaded.kind != "classification":
        raise InputError(
            f"{loaded.name} takes clips and gives {loaded.kind}; run shows the classes of clips. Call it from Python: "
            "saccade.Engine(load_model(...).model, clip)"
        )


def run_clips_command(
    loaded: LoadedModel,
    plan: Plan,
    reader: Any,
    *,
    stride: int | None,
    options: StreamOptions,
    frames: int | None,
    video: str,
    json: str | None,
) -> None:
    """Runs a classifier of clips over a video, writes what it saw, and exits with the run's own code.

    Raises:
        SaccadeError: the video cannot be read, an option cannot be used, or a result cannot be written.
    """
    assert plan.preprocess is not None
    engine = Engine(plan, executor=options.executor, precision=options.precision, threads=options.threads)
    with progress("frames", frames_to_run(reader.frame_count_estimate, frames)) as advance:
        report = run_clips(
            engine,
            reader,
            prepare=plan.preprocess,
            frames=loaded.example[0].shape[2],
            stride=loaded.frame_stride if stride is None else stride,
            names=loaded.class_names,
            on_frame=advance,
            model=loaded.name,
            weights=loaded.weights,
            video=shown_name(video),
        )
    write_results(report.to_json(), target=json, tables=lambda: _tables(report))
    end(report)


def _tables(report: ClipRunReport) -> list[Any]:
    shown: list[Any] = [clips_seen_table(report), clip_run_table(report)]
    return shown + ([REFERENCE_NOTE] if report.executor == "reference" else [])
