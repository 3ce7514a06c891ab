"""Converting networks: what is replaced, what is left and why, and that the network stays itself."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from saccade.errors import InputError, ModelError
from saccade.skip import ClipModel, ClipState, Gumbel, InputNorm, OutputNorm, Skip, SkipConv2d, SkipConv3d, convert

FIRES = Skip(InputNorm(0.0))


class Branches(nn.Module):
    """A layer used twice, a layer under two names, concatenation, a transposed layer and a linear one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.shared = nn.Conv2d(6, 6, 3, padding=1, groups=3)
        self.alias = self.shared
        self.up = nn.ConvTranspose2d(12, 4, 2, stride=2)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        y = self.up(torch.cat([self.shared(x).relu(), self.alias(self.shared(x))], 1))
        return y, self.head(y.mean((2, 3)))


def noisy(model: nn.Module) -> nn.Module:
    """Returns the model in evaluation mode, its batch norms with statistics of their own."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


@pytest.mark.parametrize("form", ["residual", "refresh"])
def test_gates_that_always_fire_leave_the_network_what_it_was(form: str) -> None:
    torch.manual_seed(0)
    dense = noisy(Branches().double())
    gated = copy.deepcopy(dense)
    convert(gated, Skip(InputNorm(0.0), form=form))
    clip = torch.randn(2, 4, 3, 9, 12, dtype=torch.float64)
    with torch.no_grad():
        wanted, _ = ClipModel(dense)(clip)
        found, _ = ClipModel(gated)(clip)
        pictures = gated(clip.flatten(0, 1))
    for one, other, alone in zip(found, wanted, pictures, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(alone.unflatten(0, (2, 4)), other, rtol=1e-10, atol=1e-10)


def test_the_report_says_what_was_left_and_why() -> None:
    model = Branches()
    weights = {name: parameter for name, parameter in model.named_parameters()}
    report = convert(model, FIRES, where=lambda name, conv: name != "stem.0")
    assert report.converted == ("shared",)
    assert dict(report.left) == {
        "stem.0": "not asked for",
        "up": "no gated form of torch.nn.modules.conv.ConvTranspose2d",
        "head": "a linear layer has no positions in space",
    }
    assert model.alias is model.shared
    assert isinstance(model.shared, SkipConv2d)
    assert all(parameter is weights[name] for name, parameter in model.named_parameters())
    assert "1 convolutions gated" in str(report)


def test_a_layer_called_several_times_has_a_memory_for_each_call() -> None:
    torch.manual_seed(1)
    model = noisy(Branches().double())
    convert(model, Skip(OutputNorm(0.3)))
    clip = torch.randn(1, 6, 3, 9, 12, dtype=torch.float64) * 0.3
    state = ClipState()
    with torch.no_grad():
        (wanted, _), firing = ClipModel(model)(clip)
        pieces = [ClipModel(model)(clip[:, t : t + 1], state)[0][0] for t in range(6)]
    torch.testing.assert_close(torch.cat(pieces, 1), wanted, rtol=1e-12, atol=1e-12)
    assert [call.name for call in firing.calls] == ["stem.0", "shared", "shared", "shared", "up", "head"]
    assert {key for key in state.last} == {("stem.0", 0), ("shared", 0), ("shared", 1), ("shared", 2)}


def test_every_multiply_add_of_the_network_is_in_the_ledger() -> None:
    _, firing = ClipModel(Branches().eval())(torch.zeros(1, 2, 3, 9, 12))
    stem, shared, up, head = 30 * 6 * 27, 30 * 6 * 2 * 9, 30 * 12 * 4 * 4, 8
    assert [call.macs for call in firing.calls] == [stem, shared, shared, shared, up, head]
    assert firing.macs.tolist() == [[firing.dense_macs] * 2]


def test_converting_again_changes_the_gates_and_keeps_the_weights() -> None:
    model = Branches()
    convert(model, Skip(Gumbel()))
    weight = model.stem[0].weight
    convert(model, Skip(InputNorm(3.0), block=4, form="refresh"))
    assert model.stem[0].what == Skip(InputNorm(3.0), block=4, form="refresh")
    assert model.stem[0].weight is weight
    assert model.stem[0].gate is None


def test_modes_types_and_three_dimensions_are_kept() -> None:
    model = nn.Sequential(nn.Conv3d(2, 3, 3), nn.ReLU()).double().train()
    convert(model, Skip(Gumbel()))
    assert isinstance(model[0], SkipConv3d)
    assert model[0].training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    model.eval()
    assert not model[0].gate.training


def test_what_cannot_be_converted_is_refused() -> None:
    with pytest.raises(InputError, match="the model is itself a Conv2d"):
        convert(nn.Conv2d(1, 1, 1), FIRES)
    with pytest.raises(ModelError, match="has nothing to gate: it holds no convolutions"):
        convert(nn.Sequential(nn.ReLU()), FIRES)
    with pytest.raises(ModelError, match="0: not asked for"):
        convert(nn.Sequential(nn.Conv2d(1, 1, 1)), FIRES, where=lambda name, conv: False)

    class Own(nn.Conv2d):
        pass

    with pytest.raises(ModelError, match="no gated form of test_skip_convert"):
        convert(nn.Sequential(Own(1, 1, 1)), FIRES)


@pytest.mark.parametrize(("name", "size"), [("hrnet_w18_small", 64), ("tf_efficientnet_lite0", 65), ("resnet18", 64)])
def test_networks_of_timm_stay_themselves(name: str, size: int) -> None:
    from saccade.zoo.torchvision_repair import import_extra

    timm = import_extra("timm", extra="zoo")
    torch.manual_seed(0)
    dense = noisy(timm.create_model(name, num_classes=5)).double()
    gated = copy.deepcopy(dense)
    report = convert(gated, FIRES)
    assert len(report.converted) == sum(isinstance(module, nn.Conv2d) for module in dense.modules())
    clip = torch.randn(1, 3, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        found, _ = ClipModel(gated)(clip)
        wanted = dense(clip[0])
    torch.testing.assert_close(found[0], wanted, rtol=1e-7, atol=1e-7 * float(wanted.abs().max()))


def test_a_gate_can_be_trained() -> None:
    """Positions left of the middle must not count: the gates learn to leave them alone."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
    convert(model, Skip(Gumbel(bias=1.0)))
    run = ClipModel(model)
    from saccade.skip import gate_loss

    optimizer = torch.optim.Adam([p for name, p in model.named_parameters() if "gate" in name], lr=0.05)
    first = last = None
    for _ in range(60):
        clip = torch.randn(4, 4, 2, 8, 8)
        clip[:, 1:, :, :, :4] = clip[:, :1, :, :, :4]  # a left half that stands still
        _, firing = run(clip)
        loss = gate_loss(firing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first = loss.item() if first is None else first
        last = loss.item()
    assert first > 0.6
    assert last < 0.3
