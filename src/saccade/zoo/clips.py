"""What the networks of clips share: the check of what they are given, their last layers, and how they are loaded."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.errors import InputError
from saccade.preprocess import Preprocess
from saccade.zoo.loaded import LoadedModel
from saccade.zoo.making import IMAGENET_MEAN, IMAGENET_STD, weights_origin

CLASSES = 400  # Kinetics-400's
Network = TypeVar("Network", bound=nn.Module)


def check_clips(clips: Tensor, *, who: str) -> None:
    """Raises InputError unless `clips` is (B, 3, T, H, W), none of them 0."""
    if clips.ndim == 5 and clips.shape[1] == 3 and 0 not in clips.shape:
        return
    hint = "stack frames (B, 3, H, W) with torch.stack(frames, 2)"
    if clips.ndim == 5 and clips.shape[2] == 3:
        hint = "these seem to be (B, T, 3, H, W): swap the two with clips.transpose(1, 2)"
    raise InputError(f"{who}: got a tensor {tuple(clips.shape)}; expected clips (B, 3, T, H, W); {hint}")


def mean_over_clip(features: Tensor) -> Tensor:
    """Returns the mean over time and space, `(B, C)`, of features `(B, C, t, h, w)`."""
    return F.adaptive_avg_pool3d(features, 1).flatten(1)


class ClipClassifier(nn.Module):
    """Class scores (logits) `(B, classes)` of clips `(B, 3, T, H, W)` of any length and size.

    InputError says so when it is given something else.

    Attributes:
        body: from clips to features `(B, C, t, h, w)`.
        head: from the features' mean over time and space, `(B, C)`, to scores.
    """

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        """Put a head on a body."""
        super().__init__()
        self.body, self.head = body, head

    def forward(self, clips: Tensor) -> Tensor:
        """Return the scores."""
        check_clips(clips, who=type(self.body).__name__)
        return self.head(mean_over_clip(self.body(clips)))


def started(network: Network) -> Network:
    """Returns the network with the weights of convolutions and linear layers drawn as torchvision draws a video's."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return network


def load_clips(
    name: str,
    model: nn.Module,
    size: tuple[int, int, int],
    *,
    pretrained: bool = False,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    crop_fraction: float = 1.0,
    frame_stride: int = 1,
) -> LoadedModel:
    """Returns a classifier of clips with an example of `size` (T, H, W), of one frame in `frame_stride`.

    Its preprocess makes one frame, (1, 3, H, W), whose centre it crops; T of them, stacked, are a clip.
    """
    return LoadedModel(
        name=name,
        model=model,
        example=(torch.zeros(1, 3, *size),),
        preprocess=Preprocess(size=size[1:], fit="crop", crop_fraction=crop_fraction, mean=mean, std=std),
        kind="classification",
        weights=weights_origin(pretrained),
        frame_stride=frame_stride,
    )
