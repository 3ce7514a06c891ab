"""What every way of naming a model gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.export import ExportedProgram

from saccade.preprocess import Preprocess

if TYPE_CHECKING:
    from saccade.evaluate.detection import Detections

Kind = Literal["classification", "detection", "segmentation", "dense-map", "unknown"]


@dataclass(frozen=True, repr=False)
class LoadedModel:
    """A network and all that is needed to show it a video.

    Attributes:
        name: the name it was asked for by.
        model: the network, in evaluation mode.
        example: its inputs, float32 `(1, C, H, W)` for a picture, `(1, 3, T, H, W)` for a clip.
        preprocess: turns a video frame into the input, or into one of the T frames that are stacked to a clip; None
            when that is unknown and the user has to say it.
        decode: turns the network's outputs into one `Detections` per picture, in pixels of the input; or None.
        kind: what the outputs are. Only drawing depends on it.
        class_names: names of labels 0, 1, ...; may be empty.
        weights: where the numbers come from, in words ("random, seed 0", "pretrained", "from the file").
        frame_stride: a clip takes one frame of the video in so many.
    """

    name: str
    model: nn.Module | ExportedProgram
    example: tuple[torch.Tensor, ...]
    preprocess: Preprocess | None = None
    decode: Callable[[Any], list[Detections]] | None = None
    kind: Kind = "unknown"
    class_names: tuple[str, ...] = ()
    weights: str = "as given"
    frame_stride: int = 1

    def __repr__(self) -> str:
        """The name, kind, input shapes and origin of the weights; never numbers."""
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in self.example)
        return f"LoadedModel({self.name!r}, {self.kind}, inputs {shapes}, weights {self.weights})"

    def as_callable(self) -> Callable[..., Any]:
        """Returns the original torch program: what a stream's results are compared with."""
        if isinstance(self.model, ExportedProgram):
            return self.model.module()
        return self.model


def picture_preprocess(example: tuple[torch.Tensor, ...]) -> Preprocess | None:
    """Returns the plainest way from a frame to the first example input: resized, rgb or grey, scaled to 0..1.

    None when the first input is not one picture with 1 or 3 channels.
    """
    if not example or example[0].ndim != 4 or example[0].shape[0] != 1:
        return None
    if example[0].shape[1] not in (1, 3):
        return None
    height, width = example[0].shape[2:]
    return Preprocess(size=(int(height), int(width)), channels="grey" if example[0].shape[1] == 1 else "rgb")


def guess_kind(outputs: Any, example: tuple[torch.Tensor, ...]) -> Kind:
    """Guesses what outputs are from their shapes alone.

    One `(1, C)` output is a classification, one map of pictures with 2 or more than 3 channels (an image has
    1 or 3) a segmentation, any other map a dense map; several outputs are unknown.
    """
    tensors = [value for value in torch.utils._pytree.tree_leaves(outputs) if isinstance(value, torch.Tensor)]
    if len(tensors) != 1:
        return "unknown"
    shape = tuple(tensors[0].shape)
    if len(shape) == 2 and shape[1] > 1:
        return "classification"
    if len(shape) != 4 or not example or example[0].ndim != 4:
        return "unknown"
    return "segmentation" if shape[1] == 2 or shape[1] > 3 else "dense-map"
