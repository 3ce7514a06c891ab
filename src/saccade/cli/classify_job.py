"""The job of `saccade classify` wherever it is done: from paths of videos to lines of results."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from saccade.cli.classify_model import VideoClassifier
from saccade.errors import InputError, SaccadeError
from saccade.exits import (
    Classified,
    Confidence,
    ExitMacs,
    ExitRule,
    FixedBudget,
    FrameExit,
    LearnedGate,
    VideoVisits,
    classify_videos,
    with_native_backbone,
)
from saccade.train.evaluation import find_device
from saccade.video.seeking import Snap


@dataclass(frozen=True, eq=False, repr=False)
class ClassifyJob:
    """All that is to be known to classify videos; another process may be sent it.

    Attributes:
        classifier: the model, its weights and what goes with them.
        rule: when to leave a video.
        macs: what the model's parts cost.
        top: classes to tell of each video.
        snap, stride: as of `VideoVisits`.
        batch, in_flight, workers: as of `classify_videos`.
        accelerator: where the network runs, as of `find_device`.
        backbone_engine: "torch", or "native": for the CPU alone, with as many threads as torch has.
    """

    classifier: VideoClassifier
    rule: ExitRule
    macs: ExitMacs
    top: int
    snap: Snap
    stride: int
    batch: int
    in_flight: int | None
    workers: int
    accelerator: str
    backbone_engine: str = "torch"

    def network(self) -> FrameExit:
        """Returns the model where it is to run, its backbone on the native engine where that is asked for.

        Raises:
            InputError: there is no such engine; or the native one is not here, cannot run this backbone, or was asked
                for beside a GPU.
            TrainingError: there is no such accelerator.
        """
        if self.backbone_engine == "torch":
            return self.classifier.model.to(find_device(self.accelerator))
        if self.backbone_engine != "native":
            raise InputError(f"got --backbone-engine {self.backbone_engine}; expected torch or native")
        if self.accelerator not in ("auto", "cpu"):
            raise InputError(
                f"got --backbone-engine native and --accelerator {self.accelerator}; it runs on the CPU alone"
            )
        return with_native_backbone(self.classifier.model, self.classifier.frame, threads=torch.get_num_threads())

    def lines(self, paths: Iterable[str], *, network: FrameExit | None = None) -> Generator[dict[str, Any]]:
        """Yields the line of each video when it is left, see `as_line`; paths are asked for when there is room.

        Args:
            paths: of the videos.
            network: as `network()` gives it; by default it is called.

        Raises:
            SaccadeError: as `network`, or a number is too small.
        """
        classifier = self.classifier
        network = self.network() if network is None else network

        def videos() -> Iterator[VideoVisits]:
            for path in paths:
                yield VideoVisits(
                    path, network, classifier.preprocess, clip=classifier.clip, stride=self.stride, snap=self.snap
                )

        answers = classify_videos(
            network,
            videos(),
            self.rule,
            macs=self.macs,
            batch=self.batch,
            in_flight=self.in_flight,
            workers=self.workers,
        )
        with closing(answers):
            for answered in answers:
                yield as_line(answered, classifier.names, top=self.top)


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


def as_line(answered: Classified[VideoVisits], names: tuple[str, ...], *, top: int) -> dict[str, Any]:
    """Returns what is told of a video, as JSON data: with an `error` where it has no answer.

    Args:
        answered: what became of it.
        names: of the classes; empty where they have none.
        top: classes to tell.
    """
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
                **({"class": names[index]} if names else {}),
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
