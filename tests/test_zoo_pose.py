"""HRNet with a pose head: the paper's size, nothing beside the heatmaps' way, and what it says to wrong requests."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import Tensor, nn

import saccade
from saccade.errors import InputError, ModelError
from saccade.skip import ClipModel, InputNorm, Skip, convert
from saccade.zoo import load_model
from saccade.zoo.hrnet_pose import OWN, hrnet_pose
from saccade.zoo.torchvision_repair import import_extra

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")


def convolution_macs(model: nn.Module, pictures: Tensor) -> int:
    """One multiply-add per weight and output position, counted while the convolutions run."""
    counted = [0]

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        counted[0] += module.weight.numel() * output[:, 0].numel()  # type: ignore[operator, union-attr]

    hooks = [x.register_forward_hook(count) for x in model.modules() if isinstance(x, nn.Conv2d)]
    with torch.no_grad():
        model(pictures)
    for hook in hooks:
        hook.remove()
    return counted[0]


def drawn_norms(model: nn.Module, seed: int) -> None:
    """Give every batch norm statistics and scales of its own, as training would: fresh ones hide mistakes."""
    draw = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -0.2), (module.running_var, 0.6), (module.weight.data, 0.6)):
                assert tensor is not None
                tensor.copy_(low + 0.4 * torch.rand(tensor.shape, generator=draw))


def test_w32_costs_what_the_paper_says() -> None:
    """10.19 G macs at 256x256 (Table 1), convolutions only."""
    model = load_model("hrnet-pose:w32")
    assert isinstance(model.model, nn.Module)
    assert model.example[0].shape == (1, 3, 256, 256)
    assert round(convolution_macs(model.model, *model.example) / 1e9, 2) == 10.19


@pytest.mark.parametrize(("width", "macs", "parameters"), [("tiny", 43e6, 0.17e6), ("small", 67e6, 0.68e6)])
def test_the_small_ones_cost_what_they_say(width: str, macs: float, parameters: float) -> None:
    model = hrnet_pose(width)
    assert abs(convolution_macs(model, torch.zeros(1, 3, 128, 128)) / macs - 1) < 0.02
    assert abs(sum(x.numel() for x in model.parameters()) / parameters - 1) < 0.02


@pytest.mark.parametrize("width", ["tiny", "small", "w18"])
def test_every_weight_reaches_the_heatmaps(width: str) -> None:
    model = hrnet_pose(width, joints=3).train()
    nn.init.normal_(model.head.weight)
    model(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert [name for name, x in model.named_parameters() if x.grad is None or not x.grad.any()] == []


def test_the_body_is_timms_network_up_to_its_highest_branch() -> None:
    timm = import_extra("timm", extra="zoo")
    model = hrnet_pose("w18", joints=5).double()
    drawn_norms(model, 3)
    whole = timm.create_model("hrnet_w18").eval().double()
    missing = whole.load_state_dict(model.body.state_dict(), strict=False)
    assert missing.unexpected_keys == []
    assert all(key.startswith(("incre", "downsamp", "final", "classifier", "stage4.2.fuse")) for key in missing[0])
    pictures = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    taken: list[Tensor] = []
    whole.stage4[-1].register_forward_hook(lambda *call: taken.append(call[2][0].clone()))
    with torch.no_grad():
        whole(pictures)
        wanted = torch.einsum("nchw,jc->njhw", taken[0], model.head.weight[:, :, 0, 0])
        got = model(pictures)
    assert got.shape == (2, 5, 16, 24)
    torch.testing.assert_close(got, wanted + model.head.bias[:, None, None], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("width", "size"), [("tiny", (48, 80)), ("tiny", (128, 128)), ("small", (64, 96))])
def test_export_gives_a_plan_that_equals_the_network(width: str, size: tuple[int, int]) -> None:
    model, picture = hrnet_pose(width, joints=7), torch.randn(1, 3, *size)
    drawn_norms(model, 1)
    plan = saccade.make_plan(model, picture)
    assert plan.sparse_macs_share == 1
    with torch.no_grad():
        wanted = model(picture)
    got = saccade.Stream(plan, executor="reference", threshold=0.0)(picture)
    assert got.shape == (1, 7, size[0] // 4, size[1] // 4)
    assert float((got - wanted).norm() / wanted.norm()) < 1e-5


def test_seeds_decide_and_torch_keeps_its_own() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = hrnet_pose(seed=1), hrnet_pose(seed=1), hrnet_pose(seed=2)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.head.weight, c.head.weight)
    assert not a.training


@pytest.mark.parametrize("name", OWN)
def test_names_give_what_functions_do(name: str) -> None:
    loaded = load_model(f"hrnet-pose:{name}")
    assert loaded.weights == "random, seed 0"
    assert loaded.preprocess is not None
    frame = torch.randint(0, 256, (50, 70, 3), dtype=torch.uint8)
    assert loaded.preprocess(frame).shape == loaded.example[0].shape
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.as_callable()(*loaded.example), hrnet_pose(name)(*loaded.example), rtol=0, atol=0
        )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hrnet-pose:w23", r"no HRNet of width 'w23'; expected one of tiny, small, w18.*Did you mean hrnet-pose:w32\?"),
        ("hrnet-pose:", r"no HRNet of width ''"),
        ("hrnet-pose:tiny@pretrained", r"nobody has trained this width.*take one of w18, w32, w48"),
        ("hrnet-poze:tiny", r"no model 'hrnet-poze:tiny'.*Did you mean hrnet-pose:"),
    ],
)
def test_wrong_names_are_one_clear_error(name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load_model(name)


def test_wrong_requests_are_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"got 0 joints; expected at least 1"):
        hrnet_pose(joints=0)
    with pytest.raises(InputError, match=r"\(1, 3, 40, 64\); expected \(N, 3, H, W\) with H and W multiples of 16"):
        hrnet_pose()(torch.zeros(1, 3, 40, 64))
    with pytest.raises(InputError, match=r"\(1, 4, 64, 64\)"):
        hrnet_pose("small")(torch.zeros(1, 4, 64, 64))

    def no_network(name: str, pretrained: bool) -> nn.Module:
        assert pretrained
        raise OSError("no route to host")

    monkeypatch.setattr(import_extra("timm", extra="zoo"), "create_model", no_network)
    with pytest.raises(ModelError, match=r"w32@pretrained: its weights cannot be loaded \(OSError: no route to host"):
        load_model("hrnet-pose:w32@pretrained")


@pytest.mark.parametrize("width", OWN)
def test_gated_it_is_the_dense_network_where_every_gate_fires(width: str) -> None:
    model, clip = hrnet_pose(width, joints=3).double(), torch.randn(2, 3, 3, 64, 32, dtype=torch.float64)
    drawn_norms(model, 2)
    with torch.no_grad():
        wanted = model(clip.flatten(0, 1)).unflatten(0, (2, 3))
        done = convert(model, Skip(gate=InputNorm(threshold=0.0)))
        got, _ = ClipModel(model)(clip)
    assert not done.left
    torch.testing.assert_close(got, wanted, rtol=1e-7, atol=1e-9)
