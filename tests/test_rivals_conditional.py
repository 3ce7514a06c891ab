"""CC-image: the gate on the picture itself, position by position; its ledger; its gradient; exported."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from saccade.errors import InputError, ModelError
from saccade.rivals.conditional import ConditionalConv2d, convert_conditional
from saccade.rivals.decompose import decompose
from saccade.skip import ClipModel, ClipState, Gumbel, InputNorm, Skip, convert, gate_loss
from saccade.stream import Stream

SETTINGS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": (3, 5), "stride": (2, 1), "padding": (0, 2), "dilation": (2, 1), "bias": False},
    {"kernel_size": 1, "groups": 2},
]


def gated(given: dict[str, object], *, block: int = 1) -> ConditionalConv2d:
    net = nn.Sequential(nn.Conv2d(4, 6, **given)).double()  # type: ignore[arg-type]
    convert_conditional(net, Gumbel(bias=-0.1), block=block)
    layer = net[0]
    assert isinstance(layer, ConditionalConv2d)
    assert layer.gate is not None
    torch.nn.init.normal_(layer.gate.weight, std=0.3)
    return layer.eval()


@pytest.mark.parametrize("given", SETTINGS)
@pytest.mark.parametrize("block", [1, 2, 4])
def test_a_position_is_computed_where_its_gate_fires_and_zero_elsewhere(given: dict[str, object], block: int) -> None:
    torch.manual_seed(0)
    layer = gated(given, block=block)
    plain = nn.Conv2d(4, 6, **given).double()  # type: ignore[arg-type]
    plain.load_state_dict({name: value for name, value in layer.state_dict().items() if "gate" not in name})
    phi = nn.Conv2d(4, 1, **{**given, "groups": 1, "bias": True}).double()  # type: ignore[arg-type]
    phi.load_state_dict({name[5:]: value for name, value in layer.state_dict().items() if "gate" in name})
    x = torch.randn(3, 4, 13, 11, dtype=torch.float64)
    dense, score, z = plain(x), phi(x), layer(x)
    fires = 0
    for n in range(len(x)):
        for i in range(z.shape[2]):
            for j in range(z.shape[3]):
                top, left = i - i % block, j - j % block
                fired = bool((score[n, 0, top : top + block, left : left + block].sigmoid() > 0.5).any())
                fires += fired
                expected = dense[n, :, i, j] if fired else torch.zeros(6, dtype=torch.float64)
                torch.testing.assert_close(z[n, :, i, j], expected)
    assert fires > 0
    assert block > 1 or fires < len(x) * z.shape[2] * z.shape[3]
    torch.testing.assert_close(layer(x[None]), z[None])


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1)
        ).double()


def clips() -> Tensor:
    return torch.rand(2, 5, 3, 15, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_gates_that_always_fire_are_the_dense_network() -> None:
    net = network().eval()
    dense = net(clips().flatten(0, 1)).unflatten(0, (2, 5))
    convert_conditional(net, Gumbel(bias=100.0))
    outputs, firing = ClipModel(net)(clips())
    torch.testing.assert_close(outputs, dense)
    gates = 15 * 17 * 27 + 8 * 9 * 54  # asked in every frame, the first too
    torch.testing.assert_close(firing.macs, torch.full((2, 5), float(firing.dense_macs + gates), dtype=torch.float64))


def test_the_ledger_counts_what_fired_in_every_frame() -> None:
    net = network().eval()
    report = convert_conditional(net, Gumbel(bias=0.02), where=lambda name, conv: name == "0")
    assert report.converted == ("0",)
    assert report.left == {"2": "not asked for"}
    torch.nn.init.normal_(net[0].gate.weight, std=0.2)
    _, firing = ClipModel(net)(clips(), masks=True)
    call, plain = firing.calls
    z = net[0](clips())
    computed = (z != 0).any(2)
    assert call.mask is not None
    assert torch.equal(call.mask, computed)
    assert bool((computed[:, 0].float().mean() < 1).all())  # the first frame is no reference frame
    torch.testing.assert_close(call.share, computed.double().mean((2, 3)))
    expected = 15 * 17 * 27 * (6 * call.share + 1) + 8 * 9 * 54 * 4
    torch.testing.assert_close(firing.macs, expected)
    assert not plain.gated


def test_nothing_is_remembered() -> None:
    net = network().eval()
    convert_conditional(net)
    for module in net.modules():
        if isinstance(module, ConditionalConv2d):
            assert module.gate is not None
            torch.nn.init.normal_(module.gate.weight, std=0.3)
    run, state = ClipModel(net), ClipState()
    whole = run(clips())[0]
    torch.testing.assert_close(whole.flip(1), run(clips().flip(1))[0])
    parts = [run(clips()[:, :2], state)[0], run(clips()[:, 2:], state)[0]]
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    assert not state.last
    torch.testing.assert_close(net(clips()[:, 3]), whole[:, 3])  # gated outside of a clip too


def test_gates_learn_from_the_gate_loss_and_the_task() -> None:
    torch.manual_seed(0)
    net = network().train()
    convert_conditional(net)
    run = ClipModel(net)
    outputs, firing = run(clips())
    (outputs.square().mean() + gate_loss(firing)).backward()
    for module in net.modules():
        if isinstance(module, ConditionalConv2d):
            assert module.gate is not None
            assert module.gate.weight.grad is not None
            assert bool((module.gate.weight.grad != 0).any())
    optimiser = torch.optim.Adam(net.parameters(), lr=0.1)
    before = gate_loss(run(clips())[1]).item()
    for _ in range(30):
        optimiser.zero_grad()
        gate_loss(run(clips())[1]).backward()
        optimiser.step()
    assert gate_loss(run(clips())[1]).item() < 0.3 * before


def test_it_is_exported_and_streamed_as_what_it_is() -> None:
    net = network().float().eval()
    convert_conditional(net, Gumbel(bias=0.02), block=2)
    for module in net.modules():
        if isinstance(module, ConditionalConv2d):
            assert module.gate is not None
            torch.nn.init.normal_(module.gate.weight, std=0.3)
    frames = clips().float()[0]
    stream = Stream(net, (frames[:1],), executor="reference")
    for frame in frames:
        torch.testing.assert_close(stream(frame[None]), net(frame[None]), rtol=1e-4, atol=1e-5)


def test_a_decomposed_network_takes_either_kind_of_gate() -> None:
    for change in (lambda net: convert_conditional(net), lambda net: convert(net, Skip(Gumbel()))):
        net = network().eval()
        decompose(net, example=clips()[0], ratio=0.7)
        pairs = sum(isinstance(module, nn.Sequential) for module in net.modules()) - 1
        assert pairs > 0
        outputs = net(clips()[:, 0])
        assert len(change(copy.deepcopy(net)).converted) == 2 + pairs
        change(net)
        assert ClipModel(net)(clips())[0].shape == (2, 5, *outputs.shape[1:])


def test_misuse_is_told() -> None:
    with pytest.raises(InputError, match="has to be learned"):
        convert_conditional(network(), InputNorm(1e-2))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="nothing to gate"):
        convert_conditional(nn.Sequential(nn.Conv3d(3, 4, 3)))
    net = network()
    convert_conditional(net)
    with pytest.raises(InputError, match=r"\(N, C, H, W\) or a clip"):
        net[0](torch.rand(3, 4))
    mixing = nn.Sequential(nn.Unflatten(0, (5, 2)), nn.Flatten(1, 2), nn.Conv2d(6, 4, 1)).double()
    convert_conditional(mixing)
    with pytest.raises(InputError, match="got 5 pictures in a clip of 2 x 5"):
        ClipModel(mixing)(clips())
