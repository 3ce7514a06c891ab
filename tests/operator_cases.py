"""One list of calls, at awkward sizes, that covers every operator with a sparse form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.graph import Plan, make_plan


@dataclass(frozen=True)
class Case:
    """A function of one or more inputs, and the ATen operators its plan must run sparse."""

    name: str
    operators: tuple[str, ...]
    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class RawConvolution(nn.Module):
    """A convolution as programs decomposed to core ATen hold it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.convolution(x, self.weight, None, [2, 1], [1, 0], [1, 1], False, [0, 0], 2)


def _of(function: Callable[..., Tensor]) -> Callable[[], nn.Module]:
    return lambda: Function(function)


X = (1, 6, 7, 9)


def _case(name: str, function: Callable[..., Tensor], *shapes: tuple[int, ...], ops: str = "") -> Case:
    return Case(name, tuple((ops or name).split()), _of(function), shapes or (X,))


def _layer(name: str, make: Callable[[], nn.Module], *shapes: tuple[int, ...], ops: str) -> Case:
    return Case(name, tuple(ops.split()), make, shapes or (X,))


CASES = [
    _layer("conv1d", lambda: nn.Conv1d(4, 5, 3, padding=1, stride=2), (1, 4, 13), ops="conv1d"),
    _layer("conv2d 3x3", lambda: nn.Conv2d(6, 5, 3, padding=1), ops="conv2d"),
    _layer("conv2d 1x1 stride 2", lambda: nn.Conv2d(6, 5, 1, stride=2, bias=False), ops="conv2d"),
    _layer("conv2d dilated", lambda: nn.Conv2d(6, 4, 3, padding=4, dilation=3), ops="conv2d"),
    _layer("conv2d oblong", lambda: nn.Conv2d(6, 4, (1, 5), padding=(0, 3), stride=(3, 2)), ops="conv2d"),
    _layer("conv2d grouped", lambda: nn.Conv2d(6, 9, 3, groups=3, padding=1), ops="conv2d"),
    _layer("conv2d depthwise", lambda: nn.Conv2d(6, 12, 5, groups=6, padding=2, stride=2), ops="conv2d"),
    _layer("conv2d same", lambda: nn.Conv2d(6, 4, 4, padding="same"), ops="conv2d"),
    _layer("conv2d even kernel", lambda: nn.Conv2d(6, 4, 2, stride=2), ops="conv2d"),
    _layer("conv2d batch of 2", lambda: nn.Conv2d(6, 4, 3), (2, 6, 5, 4), ops="conv2d"),
    _layer("conv2d on one pixel", lambda: nn.Conv2d(6, 4, 3, padding=1), (1, 6, 1, 1), ops="conv2d"),
    _layer("conv2d unbatched", lambda: nn.Conv2d(6, 4, 3), (6, 5, 7), ops="conv2d"),
    _layer("conv3d", lambda: nn.Conv3d(2, 3, (1, 3, 3), padding=(0, 1, 1)), (1, 2, 3, 5, 4), ops="conv3d"),
    _layer("convolution", RawConvolution, ops="convolution"),
    _layer("conv_transpose1d", lambda: nn.ConvTranspose1d(4, 3, 4, stride=2), (1, 4, 7), ops="conv_transpose1d"),
    _layer(
        "conv_transpose2d",
        lambda: nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1),
        ops="conv_transpose2d",
    ),
    _layer(
        "conv_transpose2d grouped",
        lambda: nn.ConvTranspose2d(6, 4, 2, stride=3, groups=2),
        ops="conv_transpose2d",
    ),
    _layer("conv_transpose3d", lambda: nn.ConvTranspose3d(2, 2, 2), (1, 2, 2, 3, 4), ops="conv_transpose3d"),
    _case("max_pool1d", lambda x: F.max_pool1d(x, 3, 2), (1, 4, 11)),
    _case("max_pool2d", lambda x: F.max_pool2d(x, 3, 2, 1)),
    _case("max_pool2d ceil", lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True), ops="max_pool2d"),
    _case("max_pool2d dilated", lambda x: F.max_pool2d(x, (3, 2), (2, 1), 1, (2, 3)), ops="max_pool2d"),
    _case("max_pool3d", lambda x: F.max_pool3d(x, 2), (1, 2, 4, 5, 6)),
    _case("avg_pool1d", lambda x: F.avg_pool1d(x, 2, 1), (1, 4, 11)),
    _case("avg_pool2d", lambda x: F.avg_pool2d(x, 3, 2, 1)),
    _case(
        "avg_pool2d ceil",
        lambda x: F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False),
        ops="avg_pool2d",
    ),
    _case("avg_pool3d", lambda x: F.avg_pool3d(x, 2), (1, 2, 4, 5, 6)),
    _case("adaptive_avg_pool1d", lambda x: F.adaptive_avg_pool1d(x, 3), (1, 4, 11)),
    _case(
        "adaptive_avg_pool2d",
        lambda x: F.adaptive_avg_pool2d(x, (3, 4)),
        ops="adaptive_avg_pool2d _adaptive_avg_pool2d",
    ),
    _case("adaptive_avg_pool3d", lambda x: F.adaptive_avg_pool3d(x, 2), (1, 2, 3, 4, 5)),
    _case("upsample_linear1d", lambda x: F.interpolate(x, scale_factor=2, mode="linear"), (1, 3, 7)),
    _case("upsample_bilinear2d", lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")),
    _case(
        "bilinear corners",
        lambda x: F.interpolate(x, (11, 5), mode="bilinear", align_corners=True),
        ops="upsample_bilinear2d",
    ),
    _case("bilinear shrink", lambda x: F.interpolate(x, (3, 4), mode="bilinear"), ops="upsample_bilinear2d"),
    _case(
        "bilinear odd scale",
        lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear"),
        ops="upsample_bilinear2d",
    ),
    _case("upsample_trilinear3d", lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"), (1, 2, 2, 3, 4)),
    _layer("linear", lambda: nn.Linear(9, 4), ops="linear"),
    _layer("linear on rows", lambda: nn.Linear(5, 4), (3, 5), ops="linear"),
    _case("linear from matmul", lambda x: x @ torch.ones(9, 4), ops="linear"),
    _case("softmax", lambda x: x.softmax(1)),
    _case("softmax over columns", lambda x: x.softmax(-1), ops="softmax"),
    _case("_softmax", lambda x: torch._softmax(x, 1, False)),
    _case("log_softmax", lambda x: x.log_softmax(1)),
    _case("_log_softmax", lambda x: torch._log_softmax(x, 1, False)),
    _case("layer_norm", lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (6,)), ops="layer_norm permute"),
    _case("layer_norm over rows", lambda x: F.layer_norm(x, (7, 9)), ops="layer_norm"),
    _case("cumsum", lambda x: x.cumsum(3)),
    _case("sum", lambda x: x.sum((1, 3))),
    _case("mean", lambda x: x.mean(2), ops="sum"),
    _case("global mean", lambda x: x.mean((2, 3)), ops="sum"),
    _case("global pool", lambda x: F.adaptive_avg_pool2d(x, 1), ops="sum"),
    _case("global max", lambda x: F.adaptive_max_pool2d(x, 1), ops="amax"),
    _case("mean of all", lambda x: x.mean(), ops="sum"),
    _case("amax", lambda x: x.amax((2, 3), keepdim=True)),
    _case("amin", lambda x: x.amin(1)),
    _case("view", lambda x: x.view(1, 6, 63), ops="reshape"),
    _case("reshape", lambda x: x.permute(0, 2, 3, 1).reshape(1, -1, 3), ops="reshape permute"),
    _case("flatten", lambda x: x.flatten(1), ops="reshape"),
    _case("unflatten", lambda x: x.unflatten(1, (2, 3)), ops="reshape"),
    _case("squeeze", lambda x: x.sum(1, keepdim=True).squeeze(1), ops="squeeze"),
    _case("unsqueeze", lambda x: x.unsqueeze(2)),
    _case("select", lambda x: x[:, 2]),
    _case("select a row", lambda x: x[:, :, 3], ops="select"),
    _case("permute", lambda x: x.permute(0, 3, 1, 2)),
    _case("transpose", lambda x: x.transpose(1, 3)),
    _case("t", lambda x: x.t(), (3, 5)),
    _case("slice channels", lambda x: x[:, 1:4], ops="slice"),
    _case("slice rows", lambda x: x[:, :, 1:6:2], ops="slice"),
    _case("split", lambda x: torch.cat(x.split([2, 4], 1)[::-1], 1), ops="slice cat"),
    _case("chunk", lambda x: x.chunk(2, 1)[1], ops="slice"),
    _case("unbind", lambda x: x.unbind(2)[1], ops="select"),
    _case("cat", lambda x, y: torch.cat([x, y], 1), X, (1, 2, 7, 9)),
    _case("cat rows", lambda x, y: torch.cat([x, y], 2), X, (1, 6, 2, 9), ops="cat"),
    _case("cat with a constant", lambda x: torch.cat([x, torch.ones(1, 2, 7, 9)], 1), ops="cat"),
    _case("cat rows with a constant", lambda x: torch.cat([x, torch.ones(1, 6, 2, 9)], 2), ops="cat"),
    _case("stack", lambda x, y: torch.stack([x, y], 1), X, X, ops="stack"),
    _case("pad", lambda x: F.pad(x, (1, 2, 0, 3), value=2.0), ops="pad"),
    _case("pad channels", lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)), ops="pad"),
    _case("pad reflect", lambda x: F.pad(x, (1, 2, 0, 3), mode="reflect"), ops="pad"),
    _case("crop", lambda x: F.pad(x, (-1, -2, 0, 1)), ops="pad"),
    _case("expand", lambda x: x.expand(1, 6, 7, 9), (1, 6, 1, 1)),
    _case("repeat", lambda x: x.repeat(1, 2, 1, 2)),
    _case("flip", lambda x: x.flip(3)),
    _case("flip channels", lambda x: x.flip(1), ops="flip"),
    _case("roll", lambda x: x.roll(2, 3)),
    _case("upsample_nearest1d", lambda x: F.interpolate(x, scale_factor=2), (1, 3, 7)),
    _case("upsample_nearest2d", lambda x: F.interpolate(x, (10, 13))),
    _case("nearest over channels", lambda x: F.interpolate(x.permute(0, 2, 3, 1), (4, 3)), ops="upsample_nearest2d"),
    _case("upsample_nearest3d", lambda x: F.interpolate(x, scale_factor=2), (1, 2, 2, 3, 4)),
    _case("_upsample_nearest_exact2d", lambda x: F.interpolate(x, (10, 13), mode="nearest-exact")),
    _case("channel_shuffle", lambda x: x.view(1, 2, 3, 7, 9).transpose(1, 2).reshape(1, 6, 7, 9)),
    _case("channel_shuffle called", lambda x: torch.channel_shuffle(x, 3), ops="channel_shuffle"),
    _case("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), (1, 8, 5, 3)),
    _case("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), (1, 3, 4, 6)),
    _layer("batch norm", lambda: nn.BatchNorm2d(6), ops="addcmul"),
    _layer("prelu", lambda: nn.PReLU(6), ops="prelu"),
    _case("relu", F.relu),
    _case("relu6", F.relu6),
    _case("hardtanh", lambda x: F.hardtanh(x, -0.5, 2.0)),
    _case("leaky_relu", lambda x: F.leaky_relu(x, 0.1)),
    _case("silu", F.silu),
    _case("hardswish", F.hardswish),
    _case("hardsigmoid", F.hardsigmoid),
    _case("sigmoid", torch.sigmoid),
    _case("tanh", torch.tanh),
    _case("gelu", F.gelu),
    _case("elu", F.elu),
    _case("selu", F.selu),
    _case("mish", F.mish),
    _case("softplus", F.softplus),
    _case("clamp", lambda x: x.clamp(-0.5, 0.5)),
    _case("add broadcast", lambda x, y: x + y, X, (1, 6, 1, 1), ops="add"),
    _case("add along rows", lambda x, y: x + y, X, (9,), ops="add"),
    _case("add of lower rank", lambda x, y: x + y, X, (7, 9), ops="add"),
    _case("sub", lambda x, y: x - y, X, X),
    _case("rsub", lambda x: 1 - x),
    _case("mul", lambda x, y: x * y, X, (1, 1, 7, 1)),
    _case("div", lambda x: x / 3.0),
    _case("where", lambda x, y: torch.where(x > 0, x, y), X, X),
    _case("maximum", torch.maximum, X, X),
    _case("pow exp sqrt", lambda x: (x.pow(2) + 1).sqrt().exp(), ops="pow"),
    _case("erf", torch.erf),
    _case("cast", lambda x: x.double(), ops="_to_copy"),
]


@cache
def planned(case: Case) -> tuple[nn.Module, Plan, list[Tensor]]:
    """A case's module, its plan and inputs for it; made once, for every test to read."""
    torch.manual_seed(len(case.name))
    model = case.make().eval()
    if isinstance(model, nn.BatchNorm2d):
        model.running_mean.normal_()
        model.running_var.uniform_(0.5, 2)
    inputs = [torch.randn(shape) for shape in case.shapes]
    return model, make_plan(model, tuple(inputs)), inputs
