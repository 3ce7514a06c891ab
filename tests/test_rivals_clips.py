"""What VA-RED2 is compared with: channel gating, resolution by clip, and the macs of both and of pruned networks."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from saccade.errors import InputError, ModelError
from saccade.graph.mac_counter import count_macs
from saccade.reduce import ReducedModel
from saccade.rivals.channel_gating import ChannelGatedConv, gate_channels, threshold_loss
from saccade.rivals.counted import CountedModel
from saccade.rivals.resolution import ResolutionChoice, look, resize


def network(*, classes: int = 5) -> nn.Sequential:
    """Returns a small network of clips of any height and width, with random statistics in its norms."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = nn.Sequential(
            nn.Conv3d(3, 6, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False),
            nn.BatchNorm3d(6),
            nn.ReLU(),
            nn.Conv3d(6, 7, 3, stride=(2, 1, 1), padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(7, classes),
        )
        net[1].running_mean.normal_(std=0.1)  # type: ignore[union-attr, operator]
    return net.eval()


def clips(batch: int, *, frames: int = 5, size: int = 13, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, frames, size, size, generator=torch.Generator().manual_seed(seed))


def test_a_plain_network_costs_what_the_other_ledgers_say() -> None:
    net, x = network(), clips(3)
    scores, cost = CountedModel(net)(x)
    torch.testing.assert_close(scores, net(x), rtol=0, atol=0)
    assert cost.dense_macs == count_macs(net, x[:1]) == ReducedModel(net)(x)[1].dense_macs
    assert cost.macs.tolist() == [cost.dense_macs] * 3
    assert cost.overhead.tolist() == [0.0] * 3


def test_pruned_weights_are_not_counted() -> None:
    net, x = network(), clips(2)
    dense = CountedModel(net)(x)[1].dense_macs
    prune.l1_unstructured(net[3], "weight", amount=0.37)
    prune.ln_structured(net[0], "weight", amount=2, n=1, dim=0)
    _, cost = CountedModel(net)(x)
    left = [int((net[i].weight != 0).sum()) for i in (0, 3)]
    by_hand = left[0] * 5 * 7 * 7 + left[1] * 3 * 7 * 7 + 7 * 5
    assert left[0] == 4 * 27
    assert cost.macs.tolist() == pytest.approx([by_hand] * 2)
    assert cost.dense_macs == dense


def test_what_is_no_batch_of_clips_is_refused() -> None:
    for wrong in (torch.zeros(3, 4, 5, 6), torch.zeros(0, 3, 4, 8, 8)):
        with pytest.raises(InputError, match=r"expected \(B, C, T, H, W\)"):
            CountedModel(network())(wrong)


SETTINGS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": (1, 3, 2), "stride": (1, 2, 1), "padding": (0, 2, 0), "bias": False},
]


@pytest.mark.parametrize("given", SETTINGS)
@pytest.mark.parametrize("rank", [2, 3])
def test_a_gated_channel_reads_the_rest_where_its_base_is_large(given: dict[str, object], rank: int) -> None:
    torch.manual_seed(0)
    sizes = {key: value[-rank:] if isinstance(value, tuple) else value for key, value in given.items()}
    conv = (nn.Conv2d if rank == 2 else nn.Conv3d)(7, 5, **sizes).double()  # type: ignore[arg-type]
    layer = ChannelGatedConv(conv, groups=3, start=0.1).double().eval()
    layer.norm.running_mean.normal_(std=0.2)  # type: ignore[union-attr, operator]
    layer.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
    x = torch.randn(4, 7, 5, 6, 4, dtype=torch.float64)[:, :, :, :, : 4 if rank == 3 else 1].squeeze(-1)
    with torch.no_grad():
        found, whole = layer(x), conv(x)
    some, all_of_them, macs = 0, found.numel(), torch.zeros(4, dtype=torch.float64)
    for output in range(5):
        own = [c for c in range(7) if c * 3 // 7 == output * 3 // 5]
        weight = torch.zeros_like(conv.weight[:1])
        weight[:, own] = conv.weight.detach()[output : output + 1, own]
        part = copy.deepcopy(conv)
        part.weight, part.out_channels = nn.Parameter(weight), 1
        part.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach()[output : output + 1])
        base = part(x)[:, 0].detach()
        mean, var = layer.norm.running_mean[output], layer.norm.running_var[output]  # type: ignore[index]
        fires = (base - mean) / (var + layer.norm.eps).sqrt() >= 0.1
        torch.testing.assert_close(found[:, output], torch.where(fires, whole[:, output], base))
        some += int(fires.sum())
        taps = conv.weight[0, 0].numel()
        macs += taps * (len(own) * fires[0].numel() + (7 - len(own)) * fires.flatten(1).sum(1))
    assert 0 < some < all_of_them
    if rank == 3:
        cost = CountedModel(layer)(x)[1]
        assert cost.macs.tolist() == pytest.approx(macs.tolist())
        assert cost.dense_macs == found[0].numel() * conv.weight[0].numel()


def test_pictures_of_clips_are_counted_clip_by_clip() -> None:
    class ByPicture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            maps: Tensor = self.conv(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1))
            return maps

    torch.manual_seed(1)
    net = ByPicture()
    dense = CountedModel(net)(torch.zeros(1, 4, 3, 8, 8))[1].dense_macs
    gate_channels(net, groups=2, start=0.0)
    x = torch.randn(2, 4, 3, 8, 8)
    x[1] = 0  # the base of nothing is its bias
    counted = CountedModel(net).eval()
    one, two = (counted(x[i : i + 1])[1] for i in (0, 1))
    both = counted(x)[1]
    assert both.macs.tolist() == pytest.approx([float(one.macs), float(two.macs)])
    assert one.dense_macs == both.dense_macs == dense
    assert float(one.macs) != float(two.macs)


