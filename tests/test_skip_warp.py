"""Generalised residuals (Skip-Convolutions, section 3.3): residuals to a warped frame, by loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.errors import InputError
from saccade.skip import ClipModel, ClipState, InputNorm, Skip, SkipConv2d, SkipConv3d, equivariance_loss, warp


def sampled(value: Tensor, flow: Tensor) -> Tensor:
    """A map (C, h, w) along a flow (2, H, W), place by place; H and W are whole multiples of h and w."""
    _, height, width = value.shape
    tall, wide = flow.shape[1] // height, flow.shape[2] // width
    moved = torch.zeros_like(value)
    for y in range(height):
        for x in range(width):
            around = flow[:, y * tall : (y + 1) * tall, x * wide : (x + 1) * wide]
            at_x = min(max(x + float(around[0].mean()) / wide, 0.0), width - 1.0)
            at_y = min(max(y + float(around[1].mean()) / tall, 0.0), height - 1.0)
            left, top = math.floor(at_x), math.floor(at_y)
            right, low = min(left + 1, width - 1), min(top + 1, height - 1)
            a, b = at_x - left, at_y - top
            moved[:, y, x] = (1 - b) * ((1 - a) * value[:, top, left] + a * value[:, top, right]) + b * (
                (1 - a) * value[:, low, left] + a * value[:, low, right]
            )
    return moved


def by_definition(layer: SkipConv2d, clip: Tensor, flow: Tensor, threshold: float) -> list[Tensor]:
    """z of every frame of one clip (T, C, H, W): a gate on sum |r| under the kernel."""
    where = (layer.stride, layer.padding, layer.dilation)
    outputs: list[Tensor] = []
    for t, x in enumerate(clip):
        whole = F.conv2d(x[None], layer.weight, layer.bias, *where)[0]
        if t == 0:
            outputs.append(whole)
            continue
        r = x - sampled(clip[t - 1], flow[t])
        seen = F.conv2d(r.abs().sum(0)[None, None], torch.ones(1, 1, *layer.kernel_size).double(), None, *where)[0]
        fires, held = seen > threshold, sampled(outputs[-1], flow[t])
        change = F.conv2d(r[None], layer.weight, None, *where)[0]
        outputs.append(held + fires * change if layer.what.form == "residual" else torch.where(fires, whole, held))
    return outputs


def layer_of(form: str, stride: int, threshold: float, padding: int = 1, **more: object) -> SkipConv2d:
    torch.manual_seed(0)
    layer = SkipConv2d(2, 3, 3, stride=stride, padding=padding, what=Skip(InputNorm(threshold), form=form), **more)
    return layer.double()


def video(frames: int = 4) -> tuple[Tensor, Tensor]:
    """Two clips (2, T, 2, 6, 8) and a smooth flow that points over the edges too, in float64."""
    generator = torch.Generator().manual_seed(1)
    clip = torch.rand(2, frames, 2, 6, 8, generator=generator, dtype=torch.float64)
    flow = 4 * torch.randn(2, frames, 2, 6, 8, generator=generator, dtype=torch.float64)
    return clip, flow


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("form", ["residual", "refresh"])
def test_a_layer_equals_the_definition(form: str, stride: int) -> None:
    threshold = 5.5
    layer, (clip, flow) = layer_of(form, stride, threshold), video()
    got, firing = ClipModel(layer)(clip, flow=flow)
    for b in range(2):
        for t, want in enumerate(by_definition(layer, clip[b], flow[b], threshold)):
            torch.testing.assert_close(got[b, t], want, rtol=0, atol=1e-12)
    assert 0.1 < firing.calls[0].share[:, 1:].mean() < 0.9
    assert torch.equal(firing.calls[0].share[:, 0], torch.ones(2).double())


def test_a_layer_that_pads_by_itself_warps_before_it_pads() -> None:
    layer, (clip, flow) = layer_of("residual", 1, 0.0, padding_mode="reflect"), video()
    got, _ = ClipModel(layer)(clip, flow=flow)
    warped = torch.stack([sampled(clip[0, 0], flow[0, 1])])
    change = layer(clip[0, 1:2]) - layer(warped)
    want = sampled(layer(clip[0, :1])[0], flow[0, 1]) + change[0]
    torch.testing.assert_close(got[0, 1], want, rtol=0, atol=1e-12)


def test_where_the_camera_moves_by_whole_pixels_only_the_edge_fires() -> None:
    layer = layer_of("residual", 1, 1e-9)
    world = torch.rand(1, 2, 20, 40, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    clip = torch.stack([world[:, :, :, 3 * t : 3 * t + 20] for t in range(4)], 1)
    flow = torch.zeros(1, 4, 2, 20, 20)
    flow[:, :, 0] = 3
    run = ClipModel(layer)
    got, firing = run(clip, flow=flow)
    _, plain = run(clip)
    assert torch.equal(plain.calls[0].share, torch.ones(1, 4).double())
    # 3 columns came in, and the window reads one more.
    assert firing.calls[0].share[0, 1:].tolist() == pytest.approx([4 / 20] * 3)
    for t in range(4):  # beyond the edge nothing is known of z: what is wrong there moves on into the picture
        whole = layer(clip[:, t])
        good = slice(t > 0, 20 - 3 * t - 1 if t else 20)
        torch.testing.assert_close(got[:, t][..., good], whole[..., good], rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ["residual", "refresh"])
def test_a_flow_of_zero_is_none_but_for_its_cost(form: str) -> None:
    layer, (clip, flow) = layer_of(form, 2, 7.0), video()
    run = ClipModel(layer, reference_every=3)
    (with_it, cost), (without, plain) = run(clip, flow=0 * flow), run(clip)
    torch.testing.assert_close(with_it, without, rtol=0, atol=1e-12)
    warping = 6 * 8 * (4 * 2 + 2) + 3 * 4 * (4 * 3 + 2)
    assert (cost.macs - plain.macs).tolist() == [[0, warping, warping, 0]] * 2
    assert cost.dense_macs == plain.dense_macs


@pytest.mark.parametrize("form", ["residual", "refresh"])
def test_a_clip_in_two_parts_is_the_whole_clip(form: str) -> None:
    layer, (clip, flow) = layer_of(form, 1, 7.0, padding_mode="reflect"), video()
    run, state = ClipModel(nn.Sequential(layer, nn.ReLU())), ClipState()
    whole, _ = run(clip, flow=flow)
    parts = [run(clip[:, :3], state, flow=flow[:, :3])[0], run(clip[:, 3:], state, flow=flow[:, 3:])[0]]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-12)


def test_equivariance_is_what_convolving_and_warping_in_either_order_differ_by() -> None:
    layer, (clip, flow) = layer_of("residual", 2, 7.0), video()
    _, firing = ClipModel(layer)(clip, flow=flow, equivariance=True)
    loss, squares = equivariance_loss(firing), []
    for b in range(2):
        for t in range(1, 4):
            x = clip[b, t - 1]
            z = F.conv2d(x[None], layer.weight, None, 2, 1)[0]
            first = F.conv2d(sampled(x, flow[b, t])[None], layer.weight, None, 2, 1)[0]
            squares.append((first - sampled(z, flow[b, t])).square())
    torch.testing.assert_close(loss, torch.stack(squares).mean(), rtol=1e-10, atol=0)
    loss.backward()
    assert layer.weight.grad is not None
    assert bool((layer.weight.grad != 0).any())


def test_a_layer_that_reads_one_place_is_equivariant_to_whole_pixels() -> None:
    torch.manual_seed(0)
    layer = SkipConv2d(2, 3, 1, what=Skip(InputNorm(0.1))).double()
    clip, flow = video()
    flow[:] = torch.tensor([2.0, -1.0]).reshape(2, 1, 1)
    _, firing = ClipModel(layer)(clip, flow=flow, equivariance=True)
    assert float(equivariance_loss(firing).detach()) < 1e-24


def test_what_cannot_be_warped_is_refused() -> None:
    layer, (clip, flow) = layer_of("residual", 1, 1.0), video()
    run = ClipModel(layer)
    with pytest.raises(InputError, match=r"expected \(B, T, 2, H, W\)"):
        run(clip, flow=flow[:, 1:])
    with pytest.raises(InputError, match="pass flow="):
        run(clip, equivariance=True)
    with pytest.raises(InputError, match="equivariance=True"):
        equivariance_loss(run(clip, flow=flow)[1])
    with pytest.raises(InputError, match="expected a map"):
        warp(clip[0], flow[0, :1])
    solid = ClipModel(SkipConv3d(2, 3, 1, what=Skip(InputNorm(0.1))))
    with pytest.raises(InputError, match="only maps"):
        solid(torch.rand(1, 2, 2, 3, 6, 8), flow=torch.zeros(1, 2, 2, 6, 8))
