"""Layers of the networks of clips against plain definitions in float64: correlation, pyramids, bottlenecks, boxes."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.zoo.corrnet import Correlation, CorrelationBlock
from saccade.zoo.i3d import Inception, Widths
from saccade.zoo.pspnet import PyramidPooling
from saccade.zoo.tpn import Fusion, TemporalModulation, bottom_up, top_down
from saccade.zoo.x3d import Bottleneck, SqueezeExcite
from saccade.zoo.yowo import ChannelAttention, yowo


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(module: nn.Module) -> nn.Module:
    """In float64 and evaluation mode, with every weight and every statistic of a batch norm random."""
    for seed, (key, value) in enumerate(module.double().state_dict().items()):
        if value.is_floating_point():
            value.copy_(random(*value.shape, seed=seed).mul(0.5) if "var" not in key else 1 + random(*value.shape) ** 2)
    return module.eval()


def norm(x: Tensor, layer: nn.Module) -> Tensor:
    mean, var, weight, bias = (
        value.view(-1, 1, 1, 1) for value in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    )
    return (x - mean) / (var + layer.eps).sqrt() * weight + bias


# --- CorrNet


@pytest.mark.parametrize("frames", [None, 3])
@pytest.mark.parametrize(("channels", "groups", "displacements"), [(4, 1, 3), (6, 3, 3), (2, 2, 5)])
def test_correlation_is_its_definition(channels: int, groups: int, displacements: int, frames: int | None) -> None:
    x, layer = random(2, channels, 3, 3, 4), drawn(Correlation(channels, displacements=displacements, groups=groups))
    if frames:
        layer = drawn(Correlation(channels, displacements=displacements, groups=groups, frames=frames))
    batch, _, length, height, width = x.shape
    reach, share = displacements // 2, channels // groups
    wanted = torch.zeros(batch, groups * displacements**2, length, height, width, dtype=torch.float64)
    for b, t, i, j in torch.cartesian_prod(*map(torch.arange, (batch, length, height, width))).tolist():
        for c in range(channels):
            for k in range(displacements**2):
                row, column = i + k // displacements - reach, j + k % displacements - reach
                if 0 <= row < height and 0 <= column < width:
                    weight = layer.weight[c, k, t if frames else 0, 0]
                    value = weight * x[b, c, max(t - 1, 0), i, j] * x[b, c, t, row, column] / share
                    wanted[b, c // share * displacements**2 + k, t, i, j] += value
    torch.testing.assert_close(layer(x), wanted)


def test_a_correlation_block_that_restores_nothing_is_the_relu_of_its_input() -> None:
    block, x = drawn(CorrelationBlock(8)), random(1, 8, 2, 5, 3)
    nn.init.zeros_(block.restore[1].weight)
    nn.init.zeros_(block.restore[1].bias)
    torch.testing.assert_close(block(x), x.relu())


# --- TPN


@pytest.mark.parametrize(("frames", "rate"), [(1, 1), (5, 1), (5, 2), (1, 8), (7, 3)])
def test_temporal_modulation_is_a_convolution_over_time_and_the_maximum_of_runs(frames: int, rate: int) -> None:
    layer, x = drawn(TemporalModulation(4, 6, rate=rate, groups=2)), random(2, 4, frames, 2, 3)
    weight = layer.conv.weight[..., 0, 0]  # (6, 2, 3): two groups, from two channels to three
    slow = torch.zeros(2, 6, frames, 2, 3, dtype=torch.float64)
    for t in range(frames):
        for tap in range(3):
            if 0 <= t + tap - 1 < frames:
                for out in range(6):
                    group = out // 3
                    seen = x[:, 2 * group : 2 * group + 2, t + tap - 1]
                    slow[:, out, t] += (seen * weight[out, :, tap].view(1, 2, 1, 1)).sum(1)
    slow = norm(slow, layer.norm)
    runs = [slow[:, :, t : t + rate].amax(2) for t in range(0, frames, rate)]
    torch.testing.assert_close(layer(x), torch.stack(runs, 2))


def runs_of(x: Tensor, frames: int) -> Tensor:
    """The maxima over `frames` runs that cover all of x's frames."""
    n = x.shape[2]
    bounds = [(i * n // frames, math.ceil((i + 1) * n / frames)) for i in range(frames)]
    return torch.stack([x[:, :, a:b].amax(2) for a, b in bounds], 2)


@pytest.mark.parametrize("lengths", [(4, 2, 1), (5, 3, 2), (3, 3, 3), (1, 1, 1), (2, 4, 3)])
def test_flows_add_level_to_level(lengths: tuple[int, int, int]) -> None:
    levels = [random(1, 2, length, 2, 2, seed=length) for length in lengths]
    up, down = bottom_up(levels), top_down(levels)
    wanted = [levels[0]]
    for level in levels[1:]:
        wanted.append(level + runs_of(wanted[-1], level.shape[2]))
    back = [levels[2]]
    for level in (levels[1], levels[0]):
        n, frames = back[-1].shape[2], level.shape[2]
        back.append(level + back[-1][:, :, [t * n // frames for t in range(frames)]])
    for got, expected in zip([*up, *down], [*wanted, *back[::-1]], strict=True):
        torch.testing.assert_close(got, expected)


def test_fusion_takes_every_level_at_the_shortest_ones_frames() -> None:
    layer, levels = drawn(Fusion(2, 4, 3, groups=2)), [random(1, 4, 5, 2, 2), random(1, 4, 2, 2, 2, seed=1)]
    made = []
    for (conv, bn, _), level in zip(layer.each, levels, strict=True):
        made.append(norm(F.conv3d(runs_of(level, 2), conv.weight, groups=2), bn).relu())
    conv, bn, _ = layer.all
    wanted = norm(torch.einsum("oi,bithw->bothw", conv.weight[..., 0, 0, 0], torch.cat(made, 1)), bn).relu()
    torch.testing.assert_close(layer(levels), wanted)


# --- I3D and X3D


def unit(x: Tensor, layer: nn.Sequential, kernel: int = 1, *, stride: tuple[int, int, int] = (1, 1, 1)) -> Tensor:
    conv, bn, *_ = layer
    assert conv.weight.shape[2:] == (kernel,) * 3
    return norm(F.conv3d(F.pad(x, (kernel // 2,) * 6), conv.weight, stride=stride), bn).relu()


def around(x: Tensor, fill: float) -> Tensor:
    """Each position's 3x3x3 neighbours, `(B, C, T, H, W, 27)`, `fill` outside."""
    padded = F.pad(x, (1,) * 6, value=fill)
    t, h, w = x.shape[2:]
    taps = torch.cartesian_prod(*[torch.arange(3)] * 3).tolist()
    return torch.stack([padded[:, :, a : a + t, b : b + h, c : c + w] for a, b, c in taps], -1)


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 5, 4), (4, 3, 3)])
@pytest.mark.parametrize("maximum", [False, True])
def test_an_inception_module_is_its_four_branches(maximum: bool, size: tuple[int, ...]) -> None:
    layer, x = drawn(Inception(3, Widths(2, 3, 4, 2, 5, 3, maximum))), random(2, 3, *size)
    branches = layer.branches
    pooled = around(x, -math.inf).amax(-1) if maximum else around(x, 0.0).mean(-1)
    wanted = [
        unit(x, branches["one"]),
        unit(unit(x, branches["three"][0]), branches["three"][1], 3),
        unit(unit(unit(x, branches["three3"][0]), branches["three3"][1], 3), branches["three3"][2], 3),
        unit(pooled, branches["pool"][1]),
    ]
    assert layer.outputs == 14
    torch.testing.assert_close(layer(x), torch.cat(wanted, 1))


@pytest.mark.parametrize("stride", [(1, 2, 2), (2, 2, 2)])
def test_an_inception_module_that_strides_has_three_branches(stride: tuple[int, int, int]) -> None:
    layer, x = drawn(Inception(3, Widths(0, 3, 4, 2, 5, 0), stride=stride)), random(1, 3, 3, 5, 4)
    branches = layer.branches
    wanted = [
        unit(unit(x, branches["three"][0]), branches["three"][1], 3, stride=stride),
        unit(unit(unit(x, branches["three3"][0]), branches["three3"][1], 3), branches["three3"][2], 3, stride=stride),
        around(x, -math.inf).amax(-1)[:, :, :: stride[0], ::2, ::2],
    ]
    assert layer.outputs == 12
    torch.testing.assert_close(layer(x), torch.cat(wanted, 1))


@pytest.mark.parametrize(("swish", "excite"), [(False, True), (True, True), (False, False), (True, False)])
@pytest.mark.parametrize(("inputs", "stride"), [(4, 1), (4, 2), (6, 1)])
def test_a_bottleneck_is_its_definition(inputs: int, stride: int, swish: bool, excite: bool) -> None:
    layer, x = drawn(Bottleneck(inputs, 4, stride=stride, excite=excite, swish=swish)), random(2, inputs, 3, 5, 3)
    strides = (1, stride, stride)
    (expand, _), depthwise, project = layer.expand, layer.depthwise, layer.project
    wide = norm(F.conv3d(x, expand[0].weight), expand[1]).relu()
    assert wide.shape[1] == 9
    seen = torch.einsum("bcthwk,ck->bcthw", around(wide, 0.0), depthwise[0].weight.flatten(1))
    middle = norm(seen[:, :, :, ::stride, ::stride], depthwise[1])
    if excite:
        squeezed = middle.mean((2, 3, 4), keepdim=True)
        hidden = F.conv3d(squeezed, layer.excite.squeeze.weight, layer.excite.squeeze.bias)
        hidden = hidden * hidden.sigmoid()
        middle = middle * F.conv3d(hidden, layer.excite.excite.weight, layer.excite.excite.bias).sigmoid()
    if swish:
        middle = middle * middle.sigmoid()
    shortcut = x
    if inputs != 4 or stride != 1:
        shortcut = norm(F.conv3d(x, layer.shortcut[0].weight, stride=strides), layer.shortcut[1])
    wanted = (norm(F.conv3d(middle, project[0].weight), project[1]) + shortcut).relu()
    torch.testing.assert_close(layer(x), wanted)


@pytest.mark.parametrize(("channels", "hidden"), [(54, 8), (108, 8), (216, 16), (432, 32)])
def test_squeeze_has_the_widths_of_the_published_network(channels: int, hidden: int) -> None:
    assert SqueezeExcite(channels).squeeze.out_channels == hidden


# --- PSPNet and YOWO


@pytest.mark.parametrize("size", [(1, 1), (4, 7), (13, 6)])
def test_pyramid_pooling_is_the_means_of_its_cells(size: tuple[int, int]) -> None:
    layer, x = drawn(PyramidPooling(8)), random(2, 8, *size)
    wanted = [x]
    for grid, (conv, bn, _) in zip((1, 2, 3, 6), layer.grids, strict=True):
        rows, columns = (
            [(i * n // grid, math.ceil((i + 1) * n / grid)) for i in range(grid)] for n in (size[0], size[1])
        )
        means = torch.stack(
            [torch.stack([x[:, :, a:b, c:d].mean((2, 3)) for c, d in columns], -1) for a, b in rows], -2
        )
        made = norm(F.conv2d(means, conv.weight)[:, :, None], bn)[:, :, 0].relu()
        wanted.append(F.interpolate(made, size, mode="bilinear", align_corners=False))
    torch.testing.assert_close(layer(x), torch.cat(wanted, 1))


def test_channel_attention_mixes_by_likeness() -> None:
    layer, x = ChannelAttention().double(), random(2, 4, 3, 2)
    assert torch.equal(layer(x), x)
    nn.init.constant_(layer.share, 0.7)
    wanted = x.clone()
    for b in range(2):
        for c in range(4):
            alike = torch.stack([(x[b, c] * x[b, other]).sum() for other in range(4)]).exp()
            mixed = sum(share * x[b, other] for other, share in enumerate(alike / alike.sum()))
            wanted[b, c] += 0.7 * mixed
    torch.testing.assert_close(layer(x), wanted)


def test_the_fusion_sees_the_last_moment_and_the_mean_of_all() -> None:
    model, clips, seen = yowo("x3d-tiny").double(), random(1, 3, 4, 32, 32), []
    model.fuse.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        features = model.body(clips)
        assert model(clips).shape == (1, 5 * (5 + 21), 1, 1)
    last, mean = features[:, :, 3], sum(features[:, :, t] for t in range(4)) / 4
    torch.testing.assert_close(seen[0], torch.cat([last, mean], 1))


def test_a_map_decodes_to_the_box_it_was_made_of() -> None:
    model = yowo(classes=3)
    outputs = torch.full((2, 5, 8, 2, 3), -20.0)
    anchor, row, column = 1, 1, 2
    width, height = model.anchors[anchor].tolist()
    # the centre a quarter into the cell, 50 pixels wide and 20 high
    spot = [-math.log(3), -math.log(3), math.log(50 / 32 / width), math.log(20 / 32 / height), 3.0, 0.0, 5.0, 0.0]
    outputs[1, anchor, :, row, column] = torch.tensor(spot)
    nothing, found = model.decode(outputs.flatten(1, 2))
    assert len(nothing) == 0
    assert found.labels.tolist() == [1]
    centre = (32 * 2.25, 32 * 1.25)
    box = [centre[0] - 25, centre[1] - 10, min(centre[0] + 25, 96), centre[1] + 10]
    torch.testing.assert_close(found.boxes, torch.tensor([box]), rtol=1e-5, atol=1e-3)
    probability = 1 / (1 + math.exp(-3)) * math.exp(5) / (math.exp(5) + 2)
    torch.testing.assert_close(found.scores, torch.tensor([probability]))


def test_of_overlapping_boxes_of_a_class_the_better_stays() -> None:
    model = yowo(classes=2)
    outputs = torch.full((1, 5, 7, 4, 4), -20.0)
    for anchor, there, action in ((2, 2.0, 0), (3, 3.0, 0), (4, 2.5, 1)):
        sizes = [math.log(64 / 32 / side) for side in model.anchors[anchor].tolist()]
        outputs[0, anchor, :, 1, 1] = torch.tensor(
            [0.0, 0.0, *sizes, there, *(9.0 if k == action else 0.0 for k in (0, 1))]
        )
    (found,) = model.decode(outputs.flatten(1, 2))
    assert found.labels.tolist() == [0, 1]
    assert found.scores[0] > found.scores[1] > 0.9
    assert len(model.decode(outputs.flatten(1, 2), score_threshold=0.95)[0]) == 1
    assert len(model.decode(outputs.flatten(1, 2), iou_threshold=1.0)[0]) == 3
