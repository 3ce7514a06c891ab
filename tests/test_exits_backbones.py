"""Backbones that leave something out, or run on the native engine: torch's answers, and a ledger frame by frame."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade import skip
from saccade.errors import InputError
from saccade.exits import (
    Confidence,
    ExitRule,
    FixedBudget,
    FrameExit,
    LearnedGate,
    NativeBackbone,
    classify_video,
    classify_videos,
    decide,
    exit_losses,
    exit_macs,
    with_native_backbone,
)
from saccade.kernels import cpu
from saccade.reduce import Reduce, ReducedModel, convert
from saccade.skip import InputNorm, Skip
from saccade.zoo.frame_exit import frame_exit

needs_native = pytest.mark.skipif(not cpu.native_module(), reason="there is no native engine")
RULES: list[ExitRule] = [LearnedGate(0.6), Confidence(0.6), FixedBudget(3), FixedBudget(9)]
COUNT, T = 14, 4
RANDOM = torch.Generator().manual_seed(0)
BRIGHT = torch.rand(COUNT, T, generator=RANDOM) < 0.5
VIDEOS = 0.2 + 0.6 * BRIGHT[:, :, None, None, None] + 0.2 * torch.rand(COUNT, T, 3, 6, 8, generator=RANDOM) - 0.1
# A picture 6 x 8: the first convolution has 48 positions, 8 outputs and 27 inputs for each; the second 2 x 3 positions.
FIRST, SECOND = 48 * 8 * 27, 6 * 5 * 72
GATE = 3 * 48 + 3 * 16 + 16 * 2 + 2 * 2  # the mean of every number, two linear layers, what options owe together
REBUILT = 4 * 48  # half of the channels, each from one that was computed, times a number


class Pictures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 5, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(0, 1) if x.dim() == 5 else x
        return self.second(self.first(x * 6 - 3).relu()).mean((2, 3))


class Flat(nn.Module):
    """A backbone that takes pictures of other brightness for the same, and sizes it likes."""

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (x.flatten(1),)


def dense() -> FrameExit:
    torch.manual_seed(1)
    model = FrameExit(Pictures(), features=5, classes=3, frames=T, hidden=6, gate_hidden=4)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.6)
    return model.eval()


def first_only(name: str, _: nn.Module) -> bool:
    return name == "first"


def reduced() -> FrameExit:
    """A gate computes all channels of the first convolution where a picture is bright, and half of them else."""
    model = dense()
    convert(model.backbone, Reduce(time=1, channels=2), first_only, example=VIDEOS[0, :1])
    gate: Any = model.backbone.first.gate  # type: ignore[union-attr]
    for parameter in (gate.inner.weight, gate.outer.weight):
        nn.init.zeros_(parameter)
    gate.inner.weight.data[0] = 1 / 3
    gate.outer.weight.data[0, 0] = 1
    gate.outer.bias.data[:] = torch.tensor([0.0, 0.5])
    return model.eval()


def left_out() -> Tensor:
    """What the gate leaves out of every frame of VIDEOS, less what it costs."""
    return torch.where(BRIGHT, 0, FIRST // 2) - GATE - REBUILT


@torch.no_grad()
def test_a_reduced_backbone_costs_what_its_gates_chose_in_the_frames_looked_at() -> None:
    model, saved = reduced(), left_out()
    macs = exit_macs(model, VIDEOS[:1, 0])
    assert (macs.backbone, macs.varies) == (FIRST + SECOND, True)
    for shown in (VIDEOS[BRIGHT][:1], VIDEOS[~BRIGHT][:1]):
        assert exit_macs(model, shown) == macs, "what is in the frame does not matter"
    features, by_frame = model.features_and_saved(VIDEOS.flatten(0, 1))
    assert torch.equal(by_frame.unflatten(0, (COUNT, T)), saved)
    outputs = model.from_features(features.unflatten(0, (COUNT, T)))
    for rule in RULES:
        together = decide(model, outputs, rule, macs=macs, saved=saved)
        batched = {
            id(done.video): done.exits for done in classify_videos(model, list(VIDEOS), rule, macs=macs, batch=5)
        }
        for number, video in enumerate(VIDEOS):
            alone = classify_video(model, iter(video), rule, macs=macs)
            t = int(alone.frames)
            frame = FIRST + SECOND + macs.head + macs.pooling
            assert int(alone.executed_macs) == t * frame + macs.classifier - int(saved[number, :t].sum())
            assert int(together.frames[number]) == t
            assert int(together.executed_macs[number]) == int(alone.executed_macs)
            assert int(together.gate_macs[number]) == int(alone.gate_macs)
            assert alone.dense_macs == T * frame + macs.classifier
        found = sorted((int(exits.frames), int(exits.macs)) for exits in batched.values() if exits is not None)
        assert found == sorted(zip(together.frames.tolist(), together.macs.tolist(), strict=True))
        assert len(together.executed_macs.unique()) > 1


@torch.no_grad()
def test_the_ledger_is_that_of_a_reduced_model_for_clips_too() -> None:
    model = frame_exit("x3d-tiny", classes=3, frames=3)
    random = torch.Generator().manual_seed(2)
    clips = torch.randn(5, 3, 4, 32, 32, generator=random) + 2 * torch.randn(5, 3, 1, 1, 1, generator=random)
    whole = exit_macs(model, clips[:1])
    convert(model.backbone, Reduce(time=2, channels=2), example=clips[:1])
    torch.manual_seed(1)
    for module in model.backbone.modules():
        if hasattr(module, "cheap"):
            gate: Any = module.gate
            nn.init.normal_(gate.outer.weight)
            gate.outer.bias.data.mul_(0.1)
            gate.norm.running_var.fill_(0.05)
    model.eval()
    _, policies = ReducedModel(model.backbone)(clips)
    features, saved = model.features_and_saved(clips)
    assert torch.equal(saved, (policies.dense_macs - policies.macs).round().long())
    assert len(saved.unique()) > 2, "the gates agree about all clips, so that nothing was tested"
    assert exit_macs(model, clips[:1]).backbone == policies.dense_macs == whole.backbone
    assert torch.equal(features, model.features(clips))


def test_what_nobody_tells_counts_as_it_did() -> None:
    model = dense()
    macs = exit_macs(model, VIDEOS[:1, 0])
    assert (macs.backbone, macs.varies) == (FIRST + SECOND, False)
    assert not model.features_and_saved(VIDEOS[:, 0])[1].any()
    skip.convert(model.backbone, Skip(InputNorm(0.5)))  # gates that compare frames have nothing to compare here
    assert exit_macs(model, VIDEOS[:1, 0]) == macs


def test_wrong_requests_about_reduced_backbones_are_named() -> None:
    model = reduced()
    macs, outputs = exit_macs(model, VIDEOS[:1, 0]), model(VIDEOS)
    with pytest.raises(InputError, match=r"depends on what it sees; give saved \(B, t\)"):
        decide(model, outputs, LearnedGate(), macs=macs)
    with pytest.raises(InputError, match=r"got saved \(14, 3\) for 14 videos of 4 frames"):
        decide(model, outputs, LearnedGate(), macs=macs, saved=left_out()[:, :3])
    model = dense()
    convert(model.backbone, Reduce(time=2, channels=2), example=VIDEOS[:1, :2])
    model.features(VIDEOS[0])  # two clips of two pictures, which are of different videos
    with pytest.raises(InputError, match="decided about 2 clips of 2 pictures where there are 4 frames"):
        model.features_and_saved(VIDEOS[0])


@needs_native
@torch.no_grad()
def test_the_native_engine_gives_torchs_answers_at_torchs_price() -> None:
    model = dense()
    native = with_native_backbone(model, torch.zeros(1, 3, 6, 8))
    macs = exit_macs(model, VIDEOS[:1, 0])
    assert exit_macs(native, VIDEOS[:1, 0]) == macs
    for got, wanted in zip(native(VIDEOS), model(VIDEOS), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    for rule in RULES:
        wanted_of = {number: classify_video(model, video, rule, macs=macs) for number, video in enumerate(VIDEOS)}
        videos = list(VIDEOS)
        for done in classify_videos(native, videos, rule, macs=macs, batch=5, workers=2):
            number = next(k for k, video in enumerate(videos) if video is done.video)
            assert done.exits is not None
            assert int(done.exits.frames) == int(wanted_of[number].frames)
            assert int(done.exits.macs) == int(wanted_of[number].macs)
            torch.testing.assert_close(done.exits.scores, wanted_of[number].scores, rtol=1e-4, atol=1e-5)
        alone = classify_video(native, VIDEOS[3], rule, macs=macs)
        torch.testing.assert_close(alone.scores, wanted_of[3].scores, rtol=1e-4, atol=1e-5)
        assert int(alone.macs) == int(wanted_of[3].macs)


@needs_native
@torch.no_grad()
def test_no_frame_depends_on_those_before_it() -> None:
    native = with_native_backbone(dense(), VIDEOS[:1, 0], threads=2)
    frames = VIDEOS.flatten(0, 1)
    for order in (torch.arange(len(frames)), torch.tensor([5, 5, 0, 5])):
        together = native.backbone(frames[order])
        for place, number in enumerate(order.tolist()):
            assert torch.equal(native.backbone(frames[number : number + 1])[0], together[place])


@needs_native
@torch.no_grad()
def test_a_reduced_backbone_on_the_native_engine_leaves_out_what_its_gates_chose() -> None:
    """The engine counts the gate's own steps more finely, the same for every frame."""
    model = reduced()
    native = with_native_backbone(model, VIDEOS[:1, 0])
    macs, of_native = exit_macs(model, VIDEOS[:1, 0]), exit_macs(native, VIDEOS[:1, 0])
    assert (of_native.backbone, of_native.varies) == (macs.backbone, True)
    features, saved = model.features_and_saved(VIDEOS.flatten(0, 1))
    got, saved_natively = native.features_and_saved(VIDEOS.flatten(0, 1))
    torch.testing.assert_close(got, features, rtol=1e-4, atol=1e-5)
    assert torch.equal(saved_natively - saved_natively[0], saved - saved[0])
    assert abs(int(saved_natively[0] - saved[0])) < 0.01 * macs.backbone


