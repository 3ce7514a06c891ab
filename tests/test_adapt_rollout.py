"""The change rule with gradients: forward what a stream does, backward what finite differences say."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from networks import RandomNetwork
from operator_cases import CASES, Case, planned
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from saccade import Gate, Plan, Stream, make_plan
from saccade.adapt.margins import active_margins
from saccade.adapt.rollout import Rollout, SoftGate
from saccade.calibrate.sensitivity import is_gated_by_norm
from saccade.masks import UNSET
from saccade.stream.reference import find_active

TEMPERATURE = 0.2


def soft_gates(plan: Plan, threshold: float) -> dict[str, SoftGate]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: SoftGate(
            torch.tensor(math.log(threshold), requires_grad=True),
            (torch.rand(plan.values[name].channels, generator=generator) + 0.1).requires_grad_(),
        )
        for name in sorted(plan.kept & plan.consumed)
        if is_gated_by_norm(plan, name)
    }


def moving(shape: tuple[int, ...], count: int) -> list[Tensor]:
    """Noise, and a patch that wanders."""
    generator = torch.Generator().manual_seed(1)
    ground = torch.randn(shape, generator=generator)
    frames = []
    for index in range(count):
        frame = ground + 0.02 * torch.randn(shape, generator=generator)
        frame[..., 2 + index : 7 + index, index : 5 + index] += 1.0
        frames.append(frame)
    return frames


def same(got: list[Tensor], wanted: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(got, pytree.tree_leaves(wanted), strict=True))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("threshold", [0.02, 0.3])
def test_forward_is_what_the_reference_executor_does(seed: int, threshold: float) -> None:
    network = RandomNetwork(seed).eval()
    shape = (1, 3, 19, 23)
    plan = make_plan(network, torch.zeros(shape))
    gates = soft_gates(plan, threshold)
    rollout = Rollout(plan, gates, temperature=TEMPERATURE)
    hard = {name: gate.hard() for name, gate in gates.items()}
    stream = Stream(plan, threshold=hard, executor="reference", record="reference")
    first, *others = moving(shape, 5)
    assert same(rollout.first([first]), stream(first))
    for frame in others:
        done, wanted = rollout.next([frame]), stream(frame)
        assert same(done.outputs, wanted)
        assert int(done.macs) == stream.cost.executed_macs + stream.cost.gate_macs
        assert set(done.active) == set(stream.active)
        for name, mask in stream.active.items():
            assert torch.equal(done.active[name], mask), name
        for name, margin in done.margins.items():
            off = (margin > 0) != done.announced[name]
            assert not (off & (margin.abs() > 1e-3)).any()  # a logarithm rounds where the distance is the threshold
        counts = {cost.name: cost.announced for cost in stream.step_costs}
        for step in plan.steps:
            if set(step.outputs) <= plan.consumed:
                assert sum(int(done.announced[name].sum()) for name in step.outputs) == counts[step.name]


def test_values_without_a_gate_are_exact() -> None:
    plan = make_plan(RandomNetwork(2).eval(), torch.zeros(1, 3, 19, 23))
    rollout = Rollout(plan, {}, temperature=TEMPERATURE)
    first, second = moving((1, 3, 19, 23), 2)
    rollout.first([first])
    stream = Stream(plan, executor="reference")
    assert same(rollout.next([second]).outputs, stream.full_pass(second))


class Labels(nn.Module):
    """Steps without a sparse form, of several outputs, of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.a(x).relu()
        best, where = self.b(x).flatten(2).topk(3)
        return self.b(x).argmax(1), best, where


def test_whole_numbers_and_dense_steps_follow_too() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plan = make_plan(Labels().eval(), torch.zeros(1, 3, 17, 21))
    assert any(step.form == "dense" for step in plan.steps)
    gates = soft_gates(plan, 0.1)
    rollout = Rollout(plan, gates, temperature=TEMPERATURE)
    hard = {name: gate.hard() for name, gate in gates.items()}
    stream = Stream(plan, threshold=hard, executor="reference", record="reference")
    first, *others = moving((1, 3, 17, 21), 4)
    assert same(rollout.first([first]), stream(first))
    for frame in others:
        done, wanted = rollout.next([frame]), stream(frame)
        assert same(done.outputs, wanted)
        assert int(done.macs) == stream.cost.executed_macs + stream.cost.gate_macs
    (done.outputs[1].square().sum() + done.macs / plan.dense_macs).backward()
    assert all(bool(gates[name].log.grad.isfinite()) for name in plan.inputs)  # type: ignore[union-attr]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_position_is_active_where_its_margin_is_over_0(case: Case) -> None:
    """Against the support rules, operator by operator; a margin is also one of those it was made of, or far off."""
    plan = planned(case)[1]
    generator = torch.Generator().manual_seed(3)
    for chance in (0.02, 0.3):
        masks: dict[str, Tensor] = {}
        margins: dict[str, Tensor] = {}
        for name in plan.inputs:
            drawn = torch.rand(plan.values[name].mask_shape, generator=generator)
            masks[name], margins[name] = drawn < chance, chance - drawn
        for step in plan.steps:
            if not step.calls:
                continue
            told = any(bool(masks[name].any()) for name in step.inputs)
            active = find_active(plan, step, masks, told=told, first=False)
            reached = active_margins(plan, step, margins)
            for name, mask, margin in zip(step.outputs, active, reached, strict=True):
                assert margin.shape == mask.shape
                assert torch.equal(margin > 0, mask)
                known = torch.cat([margins[source].flatten() for source in step.inputs] + [torch.tensor([UNSET, 0.0])])
                assert torch.isin(margin.flatten(), known).all()
                masks[name], margins[name] = mask, margin
        assert len(masks) == len(plan.values)


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(self.a(x).relu())
        return out


