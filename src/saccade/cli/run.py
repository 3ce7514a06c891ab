"""`saccade run`: a model over a video."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from saccade.cli.console import (
    OverlayFile,
    check_targets,
    end,
    progress,
    scene_warnings_said,
    write_results,
)
from saccade.cli.loading import frames_to_run, is_of_clips, load_noted, plan_of, shown_name, video_source
from saccade.cli.options import StreamOptions
from saccade.cli.run_clips import refuse_stream_options, run_clips_command
from saccade.cli.run_exits import run_exits_command
from saccade.errors import InputError
from saccade.evaluate.video_run import RunReport, follow
from saccade.exits import FrameExit
from saccade.report.overlay import Overlay
from saccade.report.tables import REFERENCE_NOTE, profile_table, run_table
from saccade.video import read_video


def run_command(
    video: str,
    *,
    model: str,
    options: StreamOptions,
    frames: int | None,
    preprocess: Path | None,
    out: Path | None,
    json: str | None,
    verify: bool,
    clip_stride: int | None = None,
) -> None:
    """Runs a model over a video, writes what was asked for, and exits with the run's own code.

    A network of clips is run over window after window of the video, and a FrameExit looks at window after window.

    Raises:
        SaccadeError: the model, video or preprocess cannot be used, or a result cannot be written.
    """
    check_targets(source=video, json_target=json, out=out)
    with ExitStack() as stack:
        reader = stack.enter_context(read_video(video_source(video), stop=frames))
        loaded = load_noted(model)
        if isinstance(loaded.model, FrameExit):
            run_exits_command(
                loaded,
                reader,
                stride=clip_stride,
                options=options,
                frames=frames,
                preprocess=preprocess,
                video=video,
                json=json,
                out=out,
                verify=verify,
            )
            return
        whole = is_of_clips(loaded)
        if whole:
            refuse_stream_options(loaded, options, out=out, verify=verify)
        elif clip_stride is not None:
            raise InputError(f"--clip-stride is of networks of clips; {model} takes frames one by one")
        plan = plan_of(loaded, preprocess=preprocess)
        if whole:
            run_clips_command(
                loaded, plan, reader, stride=clip_stride, options=options, frames=frames, video=video, json=json
            )
            return
        stream = options.open(plan, model=model)
        overlay = Overlay(loaded)
        file = stack.enter_context(OverlayFile(out, fps=reader.fps))
        total = frames_to_run(reader.frame_count_estimate, frames)
        advance = stack.enter_context(progress("frames", total))

        def on_frame(frame: Any, outputs: Any) -> None:
            file.write(lambda: overlay.draw(frame.data, outputs, stream))
            advance()

        stack.enter_context(scene_warnings_said())
        report = follow(
            stream,
            reader,
            frames=frames,
            verify=verify,
            reference=loaded.as_callable() if verify else None,
            on_frame=on_frame,
            model=loaded.name,
            weights=loaded.weights,
            video=shown_name(video),
        )
    write_results(report.to_json(), target=json, tables=lambda: _tables(report, None if file.failed else out))
    end(report, failed=file.failed)


def _tables(report: RunReport, out: Path | None) -> list[Any]:
    shown: list[Any] = [run_table(report)]
    if report.executor == "reference":
        shown.append(REFERENCE_NOTE)
    if report.profile:
        shown.append(profile_table(report))
    if out is not None and report.frames:
        shown.append(f"overlay video: {out}")
    return shown
