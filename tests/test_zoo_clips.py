"""Networks of clips by name: published sizes, every shape of clip, seeds, plans, wrong requests."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import saccade
from benchmarks.paper_macs import Case, clip_groups
from saccade.errors import InputError, ModelError
from saccade.graph.mac_counter import count_macs
from saccade.zoo import load_model
from saccade.zoo.corrnet import corrnet
from saccade.zoo.i3d import i3d
from saccade.zoo.pspnet import pspnet
from saccade.zoo.r2plus1d import r2plus1d
from saccade.zoo.torchvision_repair import import_extra
from saccade.zoo.tpn import tpn
from saccade.zoo.tsn import tsn
from saccade.zoo.x3d import x3d
from saccade.zoo.yowo import yowo

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")

TINY: dict[str, Callable[..., nn.Module]] = {
    "r2plus1d:tiny": r2plus1d,
    "i3d:tiny": i3d,
    "x3d:tiny": x3d,
    "tpn:tiny": tpn,
    "corrnet:tiny": corrnet,
    "yowo:x3d-tiny": yowo,
    "yowo:i3d-tiny": lambda **asked: yowo("i3d-tiny", **asked),
    "pspnet:tiny": pspnet,
}
CLASSIFIERS = [name for name in TINY if not name.startswith(("yowo", "pspnet"))]


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return make()


def parameters(model: nn.Module) -> int:
    return sum(x.numel() for x in model.parameters())


def macs(model: nn.Module, *size: int) -> int:
    return count_macs(model, torch.zeros(1, 3, *size, device="meta"))


def layer_macs(model: nn.Module, inputs: Tensor) -> int:
    """One multiply-add per weight and output position of convolutions and linear layers."""
    counted = [0]

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        counted[0] += module.weight.numel() * output[:, 0].numel()  # type: ignore[operator, union-attr]

    layers = (nn.Conv3d, nn.Conv2d, nn.Linear)
    hooks = [x.register_forward_hook(count) for x in model.modules() if isinstance(x, layers)]
    with torch.no_grad():
        model(inputs)
    for hook in hooks:
        hook.remove()
    return counted[0]


# --- sizes


def test_the_papers_sizes() -> None:
    """Parameters and G macs: torchvision's R(2+1)D-18, X3D's Table 4, a ResNet-50 with Mini-Kinetics' 200 classes."""
    eighteen, m = on_meta(lambda: r2plus1d("18")), on_meta(lambda: x3d("m"))
    assert parameters(eighteen) == 31_505_325
    assert round(macs(eighteen, 16, 112, 112) / 1e9, 3) == 40.519
    assert parameters(m) == 3_794_322
    assert [round(macs(m, *size) / 1e9, 2) for size in ((16, 224, 224), (13, 160, 160))] == [4.73, 1.96]
    assert parameters(on_meta(lambda: x3d("s", swish=True))) == parameters(m)
    assert round(parameters(on_meta(lambda: tsn("resnet50", classes=200))) / 1e6, 1) == 23.9


def test_i3d_without_its_third_dimension_is_inception_v2() -> None:
    """11.2 M parameters and 2.0 G macs for one picture of 224x224, with ImageNet's classes."""
    model = on_meta(lambda: i3d("inceptionv2", classes=1000))
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.weight = nn.Parameter(module.weight[:, :, :1])
            module.padding = (0, *module.padding[1:])
    assert round(parameters(model) / 1e6, 1) == 11.2
    assert round(macs(model, 1, 224, 224) / 1e9, 1) == 2.0


@pytest.mark.parametrize(
    ("make", "size", "paper"),
    [
        (lambda: r2plus1d("18", classes=200), (8, 128, 128), 27.7),
        (lambda: r2plus1d("18", classes=200), (16, 128, 128), 55.2),
        (lambda: i3d("inceptionv2", classes=200), (16, 256, 256), 56.0),
        (lambda: x3d("m", classes=200), (16, 256, 256), 6.20),
        (lambda: tpn("18", classes=200), (8, 128, 128), 28.5),
        (lambda: corrnet("18", classes=200, frames=16), (16, 128, 128), 60.8),
        (lambda: yowo("i3d"), (16, 224, 224), 43.9),
        (lambda: yowo("x3d"), (16, 224, 224), 5.75),
        (lambda: pspnet("resnet18").encoder, (224, 224), 10.6),
    ],
)
def test_va_red2s_costs_are_met_to_a_sixteenth(
    make: Callable[[], nn.Module], size: tuple[int, ...], paper: float
) -> None:
    assert abs(macs(on_meta(make), *size) / (paper * 1e9) - 1) < 1 / 16


