"""Whole networks made dynamic: what is converted, what is left, the ledger, the efficiency loss."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade.errors import InputError, ModelError
from saccade.graph.mac_counter import count_macs
from saccade.reduce import (
    ALL,
    LayerUse,
    Policies,
    Policy,
    Reduce,
    ReducedConv2d,
    ReducedConv3d,
    ReducedModel,
    convert,
    efficiency_loss,
    spatial_only,
)
from saccade.reduce.space import Space
from saccade.zoo.tsn import tsn


class Small(nn.Module):
    """A (2+1)D network with a residual block, a layer used twice and one that is never run."""

    def __init__(self) -> None:
        super().__init__()
        self.space = nn.Conv3d(3, 12, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        self.norm = nn.BatchNorm3d(12)
        self.time = nn.Conv3d(12, 12, (3, 1, 1), (2, 1, 1), (1, 0, 0))
        self.twice = nn.Conv3d(12, 12, 3, padding=1)
        self.once_per_length = nn.Conv3d(12, 12, 1)
        self.head = nn.Linear(12, 5)
        self.never = nn.Conv3d(3, 4, 1)

    def forward(self, clips: Tensor) -> Tensor:
        """Return logits of clips (B, 3, T, H, W)."""
        x = self.once_per_length(torch.relu(self.norm(self.space(clips))))
        x = self.once_per_length(self.time(x))
        x = x + self.twice(torch.relu(self.twice(x)))
        return self.head(x.mean((2, 3, 4)))


def small(seed: int = 0) -> Small:
    torch.manual_seed(seed)
    return Small().double().eval()


CLIPS = torch.randn(4, 3, 7, 11, 14, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_a_converted_network_computes_what_it_did_and_says_what_was_left() -> None:
    model = small()
    wanted, keys = model(CLIPS), set(model.state_dict())
    report = convert(model, Reduce(time=3), example=CLIPS[:1])
    assert report.converted == ("space", "time", "twice")
    assert {name: why.split(";")[0] for name, why in report.left.items()} == {
        "once_per_length": "it was given clips of [4, 7] frames",
        "head": "a linear layer has no maps",
        "never": "never run",
    }
    assert str(report).splitlines()[0].startswith("3 convolutions made dynamic: 3 x 2 options")
    assert keys <= set(model.state_dict())
    outputs, policies = ReducedModel(model)(CLIPS, force=ALL)
    assert torch.equal(outputs, wanted)
    assert policies.dense_macs == count_macs(small(), CLIPS[:1])
    assert policies.macs.tolist() == [policies.dense_macs] * 4
    assert [use.name for use in policies.layers].count("twice") == 2


def test_policies_are_forced_by_name_and_counted_by_hand() -> None:
    model = small()
    convert(model, Reduce(), example=CLIPS[:1])
    _, policies = ReducedModel(model)(CLIPS, force={"space": Policy(1, 0), "time": Policy(0, 1), "twice": ALL})
    shares = {use.name: use.share().tolist() for use in policies.reduced}
    assert shares == {"space": [4 / 7] * 4, "time": [0.5] * 4, "twice": [1.0] * 4}
    space, time = 12 * 27 * 7 * 6 * 7, 12 * 36 * 4 * 6 * 7  # macs of the layers, whole
    rebuilt = 12 * 3 * 6 * 7 + 6 * 4 * 6 * 7  # 3 frames of 12 channels, 6 channels of 4 frames, each from one
    by_hand = policies.dense_macs - space * 3 // 7 - time // 2 + rebuilt
    assert policies.macs.tolist() == [by_hand] * 4
    assert policies.overhead.tolist() == [rebuilt] * 4


@pytest.mark.parametrize(
    ("asked", "macs", "given"),
    [
        (("blend", "depthwise"), 225, ("blend", "depthwise")),  # 9 taps at half the channels are 2 % of 225
        (("blend", "depthwise"), 224, ("blend", "scale")),
        (("blend", "depthwise"), 50, ("blend", "scale")),  # 2 taps at half the frames are 2 % of 50
        (("blend", "scale"), 49, ("scale", "scale")),
        (("scale", "scale"), 25, ("scale", "scale")),
        (("blend", "depthwise"), 24, ("copy", "scale")),
        (("copy", "scale"), 1000, ("copy", "scale")),
    ],
)
def test_what_rebuilds_costs_at_most_two_percent_of_a_layer_where_that_can_be(
    asked: tuple[Any, Any], macs: int, given: tuple[str, str]
) -> None:
    assert Reduce(cheap_time=asked[0], cheap_channels=asked[1]).affordable(macs, 9) == given
    assert Reduce(cheap_time=asked[0], cheap_channels=asked[1], overhead=99).affordable(macs, 9) == asked


def test_nothing_is_left_on_the_network_and_it_runs_alone() -> None:
    model = small()
    convert(model, Reduce(), example=CLIPS[:1])
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    hooks = [len(module._forward_hooks) for module in model.modules()]
    with_policies, policies = ReducedModel(model)(CLIPS)
    assert before == {name: set(vars(module)) for name, module in model.named_modules()}
    assert hooks == [len(module._forward_hooks) for module in model.modules()]
    assert torch.equal(model(CLIPS), with_policies)
    assert repr(policies).startswith("Policies(layers=7, reduced=4, batch=4")


def test_hooks_are_taken_away_when_the_network_fails() -> None:
    model = small()
    convert(model, Reduce(), example=CLIPS[:1])
    with pytest.raises(InputError, match="got 6 frames"):
        ReducedModel(model)(CLIPS[:, :, 1:])
    with pytest.raises(RuntimeError):
        convert(small(), Reduce(), example=CLIPS[:1, :2])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_converting_again_begins_with_new_gates_on_the_same_weights() -> None:
    model = small()
    convert(model, Reduce(), example=CLIPS[:1])
    weight = model.space.weight
    report = convert(model, Reduce(time=1, channels=3), spatial_only, example=CLIPS[:1, :, :3])
    assert report.converted == ("space",)
    assert report.left["time"] == "not asked for"
    assert model.space.weight is weight
    assert (model.space.space.time, model.space.space.channels, model.space.space.inputs) == (1, 3, 3)  # type: ignore[union-attr]


def test_a_layer_in_two_places_stays_one() -> None:
    model: Any = nn.Sequential(nn.Conv3d(3, 4, 1), nn.ReLU(), nn.Conv3d(4, 4, 3, padding=1), nn.ReLU())
    model.append(model[2])
    convert(model, Reduce(), example=torch.zeros(1, 3, 4, 5, 5))
    assert isinstance(model[2], ReducedConv3d)
    assert model[4] is model[2]


def test_pictures_of_a_2d_network_are_clips_by_their_number() -> None:
    network = tsn("tiny", segments=6)
    clips = torch.randn(3, 6, 3, 64, 64)
    wanted = network(clips)
    report = convert(network, Reduce(), example=clips[:1])
    assert len(report.converted) > 10
    assert all(isinstance(network.get_submodule(name), ReducedConv2d) for name in report.converted)
    whole, policies = ReducedModel(network)(clips, force=ALL)
    assert torch.equal(whole, wanted)
    assert policies.dense_macs == count_macs(tsn("tiny", segments=6), clips[:1])
    _, halved = ReducedModel(network)(clips, force=Policy(1, 1))
    assert 0.2 < float(halved.macs[0]) / halved.dense_macs < 0.4
    pictures = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
    convert(pictures, Reduce(), example=torch.zeros(1, 3, 9, 9))  # one picture: channels only
    assert {layer.space.time for layer in pictures} == {1}  # type: ignore[union-attr]


def test_networks_with_nothing_to_reduce_say_why() -> None:
    with pytest.raises(ModelError, match="nothing to reduce: it holds no convolutions"):
        convert(nn.Sequential(nn.Flatten()), Reduce(), example=torch.zeros(1, 3, 2, 4, 4))
    with pytest.raises(ModelError, match=r"0: nothing to leave out .*of 1 frames and 1 channels"):
        convert(nn.Sequential(nn.Conv3d(3, 1, 1)), Reduce(), example=torch.zeros(1, 3, 1, 4, 4))
    with pytest.raises(InputError, match="itself a Conv3d"):
        convert(nn.Conv3d(3, 8, 1), Reduce(), example=torch.zeros(1, 3, 2, 4, 4))
    with pytest.raises(InputError, match="expected one clip"):
        convert(small(), Reduce(), example=CLIPS)
    model = small()
    convert(model, Reduce(), example=CLIPS[:1])
    with pytest.raises(InputError, match="'spice', which is no reduced layer; there are 3: space, time, twice"):
        ReducedModel(model)(CLIPS, force={"spice": ALL})
    with pytest.raises(InputError, match=r"got clips of shape \(0, 3"):
        ReducedModel(model)(CLIPS[:0])


def use(weights: list[list[float]], *, macs: int = 100, name: str = "a") -> LayerUse:
    """Returns the entry of a layer of 8 frames and 8 channels, 2 options of both, with weights per clip."""
    space = Space.of(Reduce(), frames=8, inputs=8, out_channels=8, groups=1)
    rows = torch.tensor(weights, dtype=torch.float64, requires_grad=True)
    time, channels = rows[:, :2], rows[:, 2:]
    return LayerUse(name, macs, 5, time, channels, torch.zeros(len(rows), dtype=torch.float64), space)


def test_the_efficiency_loss_by_hand() -> None:
    one = use([[0.9, 0.1, 0.5, 0.2], [0.0, 0.3, 0.0, 0.4], [0.5, 0.0, 0.0, 0.0]])
    other = use([[0.0, 0.3, 0.5, 0.2], [0.1, 0.0, 0.0, 0.4], [0.5, 0.0, 0.1, 0.0]], macs=300, name="b")
    policies = Policies((one, LayerUse("head", 1000), other), 3)
    shares = [0.25 * 1 + 0.75 * 0.5, 0.25 * 0.25 + 0.75 * 0.5, 0.25 * 0 + 0.75 * 1]
    loss = efficiency_loss(policies, torch.tensor([True, True, True]), scale=2.0)
    assert float(loss.detach()) == pytest.approx(sum((2 * share) ** 2 for share in shares) / 3)
    wrong = efficiency_loss(policies, torch.tensor([True, False, True]), scale=2.0)
    assert float(wrong.detach()) == pytest.approx(((2 * shares[0]) ** 2 + 4 + (2 * shares[2]) ** 2) / 3)
    assert policies.macs.tolist() == [1000 + 100 * a + 300 * b + 10 for a, b in ((1, 0.5), (0.25, 0.5), (0, 1))]


def test_the_efficiency_loss_presses_on_the_largest_option_by_what_putting_it_out_would_save() -> None:
    for weights in itertools.product((0.0, 0.3), repeat=4):
        one = use([list(weights)])
        assert one.time is not None
        assert one.channels is not None
        share = float(one.share().detach())
        found = torch.autograd.grad(one.share().sum(), [one.time, one.channels], allow_unused=True)
        for dimension, gradient in zip((0, 2), found, strict=True):
            pair = list(weights[dimension : dimension + 2])
            for option in range(2):
                without = list(weights)
                without[dimension + option] = 0.0
                if not any(without[dimension : dimension + 2]):
                    without[dimension + 1] = 0.05  # the last makes up for it
                largest = pair[option] > 0 and not any(pair[:option])
                saved = share - float(use([without]).share().detach()) if largest else 0.0
                assert float(gradient[0, option]) == pytest.approx(saved), weights


def test_a_wrong_answer_presses_on_nothing_and_bad_ones_are_named() -> None:
    one = use([[0.9, 0.1, 0.5, 0.2]])
    policies = Policies((one,), 1)
    assert one.time is not None
    (gradient,) = torch.autograd.grad(efficiency_loss(policies, torch.tensor([False])), one.time)
    assert not gradient.any()
    with pytest.raises(InputError, match="expected one per clip"):
        efficiency_loss(policies, torch.tensor([True, True]))
    with pytest.raises(InputError, match="needs reduced layers"):
        efficiency_loss(Policies((LayerUse("head", 1),), 1), torch.tensor([True]))
