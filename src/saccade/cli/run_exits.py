"""`saccade run` of a FrameExit: window after window of the video, each left as soon as its answer is sure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saccade.cli.classify_model import VideoClassifier, classifier_of
from saccade.cli.console import end, progress, say, write_results
from saccade.cli.loading import frames_to_run, shown_name
from saccade.cli.options import StreamOptions
from saccade.cli.run_clips import refuse_options
from saccade.errors import InputError, ModelError
from saccade.evaluate.window_run import run_windows
from saccade.exits import FrameExit, LearnedGate, LiveExits, NativeBackbone, exit_macs, with_native_backbone
from saccade.report.tables import clip_run_table, clips_seen_table
from saccade.stream.executors import EXECUTORS
from saccade.zoo import LoadedModel


def run_exits_command(
    loaded: LoadedModel,
    reader: Any,
    *,
    stride: int | None,
    options: StreamOptions,
    frames: int | None,
    preprocess: Path | None,
    video: str,
    json: str | None,
    out: Path | None,
    verify: bool,
) -> None:
    """Runs a FrameExit over windows of T frames, one in `stride`, and exits with the run's own code.

    Raises:
        SaccadeError: the video cannot be read, an option cannot be used, or a result cannot be written.
    """
    why = f"{loaded.name} looks at windows of a video, of which it computes some frames whole"
    refuse_options(options, out=out, verify=verify, why=why)
    classifier = classifier_of(loaded, preprocess=preprocess)
    network = _placed(classifier, options)
    live = LiveExits(
        network,
        LearnedGate(),
        macs=exit_macs(classifier.model, classifier.frame),
        window=network.frames * (loaded.frame_stride if stride is None else stride),
        preprocess=classifier.preprocess,
        clip=classifier.clip,
    )
    with progress("frames", frames_to_run(reader.frame_count_estimate, frames)) as advance:
        report = run_windows(
            live,
            reader,
            frames=network.frames,
            engine=network.backbone.engine if isinstance(network.backbone, NativeBackbone) else None,
            names=classifier.names,
            on_frame=advance,
            model=loaded.name,
            weights=loaded.weights,
            video=shown_name(video),
        )
    write_results(report.to_json(), target=json, tables=lambda: [clips_seen_table(report), clip_run_table(report)])
    end(report)


def _placed(classifier: VideoClassifier, options: StreamOptions) -> FrameExit:
    """Returns the model with its backbone on the native engine, or in torch where that was asked for or has to be."""
    if options.executor is not None and options.executor not in EXECUTORS:
        raise InputError(f"unknown executor {options.executor!r}; expected one of {', '.join(EXECUTORS)}")
    settled = options.executor == "native" or options.precision != "float32"
    if options.executor == "reference" and settled:
        raise InputError(f"precision={options.precision!r} needs the native executor")
    if options.executor != "reference":
        try:
            return with_native_backbone(
                classifier.model, classifier.frame, threads=options.threads, precision=options.precision
            )
        except (InputError, ModelError) as error:
            if settled:
                raise
            say(f"note: {str(error).splitlines()[0]}")
    return classifier.model
