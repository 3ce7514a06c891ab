"""`saccade report`: what a stream does to a video, as one page."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from saccade.cli.console import check_targets, end, progress, write_results
from saccade.cli.loading import frames_to_run, load_planned, shown_name, video_source
from saccade.cli.options import StreamOptions
from saccade.errors import SaccadeError
from saccade.evaluate.measure import measure_video
from saccade.report.album import Album
from saccade.report.page import write_page
from saccade.report.tables import REFERENCE_NOTE, run_table
from saccade.stream.executors import choose_executor
from saccade.video import read_video


def report_command(
    model: str,
    video: str,
    *,
    options: StreamOptions,
    frames: int | None,
    preprocess: Path | None,
    out: Path,
    json: str | None,
) -> None:
    """Measures a model on a video, writes the page and what else was asked for, and exits with the run's own code.

    Raises:
        SaccadeError: the model, video or preprocess cannot be used, or a result cannot be written.
    """
    check_targets(source=video, json_target=json, out=out)
    with ExitStack() as stack:
        reader = stack.enter_context(read_video(video_source(video), stop=frames))
        loaded, plan = load_planned(model, preprocess=preprocess)
        runs = choose_executor(plan, options.executor, precision=options.precision, threads=options.threads)
        stream = replace(options, profile=runs.name == "native").open(plan, model=model)
        album = Album(loaded, stream)
        advance = stack.enter_context(progress("frames", frames_to_run(reader.frame_count_estimate, frames)))
        report = measure_video(
            stream,
            reader,
            reference=loaded.as_callable(),
            decode=loaded.decode,
            frames=frames,
            observe=album.add,
            on_frame=lambda frame, outputs: advance(),
            model=loaded.name,
            weights=loaded.weights,
            video=shown_name(video),
            command=_command(video, model=model, options=options, frames=frames, preprocess=preprocess),
        )
    page = write_page(report, key_frames=album.key_frames(), worst=album.worst)
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise SaccadeError(f"--out {out} cannot be written: {error.strerror or error}") from error
    notes: list[Any] = [REFERENCE_NOTE] if stream.executor == "reference" else []
    write_results(report.to_json(), target=json, tables=lambda: [run_table(report.run), *notes, f"report: {out}"])
    end(report.run)


def _command(video: str, *, model: str, options: StreamOptions, frames: int | None, preprocess: Path | None) -> str:
    """Returns what repeats the report, for a shell."""
    words = ["saccade", "report", model, shown_name(video), *options.arguments()]
    words += [] if frames is None else ["--frames", str(frames)]
    words += [] if preprocess is None else ["--preprocess", str(preprocess)]
    return shlex.join(words)
