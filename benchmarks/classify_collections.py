"""The video files that benchmarks.classify runs over, and the networks that look at them.

- Rendered films of 40, 80 and 160 pictures (`recipes.film_clips.write_films`), 64x64, in one group of pictures unless
  the encoder saw a cut; and the same with a key frame every so many pictures. A trained FrameExit looks at them.
- Surveillance clips of about two seconds, in one group each. Networks with random weights look at them: what these
  answer means nothing, and their gates are set so that a share of the clips leaves after each frame.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import torch

from benchmarks.assets import ASSETS
from benchmarks.classify_pipelines import Network, Settings, make_network, read_seeking
from recipes.film_clips import SIZE, write_films
from recipes.kept_samples import CACHE
from saccade.data.actions import read_actions
from saccade.data.puppets_films import FILM_CLASSES
from saccade.exits import FrameExit, Outputs
from saccade.preprocess import Preprocess
from saccade.train import read_weights
from saccade.video import VideoFrames, read_video
from saccade.zoo.frame_exit import frame_exit, frame_exit_of
from saccade.zoo.making import IMAGENET_MEAN, IMAGENET_STD

LEAVING = 0.23  # of the videos still looked at leave after each frame: of ten frames about four are looked at
STANDARD = 12  # videos that random weights are scaled by
MARGIN = 0.1  # of the videos may leave more or fewer, for a wide gap between those that go and those that stay


@dataclass(frozen=True, eq=False, repr=False)
class Collection:
    """Video files.

    Attributes:
        name: what it is called.
        paths: the files.
        labels: of them; () where they mean nothing to the network.
        key_frames: how many each file has.
    """

    name: str
    paths: list[Path]
    labels: tuple[int, ...]
    key_frames: tuple[int, ...]


def films(count: int, *, key_every: int | None = None) -> Collection:
    """Returns the first films of the test split as files, rendered the first time and kept in `CACHE`.

    Args:
        count: how many; of 36 there are all classes in all lengths.
        key_every: pictures from one key frame to the next; None leaves that to the encoder: at most 250.
    """
    folder = CACHE / f"film-files-test-{count}-{SIZE}"
    paths = _kept(folder, lambda part: write_films(part, "test", films=count))
    name = "films"
    if key_every is not None:
        name = f"films-{key_every}"
        given = paths
        paths = _kept(folder.with_name(f"{folder.name}-key-{key_every}"), lambda part: _regroup(given, part, key_every))
    labels = tuple(FILM_CLASSES.index(path.parent.name) for path in paths)
    return Collection(name, paths, labels, key_frames(paths))


def action_clips(count: int) -> Collection:
    """Returns the first surveillance clips of the test part, of both classes in turn."""
    listed = read_actions(ASSETS / "actions", part="test").videos
    paths = sorted((video.path for video in listed), key=lambda path: path.stem.removeprefix("no"))[:count]
    return Collection("clips", paths, (), key_frames(paths))


def key_frames(paths: list[Path]) -> tuple[int, ...]:
    """Returns how many key frames each file has."""
    found = []
    for path in paths:
        with VideoFrames(path, cache=False) as frames:
            found.append(len(frames.keyframes))
    return tuple(found)


def regroup(source: Path, target: Path, key_every: int) -> None:
    """Writes a video again, with a key frame every so many pictures and none between."""
    with read_video(source) as frames, av.open(str(target), "w") as container:
        rate = Fraction(frames.fps).limit_denominator(1001)
        groups = f"keyint={key_every}:min-keyint={key_every}:scenecut=0"
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "x264-params": groups})
        stream.height, stream.width = frames.size
        stream.pix_fmt, stream.thread_count = "yuv420p", 1
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame.data, format="rgb24")
            picture.pts, picture.time_base = number, 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def _regroup(paths: list[Path], folder: Path, key_every: int) -> None:
    for path in paths:
        target = folder / path.parent.name / path.name
        target.parent.mkdir(exist_ok=True)
        regroup(path, target, key_every)


def _kept(folder: Path, make: Callable[[Path], object]) -> list[Path]:
    """Returns the films in a folder, by number; it is made the first time, and is there whole or not at all."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
        make(part)
        part.rename(folder)
    return sorted(folder.rglob("*.mp4"), key=lambda path: int(path.stem))


# --- networks


def film_network(weights: Path) -> Network:
    """Returns the FrameExit in a training's folder (recipes/exits.py); films come as its recipe gives them."""
    trained = read_weights(weights)
    backbone = str(trained.options.get("backbone", "tiny"))
    model = frame_exit_of(backbone, trained.state, trained.options)
    trained.load_into(model)
    how = Preprocess(size=(SIZE, SIZE), mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return make_network(backbone, model, how, trained=True)


def random_network(
    backbone: str, size: int, paths: list[Path], *, classes: int = 2, frames: int = 10, hidden: int | None = None
) -> Network:
    """Returns a FrameExit with random weights whose answers and exits depend on the video.

    Args:
        backbone: as of `frame_exit`.
        size: height and width of a frame.
        paths: the videos that its gates are set by.
        classes, frames, hidden: as of `frame_exit`.
    """
    model = frame_exit(backbone, classes=classes, frames=frames, hidden=hidden)
    how = Preprocess(size=(size, size), fit="crop", mean=IMAGENET_MEAN, std=IMAGENET_STD)
    network = make_network(backbone, model, how, trained=False)
    _standardise(network, paths[:STANDARD])
    set_gates(model, outputs_of(network, paths))
    return network


@torch.no_grad()
def outputs_of(network: Network, paths: list[Path], settings: Settings = Settings()) -> Outputs:  # noqa: B008 - frozen
    """Returns what a model says of videos after each of their frames, one video after the other."""
    features = [network.model.features(read_seeking(network, path, settings).frames) for path in paths]
    return network.model.from_features(torch.stack(features))


@torch.no_grad()
def _standardise(network: Network, paths: list[Path]) -> None:
    """Scales the layer behind a random backbone so that what goes into its ReLU has mean 0 and deviation 1.

    Random backbones tell videos apart by little, and less than rounding where signals fade on the way.
    """
    embed, given = network.model.embed, []
    hook = embed.register_forward_hook(lambda _, __, output: given.append(output))
    outputs_of(network, paths)
    hook.remove()
    deviation, mean = torch.std_mean(torch.cat(given), 0)
    deviation = deviation.clamp(min=1e-12)
    embed.weight /= deviation[:, None]
    embed.bias.copy_((embed.bias - mean) / deviation)


@torch.no_grad()
def set_gates(model: FrameExit, outputs: Outputs, *, leaving: float = LEAVING) -> None:
    """Moves the gates' biases so that about a share of the videos that are left leaves after each frame.

    Args:
        model: said the outputs.
        outputs: of the videos.
        leaving: the share.
    """
    running = torch.ones(len(outputs.z), dtype=torch.bool)
    for t in range(1, model.frames):
        logits = outputs.gate_logits[:, t - 1]
        left = logits[running].sort().values
        wanted, spread = round(leaving * len(left)), round(MARGIN * len(left))
        counts = range(max(1, wanted - spread), min(len(left) - 1, wanted + spread) + 1)
        if wanted and len(counts):
            leave = max(counts, key=lambda count, left=left: float(left[-count] - left[-count - 1]))
            cut = (left[-leave] + left[-leave - 1]) / 2
        else:
            cut = logits.max() + 1  # nobody
        model.gates.last[t - 1].bias -= cut
        running &= logits < cut