def test_open_gates_change_nothing_and_shut_ones_leave_the_base() -> None:
    net, x = network(), clips(2)
    dense = net(x)
    report = gate_channels(net, groups=2, start=-1e9)
    assert report.converted == ("0", "3")
    counted = CountedModel(net)
    scores, cost = counted(x)
    torch.testing.assert_close(scores, dense, rtol=1e-5, atol=1e-6)
    assert cost.macs.tolist() == pytest.approx([cost.dense_macs] * 2)
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, ChannelGatedConv):
                layer.thresholds.fill_(1e9)
    least = counted(x)[1]
    # the first layer's groups are 2 and 1 of its 3 inputs, the second's 3 and 3 of its 6
    assert least.macs[0] == 5 * 49 * 9 * (3 * 2 + 3 * 1) + 3 * 49 * 27 * 7 * 3 + 7 * 5


def test_thresholds_learn_from_the_task_and_rise_to_their_target() -> None:
    net = network()
    gate_channels(net, groups=2, start=0.0)
    net.train()
    net(clips(3)).square().mean().backward()
    layer = net[3]
    assert isinstance(layer, ChannelGatedConv)
    assert layer.thresholds.grad is not None
    assert layer.thresholds.grad.abs().max() > 0
    assert layer.conv.weight.grad is not None
    assert layer.conv.weight.grad.abs().max() > 0
    layer.thresholds.grad = None
    loss = threshold_loss(net, target=2.0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(4.0)
    assert (layer.thresholds.grad < 0).all()  # type: ignore[operator, union-attr]


def test_what_cannot_be_gated_is_named() -> None:
    net = nn.Sequential(nn.Conv3d(1, 4, 3), nn.Conv3d(4, 4, 3, groups=4), nn.Conv3d(4, 4, 1), nn.Conv1d(4, 4, 1))
    report = gate_channels(net, groups=2)
    assert report.converted == ("2",)
    assert "1 to 4 channels in 1 groups cannot be gated" in report.left["0"]
    assert "4 to 4 channels in 4 groups cannot be gated" in report.left["1"]
    assert "no gated form of Conv1d" in report.left["3"]
    with pytest.raises(ModelError, match="has channel gates already"):
        gate_channels(net, groups=2)
    with pytest.raises(ModelError, match="call gate_channels first"):
        threshold_loss(network(), target=1.0)


def chooser(sizes: tuple[int, ...] = (16, 12, 8)) -> ResolutionChoice:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return ResolutionChoice(network(), sizes, example=clips(1, size=16))


def test_each_clip_is_run_at_the_size_the_policy_chooses_and_no_other() -> None:
    choice = chooser().eval()
    with torch.no_grad():
        for index, net in enumerate(choice.networks):
            net[-1].bias += index  # type: ignore[index, operator, union-attr]
        choice.policy[-1].weight.mul_(30)  # type: ignore[operator, union-attr]
    x = torch.cat([clips(6, size=16) * scale for scale in (0.3, 3.0)])
    with torch.no_grad():
        chosen = choice.policy(look(x)).argmax(1).tolist()
        scores, cost = choice(x)
    assert len(set(chosen)) > 1
    for clip, index in enumerate(chosen):
        alone = choice.networks[index](resize(x[clip : clip + 1], choice.sizes[index]))
        torch.testing.assert_close(scores[clip : clip + 1], alone, rtol=1e-5, atol=1e-6)
        assert cost.choices[clip].tolist() == [float(k == index) for k in range(3)]
        assert float(cost.macs[clip]) == count_macs(choice, x[clip : clip + 1])
    assert count_macs(choice, x) == int(cost.macs.sum())
    assert cost.dense_macs == count_macs(network(), x[:1])


def test_the_policy_learns_what_a_size_costs_and_whether_all_are_used() -> None:
    choice = chooser().train()
    torch.manual_seed(0)
    _, cost = choice(clips(8, size=16))
    assert (cost.choices.sum(1) == 1).all()
    assert cost.shares[0] == 1
    by_hand = sum(float(cost.shares[k]) for k in cost.choices.argmax(1)) / 8
    assert float(cost.expected().detach()) == pytest.approx(by_hand, rel=1e-5)
    use = F.one_hot(cost.choices.argmax(1), 3).double().mean(0)
    assert float(cost.unevenness().detach()) == pytest.approx(float((use - 1 / 3).square().sum()), rel=1e-4)
    cost.expected().backward()
    bias = choice.policy[-1].bias
    assert isinstance(bias, Tensor)
    assert bias.grad is not None
    assert bias.grad[0] > 0 > bias.grad[2]  # less of the largest, more of the smallest


def test_the_warm_up_ignores_the_policy() -> None:
    choice = chooser().train()
    with torch.no_grad():
        choice.policy[-1].bias.copy_(torch.tensor([1e4, 0.0, 0.0]))  # type: ignore[operator, union-attr]
    x = clips(16, size=16)
    torch.manual_seed(0)
    assert choice(x)[1].choices.argmax(1).unique().tolist() == [0]
    choice.exploring = True
    assert choice(x)[1].choices.argmax(1).unique().tolist() == [0, 1, 2]


def test_sizes_and_examples_that_make_no_choice_are_refused() -> None:
    for sizes in ((16,), (8, 16), (16, 16)):
        with pytest.raises(InputError, match="the largest first"):
            chooser(sizes)
    with pytest.raises(InputError, match="expected one clip"):
        ResolutionChoice(network(), (16, 8), example=clips(2, size=16))
    with pytest.raises(InputError, match="expected at least one"):
        chooser().eval()(clips(1, size=16)[:0])
