"""The ways to classify video files that benchmarks.classify measures: early exits, and what people use without them.

All run the same torch network on the same files. Threads decode and make frames; the network runs in the thread that
called. A fixed pipeline looks at all T frames of a video in one batch; its threads run some videos ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.exits import (
    ExitMacs,
    ExitRule,
    Exits,
    FixedBudget,
    FrameExit,
    LearnedGate,
    VideoVisits,
    classify_video,
    classify_videos,
    exit_macs,
)
from saccade.exits.pooling import MaxPooling
from saccade.preprocess import Preprocess
from saccade.video import DecodeCost, VideoFrames, read_video
from saccade.video.seeking import Snap

A, B = TypeVar("A"), TypeVar("B")


@dataclass(frozen=True)
class Settings:
    """How a pipeline runs.

    Attributes:
        workers: threads that decode.
        batch: frames of different videos that go through the backbone together; twice as many videos are in flight.
        ahead: videos that a fixed pipeline's threads are ahead of the network at most.
        cache: whether, or where, the indexes of files are kept; where not, each is made anew for every pass.
    """

    workers: int = 1
    batch: int = 16
    ahead: int = 8
    cache: bool | Path = False


@dataclass(frozen=True, eq=False, repr=False)
class Network:
    """A FrameExit, and how a picture becomes its frame.

    Attributes:
        name: of its backbone.
        model: in evaluation mode; it has maxima for pooling, and does not visit frames in random order.
        preprocess: from a picture to a frame; its size is fixed.
        macs: of its parts.
        trained: whether its answers mean something.
    """

    name: str
    model: FrameExit
    preprocess: Preprocess
    macs: ExitMacs
    trained: bool

    @property
    def frame(self) -> tuple[int, ...]:
        """The shape of a frame, (3, H, W)."""
        assert self.preprocess.size is not None
        return (3, *self.preprocess.size)


def make_network(name: str, model: FrameExit, preprocess: Preprocess, *, trained: bool) -> Network:
    """Returns a model with its macs counted; raises InputError for one that the fixed pipelines cannot run."""
    if not isinstance(model.pooling, MaxPooling) or model.multi_label or model.order == "random":
        raise InputError(
            f"got {type(model.pooling).__name__}, order {model.order}; expected maxima, one label, no chance"
        )
    assert preprocess.size is not None
    macs = exit_macs(model.eval(), torch.zeros(1, 3, *preprocess.size))
    return Network(name, model, preprocess, macs, trained)


@dataclass(frozen=True, eq=False, repr=False)
class Answer:
    """What a pipeline says of a video, and what that took.

    Attributes:
        scores: probabilities (K,).
        frames: looked at.
        macs: of all of it.
        decoded: coded pictures that were decoded.
        reading_ms: wall-clock of opening, indexing, seeking and decoding, in the threads that did it.
    """

    scores: Tensor
    frames: int
    macs: int
    decoded: int = 0
    reading_ms: float = 0.0

    @property
    def label(self) -> int:
        """The best class."""
        return int(self.scores.argmax())


# --- early exits


def batched(
    network: Network,
    paths: Sequence[Path],
    settings: Settings,
    *,
    rule: ExitRule = LearnedGate(),  # noqa: B008 - frozen
    snap: Snap = "exact",
    batch: int | None = None,
) -> dict[Path, Answer]:
    """Returns the answers of continuous batching."""
    videos = (VideoVisits(path, network.model, network.preprocess, snap=snap, cache=settings.cache) for path in paths)
    answers = {}
    for done in classify_videos(
        network.model,
        videos,
        rule,
        macs=network.macs,
        batch=batch or settings.batch,
        in_flight=2 * settings.batch,
        workers=settings.workers,
    ):
        if done.exits is None:
            raise done.error or AssertionError(done)
        answers[done.video.path] = _answer(done.exits, done.video.cost)
    return answers


def one_by_one(network: Network, paths: Sequence[Path], settings: Settings) -> dict[Path, Answer]:
    """Returns the answers of one video after the other, all in the calling thread: there are no workers."""
    answers = {}
    for path in paths:
        video = VideoVisits(path, network.model, network.preprocess, cache=settings.cache)
        try:
            exits = classify_video(network.model, video, LearnedGate(), macs=network.macs)
        finally:
            video.close()
        answers[path] = _answer(exits, video.cost)
    return answers


def _answer(exits: Exits, cost: DecodeCost) -> Answer:
    reading_ms = cost.index_ms + cost.decode_ms
    return Answer(exits.scores[0], int(exits.frames), int(exits.macs), cost.frames_decoded, reading_ms)


# --- all frames of a video at once


class Read(NamedTuple):
    """The frames (T, ...) of a video in the order of visits, and what they cost; as of `Answer`."""

    frames: Tensor
    decoded: int
    reading_ms: float


def read_seeking(network: Network, path: Path, settings: Settings) -> Read:
    """Returns a video's frames, of which no more is decoded than they lean on."""
    with VideoFrames(path, cache=settings.cache) as pictures:
        pictures.expect(set(network.model.positions(len(pictures))))
        frames = _frames(network, len(pictures), pictures.__getitem__)
        cost = pictures.cost
    return Read(frames, cost.frames_decoded, cost.index_ms + cost.decode_ms)


