"""A network of clips run over a video, window after window: which classes it sees, and what it cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from saccade import __version__
from saccade.errors import InputError
from saccade.evaluate.agreement import Timing
from saccade.evaluate.ending import Ending
from saccade.evaluate.video_run import FORMAT, finite, machine_name
from saccade.stream import Engine

TOP = 5


@dataclass(frozen=True)
class ClassSeen:
    """A class, its number and its name ("" where nobody knows it), and its probability (softmax)."""

    label: int
    name: str
    probability: float


@dataclass(frozen=True)
class ClipSeen:
    """What a network saw in a clip that lies between two frames of the video, both included; the likeliest first.

    Attributes:
        first_frame, last_frame: of the clip; of a FrameExit, of a window.
        classes: the likeliest five.
        visited: of a FrameExit, the frames looked at, in order; else None.
        answered_at: of a FrameExit, the frame after which it was sure; else None.
        latency_ms: of a FrameExit, from the coming of that frame to the answer; else None.
    """

    first_frame: int
    last_frame: int
    classes: list[ClassSeen]
    visited: list[int] | None = None
    answered_at: int | None = None
    latency_ms: float | None = None


@dataclass(frozen=True)
class ClipRunReport:
    """What running a network of clips over a video gave and took. Fields are only ever added; none changes its meaning.

    Attributes:
        clips: what was seen, clip by clip.
        classes: the same over the video: of the mean of the clips' probabilities.
        clip_frames: T, frames of a clip; of a FrameExit, frames of a window that may be looked at.
        clip_stride: a clip takes one frame in so many.
        frames: frames read.
        frames_left: of these, the last ones, which did not fill a clip; 0 where the video is shorter than one clip,
            which is then made of its frames from the first on, again and again.
        dense_macs, executed_macs, gate_macs: of all clips together.
        macs_ratio: dense / (executed + gate); None where nothing was executed.
        ms_per_clip: wall-clock time of the network alone, without decoding and preprocessing.
        executor, precision, stream_threads, isa, model, weights, source, interrupted, damage, saccade_version,
            torch_version, threads, machine, format: as of `RunReport`.
    """

    clips: list[ClipSeen]
    classes: list[ClassSeen]
    clip_frames: int
    clip_stride: int
    frames: int
    frames_left: int
    executor: str
    dense_macs: int
    executed_macs: int
    gate_macs: int
    macs_ratio: float | None
    ms_per_clip: Timing
    model: str
    weights: str
    source: str
    interrupted: bool = False
    damage: str | None = None
    precision: str = "float32"
    stream_threads: int = 1
    isa: str = ""
    saccade_version: str = __version__
    torch_version: str = torch.__version__
    threads: int = field(default_factory=torch.get_num_threads)
    machine: str = field(default_factory=machine_name)
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON data: numbers stay numbers, and what is not finite becomes None."""
        return finite(asdict(self))


def run_clips(
    engine: Engine,
    source: Iterable[Any],
    *,
    prepare: Callable[[Any], Tensor],
    frames: int,
    stride: int = 1,
    names: tuple[str, ...] = (),
    on_frame: Callable[[], None] | None = None,
    model: str = "",
    weights: str = "",
    video: str = "",
) -> ClipRunReport:
    """Runs a classifier of clips over a video: clips follow one another, none shares a frame with the next.

    A damaged video and Ctrl-C end the run, not the report: it holds the clips run until then and says what happened.

    Args:
        engine: runs the classifier, clips (1, C, T, H, W) to scores (1, classes).
        source: the video's frames.
        prepare: makes of a frame what a clip is stacked of, (1, C, H, W).
        frames: T.
        stride: a clip takes one frame in so many.
        names: of the classes; may be empty.
        on_frame: called after every frame.
        model: the model's name, for the report.
        weights: where its weights come from, for the report.
        video: what the source is called, for the report.

    Raises:
        InputError: frames or stride are below 1, or the network gives no scores (1, classes).
    """
    if frames < 1 or stride < 1:
        raise InputError(f"got clips of {frames} frames, one in {stride}; expected at least 1 of each")
    windows = _Windows(source, prepare, frames, stride, on_frame)
    seen: list[ClipSeen] = []
    total, ms, ending = torch.zeros(()), [], Ending(lambda: windows.read)
    macs = [0, 0, 0]
    with ending:
        for first, last, clip in windows:
            began = time.perf_counter()
            scores = engine(clip)
            ms.append(1000 * (time.perf_counter() - began))
            probabilities = _probabilities(scores)
            total = total + probabilities
            seen.append(ClipSeen(first, last, top_classes(probabilities, names)))
            spent = engine.cost
            macs = [macs[0] + spent.dense_macs, macs[1] + spent.executed_macs, macs[2] + spent.gate_macs]
    return ClipRunReport(
        clips=seen,
        classes=top_classes(total / len(seen), names) if seen else [],
        clip_frames=frames,
        clip_stride=stride,
        frames=windows.read,
        frames_left=windows.left,
        executor=engine.executor,
        dense_macs=macs[0],
        executed_macs=macs[1],
        gate_macs=macs[2],
        macs_ratio=macs[0] / (macs[1] + macs[2]) if macs[1] + macs[2] else None,
        ms_per_clip=Timing.of(ms),
        model=model,
        weights=weights,
        source=video,
        interrupted=ending.interrupted,
        damage=ending.damage,
        precision=engine.precision,
        stream_threads=engine.threads,
        isa=engine.isa,
    )


class _Windows:
    """Clips of a video in order, as (first frame, last frame, clip); `read` and `left` count frames on the way."""

    def __init__(
        self,
        source: Iterable[Any],
        prepare: Callable[[Any], Tensor],
        frames: int,
        stride: int,
        on_frame: Callable[[], None] | None,
    ) -> None:
        self.source, self.prepare, self.frames, self.stride = source, prepare, frames, stride
        self.on_frame = on_frame
        self.read = self.left = 0

    def __iter__(self) -> Iterator[tuple[int, int, Tensor]]:
        span, start, made = (self.frames - 1) * self.stride + 1, 0, 0
        held: list[Tensor] = []  # of the clip so far; of the first one all frames, should the video end before it does
        for frame in self.source:
            place = self.read - start
            if place < span and (made == 0 or place % self.stride == 0):
                held.append(self.prepare(frame))
            self.read, self.left = self.read + 1, place + 1
            if self.on_frame is not None:
                self.on_frame()
            if place + 1 == span:
                clip = torch.stack(held[:: self.stride] if made == 0 else held, 2)
                held, made, self.left = [], made + 1, 0
                yield start, self.read - 1, clip
            if place + 1 == self.frames * self.stride:
                start, self.left = self.read, 0
            elif place + 1 > span:
                self.left = 0  # between two clips
        if made == 0 and held:
            self.left = 0
            again = [held[i * self.stride % len(held)] for i in range(self.frames)]
            yield 0, self.read - 1, torch.stack(again, 2)


def _probabilities(scores: Any) -> Tensor:
    """Returns the probabilities (classes,) of scores (1, classes); raises InputError for anything else."""
    if not isinstance(scores, Tensor) or scores.dim() != 2 or scores.shape[0] != 1:
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise InputError(f"the network gave {shape} for a clip; expected scores of classes, (1, classes)")
    return scores[0].double().softmax(0)


def top_classes(probabilities: Tensor, names: tuple[str, ...]) -> list[ClassSeen]:
    """Returns the likeliest classes, the first first."""
    best = probabilities.topk(min(TOP, len(probabilities)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [ClassSeen(label, names[label] if label < len(names) else "", value) for label, value in pairs]
