"""The model against its definition; what a frame at a time gives; which gradients go where; the two stages."""

from __future__ import annotations

import copy

import pytest
import torch
from exits_definition import defined, small
from torch import Tensor, nn

from saccade.errors import InputError, StateError
from saccade.exits import ExitState, FrameExit, Outputs, TwoStages, exit_losses
from saccade.graph import make_plan

VIDEOS = torch.randn(5, 4, 3, 7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 2, 1, 1, 0])


@pytest.mark.parametrize("pooling", ["max", "average", "none"])
@pytest.mark.parametrize("shared", [False, True])
@torch.no_grad()
def test_outputs_are_those_of_the_papers_equations(pooling: str, shared: bool) -> None:
    model = small(pooling, shared_gates=shared)
    outputs = model(VIDEOS)
    wanted = [defined(model, video) for video in VIDEOS]
    for got, parts in zip(outputs, zip(*wanted, strict=True), strict=True):
        torch.testing.assert_close(got, torch.stack(parts), rtol=1e-12, atol=1e-12)
    assert [tuple(x.shape) for x in outputs] == [(5, 4, 3), (5, 4), (5, 4, 6)]


@pytest.mark.parametrize("pooling", ["max", "average", "lstm", "attention", "none"])
@torch.no_grad()
def test_a_frame_at_a_time_gives_what_whole_videos_give(pooling: str) -> None:
    model = small(pooling)
    outputs = model(VIDEOS)
    for number, video in enumerate(VIDEOS):
        state = ExitState()
        for t, frame in enumerate(video):
            seen = model.look(state, frame[None])
            torch.testing.assert_close(seen.logits[0], outputs.logits[number, t], rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(seen.gate_logits[0], outputs.gate_logits[number, t], rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(seen.z[0], outputs.z[number, t], rtol=1e-12, atol=1e-12)
            state = seen.state
            assert state.t == seen.t == t + 1


@pytest.mark.parametrize("pooling", ["max", "average", "lstm", "attention", "none"])
@torch.no_grad()
def test_videos_do_not_see_one_another_and_states_can_be_taken_apart(pooling: str) -> None:
    model, order = small(pooling), torch.tensor([3, 0, 4, 1, 2])
    for got, wanted in zip(model(VIDEOS[order]), model(VIDEOS), strict=True):
        torch.testing.assert_close(got, wanted[order], rtol=1e-12, atol=1e-12)
    both = model.look(model.look(ExitState(), VIDEOS[:, 0]).state, VIDEOS[:, 1])
    apart = [model.look(model.look(ExitState(), VIDEOS[k : k + 1, 0]).state, VIDEOS[k : k + 1, 1]) for k in order]
    joined = ExitState.cat([seen.state for seen in apart])
    next_frames = VIDEOS[order][:, 2]
    wanted = model.look(both.state.rows(order), next_frames)
    got = model.look(joined, next_frames)
    torch.testing.assert_close(got.logits, wanted.logits, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got.scores, wanted.scores, rtol=1e-12, atol=1e-12)
    picked = model.look(joined.rows(order == 4), VIDEOS[4:, 2])
    torch.testing.assert_close(picked.scores, wanted.scores[2:3], rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_earlier_answers_do_not_depend_on_later_frames() -> None:
    model = small()
    for got, wanted in zip(model(VIDEOS[:, :2]), model(VIDEOS), strict=True):
        torch.testing.assert_close(got, wanted[:, :2], rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_one_frame_and_frames_that_are_clips() -> None:
    one = small(frames=1)
    assert [tuple(x.shape) for x in one(VIDEOS[:, :1])] == [(5, 1, 3), (5, 1), (5, 1, 6)]
    torch.manual_seed(0)
    clips = torch.randn(2, 3, 3, 4, 6, 5)
    model = FrameExit(nn.Conv3d(3, 5, (2, 3, 3)), features=5, classes=2, frames=3, hidden=4).eval()
    by_hand = model.backbone(clips[1, :1]).mean((2, 3, 4)) @ model.embed.weight.T + model.embed.bias
    torch.testing.assert_close(model(clips).z[1, 0], by_hand[0].clamp(min=0))


def test_no_gradient_of_the_gates_reaches_anything_else() -> None:
    model = small().train()
    outputs = model(VIDEOS)
    outputs.gate_logits.square().sum().backward()
    with_gradient = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {"gates"}


def moved(before: dict[str, Tensor], model: nn.Module) -> set[str]:
    return {key.split(".")[0] for key, value in model.state_dict().items() if not torch.equal(before[key], value)}


@pytest.mark.parametrize("pooling", ["max", "lstm"])
def test_each_stage_moves_its_own_numbers_alone(pooling: str) -> None:
    model = small(pooling).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    stages = TwoStages(classifiers=2, gates=2)
    rest = {"backbone", "embed", "classifiers"} | ({"pooling"} if pooling == "lstm" else set())
    for step, wanted in enumerate([rest, rest, {"gates"}, {"gates"}], start=1):
        model.eval(), model.train()  # what a validation in between does
        stages(model, step)
        before = copy.deepcopy(model.state_dict())
        loss = exit_losses(model(VIDEOS), LABELS, beta=1e-2, stage=model.stage)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert moved(before, model) == wanted
    model.set_stage("all")
    assert all(parameter.requires_grad for parameter in model.parameters())
    before = copy.deepcopy(model.state_dict())
    optimizer.zero_grad()
    exit_losses(model(VIDEOS), LABELS, beta=1e-2)["loss"].backward()
    optimizer.step()
    assert moved(before, model) == rest | {"gates"}


def test_the_second_stage_runs_the_rest_in_evaluation_mode_and_what_was_frozen_stays_so() -> None:
    model = small()
    model.backbone.conv.weight.requires_grad_(False)  # type: ignore[union-attr]
    model.set_stage("gates")
    assert not any(module.training for module in model.train().backbone.modules())
    assert model.gates.training
    norm = copy.deepcopy(model.backbone.norm.state_dict())  # type: ignore[union-attr]
    model(VIDEOS)
    assert all(torch.equal(norm[key], value) for key, value in model.backbone.norm.state_dict().items())  # type: ignore[union-attr]
    model.set_stage("classifiers")
    assert model.backbone.norm.training  # type: ignore[union-attr]
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"backbone.conv.weight"} | {name for name, _ in model.named_parameters() if name[:6] == "gates."}
    model.set_stage("all")
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {"backbone.conv.weight"}


def test_stages_and_their_rates() -> None:
    stages = TwoStages(classifiers=35, gates=10)
    assert [stages.stage(step) for step in (1, 35, 36, 45)] == ["classifiers", "classifiers", "gates", "gates"]
    rates = [round(stages.rate_factor(done), 12) for done in range(45)]
    assert rates == [1] * 16 + [0.1] * 14 + [0.01] * 5 + [1] * 5 + [0.1] * 3 + [0.01] * 2
    with pytest.raises(InputError, match="0 and 0 steps"):
        TwoStages(classifiers=0, gates=0)
    with pytest.raises(InputError, match="Sequential has 2 FrameExit in it"):
        stages(nn.Sequential(small(), small()), 1)


def test_it_can_be_planned() -> None:
    plan = make_plan(small(frames=1).float(), VIDEOS[:1, :1].float())
    assert plan.structured([1, 2, 3]) == Outputs(1, 2, 3)  # type: ignore[arg-type]


def test_wrong_requests_are_named() -> None:
    model = small()
    with pytest.raises(InputError, match=r"got videos \(5, 0, 3, 7, 6\)"):
        model(VIDEOS[:, :0])
    with pytest.raises(InputError, match="t = 1 to 4 frames"):
        model(torch.cat([VIDEOS, VIDEOS], 1))
    with pytest.raises(InputError, match="got 2 frames for 5 videos"):
        model.look(model.look(ExitState(), VIDEOS[:, 0]).state, VIDEOS[:2, 1])
    with pytest.raises(InputError, match="have seen all 4 frames"):
        model.look(ExitState(t=4), VIDEOS[:, 0])
    with pytest.raises(InputError, match=r"the backbone returned \(5, 3, 7, 6\) for 5 frames; expected \(5, 5\)"):
        FrameExit(nn.Identity(), features=5, classes=2)(VIDEOS[:, :1])
    with pytest.raises(InputError, match="FrameExit: hidden is 0"):
        FrameExit(nn.Identity(), features=5, classes=2, hidden=0)
    with pytest.raises(InputError, match="there is no order 'up'"):
        FrameExit(nn.Identity(), features=5, classes=2, order="up")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="there is no stage 'late'"):
        model.set_stage("late")  # type: ignore[arg-type]
    with pytest.raises(StateError, match=r"got states after \[0, 1\] frames"):
        ExitState.cat([ExitState(), model.look(ExitState(), VIDEOS[:, 0]).state])
    with pytest.raises(InputError, match="looked at 4 frames"):
        model.recall(model(VIDEOS), ExitState(t=4))
