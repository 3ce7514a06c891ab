"""What a part of the outputs is computed from: against the rules' supports, against values, and on both executors."""

from __future__ import annotations

import random

import pytest
import torch
from drawn_networks import LAYERS, Drawn
from gated_networks import Block, walking
from networks import RandomNetwork, moving_square
from operator_cases import CASES, Case, planned
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import saccade
from saccade.kernels import cpu
from saccade.kernels.call import Call
from saccade.kernels.rule import read_everything
from saccade.kernels.table import RULES, find_rule
from saccade.masks import ValueSpec
from saccade.stream.cones import DEAREST, cone_macs, find_reads, make_cells, shared_cells

SIZES = [(13, 17), (8, 31), (7, 7)]


def single(spec: ValueSpec, index: int) -> Tensor:
    mask = spec.full_mask(False)
    mask.view(-1)[index] = True
    return mask


def relations(plan: saccade.Plan, call: Call, out: ValueSpec) -> dict[str, tuple[Tensor, Tensor]]:
    """By value a call reads: (output position, input position), as `support` and as `reads` have it."""
    rule = find_rule(call)
    assert rule is not None
    names = dict.fromkeys(call.values())
    back = [rule.reads(call, single(out, index), plan.scope, out) for index in range(out.positions)]
    nothing = {name: plan.values[name].full_mask(False) for name in names}
    found = {}
    for name in names:
        spec = plan.values[name]
        forth = [
            rule.support(call, {**nothing, name: single(spec, index)}, plan.scope, out).reshape(-1)
            for index in range(spec.positions)
        ]
        assert all(each[name].shape == spec.mask_shape for each in back)
        found[name] = torch.stack(forth, 1), torch.stack([each[name].reshape(-1) for each in back])
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_an_operator_reads_is_its_support_read_backwards(case: Case) -> None:
    _, plan, _ = planned(case)
    for step in plan.steps:
        if step.calls:
            for name, (forth, back) in relations(plan, step.calls[0], plan.values[step.outputs[0]]).items():
                assert torch.equal(forth, back), f"{step.name} of {name}"


def test_every_family_says_what_it_reads() -> None:
    assert [rule.family for rule in RULES if rule.reads is read_everything] == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_input_outside_what_is_read_moves_an_output(case: Case) -> None:
    """All other input positions are replaced: the output keeps every bit."""
    _, plan, inputs = planned(case)
    draw = random.Random(0)
    (output,) = plan.outputs
    spec = plan.values[output.name]
    stream = saccade.Stream(plan, executor="reference")
    before = stream.full_pass(*inputs)
    for _ in range(4):
        wanted = single(spec, draw.randrange(spec.positions))
        reads = find_reads(plan, {output.name: wanted})
        changed = [
            torch.where(reads[name], tensor, tensor + 1.5) if name in reads else tensor + 1.5
            for name, tensor in zip(plan.inputs, inputs, strict=True)
        ]
        after = stream.full_pass(*changed)
        where = wanted.expand(spec.shape)
        assert torch.equal(after[where], before[where])


def check_cells(plan: saccade.Plan, video: list[Tensor], executor: str, **settings: object) -> bool:
    """Forces one cell after the other: there a frame is a full pass. Returns whether another place ever was not."""
    cells = make_cells(plan, 1 / 9, dearest=1.0)
    stream = saccade.Stream(plan, executor=executor, **settings)
    strayed = False
    for index, frame in enumerate(video):
        stream(frame)
        cell = index * 5 % cells.count
        run = stream._executor.run(stream.state, [frame], stream.settings, forced=cells.cone(cell))
        full = pytree.tree_leaves(stream.full_pass(frame))
        for ref, got, wanted in zip(plan.outputs, run.outputs, full, strict=True):
            inside = (cells.labels[ref.name] == cell).expand(got.shape)
            assert torch.equal(got[inside], wanted[inside])
            strayed |= not torch.equal(got, wanted)
    return strayed


@pytest.mark.parametrize("record", ["reference", "coarse", "accumulated"])
@pytest.mark.parametrize("seed", range(6))
def test_in_a_cell_whose_cone_is_forced_a_frame_is_a_full_pass(seed: int, record: str, executor: str) -> None:
    size = SIZES[seed % 3]
    plan = saccade.make_plan(RandomNetwork(seed), torch.zeros(1, 3, *size))
    assert check_cells(plan, moving_square(6, size, seed=seed, noise=0.2), executor, tolerance=2.0, record=record)


