"""Positions an executor is told to compute: against a loop in float64, the rule, and a full pass."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from gated_networks import Block, Gated, walking
from native_check import Before, check_frame
from networks import RandomNetwork, moving_square
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import saccade
from saccade.errors import InputError
from saccade.kernels import cpu

RECORDS = ["reference", "coarse", "accumulated"]
needs_native = pytest.mark.skipif(cpu.native_module() is None, reason="there is no native engine")


def run(stream: saccade.Stream, frame: Tensor, forced: Mapping[str, Tensor]) -> Any:
    done = stream._executor.run(stream.state, [frame], stream.settings, forced=forced)
    stream._last, stream._cost = done, done.total
    return stream.plan.structured(done.outputs)


def computed(plan: saccade.Plan) -> list[str]:
    return [name for step in plan.steps if step.gated and step.calls for name in step.outputs]


def everything(plan: saccade.Plan) -> dict[str, Tensor]:
    return {name: plan.values[name].full_mask(True) for name in computed(plan)}


def some(plan: saccade.Plan, share: float, seed: int) -> dict[str, Tensor]:
    """Random masks of two in three values, some of them empty."""
    generator = torch.Generator().manual_seed(seed)
    names = [name for index, name in enumerate(computed(plan)) if (index + seed) % 3]
    masks = {name: torch.rand(plan.values[name].mask_shape, generator=generator) < share for name in names}
    return {name: mask & (index % 4 > 0) for index, (name, mask) in enumerate(masks.items())}


def same(left: object, right: object) -> bool:
    a, b = pytree.tree_leaves(left), pytree.tree_leaves(right)
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_two_layers_by_hand(executor: str) -> None:
    """Nothing is announced: only what is forced is computed, from the values as they are now."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 4, 3, stride=2)
    stream = saccade.Stream(
        nn.Sequential(first, nn.ReLU(), second), torch.zeros(1, 2, 7, 9), threshold=1e6, executor=executor
    )
    a, b = computed(stream.plan)
    old = torch.randn(1, 2, 7, 9)
    run(stream, old, {})
    middle = F.conv2d(old.double(), first.weight.double(), first.bias.double(), padding=1).relu()
    last = F.conv2d(middle, second.weight.double(), second.bias.double(), stride=2)
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        frame = torch.randn(1, 2, 7, 9, generator=generator)
        forced = {
            a: torch.rand(1, 1, 7, 9, generator=generator) < 0.3,
            b: torch.rand(1, 1, 3, 4, generator=generator) < 0.3,
        }
        got = run(stream, frame, forced)
        fresh = F.conv2d(frame.double(), first.weight.double(), first.bias.double(), padding=1).relu()
        middle = torch.where(forced[a], fresh, middle)
        fresh = F.conv2d(middle, second.weight.double(), second.bias.double(), stride=2)
        last = torch.where(forced[b], fresh, last)
        torch.testing.assert_close(got.double(), last, rtol=0, atol=1e-5)
        costs = {cost.name: cost for cost in stream.step_costs}
        for name, count in ((a, int(forced[a].sum())), (b, int(forced[b].sum()))):
            cost = costs[name]
            assert cost.active == count
            assert cost.executed_macs == cost.dense_macs * count // cost.positions
        assert costs[a].announced == 0


