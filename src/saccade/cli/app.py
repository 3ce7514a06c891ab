"""The commands and their options; what they do is in one file each, imported when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saccade import __version__
from saccade.cli.arguments import (
    MODEL_HELP,
    Accelerator,
    CalibrationFile,
    ClipStride,
    Executor,
    Json,
    Model,
    Precision,
    PreprocessFile,
    RecipeSource,
    Record,
    Settings,
    Threads,
    Threshold,
    Tolerance,
    TorchThreads,
)
from saccade.cli.classify_options import classify
from saccade.cli.console import ended_well

app = typer.Typer(
    name="saccade",
    help="Runs video through convolutional networks and pays only for what changed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
app.command()(classify)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"saccade {__version__}")
        raise typer.Exit


@app.callback()
def _saccade(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The overlay video to write.")] = Path("saccade-demo.mp4"),
    frames: Annotated[int, typer.Option(min=1, help="Frames to render and run.")] = 100,
    json: Json = None,
    threshold: Threshold = None,
    tolerance: Tolerance = None,
    record: Record = None,
    executor: Executor = None,
    precision: Precision = "float32",
    threads: Threads = 1,
) -> None:
    """Run the shipped detector over a rendered street, dense and as a stream, and compare."""
    with ended_well():
        from saccade.cli.demo import run_demo_command
        from saccade.cli.options import StreamOptions

        options = StreamOptions(threshold, tolerance, record, executor, precision, threads)
        run_demo_command(out=out, frames=frames, json=json, options=options)


@app.command()
def run(
    video: Annotated[str, typer.Argument(help="A file, a URL, or the number of a camera.")],
    model: Model,
    threshold: Threshold = None,
    tolerance: Tolerance = None,
    frames: Annotated[int | None, typer.Option(min=0, help="Stop after this many frames.")] = None,
    clip_stride: ClipStride = None,
    calibration: CalibrationFile = None,
    preprocess: PreprocessFile = None,
    record: Record = None,
    executor: Executor = None,
    precision: Precision = "float32",
    threads: Threads = 1,
    out: Annotated[
        Path | None,
        typer.Option(metavar="VIDEO", help="Write a video that shows what was found and computed."),
    ] = None,
    json: Json = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compare every frame with the dense network (takes three times as long)."),
    ] = False,
    camera: Annotated[
        str, typer.Option(help="still, or moving: where the camera moves by whole pixels, the history moves along.")
    ] = "still",
    profile: Annotated[
        bool, typer.Option("--profile", help="Measure where the time goes, by kind of step (native only).")
    ] = False,
    audit_every: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Audit one frame in N: compute a part of it whole, and compare."),
    ] = None,
    audit_tolerance: Annotated[
        float | None,
        typer.Option(metavar="X", help="Say so when audits show a relative error of the outputs over X."),
    ] = None,
    audit_action: Annotated[
        str | None,
        typer.Option(metavar="warn|refresh", help="Then only warn (the default), or also compute a frame whole."),
    ] = None,
) -> None:
    """Run a model over a video as a stream, and say what it cost; of a network of clips, which classes it sees.

    Exit codes: 0; 2 for an error; 1 when the video is damaged before its end, and 130 after Ctrl-C: then the
    report is of the frames run until that.
    """
    with ended_well():
        from saccade.cli.options import StreamOptions
        from saccade.cli.run import run_command

        run_command(
            video,
            model=model,
            options=StreamOptions(
                threshold,
                tolerance,
                record,
                executor,
                precision,
                threads,
                profile=profile,
                camera=camera,
                calibration=calibration,
                audit_every=audit_every,
                audit_tolerance=audit_tolerance,
                audit_action=audit_action,
            ),
            frames=frames,
            preprocess=preprocess,
            out=out,
            json=json,
            verify=verify,
            clip_stride=clip_stride,
        )


@app.command(name="calibrate")
def calibrate_(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    videos: Annotated[list[str], typer.Argument(metavar="VIDEO...", help="Unlabelled footage of the scene, files.")],
    tolerance: Annotated[
        float, typer.Option(help="How far a frame's outputs may be from the dense network's, in the measure's unit.")
    ] = 0.01,
    measure: Annotated[
        str,
        typer.Option(help="relative (error), argmax, keypoints, detections, or package.module:function(got, dense)."),
    ] = "relative",
    minimise: Annotated[str, typer.Option(help="macs, or ms as measured here.")] = "macs",
    frames: Annotated[int, typer.Option(min=24, help="Frames to use in all, spread over the videos.")] = 200,
    minutes: Annotated[float, typer.Option(min=0, help="Stop searching after about this time.")] = 5.0,
    preprocess: PreprocessFile = None,
    record: Annotated[str, typer.Option(help="How announced values are kept, see run.")] = "reference",
    executor: Executor = None,
    threads: Threads = 1,
    seed: Annotated[int, typer.Option(help="Of the random projections.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to store it, instead of where run looks for it.")
    ] = None,
    json: Json = None,
) -> None:
    """Find each step's threshold from unlabelled footage, so that results stay within a tolerance of the dense network.

    The same command goes on where a search was stopped. Exit codes: 0; 2 for an error; 130 after Ctrl-C.
    """
    with ended_well():
        from saccade.cli.calibrate import calibrate_command

        calibrate_command(
            model,
            videos,
            tolerance=tolerance,
            measure=measure,
            minimise=minimise,
            frames=frames,
            minutes=minutes,
            preprocess=preprocess,
            record=record,
            executor=executor,
            threads=threads,
            seed=seed,
            out=out,
            json=json,
        )


@app.command()
def adapt(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    videos: Annotated[list[str], typer.Argument(metavar="VIDEO...", help="Unlabelled footage of the scene, files.")],
    budget: Annotated[float, typer.Option(help="Share of the dense network's macs that a frame may cost.")] = 0.25,
    measure: Annotated[
        str,
        typer.Option(help="relative (error), argmax, keypoints, detections, or package.module:function(got, dense)."),
    ] = "relative",
    start: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A calibration to start from, as calibrate stored it.")
    ] = None,
    frames: Annotated[int, typer.Option(min=24, help="Frames to use in all, spread over the videos.")] = 200,
    minutes: Annotated[float, typer.Option(min=0, help="Stop training after about this time.")] = 5.0,
    steps: Annotated[int | None, typer.Option(min=0, help="Stop training after this many steps, too.")] = None,
    preprocess: PreprocessFile = None,
    record: Annotated[str, typer.Option(help="How announced values are kept, see run.")] = "reference",
    executor: Executor = None,
    threads: Threads = 1,
    seed: Annotated[int, typer.Option(help="Of the frames drawn.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to store it, instead of where run looks for it.")
    ] = None,
    json: Json = None,
) -> None:
    """Train each step's gate on unlabelled footage to imitate the dense network within a budget of macs.

    The same command goes on where training was stopped. Exit codes: 0; 2 for an error; 130 after Ctrl-C.
    """
    with ended_well():
        from saccade.cli.adapt import adapt_command

        adapt_command(
            model,
            videos,
            budget=budget,
            measure=measure,
            start=start,
            frames=frames,
            minutes=minutes,
            steps=steps,
            preprocess=preprocess,
            record=record,
            executor=executor,
            threads=threads,
            seed=seed,
            out=out,
            json=json,
        )


@app.command()
def report(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    video: Annotated[str, typer.Argument(help="A file, a URL, or the number of a camera.")],
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="The page to write.")] = Path("report.html"),
    threshold: Threshold = None,
    tolerance: Tolerance = None,
    calibration: CalibrationFile = None,
    frames: Annotated[int | None, typer.Option(min=0, help="Stop after this many frames.")] = None,
    preprocess: PreprocessFile = None,
    record: Record = None,
    executor: Executor = None,
    precision: Precision = "float32",
    threads: Threads = 1,
    json: Json = None,
) -> None:
    """Write one HTML file that shows what a stream does to a video: agreement, cost, steps, frames.

    Every frame is run densely, by the stream, and by five streams with scaled thresholds. Exit codes as of run.
    """
    with ended_well():
        from saccade.cli.options import StreamOptions
        from saccade.cli.report import report_command

        report_command(
            model,
            video,
            options=StreamOptions(threshold, tolerance, record, executor, precision, threads, calibration=calibration),
            frames=frames,
            preprocess=preprocess,
            out=out,
            json=json,
        )


@app.command()
def redundancy(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    videos: Annotated[list[str], typer.Argument(metavar="VIDEO...", help="Files.")],
    frames: Annotated[
        int | None,
        typer.Option(min=1, metavar="T", help="Frames of a clip; by default those of the model's example, or 8."),
    ] = None,
    stride: Annotated[int, typer.Option(min=1, help="Take one frame in this many.")] = 1,
    clips: Annotated[int, typer.Option(min=1, help="Clips per video, spread over it.")] = 4,
    threshold_cc: Annotated[
        float, typer.Option(help="Two maps are redundant from a correlation coefficient above this on ...")
    ] = 0.85,
    threshold_rmse: Annotated[
        float, typer.Option(help="... and a root mean squared error below this share of the layer's range.")
    ] = 0.05,
    preprocess: PreprocessFile = None,
    json: Json = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw it layer by layer, as SVG and as PNG.")
    ] = None,
) -> None:
    """Measure how alike a network's feature maps are along time and channels, convolution by convolution."""
    with ended_well():
        from saccade.cli.redundancy import redundancy_command

        redundancy_command(
            model,
            videos,
            frames=frames,
            stride=stride,
            clips=clips,
            threshold_cc=threshold_cc,
            threshold_rmse=threshold_rmse,
            preprocess=preprocess,
            json=json,
            plot=plot,
        )


