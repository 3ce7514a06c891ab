"""L0 channel pruning: gates against the paper's formulas, and hardened networks against the gated ones."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.errors import InputError, ModelError
from saccade.graph.mac_counter import count_macs
from saccade.rivals.harden import NarrowConv2d, harden
from saccade.rivals.prune import GatedChannels, HardConcrete, insert_gates, l0_loss, reestimate_norms
from saccade.skip import InputNorm, Skip, convert


class NormAct(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.hardswish(super().forward(x))


class Network(nn.Module):
    """What stands between convolutions in real networks: adds, concatenations, pooling, excitation, shared layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.a, self.a_norm = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.deep, self.deep_norm = nn.Conv2d(8, 8, 5, padding=2, groups=8), NormAct(8)
        self.squeeze, self.excite = nn.Conv2d(8, 3, 1), nn.Conv2d(3, 8, 1)
        self.shared = nn.Conv2d(8, 7, 3, padding=1)
        self.fine_norm, self.coarse_norm = nn.BatchNorm2d(7), nn.BatchNorm2d(7)
        self.grouped = nn.Conv2d(22, 22, 3, padding=1, groups=2)
        self.no_norm = nn.Conv2d(22, 6, 1)
        self.twice, self.twice_norm = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x)))
        x = F.relu(self.a_norm(self.a(x))).add_(x)
        x = self.deep_norm(self.deep(x))
        x = x * self.excite(F.silu(self.squeeze(x.mean((2, 3), keepdim=True)))).sigmoid()
        fine = F.relu6(self.fine_norm(self.shared(x)))
        coarse = self.coarse_norm(self.shared(F.max_pool2d(x, 2)))
        coarse = F.interpolate(F.pad(coarse, (1, 0, 1, 0)), size=fine.shape[2:], mode="bilinear")
        x = self.grouped(torch.cat([fine, coarse, x], 1))
        x = F.leaky_relu(self.no_norm(x))
        y = self.twice(x)
        out: Tensor = self.head(F.avg_pool2d(self.twice_norm(y), 2) + y.mean())
        return out


def network(seed: int = 0) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Network().double()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                for name, low, high in (("running_mean", -1, 1), ("running_var", 0.5, 2), ("bias", -1, 1)):
                    getattr(module, name).data.uniform_(low, high)
        return net


def pictures(n: int = 2) -> Tensor:
    return torch.rand(n, 3, 21, 27, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


GATED = ["stem", "a", "deep", "squeeze", "excite", "shared", "no_norm"]


def gates_of(net: nn.Module) -> dict[str, HardConcrete]:
    wrappers = [module for module in net.modules() if isinstance(module, GatedChannels)]
    return {wrapper.conv_name.removesuffix(".inner"): wrapper.gate for wrapper in wrappers}


def shut(gate: HardConcrete, channels: list[int]) -> None:
    with torch.no_grad():
        gate.log_alpha.uniform_(-1, 4)
        gate.log_alpha[channels] = -9.0


def test_gates_are_the_papers_distribution() -> None:
    gate = HardConcrete(5, keep=0.5, share=1.0)
    with torch.no_grad():
        gate.log_alpha.copy_(torch.tensor([-3.0, -0.7, 0.0, 1.1, 4.0]))
    torch.manual_seed(0)
    drawn = torch.stack([gate() for _ in range(5000)]).detach()
    assert drawn.min() == 0
    assert drawn.max() == 1
    # P(z > 0) = 1 - Q(0), Q the distribution of the stretched binary concrete variable; within 4 standard deviations.
    q0 = torch.sigmoid(math.log(0.1 / 1.1) * 2 / 3 - gate.log_alpha).detach()
    deviation = (q0 * (1 - q0) / 5000).sqrt()
    assert bool((((drawn == 0).float().mean(0) - q0).abs() < 4 * deviation + 1e-4).all())
    torch.testing.assert_close(gate.active(), 1 - q0)
    gate.eval()
    torch.testing.assert_close(gate(), (torch.sigmoid(gate.log_alpha) * 1.2 - 0.1).clamp(0, 1))


def test_gates_stand_behind_norms_and_the_rest_says_why() -> None:
    net = network().train()
    report = insert_gates(net, example=pictures(), where=lambda name, conv: name != "a")
    assert report.gated == [name for name in GATED if name != "a"]
    assert report.left["a"] == "left out by where"
    assert report.left["grouped"] == "2 groups"
    assert report.left["twice"] == "something beside its batch norm reads its output"
    assert report.left["head"] == "its output is the network's"
    assert isinstance(net.stem_norm, GatedChannels)
    assert isinstance(net.no_norm, GatedChannels)
    assert net.fine_norm.gate is net.coarse_norm.gate  # type: ignore[union-attr]
    assert all(module.training for module in net.modules())


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.integers(0, 8))
def test_hardened_is_gated_in_evaluation_mode(seed: int, most: int) -> None:
    net = network(seed)
    insert_gates(net, example=pictures())
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    for gate in gates_of(net).values():
        count = len(gate.log_alpha)
        shut(gate, torch.randperm(count, generator=generator)[: min(most, count)].tolist())
    net.eval()
    x = torch.randn(3, 3, 33, 17, dtype=torch.float64)
    gated = net(x)
    harden(net, example=pictures())
    assert not any(isinstance(module, GatedChannels | HardConcrete) for module in net.modules())
    torch.testing.assert_close(net(x), gated, rtol=1e-10, atol=1e-10)


