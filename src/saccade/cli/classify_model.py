"""The model of `saccade classify`: a FrameExit with its weights, and how a video's pictures become its frames."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from saccade.cli.console import say
from saccade.cli.loading import find_preprocess, load_noted
from saccade.errors import FileFormatError, InputError
from saccade.exits import FrameExit
from saccade.preprocess import Preprocess
from saccade.train import read_weights
from saccade.zoo import LoadedModel
from saccade.zoo.loaded import picture_preprocess


@dataclass(frozen=True, eq=False)
class VideoClassifier:
    """What classifies.

    Attributes:
        name: of the model.
        model: on the CPU, in evaluation mode.
        preprocess: from a picture to a frame, or to a part of a clip; its size is fixed.
        clip: pictures of a clip, where a frame is one.
        frame: an example, (1, ...) zeros.
        names: of the classes; empty where they have none.
    """

    name: str
    model: FrameExit
    preprocess: Preprocess
    clip: int | None
    frame: Tensor
    names: tuple[str, ...]

    def digest(self) -> bytes:
        """Returns what changes with the weights, the pictures' way into the network, and the names."""
        found = hashlib.sha256(f"{self.preprocess.to_json()}{self.names}{self.model.order}".encode())
        for name, value in sorted(self.model.state_dict().items()):
            found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return found.digest()


def load_classifier(
    name: str, *, weights: Path | None, preprocess: Path | None, classes: Path | None
) -> VideoClassifier:
    """Returns the model called so.

    Args:
        name: as of `load_model`: `frameexit:BACKBONE` or a factory that makes a FrameExit.
        weights: a folder or file that `saccade train` wrote. A model of the zoo gets the size these have.
        preprocess: a file to use in place of the model's own.
        classes: a file with a class's name on each line.

    Raises:
        SaccadeError: one of them cannot be used, or the model is no FrameExit.
    """
    loaded = load_noted(name) if weights is None else _with_weights(name, weights)
    return classifier_of(loaded, preprocess=preprocess, classes=classes)


def classifier_of(loaded: LoadedModel, *, preprocess: Path | None, classes: Path | None = None) -> VideoClassifier:
    """Returns a loaded model as what classifies; else as `load_classifier`."""
    name, model, example = loaded.name, loaded.model, loaded.example
    if not isinstance(model, FrameExit):
        raise InputError(
            f"{name} is a {type(model).__name__}; expected a FrameExit: frameexit:BACKBONE, or a factory of yours that "
            "returns one"
        )
    if len(example) != 1 or example[0].dim() not in (5, 6) or len(example[0]) != 1:
        shapes = ", ".join(str(tuple(value.shape)) for value in example)
        raise InputError(f"the example of {name} is {shapes}; expected a video (1, T, C, H, W), or (1, T, C, t, H, W)")
    frame = torch.zeros_like(example[0][:, 0])
    if loaded.preprocess is None:
        loaded = replace(loaded, preprocess=picture_preprocess((frame if frame.dim() == 4 else frame[:, :, 0],)))
    how = find_preprocess(loaded, preprocess)
    if how.size is None or (how.channel_count, *how.size) != (frame.shape[1], *frame.shape[-2:]):
        raise InputError(
            f"the preprocess gives pictures of {how.channel_count} channels and size {how.size}; expected "
            f"{frame.shape[1]} and {tuple(frame.shape[-2:])}, as the example of {name} has"
        )
    names = loaded.class_names if classes is None else _names(classes)
    if names and len(names) != model.classes:
        raise InputError(f"got {len(names)} names of classes for {model.classes} classes of {name}; expected as many")
    return VideoClassifier(name, model, how, frame.shape[2] if frame.dim() == 5 else None, frame, names)


def _with_weights(name: str, path: Path) -> LoadedModel:
    trained = read_weights(path)
    if trained.step < trained.steps:
        say(f"note: these weights are of step {trained.step} of {trained.steps}; training has not finished")
    inside = [key.removesuffix("embed.weight") for key in trained.state if key.endswith("embed.weight")]
    if len(inside) == 1:  # the FrameExit may be a part of what was trained
        prefix = inside[0]
        own = {k.removeprefix(prefix): v for k, v in trained.state.items() if k.startswith(prefix)}
        trained = replace(trained, state=own)
    if name.startswith("frameexit:"):
        from saccade.zoo.frame_exit import frame_exit_of, load_frame_exit
        from saccade.zoo.making import split_pretrained

        backbone, pretrained = split_pretrained(name.removeprefix("frameexit:"))
        if pretrained:
            raise InputError(
                f"got {name} and --weights, which would replace the pretrained ones; leave one of them away"
            )
        try:
            model = frame_exit_of(backbone, trained.state, trained.options)
        except InputError as error:
            raise FileFormatError(f"{trained.path}: {error}") from error
        loaded = replace(load_frame_exit(name), model=model)
    else:
        loaded = load_noted(name)
    if isinstance(loaded.model, torch.nn.Module):
        trained.load_into(loaded.model)
        loaded.model.eval()
    return replace(loaded, weights=str(trained.path))


def _names(path: Path) -> tuple[str, ...]:
    try:
        return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"--classes {path} cannot be read: {error}; expected a name on each line") from error