@pytest.mark.parametrize("which", ["input", "between", "both"])
def test_gradients_have_the_sign_and_size_of_finite_differences(which: str) -> None:
    """Of macs and of the error, by the thresholds, over many positions whose changes have all sizes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plan = make_plan(Two().eval(), torch.zeros(1, 2, 96, 96))
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(1, 2, 96, 96, generator=generator)
    spots = torch.rand(1, 1, 96, 96, generator=generator) < 0.02
    after = before + spots * torch.exp(2 * torch.randn(1, 1, 96, 96, generator=generator))
    wanted = Stream(plan, executor="reference").full_pass(after)
    names = [step.outputs[0] for step in plan.steps[:2]]
    moved = {"input": names[:1], "between": names[1:], "both": names}[which]

    def run(shift: float) -> tuple[Tensor, Tensor, dict[str, SoftGate]]:
        gates = soft_gates(plan, 0.7)
        for name in moved:
            gates[name] = SoftGate((gates[name].log.detach() + shift).requires_grad_(), gates[name].weights)
        rollout = Rollout(plan, gates, temperature=TEMPERATURE)
        rollout.first([before])
        done = rollout.next([after])
        return done.macs / plan.dense_macs, (done.outputs[0] - wanted).square().sum(), gates

    found = run(0.0)
    for index in (0, 1):
        gradients = torch.autograd.grad(found[index], [found[2][name].log for name in moved], retain_graph=True)
        slope = float(sum(gradients))
        differences = float((run(0.3)[index] - run(-0.3)[index]).detach() / 0.6)
        assert slope * differences > 0
        assert 0.4 < slope / differences < 2.5


def test_weights_gradients_tell_which_channel_to_listen_to() -> None:
    """A channel that changes much and matters nothing gets less weight for macs, and none of the error asks for it."""
    plan = make_plan(nn.Conv2d(2, 3, 1, bias=False).eval(), torch.zeros(1, 2, 30, 30))
    plan.weights[next(iter(plan.weights))][:, 1] = 0.0  # type: ignore[index]
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(1, 2, 30, 30, generator=generator)
    after = before + torch.randn(1, 2, 30, 30, generator=generator)
    weights = torch.ones(2, requires_grad=True)
    rollout = Rollout(plan, {"input": SoftGate(torch.tensor(0.0), weights)}, temperature=TEMPERATURE)
    rollout.first([before])
    done = rollout.next([after])
    wanted = torch.einsum("oi,nihw->nohw", plan.weights[next(iter(plan.weights))][:, :, 0, 0], after)
    (by_macs,) = torch.autograd.grad(done.macs, weights, retain_graph=True)
    (by_error,) = torch.autograd.grad((done.outputs[0] - wanted).square().sum(), weights)
    assert (by_macs > 0).all()
    assert by_error[0] < 0
    assert by_error[0] < by_error[1]


def test_drawn_announcements_are_chances_around_the_threshold() -> None:
    """With Gumbel noise a change of exactly the threshold is announced half of the time, far ones as without."""
    plan = make_plan(nn.Conv2d(1, 1, 1).eval(), torch.zeros(1, 1, 64, 64))
    gate = {"input": SoftGate(torch.tensor(math.log(0.5)), torch.ones(1))}
    rollout = Rollout(plan, gate, temperature=0.2, noise=torch.Generator().manual_seed(0))
    rollout.first([torch.zeros(1, 1, 64, 64)])
    frame = torch.full((1, 1, 64, 64), 0.5)
    frame[..., :8, :], frame[..., -8:, :] = 50.0, 0.005
    told = rollout.next([frame]).announced["input"][0, 0].float()
    assert told[:8].all()
    assert not told[-8:].any()
    assert float(told[8:-8].mean()) == pytest.approx(0.5, abs=0.05)


def test_hard_gates_are_what_streams_take() -> None:
    gate = SoftGate(torch.tensor(math.log(0.25), requires_grad=True), torch.ones(3, requires_grad=True)).hard()
    assert isinstance(gate, Gate)
    assert gate.threshold == pytest.approx(0.25)
    assert gate.weights is not None
    assert not gate.weights.requires_grad
