"""EfficientDet: the paper's sizes, any number of classes and input size, and what it says to wrong requests."""

from __future__ import annotations

import importlib.util
import re

import pytest
import torch
from torch import Tensor, nn

import saccade
from saccade.errors import InputError, ModelError
from saccade.skip import ClipModel, InputNorm, Skip, convert
from saccade.zoo import load_model
from saccade.zoo.efficientdet import EfficientDet, efficientdet
from saccade.zoo.torchvision_repair import import_extra

pytestmark = pytest.mark.skipif(importlib.util.find_spec("effdet") is None, reason="effdet is not installed")


def convolution_macs(model: nn.Module, *, classes: int, size: tuple[int, int]) -> int:
    """One multiply-add per weight and output position, of every call of every convolution."""
    counted = [0]

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        counted[0] += module.weight.numel() * output[:, 0].numel()  # type: ignore[operator, union-attr]

    hooks = [x.register_forward_hook(count) for x in model.modules() if isinstance(x, nn.Conv2d)]
    with torch.no_grad():
        model(torch.zeros(1, 3, *size))
    for hook in hooks:
        hook.remove()
    return counted[0]


def test_d0_costs_what_efficientdets_own_paper_says() -> None:
    """2.5 G at 512x512 with COCO's classes (Table 2 there); a sixteenth of the positions is a sixteenth of that."""
    assert efficientdet("d0").size == (512, 512)
    model = efficientdet("d0", size=(128, 128))
    assert abs(convolution_macs(model, classes=90, size=(128, 128)) * 16 / 2.5e9 - 1) < 0.01


def test_tiny_costs_what_it_says() -> None:
    model = efficientdet()
    assert abs(convolution_macs(model, classes=4, size=(128, 224)) / 63e6 - 1) < 0.01
    assert abs(sum(x.numel() for x in model.parameters()) / 54.5e3 - 1) < 0.01


@pytest.mark.parametrize(("name", "size"), [("tiny", (48, 80)), ("d0", (128, 256))])
def test_every_weight_reaches_an_output(name: str, size: tuple[int, int]) -> None:
    model = efficientdet(name, classes=2, size=size).train()
    logits, offsets = model(torch.randn(2, 3, *size))
    each = 6 if name == "tiny" else 9
    assert [x.shape[1] for x in logits] == [2 * each] * len(logits)
    assert sum(x[0].numel() for x in offsets) == model.anchors.numel()
    sum(x.square().sum() for x in [*logits, *offsets]).backward()
    assert [key for key, x in model.named_parameters() if x.grad is None or not x.grad.any()] == []


def test_nothing_is_dropped_at_random_and_every_convolution_is_plain() -> None:
    """A path dropped in one frame and not in the next would look like motion; `convert` replaces `nn.Conv2d`."""
    for name in ("tiny", "d0"):
        model = efficientdet(name, size=(128, 128)).train()
        for module in model.modules():
            assert not isinstance(module, nn.Dropout) or module.p == 0
            assert type(module).__name__ != "DropPath"
            if "Conv2d" in type(module).__name__ and hasattr(module, "weight"):
                assert type(module) is nn.Conv2d
                assert not isinstance(module.padding, str)


