"""Temporal segment networks: the paper's size, the consensus, the frames of the segments, wrong requests."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import Tensor, nn

import saccade
from saccade.errors import InputError, ModelError
from saccade.skip import ClipModel, InputNorm, Skip, convert
from saccade.zoo import load_model
from saccade.zoo.torchvision_repair import import_extra
from saccade.zoo.tsn import TSN, consensus, segment_frames, tsn

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")


def layer_macs(model: nn.Module, pictures: Tensor) -> int:
    """One multiply-add per weight and output position of convolutions and linear layers."""
    counted = [0]

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        counted[0] += module.weight.numel() * output[:, 0].numel()  # type: ignore[operator, union-attr]

    hooks = [x.register_forward_hook(count) for x in model.modules() if isinstance(x, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        model(pictures)
    for hook in hooks:
        hook.remove()
    return counted[0]


def test_resnet101_costs_what_the_paper_says() -> None:
    """Table 5: 194.98 G macs for 25 frames, 46.80 for 6."""
    loaded = load_model("tsn:resnet101")
    assert isinstance(loaded.model, TSN)
    macs = layer_macs(loaded.model, *loaded.example) / 1e9
    assert [round(25 * macs, 1), round(6 * macs, 2)] == [195.0, 46.80]


def test_tiny_costs_what_it_says() -> None:
    model = tsn()
    assert abs(layer_macs(model, torch.zeros(1, 3, 112, 112)) / 19e6 - 1) < 0.01
    assert abs(sum(x.numel() for x in model.parameters()) / 0.31e6 - 1) < 0.02


def test_a_clip_gets_the_mean_of_what_its_frames_get() -> None:
    model = tsn(classes=5, segments=3).double()
    clips = torch.randn(2, 3, 3, 48, 40, dtype=torch.float64)
    with torch.no_grad():
        got = model(clips)
        wanted = torch.stack([sum(model(clip[k : k + 1])[0] for k in range(3)) / 3 for clip in clips])
        apart = model(clips.flatten(0, 1)).unflatten(0, (2, 3))
    assert got.shape == (2, 5)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(consensus(apart), wanted, rtol=1e-10, atol=1e-12)


def test_gated_frames_then_consensus_is_the_dense_network_where_every_gate_fires() -> None:
    model = tsn(classes=5, segments=3).double()
    clips = torch.randn(2, 3, 3, 48, 40, dtype=torch.float64)
    with torch.no_grad():
        wanted = model(clips)
        convert(model, Skip(gate=InputNorm(threshold=0.0)))
        scores, firing = ClipModel(model)(clips)
    assert all(call.gated or call.name == "backbone.fc" for call in firing.calls)
    torch.testing.assert_close(consensus(scores), wanted, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("frames", "segments"), [(25, 25), (40, 6), (7, 3), (1, 8), (5, 8), (1, 1), (100, 25)])
def test_segments_are_equally_long_and_their_middles_are_taken(frames: int, segments: int) -> None:
    got = segment_frames(frames, segments)
    assert len(got) == segments
    for k, frame in enumerate(got):
        begin, end = k * frames / segments, (k + 1) * frames / segments
        assert frame <= (begin + end) / 2 < frame + 1
        assert 0 <= frame < frames
    assert got == sorted(got)


@pytest.mark.parametrize("shape", [(1, 3, 48, 80), (1, 3, 3, 32, 40)])
def test_export_gives_a_plan_that_equals_the_network(shape: tuple[int, ...]) -> None:
    model, given = tsn(classes=4, segments=3), torch.randn(*shape)
    plan = saccade.make_plan(model, given)
    with torch.no_grad():
        wanted = model(given)
    got = saccade.Stream(plan, executor="reference", threshold=0.0)(given)
    assert float((got - wanted).norm() / wanted.norm()) < 1e-5


def test_every_weight_reaches_the_scores_and_seeds_decide() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = tsn(seed=1), tsn(seed=1), tsn(seed=2)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(next(a.parameters()), next(c.parameters()))
    a.train()(torch.randn(2, 8, 3, 48, 48)).square().sum().backward()
    assert [name for name, x in a.named_parameters() if x.grad is None] == []  # timm starts with branches that add 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tsn:resnet11", r"no backbone 'resnet11'; expected one of tiny, resnet18.*Did you mean tsn:resnet1"),
        ("tsn:", r"no backbone ''"),
        ("tsn:tiny@pretrained", r"nobody has trained this backbone.*take one of resnet18"),
    ],
)
def test_wrong_names_are_one_clear_error(name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load_model(name)


def test_wrong_requests_are_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"got 0 classes and 8 segments"):
        tsn(classes=0)
    with pytest.raises(InputError, match=r"clips of 4 frames; expected 8"):
        tsn()(torch.zeros(1, 4, 3, 32, 32))
    with pytest.raises(InputError, match=r"\(3, 32, 32\); expected clips \(B, 8, 3, H, W\)"):
        tsn()(torch.zeros(3, 32, 32))
    with pytest.raises(InputError, match=r"got 0 frames and 3 segments"):
        segment_frames(0, 3)

    def no_network(name: str, **asked: object) -> nn.Module:
        assert asked["pretrained"]
        raise OSError("no route to host")

    monkeypatch.setattr(import_extra("timm", extra="zoo"), "create_model", no_network)
    with pytest.raises(ModelError, match=r"resnet18@pretrained: its weights cannot be loaded \(OSError: no route"):
        load_model("tsn:resnet18@pretrained")