def test_what_is_forced_is_announced_where_it_moved(executor: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 1, 3, padding=1, bias=False))
    with torch.no_grad():
        for layer in model:
            layer.weight.fill_(1.0)
    plan = saccade.make_plan(model, torch.zeros(1, 1, 5, 6))
    a, b = computed(plan)
    source = plan.inputs[0]
    stream = saccade.Stream(plan, threshold={source: 1.0, a: 0.25}, executor=executor)
    run(stream, torch.zeros(1, 1, 5, 6), {})
    frame = torch.full((1, 1, 5, 6), 0.5)
    frame[0, 0, :, 3:] = 0.125
    forced = torch.zeros(1, 1, 5, 6, dtype=torch.bool)
    forced[0, 0, 2, 1] = forced[0, 0, 2, 4] = True  # the first moves by 0.5, the second by 0.125
    got = run(stream, frame, {a: forced})
    told = torch.zeros(1, 1, 5, 6, dtype=torch.bool)
    told[0, 0, 1:4, 0:3] = True
    assert torch.equal(stream.active[b], told)
    assert torch.equal(got, torch.where(told, 0.5, 0.0))


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("seed", range(6))
def test_with_everything_forced_a_frame_is_a_full_pass(seed: int, record: str, executor: str) -> None:
    size = [(13, 17), (8, 31), (7, 7)][seed % 3]
    plan = saccade.make_plan(RandomNetwork(seed), torch.zeros(1, 3, *size))
    stream = saccade.Stream(plan, tolerance=2.0, record=record, executor=executor)
    strayed = False
    for index, frame in enumerate(moving_square(6, size, seed=seed, noise=0.2)):
        whole = index % 2 == 0
        got, full = run(stream, frame, everything(plan) if whole else {}), stream.full_pass(frame)
        assert not whole or same(got, full)
        strayed |= not same(got, full)
        if whole:
            assert stream.cost.executed_macs == plan.dense_macs
    assert strayed


def test_nothing_forced_changes_nothing_and_costs_nothing(executor: str) -> None:
    plan = saccade.make_plan(RandomNetwork(1), torch.zeros(1, 3, 13, 17))
    empty = {name: plan.values[name].full_mask(False) for name in computed(plan)}
    with_it, without = (saccade.Stream(plan, tolerance=0.05, executor=executor) for _ in range(2))
    video = moving_square(5, (13, 17), noise=0.02)
    for frame in [*video, video[-1]]:
        assert same(run(with_it, frame, empty), without(frame))
        costs = [
            (cost.active, cost.announced, cost.executed_macs, cost.gate_macs, cost.form)
            for stream in (with_it, without)
            for cost in stream.step_costs
        ]
        assert costs[: len(costs) // 2] == costs[len(costs) // 2 :]


@needs_native
@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("seed", range(6))
def test_the_engine_follows_the_rule_with_forced_positions(seed: int, record: str) -> None:
    size = [(13, 17), (8, 31), (7, 7)][seed % 3]
    plan = saccade.make_plan(RandomNetwork(seed), torch.zeros(1, 3, *size))
    for setting in ({"threshold": 0.0}, {"tolerance": 0.3}):
        stream = saccade.Stream(plan, record=record, executor="native", **setting)
        video = moving_square(6, size, seed=seed, noise=0.1)
        for index, frame in enumerate([*video, video[-1]]):
            before, forced = Before.of(stream), some(plan, 0.2, index)
            run(stream, frame, forced)
            check_frame(stream, before, first=index == 0, forced=forced)


@needs_native
def test_steps_that_run_in_torch_are_forced_too() -> None:
    class Sorted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cummax(x * 2.0, 3).values + 1.0

    plan = saccade.make_plan(Sorted(), torch.zeros(1, 3, 5, 6))
    outputs = []
    for name in ("native", "reference"):
        stream = saccade.Stream(plan, threshold=1e6, executor=name)
        run(stream, torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(0)), {})
        frame = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(1))
        generator = torch.Generator().manual_seed(2)
        shapes = [(value, plan.values[value].mask_shape) for value in computed(plan)]
        masks = {value: torch.rand(shape, generator=generator) < 0.7 for value, shape in shapes}
        outputs.append(run(stream, frame, masks))
        assert [int(mask.sum()) for mask in stream.active.values()][1:] == [
            int(masks[step.outputs[0]].sum()) for step in plan.steps if step.calls
        ]
    assert same(*outputs)


