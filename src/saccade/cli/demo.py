"""`saccade demo`: the shipped detector on a rendered street."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from saccade.cli.console import OverlayFile, check_targets, end, progress, write_results
from saccade.cli.options import StreamOptions
from saccade.evaluate.demo import DemoReport, render_demo, run_demo
from saccade.graph import make_plan
from saccade.report.overlay import Overlay
from saccade.report.tables import REFERENCE_NOTE, demo_table
from saccade.zoo import load_model

DEMO_TOLERANCE = 0.05  # of this detector and clip: boxes still agree, at a third of the macs


def run_demo_command(
    *,
    out: Path,
    frames: int,
    json: str | None,
    options: StreamOptions,
) -> None:
    """Renders the clip, runs the detector over it, writes the overlay video and prints the comparison.

    Raises:
        SaccadeError: the overlay or the JSON cannot be written, or the settings make no sense.
    """
    check_targets(source="", json_target=json, out=out)
    loaded = load_model("street-detector")
    plan = make_plan(loaded.model, loaded.example, preprocess=loaded.preprocess, name=loaded.name)
    stream = options.open(plan, default_tolerance=DEMO_TOLERANCE)
    with progress(f"rendering {frames} frames", None):
        video = render_demo(frames)
    overlay = Overlay(loaded)
    with ExitStack() as stack:
        file = stack.enter_context(OverlayFile(out, fps=video.config.fps))
        advance = stack.enter_context(progress("frames", frames))

        def on_frame(frame: Any, outputs: Any) -> None:
            file.write(lambda: overlay.draw(frame.data, outputs, stream))
            advance()

        report = run_demo(video, loaded, stream, on_frame=on_frame)
    write_results(report.to_json(), target=json, tables=lambda: _tables(report, out))
    end(report.run, failed=file.failed)


def _tables(report: DemoReport, out: Path) -> list[Any]:
    shown: list[Any] = [demo_table(report)]
    if report.run.executor == "reference":
        shown.append(REFERENCE_NOTE)
    if report.ap_dense is None:
        shown.append("Average precision needs faster-coco-eval: pip install 'saccade[evaluate]'")
    shown.append(f"overlay video: {out}")
    return shown
