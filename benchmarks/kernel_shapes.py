"""Which convolutions the kernel benchmark runs: those of known networks, and which of their positions are active."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from saccade.zoo import load_model

NETWORKS = {  # (model, side of its square input)
    "hrnet_w32": ("timm:hrnet_w32", 256),
    "resnet50": ("timm:resnet50", 224),
    "resnet101": ("timm:resnet101", 224),
    "efficientdet_d0": ("effdet:tf_efficientdet_d0", 512),
    "efficientdet_d1": ("effdet:tf_efficientdet_d1", 640),
    "efficientdet_d2": ("effdet:tf_efficientdet_d2", 768),
    "efficientdet_d3": ("effdet:tf_efficientdet_d3", 896),
}
WHOLE = "hrnet_w32"  # measured without leaving out any shape, for the paper's Table 2
MASKS = ("random", "blobs")


@dataclass(frozen=True)
class Shape:
    """A convolution over a picture, batch 1. Pairs are (height, width); `channels` are (in, out)."""

    size: tuple[int, int]
    channels: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def out(self) -> tuple[int, int]:
        """Size of its output."""
        axes = zip(self.size, self.kernel, self.stride, self.pad, self.dilation, strict=True)
        height, width = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes)
        return height, width

    @property
    def positions(self) -> int:
        """Positions of its output."""
        return self.out[0] * self.out[1]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of computing every position; taps on the padding count."""
        return self.positions * self.channels[1] * self.channels[0] // self.groups * math.prod(self.kernel)

    @property
    def kind(self) -> str:
        """depthwise, grouped, pointwise (1x1) or full."""
        if self.groups > 1:
            return "depthwise" if self.groups == self.channels[0] == self.channels[1] else "grouped"
        return "pointwise" if self.kernel == (1, 1) else "full"

    def __str__(self) -> str:
        def pair(values: tuple[int, int]) -> str:
            return "x".join(map(str, values))

        text = f"{self.kind} {pair(self.kernel)}, {self.channels[0]} to {self.channels[1]}, {pair(self.size)}"
        text += f", stride {pair(self.stride)}" if self.stride != (1, 1) else ""
        text += f", dilation {pair(self.dilation)}" if self.dilation != (1, 1) else ""
        return text + (f", {self.groups} groups" if self.kind == "grouped" else "")


class _Recorder(TorchDispatchMode):
    """Notes the shape of every convolution that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[Shape] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.convolution.default:
            x, weight, _, stride, pad, dilation, transposed, _, groups = args
            assert x.dim() == 4, "only convolutions over pictures are expected"
            assert not transposed
            channels = (x.shape[1], weight.shape[0])
            axes = (tuple(each) for each in (weight.shape[2:], stride, pad, dilation))
            self.counts[Shape(tuple(x.shape[2:]), channels, *axes, groups)] += 1
        return function(*args, **(kwargs or {}))


def record(model: nn.Module, shape: tuple[int, ...]) -> Counter[Shape]:
    """Returns how often each convolution occurs in a pass over one input; nothing is computed.

    Args:
        model: on the meta device, in evaluation mode.
        shape: of its input, (1, C, H, W).
    """
    recorder = _Recorder()
    with torch.no_grad(), recorder:
        model(torch.empty(shape, device="meta"))
    return recorder.counts


def collect(networks: tuple[str, ...] = tuple(NETWORKS)) -> dict[str, Counter[Shape]]:
    """Returns by network how often each convolution occurs in it."""
    found = {}
    for name in networks:
        model, side = NETWORKS[name]
        with torch.device("meta"):
            module = load_model(model).model
        found[name] = record(module, (1, 3, side, side))
    return found


def thin(found: dict[str, Counter[Shape]]) -> dict[Shape, str]:
    """Returns the shapes to measure, each with the first network that has it.

    Of shapes of one kind, kernel, stride and dilation whose channels are the same powers of two and whose positions the
    same power of four, within rounding, only the one with the most macs is kept. All shapes of `WHOLE` are kept.
    """
    owners: dict[Shape, str] = {}
    for name, counts in found.items():
        for shape in counts:
            owners.setdefault(shape, name)
    whole = found.get(WHOLE, Counter())
    taken = {_alike(shape) for shape in whole}
    kept = set(whole)
    for shape in sorted(owners, key=lambda each: each.macs, reverse=True):
        if _alike(shape) not in taken:
            taken.add(_alike(shape))
            kept.add(shape)
    return {shape: owner for shape, owner in owners.items() if shape in kept}


def _alike(shape: Shape) -> tuple[Any, ...]:
    channels = tuple(round(math.log2(size)) for size in shape.channels)
    return (shape.kind, shape.kernel, shape.stride, shape.dilation, channels, round(math.log2(shape.positions) / 2))


def active(shape: Shape, density: float, mask: str, *, seed: int = 0) -> Tensor:
    """Returns the active positions, ascending, int32: the density's share of all, rounded, at least one.

    Args:
        shape: of the convolution.
        density: share of the output's positions.
        mask: "random", positions apart from each other, or "blobs", discs and rectangles.
        seed: another one gives another choice.
    """
    generator = torch.Generator().manual_seed(seed)
    count = max(1, round(density * shape.positions))
    if mask == "random" or count == shape.positions:
        return torch.randperm(shape.positions, generator=generator)[:count].sort().values.int()
    return _blobs(shape.out, count, generator).int()


def _blobs(size: tuple[int, int], count: int, generator: torch.Generator) -> Tensor:
    """Returns `count` positions covered by discs and rectangles up to a quarter of the map; the last is cut to fit."""
    rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    covered = torch.zeros(size, dtype=torch.bool)
    while (missing := count - int(covered.sum())) > 0:
        draw = torch.rand(5, generator=generator).tolist()
        high, wide = (max(0.5, part * length / 8) for part, length in zip(draw[2:4], size, strict=True))
        down, right = (rows - draw[0] * size[0]) / high, (columns - draw[1] * size[1]) / wide
        blob = (down.square() + right.square() <= 1) if draw[4] < 0.5 else (down.abs() <= 1) & (right.abs() <= 1)
        new = (blob & ~covered).flatten().nonzero().flatten()
        covered.view(-1)[new[:missing]] = True
    return covered.flatten().nonzero().flatten()