def test_macs_of_a_hardened_network_are_those_counted_by_hand() -> None:
    net = network().train()
    dense = count_macs(net, pictures())
    insert_gates(net, example=pictures())
    gates = gates_of(net)
    closed = {"stem": [0, 1, 2], "a": [1, 2, 5], "deep": [7], "squeeze": [0], "shared": [0, 1, 2, 3], "no_norm": [5]}
    for name in GATED:
        shut(gates[name], closed.get(name, []))
    report = harden(net, example=pictures())
    assert all(module.training for module in net.modules())
    size = 11 * 14  # of the fine maps; the coarse ones are 5 x 7, the last ones 5 x 7
    # What is read: a reads the stem without its 3; the depthwise reads what it writes; of the sum of stem and a the
    # channels 1 and 2 are 0, but a depthwise convolution gives its bias there; shared and squeeze read all but 7.
    expected = size * (5 * 27 + 5 * 5 * 9 + 7 * 25) + 2 * 7 + 8 * 2  # stem, a, deep, squeeze, excite
    expected += (size + 5 * 7) * 3 * 7 * 9  # shared
    expected += size * (22 * 11 * 9 + 5 * 22)  # grouped, no_norm
    expected += size * 6 * 5 + 5 * 7 * 4 * 6  # twice without the input 5, head
    assert report.dense_macs == dense
    assert report.macs == 2 * expected == count_macs(net, pictures())
    rows = {layer.name: (layer.kept_outputs, layer.outputs, layer.kept_inputs, layer.inputs) for layer in report.layers}
    assert rows["a"] == (5, 8, 5, 8)
    assert rows["no_norm"] == (5, 6, 22, 22)
    assert rows["twice"] == (6, 6, 5, 6)
    assert "reads 5 of 8" in str(report)


def test_what_shuts_everything_keeps_one_channel_of_zeros() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)).double().eval()
    insert_gates(net, example=pictures())
    shut(gates_of(net)["0"], [0, 1, 2, 3])
    gated = net(pictures())
    report = harden(net, example=pictures())
    torch.testing.assert_close(net(pictures()), gated)
    assert [(layer.kept_outputs, layer.kept_inputs) for layer in report.layers] == [(1, 3), (2, 1)]


