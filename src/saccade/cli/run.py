"""`saccade run`: a model over a video."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from saccade.cli.console import (
    OverlayFile,
    check_targets,
    end,
    progress,
    say,
    scene_warnings_said,
    write_results,
)
from saccade.cli.options import StreamOptions
from saccade.errors import InputError
from saccade.evaluate.video_run import RunReport, follow
from saccade.graph import make_plan
from saccade.preprocess import Preprocess
from saccade.report.overlay import Overlay
from saccade.report.tables import REFERENCE_NOTE, profile_table, run_table
from saccade.video import read_video
from saccade.zoo import load_model


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
) -> None:
    """Runs a model over a video, writes what was asked for, and exits with the run's own code.

    Raises:
        SaccadeError: the model, video or preprocess cannot be used, or a result cannot be written.
    """
    check_targets(source=video, json_target=json, out=out)
    source = int(video) if video.isdecimal() and not Path(video).exists() else video
    with ExitStack() as stack:
        reader = stack.enter_context(read_video(source, stop=frames))
        with progress(f"loading {model}", None):
            loaded = load_model(model)
        if loaded.weights.startswith("random"):
            say(f"note: {loaded.name} has random weights ({loaded.weights}); its results mean nothing")
        how = loaded.preprocess if preprocess is None else Preprocess.load(preprocess)
        if how is None:
            shapes = ", ".join(str(tuple(value.shape)) for value in loaded.example)
            raise InputError(
                f"{model} does not say how a frame becomes its input {shapes}; give --preprocess FILE.json, as "
                "Preprocess.save writes it"
            )
        with progress(f"planning {model}", None):
            plan = make_plan(loaded.model, loaded.example, preprocess=how, name=loaded.name)
        stream = options.open(plan)
        overlay = Overlay(loaded)
        file = stack.enter_context(OverlayFile(out, fps=reader.fps))
        total = reader.frame_count_estimate
        advance = stack.enter_context(progress("frames", total if frames is None else min(frames, total or frames)))

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
            video=re.sub(r"//[^/@]*@", "//", video),  # a camera's address may hold its password
        )
    write_results(report.to_json(), target=json, tables=lambda: _tables(report, None if file.failed else out))
    end(report, file)


def _tables(report: RunReport, out: Path | None) -> list[Any]:
    shown: list[Any] = [run_table(report)]
    if report.executor == "reference":
        shown.append(REFERENCE_NOTE)
    if report.profile:
        shown.append(profile_table(report))
    if out is not None and report.frames:
        shown.append(f"overlay video: {out}")
    return shown