def read_full(network: Network, path: Path, _: Settings) -> Read:
    """Returns a video's frames, picked out of all its pictures."""
    began = perf_counter()
    pictures = [frame.data for frame in read_video(path)]
    reading_ms = 1e3 * (perf_counter() - began)
    return Read(_frames(network, len(pictures), pictures.__getitem__), len(pictures), reading_ms)


def _frames(network: Network, length: int, picture: Callable[[int], Any]) -> Tensor:
    places = network.model.positions(length)
    # The last first: of a group of pictures that decodes what the others need, which are kept on the way.
    made = {number: network.preprocess(picture(number))[0] for number in sorted(set(places), reverse=True)}
    return torch.stack([made[number] for number in places])


def fixed(
    network: Network, paths: Sequence[Path], settings: Settings, *, read: Callable[[Network, Path, Settings], Read]
) -> dict[Path, Answer]:
    """Returns the answers after all T frames of each video, which go through the backbone as one batch."""
    answers = {}
    frames, macs = network.model.frames, network.macs.dense
    for path, found in ahead(
        lambda path: read(network, path, settings), paths, workers=settings.workers, most=settings.ahead
    ):
        answers[path] = Answer(whole_scores(network.model, found.frames), frames, macs, found.decoded, found.reading_ms)
    return answers


@torch.no_grad()
def whole_scores(model: FrameExit, frames: Tensor) -> Tensor:
    """Returns the probabilities (K,) from all frames (T, ...) of a video: one batch, one maximum, one classifier."""
    scores: Tensor = model.classifiers[-1](model.features(frames).amax(0)).softmax(0)
    return scores


def ahead(call: Callable[[A], B], items: Iterable[A], *, workers: int, most: int) -> Iterator[tuple[A, B]]:
    """Yields the items with what a call makes of each, in order.

    Args:
        call: runs in one of the threads.
        items: what it is called with.
        workers: threads.
        most: items that are begun or wait for a thread, beside the one that is yielded.
    """
    coming = iter(items)
    waiting: deque[tuple[A, Future[B]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        waiting.extend((item, pool.submit(call, item)) for item in islice(coming, most))
        while waiting:
            item, future = waiting.popleft()
            found = future.result()
            waiting.extend((item, pool.submit(call, item)) for item in islice(coming, 1))
            yield item, found
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Pipeline(NamedTuple):
    """A way to classify files; `says` tells which answers it must give: the rule's, those after all frames, or any."""

    run: Callable[[Network, Sequence[Path], Settings], dict[Path, Answer]]
    says: Literal["rule", "all", "other"]


def _all_frames(network: Network, paths: Sequence[Path], settings: Settings) -> dict[Path, Answer]:
    return batched(network, paths, settings, rule=FixedBudget(network.model.frames))


PIPELINES = {
    "batched": Pipeline(batched, "rule"),  # learned gate, seeking, continuous batching
    "one-by-one": Pipeline(one_by_one, "rule"),
    "batch-1": Pipeline(partial(batched, batch=1), "rule"),  # the threads of "batched" without its batches
    "keyframe": Pipeline(partial(batched, snap="keyframe"), "other"),
    "all-frames": Pipeline(_all_frames, "all"),  # "batched" by the rule `all`
    "fixed-seeking": Pipeline(partial(fixed, read=read_seeking), "all"),
    "fixed-full": Pipeline(partial(fixed, read=read_full), "all"),
}
