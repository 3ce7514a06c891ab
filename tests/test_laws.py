"""Laws of the change rule, on random networks at awkward sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from networks import RandomNetwork, moving_square
from torch.utils import _pytree as pytree

import saccade
from saccade.kernels.table import find_rule
from saccade.kernels.window import CONVOLUTION

SIZES = [(13, 17), (8, 31), (7, 7)]
SEEDS = range(8)
RECORDS = ["reference", "coarse", "accumulated"]


def same(left: object, right: object) -> bool:
    a, b = pytree.tree_leaves(left), pytree.tree_leaves(right)
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def plan_of(seed: int, size: tuple[int, int]) -> saccade.Plan:
    return saccade.make_plan(RandomNetwork(seed), torch.zeros(1, 3, *size))


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_threshold_0_is_bit_for_bit_a_full_pass(seed: int, record: str, executor: str) -> None:
    size = SIZES[seed % len(SIZES)]
    stream = saccade.Stream(plan_of(seed, size), threshold=0, record=record, executor=executor)
    video = moving_square(5, size, seed=seed)
    video += [video[-1], video[0], video[0] * -1.0, video[1], torch.zeros(1, 3, *size)]
    for frame in video:
        assert same(stream(frame), stream.full_pass(frame))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_model_itself_gives_the_same_within_rounding(seed: int, executor: str) -> None:
    size = SIZES[seed % len(SIZES)]
    model = RandomNetwork(seed)
    stream = saccade.Stream(model, torch.zeros(1, 3, *size), threshold=0, executor=executor)
    for frame in moving_square(3, size, seed=seed):
        got, expected = stream(frame), model(frame)
        assert got.keys() == expected.keys()
        for key in expected:
            torch.testing.assert_close(got[key], expected[key])


@pytest.mark.parametrize("setting", [{"threshold": 0.0}, {"tolerance": 0.05}])
@pytest.mark.parametrize("record", RECORDS)
def test_an_unchanged_frame_costs_its_comparison_and_nothing_else(
    setting: dict[str, float], record: str, executor: str
) -> None:
    stream = saccade.Stream(plan_of(3, (13, 17)), record=record, executor=executor, **setting)
    frame = moving_square(1, (13, 17))[0]
    first = stream(frame)
    assert stream.cost.executed_macs == stream.cost.dense_macs > 0
    for _ in range(3):
        assert same(stream(frame), first)
        assert stream.cost.executed_macs == 0
        assert stream.cost.gate_macs == frame.numel()
        assert all(cost.active == 0 for cost in stream.step_costs[1:])


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_executed_macs_never_exceed_dense_macs(seed: int, record: str, executor: str) -> None:
    stream = saccade.Stream(plan_of(seed, (8, 31)), tolerance=0.02, record=record, executor=executor)
    for frame in moving_square(6, (8, 31), noise=0.3):
        stream(frame)
        assert all(0 <= cost.executed_macs <= cost.dense_macs for cost in stream.step_costs)
        assert all(0 <= cost.announced <= cost.active <= cost.positions for cost in stream.step_costs)
        assert stream.cost.dense_macs == stream.plan.dense_macs


@pytest.mark.parametrize(("record", "tolerance"), [("reference", 0.02), ("coarse", 0.02), ("accumulated", 0.3)])
def test_no_drift_over_many_noisy_frames(record: str, tolerance: float, executor: str) -> None:
    """The record stays within the threshold; a stored convolution never strays further than 2 thresholds allow."""
    size, frames = (6, 7), 3000 if executor == "native" else 1000
    model = RandomNetwork(5, blocks=1)
    stream = saccade.Stream(model, torch.zeros(1, 3, *size), tolerance=tolerance, record=record, executor=executor)
    partial = 0
    for index, frame in enumerate(moving_square(frames, size, noise=0.05)):
        stream(frame)
        partial += any(0 < cost.active < cost.positions for cost in stream.step_costs)
        if index % 50 == 49:
            check_record(stream)
            check_convolutions(stream)
    assert stream.frames == frames
    assert partial > frames / 2


def check_record(stream: saccade.Stream) -> None:
    for name, record in stream.state.records.items():
        gate, spec = stream.state.gates[name], stream.plan.values[name]
        allowed = gate.threshold * (1 + 1e-5)
        if stream.state.record == "accumulated":
            moved = record.tensor()
        else:
            told = record.tensor().double()
            difference = (stream.state.values[name].double() - told).square()
            moved = difference.mean(spec.channel_axis, keepdim=True).sqrt()
            if stream.state.record == "coarse":  # what was announced, and its copy in bfloat16, are that far apart
                allowed = allowed + told.square().mean(spec.channel_axis, keepdim=True).sqrt() / 510
        assert (moved <= allowed).all(), name


def check_convolutions(stream: saccade.Stream) -> None:
    values, plan = stream.state.values, stream.plan
    for step in plan.steps:
        call = step.calls[0] if step.calls else None
        if call is None or find_rule(call) is not CONVOLUTION or len(step.calls) > 1:
            continue
        if "transpose" in call.base or call.values()[0] not in stream.state.gates:
            continue
        weight = plan.weights[call.arguments["weight"].name]
        fresh = call.run(lambda ref: values[ref.name] if ref.kind == "value" else plan.weights[ref.name])
        # |difference| <= sum over taps of |w_tap| |d|, |d| <= 2 threshold sqrt(channels) in the euclidean norm
        source = call.values()[0]
        euclidean = 2 * stream.state.gates[source].threshold * plan.values[source].channels ** 0.5
        bound = weight.flatten(2).norm(dim=1).sum(-1) * euclidean
        moved = (values[step.outputs[0]] - fresh).abs().amax((0, 2, 3))
        assert (moved <= bound * (1 + 1e-4) + 1e-6).all(), step.name


def test_a_full_pass_is_a_fresh_stream_and_leaves_the_state_alone(executor: str) -> None:
    plan = plan_of(1, (13, 17))
    stream, other = (saccade.Stream(plan, tolerance=0.5, executor=executor) for _ in range(2))
    video = moving_square(6, (13, 17), noise=0.1)
    kept = 0
    for frame in video:
        out = stream(frame)
        full = stream.full_pass(frame)
        assert same(full, saccade.Stream(plan, executor=executor)(frame))
        assert same(out, other(frame))
        assert stream.frames == other.frames
        kept += not same(out, full)
    assert kept == len(video) - 1


def test_two_interleaved_states_equal_two_separate_ones(executor: str) -> None:
    plan = plan_of(1, (13, 17))
    videos = [moving_square(6, (13, 17), seed=seed, noise=0.02) for seed in (1, 2)]
    alone = []
    for video in videos:
        stream = saccade.Stream(plan, tolerance=0.05, executor=executor)
        alone.append([stream(frame) for frame in video])
    both = [saccade.Stream(plan, tolerance=0.05, executor=executor) for _ in videos]
    for index in range(6):
        for which, stream in enumerate(both):
            assert same(stream(videos[which][index]), alone[which][index])


@pytest.mark.parametrize("record", RECORDS)
def test_reset_equals_fresh(record: str, executor: str) -> None:
    plan = plan_of(2, (13, 17))
    video = moving_square(5, (13, 17), noise=0.02)
    used, fresh = (saccade.Stream(plan, tolerance=0.05, record=record, executor=executor) for _ in range(2))
    for frame in moving_square(3, (13, 17), seed=9):
        used(frame)
    used.reset()
    assert used.state.nbytes == 0
    for frame in video:
        assert same(used(frame), fresh(frame))
        assert used.cost.executed_macs == fresh.cost.executed_macs


@pytest.mark.parametrize("record", RECORDS)
def test_saved_and_loaded_midway_equals_uninterrupted(record: str, executor: str, tmp_path: Path) -> None:
    plan = plan_of(4, (13, 17))
    video = moving_square(8, (13, 17), noise=0.02)
    whole, part = (saccade.Stream(plan, tolerance=0.05, record=record, executor=executor) for _ in range(2))
    for frame in video[:4]:
        whole(frame)
        part(frame)
    part.state.save(tmp_path / "state")
    plan.save(tmp_path / "plan")
    resumed = saccade.Stream(saccade.Plan.load(tmp_path / "plan"), record=record, executor=executor)
    resumed.state.load(tmp_path / "state")
    assert resumed.frames == 4
    for frame in video[4:]:
        assert same(resumed(frame), whole(frame))
        assert resumed.cost.executed_macs == whole.cost.executed_macs
        assert resumed.cost.gate_macs == whole.cost.gate_macs


def test_one_changed_pixel_changes_outputs_only_inside_its_receptive_field(executor: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 5, 3, padding=2, dilation=2)
    )
    stream = saccade.Stream(model, torch.zeros(1, 3, 19, 23), executor=executor)
    frame = torch.rand(1, 3, 19, 23)
    before = stream(frame)
    changed = frame.clone()
    changed[0, 1, 9, 12] += 1
    after = stream(changed)
    differs = (before != after).any(1)[0]
    field = torch.zeros(19, 23, dtype=torch.bool)
    field[9 - 3 : 9 + 4, 12 - 3 : 12 + 4] = True
    assert differs.any()
    assert not (differs & ~field).any()


def test_memory_is_the_outputs_and_the_record() -> None:
    plan = plan_of(6, (13, 17))
    gated = [name for step in plan.steps if step.gated for name in step.outputs]
    outputs = sum(plan.values[name].numel for name in gated)
    records = {
        "reference": sum(plan.values[name].numel for name in gated if name in plan.consumed),
        "accumulated": sum(plan.values[name].positions for name in gated if name in plan.consumed),
    }
    records["coarse"] = records["reference"] / 2
    for record, extra in records.items():
        stream = saccade.Stream(plan, tolerance=0.01, record=record, executor="reference")
        for frame in moving_square(4, (13, 17), noise=5.0):  # so that every value moved, and none shares its record
            stream(frame)
        assert stream.state.nbytes == 4 * (outputs + extra)


def test_the_copy_is_coarse_by_default_where_its_rounding_is_small_beside_the_tolerance(executor: str) -> None:
    plan = plan_of(7, (13, 17))
    settings: list[dict[str, float]] = [{}, {"threshold": 0.1}, {"tolerance": 0.001}, {"tolerance": 0.01}]
    streams = [saccade.Stream(plan, executor=executor, **setting) for setting in settings]
    assert [stream.state.record for stream in streams] == ["reference", "reference", "reference", "coarse"]
    assert saccade.Stream(plan, executor=executor, tolerance=0.1, record="reference").state.record == "reference"


def test_noise_is_announced_earlier_with_accumulated_records_never_later(executor: str) -> None:
    plan = plan_of(7, (13, 17))
    video = moving_square(30, (13, 17), noise=0.01)
    macs = {}
    for record in ("reference", "accumulated"):
        stream = saccade.Stream(plan, tolerance=0.1, record=record, executor=executor)
        macs[record] = 0
        for frame in video:
            stream(frame)
            macs[record] += stream.cost.executed_macs
    assert macs["reference"] <= macs["accumulated"]


def test_the_model_is_left_as_it_was(executor: str) -> None:
    model = RandomNetwork(0).train()
    model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    stream = saccade.Stream(model, torch.zeros(1, 3, 13, 17), executor=executor)
    frame = torch.rand(1, 3, 13, 17)
    out = stream(frame)
    kept = {key: value.clone() for key, value in out.items()}
    for value in out.values():
        value.fill_(7.0)  # what a caller does with a result does not reach the state
    assert same(stream(frame), kept)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