@pytest.mark.parametrize(
    ("name", "said_macs", "said_parameters"),
    [("r2plus1d:tiny", 122e6, 0.47e6), ("i3d:tiny", 121e6, 0.86e6), ("x3d:tiny", 119e6, 0.42e6)],
)
def test_tiny_costs_what_it_says(name: str, said_macs: float, said_parameters: float) -> None:
    loaded = load_model(name)
    assert isinstance(loaded.model, nn.Module)
    assert abs(layer_macs(loaded.model, *loaded.example) / said_macs - 1) < 0.01
    assert abs(parameters(loaded.model) / said_parameters - 1) < 0.02


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_benchmark_counts_every_layer(name: str) -> None:
    model = TINY[name](classes=3)
    wanted = layer_macs(model, torch.zeros(1, 3, 5, 33, 47))
    assert clip_groups(Case(name, model, (33, 47), 5)).total() == wanted


# --- what they give


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 17, 19), (3, 33, 47), (13, 40, 24)])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_clips_of_any_length_and_size_get_scores(name: str, size: tuple[int, ...]) -> None:
    with torch.no_grad():
        scores = TINY[name](classes=5)(torch.randn(2, 3, *size))
    assert scores.shape == (2, 5)
    assert scores.isfinite().all()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_clips_of_a_batch_do_not_meet(name: str) -> None:
    model, clips = TINY[name](classes=5).double(), torch.randn(2, 3, 4, 33, 20, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(clips), torch.cat([model(clip[None]) for clip in clips]))


@pytest.mark.parametrize("frames", [1, 5, 6])
def test_correlations_of_their_own_for_every_pair_take_clips_of_that_length(frames: int) -> None:
    model = corrnet(classes=2, frames=frames)
    with torch.no_grad():
        assert model(torch.randn(1, 3, frames, 20, 20)).shape == (1, 2)
        with pytest.raises(InputError, match=f"got clips with {frames + 1} frames here; expected {frames}: take clips"):
            model(torch.randn(1, 3, frames + 1, 20, 20))


def test_pictures_of_any_size_get_a_score_per_pixel() -> None:
    with torch.no_grad():
        for size in ((1, 1), (17, 19), (33, 47)):
            assert pspnet(classes=4)(torch.randn(2, 3, *size)).shape == (2, 4, *size)


def test_r2plus1d_is_torchvisions() -> None:
    net = import_extra("torchvision.models.video", extra="zoo").r2plus1d_18(num_classes=7).eval()
    model, clips = r2plus1d("18", classes=7), torch.randn(1, 3, 3, 20, 17)
    net.load_state_dict(
        {key.removeprefix("body.").replace("head.", "fc."): value for key, value in model.state_dict().items()}
    )
    with torch.no_grad():
        torch.testing.assert_close(model(clips), net(clips))


@pytest.mark.parametrize("name", TINY)
def test_a_name_gives_a_network_its_example_and_its_preprocess(name: str) -> None:
    loaded = load_model(name)
    (example,) = loaded.example
    assert isinstance(loaded.model, nn.Module)
    assert not loaded.model.training
    assert loaded.preprocess is not None
    assert loaded.preprocess.size == tuple(example.shape[-2:])
    frame = loaded.preprocess(torch.zeros(70, 90, 3, dtype=torch.uint8))
    made = frame if example.ndim == 4 else torch.stack([frame] * example.shape[2], 2)
    assert made.shape == example.shape
    kinds = {"yowo": "detection", "pspnet": "segmentation"}
    assert loaded.kind == kinds.get(name.partition(":")[0], "classification")
    assert "random, seed 0" in repr(loaded)


@pytest.mark.parametrize("name", TINY)
def test_every_weight_reaches_the_result_and_seeds_decide(name: str) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = TINY[name](seed=1), TINY[name](seed=1), TINY[name](seed=2)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert not torch.equal(next(a.parameters()), next(c.parameters()))
    size = (64, 64) if name.startswith("pspnet") else (8, 64, 64)
    a.train()(torch.randn(2, 3, *size)).square().sum().backward()
    assert [key for key, x in a.named_parameters() if x.grad is None or not x.grad.any()] == []


@pytest.mark.parametrize("name", [name for name in TINY if name != "yowo:i3d-tiny"])
def test_export_gives_a_plan_that_equals_the_network(name: str, executor: str) -> None:
    model = TINY[name](classes=3)
    size = (33, 47) if name.startswith("pspnet") else (3, 32, 64) if name.startswith("yowo") else (3, 33, 47)
    given = torch.randn(1, 3, *size)
    plan = saccade.make_plan(model, given)
    assert plan.sparse_macs_share > 0.98
    with torch.no_grad():
        wanted = model(given)
    got = saccade.Stream(plan, executor=executor, threshold=0.0)(given)
    assert float((got - wanted).norm() / wanted.norm()) < 1e-5