@needs_native
def test_all_but_the_backbone_is_shared_and_the_model_stays_what_it_was() -> None:
    model = dense()
    backbone, names = model.backbone, set(model.state_dict())
    native = with_native_backbone(model, VIDEOS[:1, 0])
    assert model.backbone is backbone
    assert set(model.state_dict()) == names
    assert isinstance(native.backbone, NativeBackbone)
    assert set(native.state_dict()) == {name for name in names if not name.startswith("backbone.")}
    assert native.embed is model.embed
    before = native.features(VIDEOS[:2, 0])
    nn.init.zeros_(model.backbone.first.weight)  # type: ignore[union-attr, arg-type]
    assert torch.equal(native.features(VIDEOS[:2, 0]), before), "the engine has its own weights"


@needs_native
def test_the_native_backbone_does_not_learn_and_says_so_but_gates_behind_it_may() -> None:
    native = with_native_backbone(dense(), VIDEOS[:1, 0])
    with pytest.raises(InputError, match=r"on the native engine does not learn; call eval\(\)"):
        native.train()(VIDEOS)
    native.set_stage("gates")
    exit_losses(native.train()(VIDEOS), torch.zeros(COUNT).long(), beta=0.1, stage="gates")["loss"].backward()
    trained = {name.split(".")[0] for name, parameter in native.named_parameters() if parameter.grad is not None}
    assert trained == {"gates"}
    native.eval()
    assert not native.features(VIDEOS[:2, 0]).isnan().any()


