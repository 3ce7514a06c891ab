"""The demonstration: the shipped detector on a rendered street, dense and as a stream, compared."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from saccade.data.street import StreetConfig, StreetVideo, encode_and_decode, render_street
from saccade.errors import MissingExtraError
from saccade.evaluate.detection import Detections, average_precision, matched_f1
from saccade.evaluate.video_run import RunReport, finite, follow
from saccade.preprocess import Preprocess
from saccade.video import Frame
from saccade.zoo.street_detector import decode

if TYPE_CHECKING:
    from saccade.stream import Stream
    from saccade.zoo import LoadedModel

SEED = 2024  # of the street; not among those the detector was trained on
CHANGE = 8  # grey levels of 255 a pixel has to move to count as changed
SHOWN = 0.3  # score from which a box is drawn and compared
COUNTED = 0.05  # score from which a box enters average precision, which weighs boxes by their score
HIDDEN = 0.25  # vehicles of which less is visible need not be found


@dataclass(frozen=True)
class DemoReport:
    """What the demonstration measured.

    Attributes:
        run: cost, time and agreement of the stream.
        pixels_changed: mean share of pixels that move by more than 8 of 255 grey levels from frame to frame.
        ap_dense: average precision (COCO, 0.50:0.95) of the network run densely on every frame; None without
            faster-coco-eval, or without a vehicle to find.
        ap_stream: the same of the stream.
        f1: how far the boxes of the two agree (matched F1 at IoU 0.5).
        f1_repeat: the same for repeating every second dense result, the simplest way to halve the cost.
    """

    run: RunReport
    pixels_changed: float | None
    ap_dense: float | None
    ap_stream: float | None
    f1: float | None
    f1_repeat: float | None

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON data."""
        data: dict[str, Any] = finite({**asdict(self), "run": self.run.to_json()})
        return data


def render_demo(frames: int) -> StreetVideo:
    """Returns the demonstration's clip, 256 x 448, as it comes out of H.264."""
    return encode_and_decode(render_street(StreetConfig(seed=SEED, frames=frames)))


def run_demo(
    video: StreetVideo,
    loaded: LoadedModel,
    stream: Stream,
    *,
    on_frame: Callable[[Any, Any], None] | None = None,
) -> DemoReport:
    """Returns the comparison of a detector with its stream over a rendered clip."""
    network = loaded.as_callable()
    dense: list[Any] = []
    streamed: list[Any] = []

    def run_dense(picture: torch.Tensor) -> Any:
        dense.append(network(picture))
        return dense[-1]

    def collect(frame: Any, outputs: Any) -> None:
        streamed.append(outputs)
        if on_frame is not None:
            on_frame(frame, outputs)

    run = follow(
        stream,
        _frames(video),
        verify=True,
        reference=run_dense,
        on_frame=collect,
        model=loaded.name,
        weights=loaded.weights,
        video=f"rendered street (seed {video.config.seed})",
    )
    count = len(streamed)
    assert stream.preprocess is not None
    find = partial(_find, preprocess=stream.preprocess, video=video)
    shown = [find(outputs, score_threshold=SHOWN) for outputs in streamed]
    wanted = [find(outputs, score_threshold=SHOWN) for outputs in dense[:count]]
    repeated = [wanted[index - index % 2] for index in range(count)]
    return DemoReport(
        run=run,
        pixels_changed=pixels_changed(video.frames[:count]),
        ap_dense=_precision([find(outputs, score_threshold=COUNTED) for outputs in dense[:count]], video),
        ap_stream=_precision([find(outputs, score_threshold=COUNTED) for outputs in streamed], video),
        f1=matched_f1(shown, wanted) if count else None,
        f1_repeat=matched_f1(repeated, wanted) if count else None,
    )


def pixels_changed(frames: np.ndarray) -> float | None:
    """Returns the mean share of pixels (T, H, W, 3) that move by more than 8 levels; None for T < 2."""
    shares = [
        float((np.abs(new.astype(np.int16) - old) > CHANGE).any(axis=-1).mean())
        for old, new in itertools.pairwise(frames)
    ]
    return sum(shares) / len(shares) if shares else None


def _frames(video: StreetVideo) -> Iterator[Frame]:
    for index, picture in enumerate(video.frames):
        yield Frame(picture, index, index / video.config.fps)


def _find(outputs: Any, *, score_threshold: float, preprocess: Preprocess, video: StreetVideo) -> Detections:
    """Returns what was found in one frame, in pixels of the video."""
    found = decode(outputs, score_threshold=score_threshold)[0]
    size = (video.config.height, video.config.width)
    return Detections(preprocess.to_source(found.boxes, size), found.scores, found.labels)


def _precision(found: list[Detections], video: StreetVideo) -> float | None:
    labels = video.labels[: len(found)]
    truth = [
        Detections(torch.from_numpy(x.boxes), torch.ones(len(x.boxes)), torch.from_numpy(x.classes)) for x in labels
    ]
    ignored = [torch.from_numpy(x.visible < HIDDEN) for x in labels]
    if all(bool(marks.all()) for marks in ignored):
        return None
    try:
        return average_precision(found, truth, ignored=ignored).ap
    except MissingExtraError:
        return None
