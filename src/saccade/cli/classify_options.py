"""The options of `saccade classify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saccade.cli.arguments import Accelerator, PreprocessFile, TorchThreads
from saccade.cli.console import ended_well


def classify(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Videos, folders of them, and lists (.txt) of either, one a line."),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="frameexit:BACKBONE, or package.module:factory that makes a FrameExit.")
    ],
    weights: Annotated[
        Path | None, typer.Option(metavar="FOLDER|FILE", help="What saccade train wrote, for that model.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(metavar="FILE.txt", help="The names of the classes, one a line.")
    ] = None,
    rule: Annotated[
        str,
        typer.Option(
            metavar="gate|confidence|entropy|budget|all",
            help="When to leave a video: its gate, the largest score, the entropy of the scores, a number of frames, "
            "or after all.",
        ),
    ] = "gate",
    threshold: Annotated[
        float | None,
        typer.Option(help="Of the rule: by default 0.5 of the gate, 0.9 of confidence, 0.3 nats; budget needs one."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl", help="Where the lines go, each as its video is left, instead of stdout."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with FILE.jsonl where a run was stopped.")] = False,
    top: Annotated[int, typer.Option(min=1, help="Classes to tell of each video.")] = 5,
    snap: Annotated[
        str, typer.Option(metavar="exact|keyframe", help="Look at the nearest key frames instead.")
    ] = "exact",
    stride: Annotated[int, typer.Option(min=1, help="Of models of clips: take one picture in this many.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Frames that go through the backbone together.")] = 16,
    in_flight: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Videos open at a time; by default twice the batch.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Threads that open and decode videos.")] = 1,
    preprocess: PreprocessFile = None,
    backbone_engine: Annotated[
        str,
        typer.Option(metavar="torch|native", help="What runs the backbone; native is the compiled engine, on the CPU."),
    ] = "torch",
    accelerator: Accelerator = "auto",
    threads: TorchThreads = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw after how many frames videos were left.")
    ] = None,
    engine: Annotated[
        str, typer.Option(metavar="local|ray", help="In this process, or spread over a Ray cluster.")
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(metavar="local|auto|HOST:PORT", help="The cluster; by default one of this machine alone."),
    ] = None,
    ray_workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Processes; by default one per --threads CPUs, or per GPU."),
    ] = None,
) -> None:
    """Classify many videos, each looked at frame by frame and left as soon as its answer is sure.

    Writes one JSON line per video. Exit codes: 0; 1 when a video has no answer (its line says why); 2 for an error;
    130 after Ctrl-C. After that, or a kill, the same command with --resume goes on.
    """
    with ended_well():
        from saccade.cli.classify import classify_command

        classify_command(
            paths,
            model=model,
            weights=weights,
            classes=classes,
            rule=rule,
            threshold=threshold,
            out=out,
            resume=resume,
            top=top,
            snap=snap,
            stride=stride,
            batch=batch,
            in_flight=in_flight,
            workers=workers,
            preprocess=preprocess,
            backbone_engine=backbone_engine,
            accelerator=accelerator,
            threads=threads,
            plot=plot,
            engine=engine,
            ray_address=ray_address,
            ray_workers=ray_workers,
        )