@needs_native
def test_wrong_requests_of_the_native_backbone_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = dense()
    with pytest.raises(InputError, match=r"an example \(14, 3, 6, 8\) for the backbone; expected one frame"):
        with_native_backbone(model, VIDEOS[:, 0])
    with pytest.raises(InputError, match=r"the backbone Pictures cannot run on the native engine: .*float64"):
        with_native_backbone(dense().double(), VIDEOS[:1, 0].double())
    native = with_native_backbone(model, VIDEOS[:1, 0])
    with pytest.raises(InputError, match=r"has shape \(1, 3, 5, 8\), expected \(1, 3, 6, 8\)"):
        native.features(VIDEOS[:2, 0, :, 1:])
    with pytest.raises(InputError, match=r"the backbone returned tuple for 2 frames"):
        with_native_backbone(model.with_backbone(Flat().eval()), VIDEOS[:1, 0]).features(VIDEOS[:2, 0])
    monkeypatch.setattr("saccade.exits.native.native_module", lambda: None)
    with pytest.raises(InputError, match="there is none here"):
        with_native_backbone(model, VIDEOS[:1, 0])


def test_the_example_of_the_page_runs() -> None:
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    text = (Path(__file__).resolve().parents[1] / "docs" / "exits.md").read_text()
    (code,) = re.findall(r"## Other backbones.*?```python\n(.*?)```", text, flags=re.DOTALL)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "docs/exits.md", "exec"), {})
    assert "macs=" in printed.getvalue()