@pytest.mark.parametrize("name", ["r2plus1d:tiny", "i3d:tiny", "x3d:tiny"])
def test_nothing_of_the_small_backbones_falls_back(name: str) -> None:
    plan = saccade.make_plan(TINY[name](), torch.randn(1, 3, 4, 40, 40))
    assert [step.name for step in plan.steps if step.form != "sparse"] == []


# --- wrong requests


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("r2plus1d:19", r"no R\(2\+1\)D '19'; expected one of 18, tiny, tiny-narrow, tiny-half\.$"),
        ("r2plus1d:tiny@pretrained", r"no pretrained R\(2\+1\)D 'tiny'; expected one of 18"),
        ("i3d:", r"i3d:: there is no I3D ''; expected one of inceptionv2, tiny"),
        ("i3d:inceptionv2@pretrained", r"no trained weights to download; leave @pretrained away"),
        ("x3d:xl", r"no X3D 'xl'; expected one of m, s, tiny"),
        ("tpn:34", r"no TPN on R\(2\+1\)D '34'"),
        ("corrnet:26", r"no CorrNet on R\(2\+1\)D '26'"),
        ("yowo:x3dtiny", r"no YOWO on 'x3dtiny'.*Did you mean yowo:x3d-tiny\?"),
        ("pspnet:resnet50", r"no PSPNet on 'resnet50'.*Did you mean pspnet:resnet18\?"),
        ("r2plus1", r"no model 'r2plus1'.*Did you mean r2plus1d:VARIANT\?"),
    ],
)
def test_wrong_names_are_one_clear_error(name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load_model(name)


@pytest.mark.parametrize("name", TINY)
def test_no_class_is_one_clear_error(name: str) -> None:
    with pytest.raises(ModelError, match=r"got 0 classes; expected at least 1"):
        TINY[name](classes=0)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((3, 4, 32, 32), r"got a tensor \(3, 4, 32, 32\); expected clips \(B, 3, T, H, W\); stack frames"),
        ((1, 16, 3, 32, 32), r"these seem to be \(B, T, 3, H, W\): swap the two"),
        ((1, 1, 4, 32, 32), r"expected clips \(B, 3, T, H, W\)"),
        ((1, 3, 0, 32, 32), r"got a tensor \(1, 3, 0, 32, 32\)"),
    ],
)
@pytest.mark.parametrize("name", [*CLASSIFIERS, "yowo:x3d-tiny"])
def test_wrong_clips_are_one_clear_error(name: str, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        TINY[name]()(torch.zeros(shape))


def test_other_wrong_inputs_are_one_clear_error() -> None:
    with pytest.raises(InputError, match=r"YOWO: got clips \(1, 3, 2, 48, 64\); expected H and W multiples of 32"):
        yowo()(torch.zeros(1, 3, 2, 48, 64))
    with pytest.raises(InputError, match=r"PSPNet: got a tensor \(3, 8, 8\); expected pictures \(N, 3, H, W\)"):
        pspnet()(torch.zeros(3, 8, 8))


def test_weights_that_cannot_be_downloaded_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    video = import_extra("torchvision.models.video", extra="zoo")

    def no_network(*, weights: str | None) -> nn.Module:
        assert weights == "KINETICS400_V1"
        raise OSError("no route to host")

    monkeypatch.setattr(video, "r2plus1d_18", no_network)
    for asked in ({}, {"classes": 3}):
        with pytest.raises(ModelError, match=r"r2plus1d:18@pretrained: its weights cannot be loaded \(OSError: no rou"):
            r2plus1d("18", pretrained=True, **asked)


def test_pretrained_weights_come_with_their_own_preprocess(monkeypatch: pytest.MonkeyPatch) -> None:
    video = import_extra("torchvision.models.video", extra="zoo")
    with torch.device("meta"):
        net = video.r2plus1d_18()
    monkeypatch.setattr(video, "r2plus1d_18", lambda *, weights: net)
    loaded = load_model("r2plus1d:18@pretrained")
    assert loaded.weights == "pretrained"
    assert loaded.example[0].shape == (1, 3, 16, 112, 112)
    assert loaded.preprocess is not None
    assert loaded.preprocess.geometry((240, 320)).resized == (128, 170)
    assert loaded.model.head is net.fc  # type: ignore[union-attr]
    assert r2plus1d("18", pretrained=True, classes=3).head.weight.shape == (3, 512)