@app.command()
def explain(model: Model, json: Json = None) -> None:
    """Show which steps of a model run sparse, which dense, and why."""
    with ended_well():
        from saccade.cli.explain import explain_command

        explain_command(model, json=json)


@app.command()
def train(
    recipe: RecipeSource,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Gets checkpoint, log and weights.")],
    settings: Settings = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps, instead of the recipe's.")] = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="Processes, each on its own device; under torchrun leave it out.")
    ] = None,
    accelerator: Accelerator = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Threads that read data ahead.")] = 0,
    threads: TorchThreads = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop with a checkpoint after this time.")] = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh/--resume", help="Delete what is in the folder, or go on from its checkpoint."),
    ] = False,
    json: Json = None,
) -> None:
    """Train what a recipe describes; the same command goes on where training was stopped or killed.

    Exit codes: 0; 2 for an error; after Ctrl-C 130 and after SIGTERM 143, with a checkpoint of the last step.
    """
    with ended_well():
        from saccade.cli.train import train_command

        train_command(
            recipe,
            out=out,
            settings=settings or [],
            steps=steps,
            devices=devices,
            accelerator=accelerator,
            workers=workers,
            threads=threads,
            minutes=minutes,
            fresh=fresh,
            json=json,
        )


@app.command()
def evaluate(
    recipe: RecipeSource,
    weights: Annotated[Path, typer.Option(metavar="FOLDER|FILE", help="What saccade train wrote.")],
    settings: Settings = None,
    accelerator: Accelerator = "auto",
    threads: TorchThreads = None,
    json: Json = None,
) -> None:
    """Measure trained weights on the test data of their recipe, built with the options it was trained with."""
    with ended_well():
        from saccade.cli.evaluate import evaluate_command

        evaluate_command(
            recipe, weights=weights, settings=settings or [], accelerator=accelerator, threads=threads, json=json
        )


def main() -> None:
    """Entry point of the `saccade` command."""
    app()