@pytest.mark.skipif(cpu.native_module() is None, reason="there is no native engine")
@pytest.mark.parametrize("settings", [{"precision": "bfloat16"}, {"threads": 2}], ids=str)
def test_in_a_cell_at_another_precision_and_on_two_threads(settings: dict[str, object]) -> None:
    plan = saccade.make_plan(RandomNetwork(4), torch.zeros(1, 3, 13, 17))
    assert check_cells(plan, moving_square(6, (13, 17), seed=4, noise=0.2), "native", tolerance=2.0, **settings)


@pytest.mark.parametrize("seed", range(8))
def test_in_a_cell_of_any_drawn_network_too(seed: int, executor: str) -> None:
    draw = random.Random(seed)
    shape = (1, draw.choice([1, 3]), draw.randrange(1, 12), draw.randrange(4, 14))
    network = Drawn([draw.choice(list(LAYERS)) for _ in range(8)], seed, shape)
    video = [torch.rand(shape, generator=torch.Generator().manual_seed(index)) for index in range(4)]
    check_cells(saccade.make_plan(network, video[0]), video, executor, threshold=1e6)


@pytest.mark.parametrize("form", ["residual", "refresh"])
def test_in_a_cell_of_a_gated_network_every_gate_is_open(form: str, executor: str) -> None:
    torch.manual_seed(2)
    plan = saccade.make_plan(Block(norm=True, form=form, threshold=3.0), torch.zeros(1, 3, 19, 23))
    assert check_cells(plan, walking(6, (1, 3, 19, 23)), executor, tolerance=0.5)


def test_cells_part_the_outputs_and_outputs_of_several_sizes_at_the_same_places() -> None:
    class Levels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 5, 2, stride=2)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            two = self.two(x)
            return self.one(x), two, two.permute(0, 2, 3, 1).reshape(1, -1, 5), x.sum((1, 2, 3))

    plan = saccade.make_plan(Levels(), torch.zeros(1, 2, 24, 32))
    cells = make_cells(plan, 1 / 12, dearest=1.0)
    assert cells.grid == (3, 4)
    one, two, rows, alone = (cells.labels[ref.name] for ref in plan.outputs)
    assert torch.equal(one.unique(), torch.arange(12))
    assert torch.equal(one[..., ::2, ::2], two)
    for label, spec in ((one, (8, 8)), (two, (4, 4))):
        for cell in range(12):
            row, column = divmod(cell, 4)
            inside = torch.zeros_like(label)
            inside[..., row * spec[0] : (row + 1) * spec[0], column * spec[1] : (column + 1) * spec[1]] = 1
            assert torch.equal(label == cell, inside == 1)
    assert torch.equal(rows.reshape(-1), torch.arange(192) // 16)
    assert alone.tolist() == [0]


def test_a_cone_is_what_the_window_reaches_and_costs_its_positions(executor: str) -> None:
    """Two 3x3 layers, by hand: the cell, and one pixel more all round."""
    plan = saccade.make_plan(
        nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 3, padding=1)), torch.zeros(1, 1, 12, 16)
    )
    cells = make_cells(plan, 1 / 12)
    assert cells.grid == (3, 4)
    first, second = (step.outputs[0] for step in plan.steps if step.calls)
    cone = cells.cone(5)
    assert (cone[second] == (cells.labels[second] == 5)).all()
    reach = torch.zeros(1, 1, 12, 16, dtype=torch.bool)
    reach[..., 3:9, 3:9] = True
    assert torch.equal(cone[first], reach)
    macs = 36 * 2 * 9 + 16 * 2 * 9
    assert cone_macs(plan, cone) == macs
    stream = saccade.Stream(plan, threshold=1e6, executor=executor)
    frame = torch.rand(1, 1, 12, 16)
    stream(frame)
    run = stream._executor.run(stream.state, [frame], stream.settings, forced=cone)
    assert run.total.executed_macs == macs


def test_where_a_cell_depends_on_the_whole_frame_the_frame_is_one_cell() -> None:
    pooled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 5, 1))
    spread = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Upsample(size=(9, 9)))
    for network in (pooled, spread):
        plan = saccade.make_plan(network, torch.zeros(1, 3, 20, 20))
        cells = make_cells(plan, 1 / 16)
        assert cells.count == 1
        assert cone_macs(plan, cells.cone(0)) == plan.dense_macs
    plan = saccade.make_plan(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 20, 20))
    assert make_cells(plan, 1 / 16).count == 16
    assert cone_macs(plan, make_cells(plan, 1 / 16).cone(5)) <= DEAREST * plan.dense_macs
    assert make_cells(plan, 1.0).count == 1


def test_streams_of_a_plan_share_its_cells() -> None:
    plan = saccade.make_plan(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 20, 20))
    assert shared_cells(plan, 0.25) is shared_cells(plan, 0.25)
    assert shared_cells(plan, 0.25) is not shared_cells(plan, 0.5)
