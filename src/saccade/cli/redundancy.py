"""`saccade redundancy`: how alike a network's feature maps are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saccade.cli.console import check_targets, progress, say, write_results
from saccade.cli.loading import find_preprocess, load_noted
from saccade.data.sampling import clip_span, uniform_clips
from saccade.errors import InputError, SaccadeError
from saccade.preprocess import Preprocess
from saccade.reduce import DIMENSIONS, LayerRedundancy, Rebuilt, Redundancy, Similarity, Thresholds, measure_redundancy
from saccade.reduce.redundancy import Spread
from saccade.report.tables import redundancy_layers_table, redundancy_table
from saccade.video import read_video
from saccade.zoo import LoadedModel
from saccade.zoo.loaded import picture_preprocess

PICTURES = 8  # frames of a clip where the network takes pictures, so that its example does not say


@dataclass(frozen=True)
class Cut:
    """One clip: frames `start`, `start + stride`, ... of a video."""

    video: str
    start: int


def redundancy_command(
    model: str,
    videos: Sequence[str],
    *,
    frames: int | None,
    stride: int,
    clips: int,
    threshold_cc: float,
    threshold_rmse: float,
    preprocess: Path | None,
    json: str | None,
    plot: Path | None,
) -> None:
    """Measures a model on clips of videos, and writes tables and what else was asked for.

    Raises:
        SaccadeError: the model, a video or an option cannot be used, or a result cannot be written.
    """
    thresholds = Thresholds(threshold_cc, threshold_rmse)
    for video in videos:
        if not Path(video).is_file():
            raise InputError(f"there is no video {video}; clips are cut from all over it, so it has to be a file")
        check_targets(source=video, json_target=json, out=plot, option_out="--plot")
    loaded = load_noted(model)
    whole = takes_clips(loaded)
    if loaded.preprocess is None and whole:
        loaded = replace(loaded, preprocess=picture_preprocess((loaded.example[0][:, :, 0],)))
    how = find_preprocess(loaded, preprocess)
    if frames is None:
        frames = loaded.example[0].shape[2] if whole else PICTURES
    cuts = [Cut(video, start) for video in videos for start in cut_starts(video, frames, stride, clips)]

    def read() -> Iterator[Tensor]:
        for cut in cuts:
            pictures = read_clip(cut, how, frames=frames, stride=stride)
            yield pictures.transpose(0, 1)[None] if whole else pictures

    with progress("clips", len(cuts)) as advance:
        found = measure_redundancy(loaded.model, read(), thresholds=thresholds, on_clip=advance)
    data = {
        "model": loaded.name,
        "weights": loaded.weights,
        "frames": frames,
        "stride": stride,
        "clips": [asdict(cut) for cut in cuts],
        **as_json(found),
    }
    title = f"{loaded.name}, clips of {frames} frames"
    write_results(
        data, target=json, tables=lambda: [redundancy_layers_table(found), redundancy_table(found, title=title)]
    )
    if plot is not None:
        _draw(found, plot, title=title)


def takes_clips(loaded: LoadedModel) -> bool:
    """Returns whether a model takes clips (1, C, T, H, W); if not, it takes pictures (1, C, H, W).

    Raises InputError for a model that takes anything else.
    """
    shapes = [tuple(value.shape) for value in loaded.example]
    if len(shapes) != 1 or len(shapes[0]) not in (4, 5) or shapes[0][0] != 1 or shapes[0][1] not in (1, 3):
        raise InputError(
            f"{loaded.name} takes {', '.join(map(str, shapes))}; expected one input, a picture (1, C, H, W) or a clip "
            "(1, C, T, H, W) with 1 or 3 channels"
        )
    return len(shapes[0]) == 5


def cut_starts(video: str, frames: int, stride: int, count: int) -> list[int]:
    """Returns the first frames of `count` clips spread evenly over a video, from its first frame to its last.

    A single clip lies in its middle. A clip is `frames` frames, one in `stride`.

    Raises:
        InputError: the video is too short for as many different clips.
        VideoError: it cannot be read.
    """
    with read_video(video) as reader:
        length = sum(1 for _ in reader)
    span = clip_span(frames, stride)
    room = length - span + 1  # places where a clip can start
    if room < 1:
        raise InputError(
            f"{video} has {length} frames; a clip of {frames} frames, one in {stride}, takes {span}. "
            "Give a longer video, or a smaller --frames or --stride"
        )
    if room < count:
        raise InputError(
            f"{video} has {length} frames: {room} different clips of {frames} frames, one in {stride}, but {count} "
            f"were asked for. Give --clips {room} or a longer video"
        )
    return [int(clip[0]) for clip in uniform_clips(length, frames=frames, stride=stride, clips=count)]


def read_clip(cut: Cut, how: Preprocess, *, frames: int, stride: int) -> Tensor:
    """Returns the frames of a clip as the network's inputs, (T, C, H, W). Raises VideoError if they cannot be read."""
    with read_video(cut.video, start=cut.start, stop=cut.start + clip_span(frames, stride)) as reader:
        return torch.cat([how(frame) for frame in reader if (frame.index - cut.start) % stride == 0])


def as_json(found: Redundancy) -> dict[str, Any]:
    """Returns what was found as JSON data, over layers and layer by layer: mean, low and high over the clips."""
    return {
        "threshold_cc": found.thresholds.cc,
        "threshold_rmse": found.thresholds.rmse,
        **_quantities(found),
        "layers": [
            {
                "name": layer.name,
                "shape": list(layer.shape),
                **_quantities(layer),
                "not_applicable": dict(layer.clips[0].reasons),
            }
            for layer in found.layers
        ],
    }


def _quantities(of: Redundancy | LayerRedundancy) -> dict[str, Any]:
    """Returns every quantity of each dimension and of the rebuilt channels; None where it does not apply."""

    def told(over: dict[str, Spread | None]) -> dict[str, Any] | None:
        known = {name: spread._asdict() for name, spread in over.items() if spread is not None}
        return known or None

    names = [field.name for field in fields(Similarity)]
    return {dimension: told({name: of.spread(dimension, name) for name in names}) for dimension in DIMENSIONS} | {
        "rebuilt": told({field.name: of.rebuilt(field.name) for field in fields(Rebuilt)})
    }


def _draw(found: Redundancy, path: Path, *, title: str) -> None:
    """Writes the plot and says where. Raises SaccadeError where matplotlib is missing or it cannot be written."""
    from saccade.report.plot_style import save_figure
    from saccade.report.redundancy_plot import redundancy_by_layer

    try:
        written = save_figure(redundancy_by_layer(found, title=title), path)
    except OSError as error:
        raise SaccadeError(f"--plot {path} cannot be written: {error.strerror or error}") from error
    say(f"plot: {' and '.join(map(str, written))}")
