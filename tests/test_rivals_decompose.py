"""Low-rank convolutions against the layer, the singular values and a count by hand; the search against brute force."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.errors import InputError, ModelError
from saccade.graph.mac_counter import MacCounter, count_macs
from saccade.rivals.decompose import decompose
from saccade.rivals.low_rank import KernelSVD, Kind
from saccade.rivals.ranks import RankCurve, RankOption, by_loss_per_mac, by_threshold, choices

KINDS: list[Kind] = ["spatial", "weight"]
SETTINGS: list[dict[str, Any]] = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": (5, 3), "stride": (2, 3), "padding": (1, 2), "dilation": (2, 1), "bias": False},
    {"kernel_size": 1},
    {"kernel_size": (1, 7), "padding": (0, 3), "padding_mode": "reflect"},
    {"kernel_size": (5, 3), "padding": "same", "dilation": (1, 2)},
    {"kernel_size": 3, "padding": (2, 1), "padding_mode": "circular", "stride": 2},
]


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 12, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 12, 3, padding=1, groups=12),
            nn.Conv2d(12, 20, 3, padding=1),
            nn.BatchNorm2d(20),
            nn.ReLU(),
            nn.Conv2d(20, 16, 1),
            nn.ReLU(),
            nn.Conv2d(16, 5, 3, bias=False),
        ).double()


def pictures(n: int = 2) -> Tensor:
    return torch.rand(n, 3, 21, 33, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def convolution(given: dict[str, Any], inputs: int = 7, outputs: int = 11) -> nn.Conv2d:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return nn.Conv2d(inputs, outputs, dtype=torch.float64, **given)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", SETTINGS)
def test_full_rank_is_the_layer(kind: Kind, given: dict[str, Any]) -> None:
    conv = convolution(given)
    x = torch.randn(2, 7, 23, 19, dtype=torch.float64)
    svd = KernelSVD(conv, kind)
    pair = svd.pair(svd.full_rank)
    assert all(type(part) is nn.Conv2d for part in pair)
    torch.testing.assert_close(pair(x), conv(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rank", [1, 4, 10])
def test_the_error_of_the_kernel_is_the_singular_values_left_out(kind: Kind, rank: int) -> None:
    """The pair's own kernel, read off by feeding it unit pulses, against w."""
    conv = convolution({"kernel_size": (3, 5), "bias": False})
    svd = KernelSVD(conv, kind)
    pulses = torch.eye(7 * 15, dtype=torch.float64).reshape(-1, 7, 3, 5)
    kernel = svd.pair(rank)(pulses)[:, :, 0, 0].T.reshape(conv.weight.shape)
    left_out = svd.values[rank:].square().sum().sqrt()
    torch.testing.assert_close((kernel - conv.weight).norm(), left_out, rtol=1e-9, atol=1e-12)
    assert svd.kernel_error(rank) == pytest.approx((left_out / conv.weight.norm()).item())


@pytest.mark.parametrize(("kind", "rank"), [("spatial", 33), ("weight", 12), ("spatial", 0)])
def test_a_rank_that_does_not_exist_is_refused(kind: Kind, rank: int) -> None:
    with pytest.raises(InputError, match=f"rank {rank}: expected 1 to"):
        KernelSVD(convolution({"kernel_size": 3}), kind).pair(rank)


@pytest.mark.parametrize("kind", KINDS)
def test_macs_are_those_counted_by_hand(kind: Kind) -> None:
    net = network()
    report = decompose(net, example=pictures(), ratio=0.6, kind=kind)
    # Two pictures of 21 x 33: maps of 11 x 17, and 9 x 15 at the end.
    dense = 2 * (11 * 17 * (12 * 27 + 12 * 9 + 20 * 12 * 9 + 16 * 20) + 9 * 15 * 5 * 16 * 9)
    assert report.dense_macs == dense
    geometry = {"0": (3, 12, 3, 11, 33, 17), "3": (12, 20, 3, 11, 17, 17), "6": (20, 16, 1, 11, 17, 17)}
    geometry["8"] = (16, 5, 3, 9, 17, 15)
    total = dense
    for layer in report.layers:
        if layer.rank is None:
            assert layer.macs == layer.dense_macs
            continue
        inputs, outputs, k, rows, columns_in, columns = geometry[layer.name]
        first = columns_in * inputs * k if kind == "spatial" else columns * inputs * k * k
        second = columns * outputs * (k if kind == "spatial" else 1)
        assert layer.macs == 2 * rows * layer.rank * (first + second), layer
        total += layer.macs - layer.dense_macs
    assert report.macs == total == count_macs(net, pictures())
    assert report.macs <= 0.6 * dense
    assert any(layer.rank for layer in report.layers)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_told_is_the_networks_and_its_mode_stays(kind: Kind) -> None:
    net = network().train()
    dense = copy.deepcopy(net).eval()(pictures())
    report = decompose(net, example=pictures(), ratio=0.7, kind=kind)
    assert all(module.training for module in net.modules())
    now = net.eval()(pictures())
    assert report.loss == pytest.approx(((now - dense).square().sum() / dense.square().sum()).item())
    assert report.loss > 0
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert [layer.reason for layer in report.layers if layer.name == "2"] == ["12 groups"]
    assert "rank" in str(report)


