"""`saccade classify`: many videos, each left as soon as its answer is sure; one line of results for each."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast, get_args

import torch
import typer

from saccade.cli.classify_model import VideoClassifier, load_classifier
from saccade.cli.console import DAMAGED, check_targets, progress, say
from saccade.cli.results_file import ResultsFile, identity
from saccade.data.video_files import Found, find_videos
from saccade.errors import FileFormatError, InputError, SaccadeError
from saccade.evaluate.classified import ClassifiedTally
from saccade.exits import (
    Classified,
    Confidence,
    ExitRule,
    FixedBudget,
    FrameExit,
    LearnedGate,
    VideoVisits,
    classify_videos,
    exit_macs,
    with_native_backbone,
)
from saccade.report.classified import classified_table, exits_histogram
from saccade.train.evaluation import find_device
from saccade.video.seeking import Snap


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
) -> None:
    """Classifies what the paths stand for, writes a line for each and then a summary; exits with 1 if any failed.

    Raises:
        SaccadeError: the model or an option cannot be used, or results cannot be written.
    """
    if resume and out is None:
        raise InputError("got --resume without --out FILE.jsonl; name the file to go on with")
    if snap not in get_args(Snap):
        raise InputError(f"got --snap {snap}; expected exact or keyframe")
    check_targets(source="", json_target=None, out=out)
    check_targets(source="", json_target=None, out=plot, option_out="--plot")
    leave = make_rule(rule, threshold)
    if threads is not None:
        torch.set_num_threads(threads)
    classifier = load_classifier(model, weights=weights, preprocess=preprocess, classes=classes)
    if classifier.clip is not None and snap != "exact":
        raise InputError(f"got --snap {snap}; {model} looks at clips, whose pictures would all be one")
    macs = exit_macs(classifier.model, classifier.frame)
    network = place_network(classifier, backbone_engine, accelerator)
    settings = json.dumps([model, rule, threshold, top, snap, stride])
    run = hashlib.sha256(settings.encode() + classifier.digest()).hexdigest()[:12]

    found, repeated = _each_once(find_videos(paths))
    tally, done, began = ClassifiedTally(), set[str](), time.monotonic()
    if repeated:
        say(f"note: {repeated} paths were given more than once; each is classified once")
    if not found:
        say(f"note: there is no video in {', '.join(paths)}")

    def known(line: dict[str, Any]) -> None:
        key = identity(line["path"])
        if key in done:
            raise FileFormatError(f"--out {out} has two lines for {line['path']}; take one of them out")
        done.add(key)
        if key in found:
            _add(tally, line, out)

    with ResultsFile(out, run=run, resume=resume, on_line=known) as file:
        coming = [each for key, each in found.items() if key not in done]
        if done:
            say(f"going on: {len(found) - len(coming)} of {len(found)} videos are done")

        def videos() -> Iterator[VideoVisits]:
            for each in coming:
                if each.error is None:
                    yield VideoVisits(
                        each.path,
                        network,
                        classifier.preprocess,
                        clip=classifier.clip,
                        stride=stride,
                        snap=cast(Snap, snap),
                    )

        def written(line: dict[str, Any]) -> None:
            file.write(line)
            tally.add(line)
            advance()

        with progress("videos", len(coming)) as advance:
            for each in coming:
                if each.error is not None:
                    written({"path": each.path, "error": each.error})
            with closing(
                classify_videos(network, videos(), leave, macs=macs, batch=batch, in_flight=in_flight, workers=workers)
            ) as answers:
                for answered in answers:
                    written(as_line(answered, classifier, top=top))
    _summary(tally, title=classifier.name, seconds=time.monotonic() - began, on_stdout=out is not None)
    if plot is not None:
        _draw(tally, plot, classifier)
    if tally.failed:
        raise typer.Exit(DAMAGED)


def place_network(classifier: VideoClassifier, backbone_engine: str, accelerator: str) -> FrameExit:
    """Returns the model where it is to run, its backbone on the native engine where that is asked for.

    Args:
        classifier: what classifies.
        backbone_engine: "torch" or "native".
        accelerator: as of `find_device`; the native engine is for the CPU alone, with as many threads as torch has.

    Raises:
        InputError: there is no such engine; or the native one is not here, cannot run this backbone, or was asked for
            beside a GPU.
        TrainingError: there is no such accelerator.
    """
    if backbone_engine == "torch":
        return classifier.model.to(find_device(accelerator))
    if backbone_engine != "native":
        raise InputError(f"got --backbone-engine {backbone_engine}; expected torch or native")
    if accelerator not in ("auto", "cpu"):
        raise InputError(f"got --backbone-engine native and --accelerator {accelerator}; it runs on the CPU alone")
    return with_native_backbone(classifier.model, classifier.frame, threads=torch.get_num_threads())


def make_rule(name: str, threshold: float | None) -> ExitRule:
    """Returns the rule called so, with that threshold or its own. Raises InputError where there is none such."""
    if name == "gate":
        return LearnedGate() if threshold is None else LearnedGate(threshold)
    if name == "confidence":
        return Confidence(0.9 if threshold is None else threshold)
    if name == "entropy":
        return Confidence(0.3 if threshold is None else threshold, "entropy")
    if name == "budget":
        if threshold is None or threshold != int(threshold):
            raise InputError(f"got --rule budget and --threshold {threshold}; expected a number of frames, as 4")
        return FixedBudget(int(threshold))
    if name == "all":
        if threshold is not None:
            raise InputError("got --threshold with --rule all, which has none; leave it away")
        return FixedBudget(sys.maxsize)
    raise InputError(f"there is no rule {name!r}; expected gate, confidence, entropy, budget or all")


def as_line(answered: Classified[VideoVisits], classifier: VideoClassifier, *, top: int) -> dict[str, Any]:
    """Returns what is told of a video, as JSON data: with an `error` where it has no answer."""
    video, exits, cost = answered.video, answered.exits, answered.video.cost
    spent = {
        "decoded": cost.frames_decoded,
        "decode_ms": round(cost.decode_ms, 3),
        "index_ms": round(cost.index_ms, 3),
        "ms": round(answered.ms, 3),
    }
    if exits is None:
        error = answered.error
        told = str(error) if isinstance(error, SaccadeError) else f"{type(error).__name__}: {error}"
        return {"path": str(video.path), "error": told, **spent}
    scores, order = exits.scores[0], exits.scores[0].argsort(descending=True, stable=True)
    if not bool(scores.isfinite().all()):
        return {"path": str(video.path), "error": "the network's scores are not finite", **spent}
    return {
        "path": str(video.path),
        "top": [
            {
                **({"class": classifier.names[index]} if classifier.names else {}),
                "index": index,
                "score": round(float(scores[index]), 6),
            }
            for index in order[:top].tolist()
        ],
        "frames": int(exits.frames),
        "visited": video.visited,
        "pictures": video.length,
        "macs": int(exits.macs),
        "gate_macs": int(exits.gate_macs),
        "dense_macs": exits.dense_macs,
        **spent,
    }


def _each_once(found: Iterator[Found]) -> tuple[dict[str, Found], int]:
    """Returns the paths by their identity, and how many came again."""
    once: dict[str, Found] = {}
    repeated = 0
    for each in found:
        repeated += identity(each.path) in once
        once.setdefault(identity(each.path), each)
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