@pytest.mark.parametrize(("name", "size"), [("tiny", (48, 80)), pytest.param("d0", (128, 128), marks=pytest.mark.slow)])
def test_export_gives_a_plan_that_equals_the_network(name: str, size: tuple[int, int]) -> None:
    model, picture = efficientdet(name, classes=3, size=size), torch.randn(1, 3, *size)
    plan = saccade.make_plan(model, picture)
    assert plan.sparse_macs_share == 1
    with torch.no_grad():
        wanted = [x for level in model(picture) for x in level]
    outputs = saccade.Stream(plan, executor="reference", threshold=0.0)(picture)
    got = [x for level in outputs for x in level]
    for a, b in zip(got, wanted, strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-4


def test_tiny_is_local() -> None:
    """No layer looks at the whole picture: what changes in one corner leaves the other as it was, to the bit."""
    model = efficientdet()
    first = torch.randn(1, 3, 128, 224)
    second = first.clone()
    second[..., :4, :4] += 1
    with torch.no_grad():
        before, after = (model(x)[0][0] for x in (first, second))
    assert not torch.equal(before, after)
    assert torch.equal(before[..., -8:], after[..., -8:])


def test_decoding_puts_boxes_where_the_anchors_are() -> None:
    model = efficientdet(classes=2, size=(64, 96))
    logits = [torch.full((1, 12, 64 // s, 96 // s), -9.0) for s in (4, 8, 16)]
    offsets = [torch.zeros(1, 24, 64 // s, 96 // s) for s in (4, 8, 16)]
    anchor, row, column = 4, 3, 5  # the second scale's second aspect, at stride 8
    logits[1][0, anchor * 2 + 1, row, column] = 3.0
    offsets[1][0, anchor * 4 : anchor * 4 + 4, row, column] = torch.tensor([0.25, -0.5, 0.1, 0.2])
    (found,) = model.decode((logits, offsets))
    side = 3.0 * 8 * 2 ** (1 / 2)
    height, width = 0.7 * side, 1.4 * side
    y, x = (row + 0.5) * 8 + 0.25 * height, (column + 0.5) * 8 - 0.5 * width
    half_h, half_w = height * torch.e**0.1 / 2, width * torch.e**0.2 / 2
    wanted = torch.tensor([[x - half_w, y - half_h, x + half_w, y + half_h]]).clamp(min=0)
    torch.testing.assert_close(found.boxes, wanted, rtol=1e-5, atol=1e-4)
    assert found.labels.tolist() == [1]
    assert found.scores.tolist() == [torch.tensor(3.0).sigmoid().item()]


def test_seeds_decide_and_torch_keeps_its_own() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = efficientdet(seed=1), efficientdet(seed=1), efficientdet(seed=2)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(next(a.parameters()), next(c.parameters()))
    assert "anchors" not in a.state_dict()


def test_names_give_what_functions_do() -> None:
    loaded = load_model("efficientdet:tiny")
    assert loaded.class_names == ("car", "van", "bus", "truck")
    assert loaded.kind == "detection"
    assert loaded.preprocess is not None
    assert loaded.decode is not None
    frame = torch.randint(0, 256, (50, 70, 3), dtype=torch.uint8)
    assert loaded.preprocess(frame).shape == loaded.example[0].shape
    with torch.no_grad():
        outputs = loaded.as_callable()(*loaded.example)
        wanted = efficientdet()(*loaded.example)
    assert all(torch.equal(a, b) for x, y in zip(outputs, wanted, strict=True) for a, b in zip(x, y, strict=True))
    assert len(loaded.decode(outputs)) == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("efficientdet:d7", r"no EfficientDet 'd7'; expected one of tiny, d0, d1, d2, d3"),
        ("efficientdet:", r"no EfficientDet ''"),
        ("efficientdet:tiny@pretrained", r"tiny has no trained weights"),
        ("efficientdet:tini", r"Did you mean efficientdet:tiny"),
    ],
)
def test_wrong_names_are_one_clear_error(name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load_model(name)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"classes": 0}, r"got 0 classes; expected at least 1"),
        ({"size": (128, 200)}, r"size of 128x200; expected multiples of 16"),
        ({"size": (0, 224)}, r"size of 0x224; expected multiples of 16"),
        ({"name": "d1", "size": (128, 192)}, r"efficientdet:d1: got a size of 128x192; expected multiples of 128"),
    ],
)
def test_wrong_requests_are_one_clear_error(asked: dict[str, object], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        efficientdet(**asked)  # type: ignore[arg-type]


def test_pictures_of_another_size_are_one_clear_error() -> None:
    with pytest.raises(InputError, match=re.escape("(2, 3, 128, 128); expected (N, 3, 128, 224)")):
        efficientdet()(torch.zeros(2, 3, 128, 128))


def test_weights_that_cannot_be_downloaded_are_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bool, bool]] = []

    def no_network(config: object, *, num_classes: object, pretrained: bool, pretrained_backbone: bool) -> EfficientDet:
        asked.append((pretrained, pretrained_backbone))
        raise OSError("no route to host")

    monkeypatch.setattr(import_extra("effdet", extra="zoo"), "create_model_from_config", no_network)
    for name in ("d0", "d3"):
        with pytest.raises(ModelError, match=rf"{name}@pretrained: its weights cannot be loaded \(OSError: no route"):
            load_model(f"efficientdet:{name}@pretrained")
    assert asked == [(True, False), (False, True)]  # d3 has only a backbone


def test_gated_it_is_the_dense_network_where_every_gate_fires() -> None:
    """The heads' convolutions serve every level: each level is a call of its own, with its own past."""
    model, clip = efficientdet(classes=2, size=(32, 48)).double(), torch.randn(2, 3, 3, 32, 48, dtype=torch.float64)
    with torch.no_grad():
        wanted = [x for maps in model(clip.flatten(0, 1)) for x in maps]
        done = convert(model.net, Skip(gate=InputNorm(threshold=0.0)))
        outputs, _ = ClipModel(model)(clip)
    assert not done.left
    for a, b in zip([x for maps in outputs for x in maps], wanted, strict=True):
        torch.testing.assert_close(a.flatten(0, 1), b, rtol=1e-7, atol=1e-9)
