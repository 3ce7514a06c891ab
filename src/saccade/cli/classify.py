"""`saccade classify`: many videos, each left as soon as its answer is sure; one line of results for each."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

import torch
import typer

from saccade.cli.classify_job import ClassifyJob, make_rule
from saccade.cli.classify_model import VideoClassifier, load_classifier
from saccade.cli.console import DAMAGED, check_targets, progress, say
from saccade.cli.results_file import ResultsFile, identity
from saccade.data.video_files import Found, find_videos
from saccade.errors import FileFormatError, InputError, SaccadeError
from saccade.evaluate.classified import ClassifiedTally
from saccade.exits import exit_macs
from saccade.report.classified import classified_table, exits_histogram
from saccade.video.seeking import Snap

SHOWN = 10  # of the paths that were given twice


def classify_command(
    paths: Sequence[str],
    *,
    model: str,
    weights: Path | None,
    classes: Path | None,
    rule: str,
    threshold: float | None,
    out: Path | None,
    resume: bool,
    top: int,
    snap: str,
    stride: int,
    batch: int,
    in_flight: int | None,
    workers: int,
    preprocess: Path | None,
    backbone_engine: str,
    accelerator: str,
    threads: int | None,
    plot: Path | None,
    engine: str,
    ray_address: str | None,
    ray_workers: int | None,
) -> None:
    """Classifies what the paths stand for, writes a line for each and then a summary; exits with 1 if any failed.

    Raises:
        SaccadeError: the model or an option cannot be used, or results cannot be written.
    """
    if resume and out is None:
        raise InputError("got --resume without --out FILE.jsonl; name the file to go on with")
    if engine not in ("local", "ray"):
        raise InputError(f"got --engine {engine}; expected local or ray")
    if engine == "local" and (ray_address is not None or ray_workers is not None):
        raise InputError("got --ray-address or --ray-workers without --engine ray; give that, or leave them away")
    if snap not in get_args(Snap):
        raise InputError(f"got --snap {snap}; expected exact or keyframe")
    check_targets(source="", json_target=None, out=out)
    check_targets(source="", json_target=None, out=plot, option_out="--plot")
    leave = make_rule(rule, threshold)
    classifier = load_classifier(model, weights=weights, preprocess=preprocess, classes=classes)
    if classifier.clip is not None and snap != "exact":
        raise InputError(f"got --snap {snap}; {model} looks at clips, whose pictures would all be one")
    macs = exit_macs(classifier.model, classifier.frame)
    job = ClassifyJob(
        classifier,
        leave,
        macs,
        top=top,
        snap=cast(Snap, snap),
        stride=stride,
        batch=batch,
        in_flight=in_flight,
        workers=workers,
        accelerator=accelerator,
        backbone_engine=backbone_engine,
    )
    settings = json.dumps([model, rule, threshold, top, snap, stride])
    run = hashlib.sha256(settings.encode() + classifier.digest()).hexdigest()[:12]

    found, repeated = _each_once(find_videos(paths))
    tally, done, began = ClassifiedTally(), set[str](), time.monotonic()
    for again in repeated[:SHOWN]:
        say(f"note: {again} was given before; it is classified once")
    if len(repeated) > SHOWN:
        say(f"note: so were {len(repeated) - SHOWN} more paths")
    if not found:
        say(f"note: there is no video in {', '.join(paths)}")

    def known(line: dict[str, Any]) -> None:
        key = identity(line["path"])
        if key in done:
            raise FileFormatError(f"--out {out} has two lines for {line['path']}; take one of them out")
        done.add(key)
        if key in found:
            _add(tally, line, out)

    with (
        _engine(job, engine, threads=threads, address=ray_address, workers=ray_workers) as lines_of,
        ResultsFile(out, run=run, resume=resume, on_line=known) as file,
    ):
        coming = [each for key, each in found.items() if key not in done]
        if done:
            say(f"going on: {len(found) - len(coming)} of {len(found)} videos are done")

        def written(line: dict[str, Any]) -> None:
            file.write(line)
            tally.add(line)
            advance()

        with progress("videos", len(coming)) as advance:
            for each in coming:
                if each.error is not None:
                    written({"path": each.path, "error": each.error})
            with closing(lines_of([str(Path(each.path)) for each in coming if each.error is None])) as lines:
                for line in lines:
                    written(line)
    _summary(tally, title=classifier.name, seconds=time.monotonic() - began, on_stdout=out is not None)
    if plot is not None:
        _draw(tally, plot, classifier)
    if tally.failed:
        raise typer.Exit(DAMAGED)


def _engine(
    job: ClassifyJob, engine: str, *, threads: int | None, address: str | None, workers: int | None
) -> AbstractContextManager[Callable[[list[str]], Generator[dict[str, Any]]]]:
    """Returns what gives, on entering, the function that does the job for paths."""
    if engine == "ray":
        from saccade.cli.classify_ray import over_ray

        return over_ray(job, address=address or "local", workers=workers, threads=threads)
    if threads is not None:
        torch.set_num_threads(threads)
    return nullcontext(partial(job.lines, network=job.network()))


def _each_once(found: Iterator[Found]) -> tuple[dict[str, Found], list[str]]:
    """Returns the paths by their identity, and those that came again, as they were given then."""
    once: dict[str, Found] = {}
    repeated = []
    for each in found:
        if once.setdefault(identity(each.path), each) is not each:
            repeated.append(each.path)
    return once, repeated


def _add(tally: ClassifiedTally, line: dict[str, Any], out: Path | None) -> None:
    try:
        tally.add(line)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"--out {out}: the line of {line['path']} is not as it was written ({error!r})"
        ) from error


def _summary(tally: ClassifiedTally, *, title: str, seconds: float, on_stdout: bool) -> None:
    from rich.console import Console

    stream = sys.stdout if on_stdout else sys.stderr
    console = Console(file=stream, width=None if stream.isatty() else 160)
    console.print(classified_table(tally, title=title, seconds=seconds), markup=False, highlight=False)


def _draw(tally: ClassifiedTally, path: Path, classifier: VideoClassifier) -> None:
    from saccade.report.plot_style import save_figure

    try:
        written = save_figure(exits_histogram(tally, frames=classifier.model.frames, title=classifier.name), path)
    except OSError as error:
        raise SaccadeError(f"--plot {path} cannot be written: {error.strerror or error}") from error
    say(f"plot: {' and '.join(map(str, written))}")
