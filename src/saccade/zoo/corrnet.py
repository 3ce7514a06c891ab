"""CorrNet: R(2+1)D that compares every frame with the one before it, after three of its layers.

Wang et al., "Video modeling with correlation networks" (CVPR 2020). A correlation block (section 4, "correlation-sum")
reduces the channels to a quarter, correlates neighbouring frames over K x K displacements with learned weights, group
by group of channels, and adds the result to its input. VA-RED2 puts the blocks into R(2+1)D-18.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.errors import InputError
from saccade.zoo.clips import CLASSES, ClipClassifier, load_clips, started
from saccade.zoo.loaded import LoadedModel
from saccade.zoo.making import SEED, check_classes, check_variant, create
from saccade.zoo.r2plus1d import CHANNELS, LAYERS, SIZES, make_body

PREFIX = "corrnet:"
DISPLACEMENTS = 7  # K, to each side 3 positions of the feature map
GROUPS = 32  # the paper's; as many as there are channels where those are fewer
BLOCKS = 3  # behind the first three layers


class Correlation(nn.Module):
    """How alike the places of a frame and the displaced ones of the frame before it are.

    For group g, displacement k (rows first) and position p of frame t, with weights w and features x:

        y[g, k, t, p] = mean over the channels c of g of  w[c, k] x[c, t-1, p] x[c, t, p + k]

    The first frame is compared with itself, and what lies outside a frame is 0. Takes `(B, C, T, H, W)`, gives
    `(B, G K^2, T, H, W)`. With `frames`, every pair of neighbours has weights of its own, as in the paper, and clips
    must have that many frames, or InputError says so; without, all pairs share them and clips may have any length.
    """

    def __init__(self, channels: int, *, displacements: int, groups: int, frames: int | None = None) -> None:
        """Make the weights, `(C, K^2, frames or 1, 1)`."""
        super().__init__()
        self.displacements, self.groups, self.frames = displacements, groups, frames
        self.weight = nn.Parameter(torch.empty(channels, displacements**2, frames or 1, 1))
        nn.init.normal_(self.weight, std=(2 / displacements**2) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return the correlations."""
        batch, channels, frames, height, width = x.shape
        if self.frames not in (None, frames):
            raise InputError(
                f"Correlation: got clips with {frames} frames here; expected {self.frames}: take clips of the length "
                "the network was made for, or make it with frames=None"
            )
        before = torch.cat([x[:, :, :1], x[:, :, :-1]], dim=2)
        count, place = self.displacements**2, height * width
        pictures = x.transpose(1, 2).flatten(0, 1)
        near = F.unfold(pictures, self.displacements, padding=self.displacements // 2)
        near = near.view(batch, frames, channels, count, place).permute(0, 2, 3, 1, 4)  # (B, C, K^2, T, H W)
        products = near * self.weight * before.flatten(3).unsqueeze(2)
        alike = products.unflatten(1, (self.groups, channels // self.groups)).mean(2)
        return alike.reshape(batch, self.groups * count, frames, height, width)


class CorrelationBlock(nn.Module):
    """1x1x1 to a quarter of the channels, `Correlation`, 1x1x1 back, plus the input."""

    def __init__(self, channels: int, *, frames: int | None = None) -> None:
        """Make the layers for features of `channels` channels."""
        super().__init__()
        reduced = channels // 4
        groups = min(GROUPS, reduced)
        self.reduce = nn.Sequential(
            nn.Conv3d(channels, reduced, 1, bias=False), nn.BatchNorm3d(reduced), nn.ReLU(inplace=True)
        )
        self.correlation = Correlation(reduced, displacements=DISPLACEMENTS, groups=groups, frames=frames)
        self.restore = nn.Sequential(
            nn.Conv3d(groups * DISPLACEMENTS**2, channels, 1, bias=False), nn.BatchNorm3d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, channels, T, H, W)`, as it is given."""
        return F.relu(x + self.restore(self.correlation(self.reduce(x))))


def corrnet(
    variant: str = "tiny", *, classes: int = CLASSES, frames: int | None = None, seed: int = SEED
) -> ClipClassifier:
    """Returns R(2+1)D with a correlation block behind each of its first three layers, in evaluation mode.

    Args:
        variant: that of R(2+1)D: "18" (58.4 G macs for 16 frames of 128x128, 32.2 M parameters) or "tiny".
        classes: number of scores.
        frames: length of the clips; the weights of the correlations then differ from frame to frame, as in the
            paper. By default they do not, and clips may have any length.
        seed: of the random weights. torch's own random state is not touched.

    Raises:
        MissingExtraError: torchvision is not installed.
        ModelError: there is no such variant.
    """
    name = f"{PREFIX}{variant}"
    check_variant(name, variant, CHANNELS, prefix=PREFIX, what="CorrNet on R(2+1)D")
    check_classes(name, classes)

    def make() -> ClipClassifier:
        body, left = make_body(variant), frames
        for layer, channels in list(zip(LAYERS[1:], CHANNELS[variant], strict=True))[:BLOCKS]:
            body.get_submodule(layer).append(CorrelationBlock(channels, frames=left))  # type: ignore[operator]
            left = None if left is None else (left + 1) // 2
        return started(ClipClassifier(body, nn.Linear(CHANNELS[variant][-1], classes)))

    return create(name, False, make, library="torchvision", seed=seed)


def load_corrnet(name: str) -> LoadedModel:
    """Returns the network called `corrnet:VARIANT`, with Kinetics' 400 classes; raises as `corrnet`."""
    variant = name.removeprefix(PREFIX)
    return load_clips(name, corrnet(variant), SIZES[variant])