def test_zeros_that_become_something_else_are_read() -> None:
    """exp(0), a bias and a frame of ones are no zeros; a sum or a layer called twice has them where both sides do."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.two, self.two_norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.reads, self.joins = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(7)), nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> list[Tensor]:
            y = self.norm(self.one(x))
            shifted = y.clone()
            shifted.exp_()
            z = self.two_norm(self.two(x))
            seen = [y.exp(), y + torch.ones_like(y), F.pad(y, (1, 1), value=1.0), shifted, y.clamp(min=0.5), y + z, y]
            read = [conv(value) for conv, value in zip(self.reads, seen, strict=True)]
            return [*read, self.reads[-1](z), self.joins(torch.cat([y, z], 1))]

    net = Model().eval()
    insert_gates(net, example=torch.rand(1, 3, 9, 9))
    shut(gates_of(net)["one"], [0, 3])
    shut(gates_of(net)["two"], [1, 3])
    before = net(torch.ones(1, 3, 9, 9))
    report = harden(net, example=torch.rand(1, 3, 9, 9))
    # Channel 3 is 0 in both.
    kept = {layer.name: (layer.kept_outputs, layer.kept_inputs) for layer in report.layers}
    assert kept == {"one": (2, 3), "two": (2, 3), "reads.5": (4, 3), "reads.6": (4, 3), "joins": (4, 4)}
    for a, b in zip(net(torch.ones(1, 3, 9, 9)), before, strict=True):
        torch.testing.assert_close(a, b)


def test_the_loss_is_the_expected_share_of_macs_and_closes_gates() -> None:
    net = network()
    insert_gates(net, example=pictures())
    total = count_macs(net, pictures())
    size = 2 * 11 * 14
    by_hand = {"stem": size * 27 * 8, "a": size * 72 * 8, "deep": size * 25 * 8, "squeeze": 2 * 24, "excite": 2 * 24}
    by_hand |= {"shared": 2 * (11 * 14 + 5 * 7) * 63 * 8, "no_norm": size * 22 * 6}
    gates = gates_of(net)
    expected = sum(macs / total * gates[name].active().mean() for name, macs in by_hand.items())
    loss = l0_loss(net)
    torch.testing.assert_close(loss, torch.as_tensor(expected))
    loss.backward()
    assert all(bool((gate.log_alpha.grad > 0).all()) for gate in gates.values())  # type: ignore[operator]
    optimiser = torch.optim.SGD(net.parameters(), lr=1e3)
    for _ in range(30):
        optimiser.zero_grad()
        l0_loss(net).backward()
        optimiser.step()
    assert harden(net, example=pictures()).macs_fraction < 0.6


def test_training_learns_which_channels_do_nothing() -> None:
    """Of two channels the answer needs one: the penalty shuts the other and leaves that one."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(2)[:, :, None, None])
        net[2].weight.copy_(torch.tensor([1.0, 0.0])[None, :, None, None])
    x = torch.randn(8, 2, 6, 6)
    insert_gates(net, example=x)
    optimiser = torch.optim.Adam(gates_of(net)["0"].parameters(), lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        (F.mse_loss(net(x), x[:, :1]) + 0.3 * l0_loss(net)).backward()
        optimiser.step()
    report = harden(net, example=x)
    assert [(layer.kept_outputs, layer.kept_inputs) for layer in report.layers] == [(1, 2), (1, 1)]
    assert net[0].outputs.tolist() == [0]


def test_norms_are_reestimated_with_gates_as_they_will_be() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3), nn.Dropout(0.9), nn.Conv2d(4, 2, 1)
    ).train()
    batches = [torch.rand(5, 3, 9, 11), torch.rand(5, 3, 9, 11)]
    reestimate_norms(net, batches)
    norm = net[1]
    values = [net[0](batch).transpose(0, 1).flatten(1) for batch in batches]
    torch.testing.assert_close(norm.running_mean, torch.stack([value.mean(1) for value in values]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([value.var(1) for value in values]).mean(0))
    assert norm.momentum == 0.3
    assert all(module.training for module in net.modules())
    kept = norm.running_mean.clone()
    with pytest.raises(InputError, match="at least one batch"):
        reestimate_norms(net, [])
    torch.testing.assert_close(norm.running_mean, kept)


def test_a_hardened_network_is_converted_to_skip_convolutions() -> None:
    net = network().eval()
    insert_gates(net, example=pictures())
    shut(gates_of(net)["a"], [0, 1])
    harden(net, example=pictures())
    assert isinstance(net.a, NarrowConv2d)
    before = net(pictures())
    assert "a.inner" in convert(net, Skip(InputNorm(1e-2))).converted
    torch.testing.assert_close(net(pictures()), before)


def test_misuse_is_told() -> None:
    net = network()
    with pytest.raises(InputError, match="between 0 and 1"):
        insert_gates(net, example=pictures(), keep=1.0)
    with pytest.raises(ModelError, match="no 2d convolution"):
        insert_gates(nn.Linear(3, 4), example=torch.rand(2, 3))
    with pytest.raises(ModelError, match="insert_gates and train"):
        harden(net, example=pictures())
    with pytest.raises(ModelError, match="insert_gates first"):
        l0_loss(net)
    insert_gates(net, example=pictures())
    with pytest.raises(ModelError, match="gates already"):
        insert_gates(net, example=pictures())
    twin = copy.deepcopy(net).eval()  # gates survive copying and state dicts
    twin.load_state_dict(net.state_dict())
    harden(twin, example=pictures())