@pytest.mark.parametrize("block", [1, 3])
@pytest.mark.parametrize("form", ["residual", "refresh"])
@pytest.mark.parametrize("norm", [True, False])
def test_gated_convolutions_compute_forced_positions_whole(norm: bool, form: str, block: int, executor: str) -> None:
    """The gate never fires: z moves at forced positions only; in the residual form nothing is added twice."""
    torch.manual_seed(3)
    layer = Gated(3, 8, norm=norm, form=form, block=block, stride=2, threshold=1e6)
    plan = saccade.make_plan(nn.Sequential(layer, nn.ReLU()), torch.zeros(1, 3, 11, 14))
    stream = saccade.Stream(plan, executor=executor)
    (name,) = computed(plan)
    z: Tensor | None = None
    for index, frame in enumerate(walking(6, (1, 3, 11, 14))):
        forced = torch.rand(plan.values[name].mask_shape, generator=torch.Generator().manual_seed(index)) < 0.3
        got = run(stream, frame, {name: forced})
        with torch.no_grad():
            whole = F.conv2d(frame.double(), layer.weight.double(), layer.bias.double(), 2, 1)
        z = whole if z is None else torch.where(forced, whole, z)
        torch.testing.assert_close(got.double(), z.relu(), rtol=0, atol=1e-5)
        if index:
            assert torch.equal(stream.active[name], forced)
            cost = next(cost for cost in stream.step_costs if cost.name == name)
            # The convolution's macs and the activation's are cut to whole numbers apart.
            exact = cost.dense_macs * int(forced.sum()) / cost.positions
            assert exact - 2 < cost.executed_macs <= exact


@pytest.mark.parametrize("form", ["residual", "refresh"])
@pytest.mark.parametrize("norm", [True, False])
def test_gates_go_on_from_what_was_forced(norm: bool, form: str, executor: str) -> None:
    """Where a gate fires at every change, forcing changes no result; both kinds of position meet in one frame."""
    torch.manual_seed(1)
    network = Block(norm=norm, form=form, threshold=-1e6)
    plan = saccade.make_plan(network, torch.zeros(1, 3, 19, 23))
    stream = saccade.Stream(plan, executor=executor)
    for index, frame in enumerate(walking(7, (1, 3, 19, 23))):
        exact = copy.deepcopy(network).double()  # without memory: each frame is a first one
        with torch.no_grad():
            dense = exact(frame.double())
        for got, want in zip(run(stream, frame, some(plan, 0.3, index)), dense, strict=True):
            allowed = (index + 2) * 64 * torch.finfo(torch.float32).eps * float(want.abs().max())
            torch.testing.assert_close(got.double(), want, rtol=0, atol=allowed)


@pytest.mark.parametrize("form", ["residual", "refresh"])
def test_gated_networks_with_everything_forced_are_a_full_pass(form: str, executor: str) -> None:
    torch.manual_seed(2)
    network = Block(norm=True, form=form, threshold=3.0)
    plan = saccade.make_plan(network, torch.zeros(1, 3, 19, 23))
    stream = saccade.Stream(plan, tolerance=0.5, executor=executor)
    for index, frame in enumerate(walking(6, (1, 3, 19, 23))):
        got = run(stream, frame, everything(plan) if index % 2 else {})
        assert not index % 2 or same(got, stream.full_pass(frame))


def test_masks_that_do_not_fit_are_refused(executor: str) -> None:
    plan = saccade.make_plan(RandomNetwork(0), torch.zeros(1, 3, 13, 17))
    stream = saccade.Stream(plan, executor=executor)
    frame, name = torch.zeros(1, 3, 13, 17), computed(plan)[0]
    run(stream, frame, {})
    shape = plan.values[name].mask_shape
    moved = next(step.outputs[0] for step in plan.steps if not step.gated)
    for forced, message in (
        ({plan.inputs[0]: torch.ones(1, 1, 13, 17, dtype=torch.bool)}, "no step of RandomNetwork computes"),
        ({moved: plan.values[moved].full_mask(True)}, "no step of RandomNetwork computes"),
        ({"nobody": torch.ones(1, dtype=torch.bool)}, "no step of RandomNetwork computes"),
        ({name: torch.ones(shape)}, "torch.float32 mask"),
        ({name: torch.ones(*shape, 1, dtype=torch.bool)}, "expected torch.bool"),
    ):
        with pytest.raises(InputError, match=message):
            run(stream, frame, forced)
    assert stream.frames == 1
