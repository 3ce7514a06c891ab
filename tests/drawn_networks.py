"""Networks drawn layer by layer at any size, one pixel included, for tests that look for plans nobody thought of."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Layer = Callable[[list[Tensor]], Tensor]


class Drawn(nn.Module):
    """Layers of the given kinds, each reading one or two of the values before it; a kind that does not fit is left out.

    Args:
        kinds: names of `LAYERS`.
        seed: decides what each layer reads, its sizes and its weights.
        shape: the input's shape (N, C, H, W).
    """

    def __init__(self, kinds: list[str], seed: int, shape: tuple[int, int, int, int]) -> None:
        super().__init__()
        draw = random.Random(seed)
        torch.manual_seed(seed)
        self.modules_of_layers = nn.ModuleList()
        self.layers: list[Layer] = []
        values = [torch.rand(shape)]
        for kind in kinds:
            self.kind, layer = kind, LAYERS[kind](self, draw, values)
            if layer is None:
                continue
            with torch.no_grad():
                made = layer(values)
            if 0 < made.numel() <= 20_000:
                self.layers.append(layer)
                values.append(made)
        self.returned = sorted({len(values) - 1, draw.randrange(len(values))})
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        values = [x]
        for layer in self.layers:
            values.append(layer(values))
        return [values[index] for index in self.returned]

    def add(self, module: nn.Module) -> nn.Module:
        self.modules_of_layers.append(module)
        return module


Maker = Callable[[Drawn, random.Random, list[Tensor]], Layer | None]


def pick(draw: random.Random, values: list[Tensor]) -> int:
    """One of the values, the last ones more often."""
    return max(draw.randrange(len(values)) for _ in range(2))


def convolution(net: Drawn, draw: random.Random, values: list[Tensor]) -> Layer | None:
    at = pick(draw, values)
    _, channels, height, width = values[at].shape
    kernel, dilation = [draw.choice([1, 2, 3, 5]) for _ in "hw"], draw.choice([1, 1, 2])
    pad = [draw.randrange(dilation * (k - 1) + 1) for k in kernel]
    if any(size + 2 * p < dilation * (k - 1) + 1 for size, p, k in zip((height, width), pad, kernel, strict=True)):
        return None
    groups = draw.choice([g for g in (1, 1, 2, channels) if channels % g == 0])
    out = groups * draw.choice([1, 2, 3]) if groups > 1 else draw.choice([1, 3, 4, 8, 17])
    stride = [draw.choice([1, 1, 2, 3]) for _ in "hw"]
    module = net.add(nn.Conv2d(channels, out, kernel, stride, pad, dilation, groups, bias=draw.random() < 0.5))
    return lambda given: module(given[at])


def transposed(net: Drawn, draw: random.Random, values: list[Tensor]) -> Layer | None:
    at = pick(draw, values)
    channels = values[at].shape[1]
    groups = draw.choice([g for g in (1, 2) if channels % g == 0])
    stride, kernel = draw.choice([1, 2, 3]), draw.choice([1, 2, 3])
    module = net.add(nn.ConvTranspose2d(channels, 2 * groups, kernel, stride, groups=groups))
    return lambda given: module(given[at])


def batch_norm(net: Drawn, draw: random.Random, values: list[Tensor]) -> Layer | None:
    at = pick(draw, values)
    module = net.add(nn.BatchNorm2d(values[at].shape[1]))
    nn.init.normal_(module.running_mean, std=0.2)
    nn.init.uniform_(module.running_var, 0.5, 1.5)
    return lambda given: module.eval()(given[at])


def pooling(net: Drawn, draw: random.Random, values: list[Tensor]) -> Layer | None:
    at = pick(draw, values)
    kernel, stride = draw.choice([1, 2, 3]), draw.choice([1, 2])
    pad, ceil = draw.randrange(kernel // 2 + 1), draw.random() < 0.3
    if min(values[at].shape[2:]) + 2 * pad < kernel:
        return None
    if draw.random() < 0.5:
        return lambda given: F.max_pool2d(given[at], kernel, stride, pad, 1, ceil)
    include = draw.random() < 0.5
    return lambda given: F.avg_pool2d(given[at], kernel, stride, pad, ceil, include)


def resized(net: Drawn, draw: random.Random, values: list[Tensor]) -> Layer | None:
    at = pick(draw, values)
    size, mode = [draw.randrange(1, 14) for _ in "hw"], draw.choice(["nearest", "nearest-exact", "bilinear", "corners"])
    if mode == "corners":
        return lambda given: F.interpolate(given[at], size, mode="bilinear", align_corners=True)
    return lambda given: F.interpolate(given[at], size, mode=mode)


def adaptive(net: Drawn, draw: random.Random, values: list[Tensor]) -> Layer | None:
    at, size = pick(draw, values), [draw.randrange(1, 4) for _ in "hw"]
    return lambda given: F.adaptive_avg_pool2d(given[at], size)


def activation(net: Drawn, draw: random.Random, values: list[Tensor]) -> Layer | None:
    at = pick(draw, values)
    function = draw.choice(
        [
            F.relu,
            F.silu,
            F.hardswish,
            F.gelu,
            torch.tanh,
            torch.sigmoid,
            F.elu,
            F.mish,
            torch.neg,
            torch.abs,
            lambda x: x.clamp(-0.5, 0.7),
            lambda x: 1 - x * 0.5,
            lambda x: F.leaky_relu(x, 0.2),
            torch.erf,
        ]
    )
    return lambda given: function(given[at])


def binary(net: Drawn, draw: random.Random, values: list[Tensor]) -> Layer | None:
    """Of two values whose shapes broadcast."""
    pairs = [(i, j) for i in range(len(values)) for j in range(len(values)) if _broadcast(values[i], values[j])]
    i, j = draw.choice(pairs)
    function = draw.choice([torch.add, torch.sub, torch.mul, torch.maximum, lambda x, y: x.add(y, alpha=-0.5)])
    return lambda given: function(given[i], given[j])


def _broadcast(a: Tensor, b: Tensor) -> bool:
    return all(m == n or n == 1 for m, n in zip(a.shape, b.shape, strict=True))


def squeezed(net: Drawn, draw: random.Random, values: list[Tensor]) -> Layer | None:
    at, dims = pick(draw, values), draw.choice([(2,), (3,), (2, 3), (1,)])
    function = draw.choice([torch.mean, torch.sum, torch.amax])
    return lambda given: function(given[at], dims, keepdim=True)


def joined(net: Drawn, draw: random.Random, values: list[Tensor]) -> Layer | None:
    at, dim = pick(draw, values), draw.choice([1, 1, 1, 2])
    fits = [i for i, value in enumerate(values) if _but(value, dim) == _but(values[at], dim)]
    parts = [draw.choice(fits) for _ in range(draw.randrange(1, 4))] + [at]
    return lambda given: torch.cat([given[i] for i in parts], dim)


def _but(value: Tensor, dim: int) -> list[int]:
    return [size for axis, size in enumerate(value.shape) if axis != dim]


def moved(net: Drawn, draw: random.Random, values: list[Tensor]) -> Layer | None:
    at = pick(draw, values)
    _, channels, height, width = values[at].shape
    a, b = draw.randrange(channels), draw.randrange(height)
    divisors = [g for g in (1, 2, 3) if channels % g == 0]
    groups = draw.choice(divisors)
    moves = [
        lambda x: x[:, a:],
        lambda x: x[:, :, b:],
        lambda x: x[:, :, :, ::2],
        lambda x: F.pad(x, (1, 0, 0, 2)),
        lambda x: F.pad(x, (0, 1, 0, 0, 1, 0), value=2.0),
        lambda x: x.flip(3),
        lambda x: x.flip(1),
        lambda x: x.transpose(2, 3),
        lambda x: x.roll(1, 2),
        lambda x: F.channel_shuffle(x, groups),
        lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], x.shape[1], x.shape[2], x.shape[3]),
        lambda x: torch.cat(x.split(groups, 1)[::-1], 1),
    ]
    if height % 2 == 0 and width % 2 == 0:
        moves.append(lambda x: F.pixel_unshuffle(x, 2))
    if min(height, width) > 1:
        moves.append(lambda x: F.pad(x, (1, 1, 1, 0), mode="reflect"))
    move = draw.choice(moves)
    return lambda given: move(given[at])


def mixed(net: Drawn, draw: random.Random, values: list[Tensor]) -> Layer | None:
    """A layer over channels laid last: linear, layer norm; or a softmax."""
    at, kind = pick(draw, values), draw.choice(["linear", "norm", "softmax", "softmax of rows"])
    channels = values[at].shape[1]
    if kind == "softmax":
        return lambda given: given[at].softmax(1)
    if kind == "softmax of rows":
        return lambda given: given[at].softmax(2)
    module = net.add(nn.Linear(channels, 5) if kind == "linear" else nn.LayerNorm(channels))
    return lambda given: module(given[at].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


LAYERS: dict[str, Maker] = {
    "convolution": convolution,
    "transposed": transposed,
    "batch norm": batch_norm,
    "pooling": pooling,
    "resized": resized,
    "adaptive": adaptive,
    "activation": activation,
    "binary": binary,
    "squeezed": squeezed,
    "joined": joined,
    "moved": moved,
    "mixed": mixed,
}