def test_a_score_is_asked_of_the_network_as_it_would_be() -> None:
    """A score that only the last layer changes: everything else is free, so that layer is kept."""
    net, seen = network(), []
    last = net[8]

    def score(network: nn.Module) -> float:
        seen.append(any(module.training for module in network.modules()))
        return 1.0 if network[8] is last else 0.0  # type: ignore[index]

    report = decompose(net.train(), example=pictures(), ratio=0.5, score=score)
    assert not any(seen)
    assert net[8] is last
    assert report.loss == 0
    assert report.macs <= 0.5 * report.dense_macs


def test_of_the_two_rules_the_better_is_kept() -> None:
    net, told = network(), []
    dense = net.eval()(pictures())

    def score(network: nn.Module) -> float:
        told.append(-(network(pictures()) - dense).abs().max().item())
        return told[-1]

    report = decompose(net, example=pictures(), ratio=0.4, score=score)
    assert told[-1] != told[-2], "this case does not tell the rules apart"
    assert report.loss == -max(told[-2:])
    assert report.loss == pytest.approx((net(pictures()) - dense).abs().max().item())


def test_what_may_not_be_decomposed_is_left() -> None:
    class Own(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(F.pad(x, (1, 0, 1, 0)))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own, self.shared = Own(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1)
            self.again, self.idle, self.not_this = self.shared, nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            weight_only = F.conv2d(self.again(self.shared(self.own(x))), self.idle.weight)
            out: Tensor = self.not_this(weight_only)
            return out

    net = Model()
    report = decompose(net, example=torch.rand(1, 3, 17, 19), ratio=0.8, where=lambda name, conv: name != "not_this")
    reasons = {layer.name: layer.reason for layer in report.layers}
    assert "Own" in reasons["own"]
    assert "does not reach" in reasons["idle"]
    assert "where" in reasons["not_this"]
    assert isinstance(net.shared, nn.Sequential)
    assert net.again is net.shared  # one layer in two places stays one
    net(torch.rand(1, 3, 17, 19))


def test_bad_requests_change_nothing() -> None:
    net = network()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(InputError, match="above 0 and up to 1"):
        decompose(net, example=pictures(), ratio=2)
    with pytest.raises(InputError, match="Raise ratio"):
        decompose(net, example=pictures(), ratio=0.01)
    with pytest.raises(InputError, match="'spatial' or 'weight'"):
        decompose(net, example=pictures(), kind="cp")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="between 0 and 1"):
        decompose(net, example=pictures(), shares=[])
    with pytest.raises(ModelError, match="no 2d convolution"):
        decompose(nn.Linear(3, 4), example=torch.rand(2, 3))
    with pytest.raises(ModelError, match="itself"):
        decompose(nn.Conv2d(3, 4, 3), example=torch.rand(1, 3, 9, 9))

    def fails(network: nn.Module) -> float:
        if any(isinstance(module, nn.Sequential) and len(module) == 2 for module in network.modules()):
            raise RuntimeError("no labels")
        return 1.0

    with pytest.raises(RuntimeError, match="no labels"):
        decompose(net, example=pictures(), score=fails)
    after = net.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


curves_drawn = st.lists(
    st.builds(
        lambda dense, parts: RankCurve(
            dense, [RankOption(i + 1, max(1, dense * cut // 10), loss) for i, (cut, loss) in enumerate(parts)]
        ),
        st.integers(20, 200),
        st.lists(st.tuples(st.integers(1, 9), st.integers(-1, 20)), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=150)
@given(curves=curves_drawn, ratio=st.floats(0.1, 1))
def test_the_rules_keep_the_budget_and_their_definitions(curves: list[RankCurve], ratio: float) -> None:
    budget = ratio * sum(curve.dense_macs for curve in curves)
    every = list(itertools.product(*[(None, *curve.options) for curve in curves]))

    def macs(choice: Any) -> int:
        return sum(curve.dense_macs if o is None else o.macs for curve, o in zip(curves, choice, strict=True))

    def worst(choice: Any) -> float:
        return max((o.loss for o in choice if o is not None), default=0)

    if min(map(macs, every)) > budget:
        with pytest.raises(InputError, match="the fewest"):
            list(choices(curves, budget))
        return
    for choice in choices(curves, budget):
        assert macs(choice) <= budget
    level = min(max(worst(choice), 0) for choice in every if macs(choice) <= budget)
    assert max(worst(by_threshold(curves, budget)), 0) == level
    # Within one step of the best sum: no choice of fewer macs than the greedy one loses less.
    greedy = by_loss_per_mac(curves, budget)
    kept = [o for o in greedy if o is not None]
    convex = all(len(curve.options) == 1 for curve in curves)
    if convex and kept:
        lost = sum(max(o.loss, 0) for o in kept)
        assert all(sum(max(o.loss, 0) for o in c if o is not None) >= lost for c in every if macs(c) <= macs(greedy))


def test_all_products_are_counted() -> None:
    x = torch.rand(2, 6, 9, 11)
    with MacCounter() as counted:
        nn.ConvTranspose2d(6, 4, 3, stride=2)(x)
    assert counted.macs == 2 * 9 * 11 * 6 * 4 * 9
    assert count_macs(nn.Linear(11, 5), x) == 2 * 6 * 9 * 11 * 5
    assert count_macs(nn.Linear(11, 5, bias=False), x) == 2 * 6 * 9 * 11 * 5
    assert count_macs(lambda a: a @ a.transpose(2, 3), x) == 2 * 6 * 9 * 9 * 11
    assert count_macs(nn.Conv1d(6, 4, 3, groups=2), x[:, :, 0]) == 2 * 4 * 9 * 3 * 3
