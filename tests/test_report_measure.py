"""What `measure_video` finds, against streams run one by one and agreement computed from kept outputs."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saccade.errors import DamagedVideoError
from saccade.evaluate import measure
from saccade.evaluate.detection import Detections, matched_f1
from saccade.evaluate.measure import Observation, measure_video
from saccade.evaluate.video_report import Point, VideoReport
from saccade.evaluate.video_run import follow
from saccade.stream import Stream
from saccade.stream.gate import Gate

H, W = 11, 17


def net(*, outputs: int = 4) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, outputs, 3, padding=1), nn.ReLU()
        ).eval()


def clip(frames: int) -> list[Tensor]:
    """Noise on which a square moves, with a little more noise in every frame."""
    draw = torch.Generator().manual_seed(1)
    still = torch.rand(1, 3, H, W, generator=draw)
    result = []
    for index in range(frames):
        picture = still + 0.02 * torch.randn(still.shape, generator=draw)
        picture[:, :, 3:6, index % (W - 3) : index % (W - 3) + 3] = 0.5
        result.append(picture)
    return result


def find(outputs: Tensor) -> list[Detections]:
    """Boxes that depend on the outputs: one pixel each, where the first channel is large."""
    rows, columns = torch.nonzero(outputs[0, 0] > outputs[0, 0].mean(), as_tuple=True)
    boxes = torch.stack([columns, rows, columns + 1, rows + 1], 1).float()
    return [Detections(boxes, torch.ones(len(boxes)), torch.zeros(len(boxes), dtype=torch.int64))]


def open_stream(model: nn.Module, executor: str, **settings: Any) -> Stream:
    return Stream(model, torch.zeros(1, 3, H, W), executor=executor, **settings)


def distance(got: list[Tensor], wanted: list[Tensor]) -> list[float]:
    return [
        float(np.linalg.norm((a.double() - b.double()).numpy()) / np.linalg.norm(b.double().numpy()))
        for a, b in zip(got, wanted, strict=True)
    ]


def labels(got: list[Tensor], wanted: list[Tensor]) -> list[float]:
    return [float(np.mean(a.numpy().argmax(1) == b.numpy().argmax(1))) for a, b in zip(got, wanted, strict=True)]


def check_point(point: Point, got: list[Tensor], wanted: list[Tensor]) -> None:
    errors, same = distance(got, wanted), labels(got, wanted)
    assert point.relative_error_mean == pytest.approx(np.mean(errors), rel=1e-9, abs=1e-15)
    assert point.relative_error_worst == pytest.approx(max(errors), rel=1e-9, abs=1e-15)
    assert point.argmax_agreement_mean == pytest.approx(np.mean(same))
    assert point.argmax_agreement_worst == pytest.approx(min(same))
    found = [find(x)[0] for x in got], [find(x)[0] for x in wanted]
    assert point.f1 == pytest.approx(matched_f1(*found))
    each = [matched_f1([a], [b]) for a, b in zip(*found, strict=True)]
    assert point.f1_worst == pytest.approx(min(each))


@pytest.mark.parametrize("settings", [{"tolerance": 0.2}, {"threshold": 0.1}, {"threshold": 0.1, "reference_every": 5}])
def test_every_point_is_what_running_it_alone_gives(executor: str, settings: dict[str, Any]) -> None:
    model, frames = net(), clip(11)
    report = measure_video(
        open_stream(model, executor, **settings),
        frames,
        reference=model,
        decode=find,
        factors=(0.0, 0.5, 3.0),
        repeats=(2, 3),
    )
    with torch.no_grad():
        dense = [model(frame) for frame in frames]
    alone = open_stream(model, executor, **settings)
    check_point(report.operating, [alone(frame) for frame in frames], dense)
    assert report.operating.macs_fraction == pytest.approx(np.mean(report.run.macs_fraction_per_frame))
    by_name = {(point.name, point.value): point for point in report.points}
    assert set(by_name) == {
        ("scale", 0.0),
        ("scale", 0.5),
        ("scale", 3.0),
        ("repeat", 2),
        ("repeat", 3),
        ("floor", 1),
    }
    for factor in (0.0, 0.5, 3.0):
        scaled = {name: value * factor for name, value in settings.items() if name != "reference_every"}
        other = {name: value for name, value in settings.items() if name == "reference_every"}
        stream = open_stream(model, executor, record=alone.state.record, **scaled, **other)
        outputs, fractions = [], []
        for frame in frames:
            outputs.append(stream(frame))
            fractions.append(stream.cost.macs_fraction)
        point = by_name["scale", factor]
        check_point(point, outputs, dense)
        assert point.macs_fraction == pytest.approx(np.mean(fractions))
    for every in (2, 3):
        point = by_name["repeat", every]
        check_point(point, [dense[i - i % every] for i in range(11)], dense)
        assert point.macs_fraction == math.ceil(11 / every) / 11
        assert point.ms is None
    floor = by_name["floor", 1]
    check_point(floor, dense[:-1], dense[1:])
    assert floor.macs_fraction is None
    costs = [by_name["scale", factor].macs_fraction or 0 for factor in (0.0, 0.5, 3.0)]
    assert costs[0] > costs[1] > costs[2]


def test_gates_of_any_origin_are_scaled_with_their_weights(executor: str) -> None:
    model, frames = net(), clip(6)
    names = list(open_stream(model, executor).plan.values)
    gates = {names[0]: Gate(0.02, torch.tensor([0.2, 0.0, 0.0])), names[1]: Gate(0.01)}
    report = measure_video(open_stream(model, executor, threshold=gates), frames, reference=model, factors=(2.0,))
    twice = {name: Gate(2 * gate.threshold, gate.weights) for name, gate in gates.items()}
    alone = open_stream(model, executor, threshold=twice)
    with torch.no_grad():
        outputs, fractions = [], []
        for frame in frames:
            outputs.append(alone(frame))
            fractions.append(alone.cost.macs_fraction)
        errors = distance(outputs, [model(frame) for frame in frames])
    point = report.points[0]
    assert point.relative_error_mean == pytest.approx(np.mean(errors), rel=1e-9)
    assert point.macs_fraction == pytest.approx(np.mean(fractions))
    assert (point.macs_fraction or 0) < (report.operating.macs_fraction or 0)
    assert isinstance(report.run.threshold, dict)


def test_thresholds_of_zero_have_no_scale_and_huge_ones_stay_numbers(executor: str) -> None:
    report = measure_video(open_stream(net(), executor), clip(3), reference=net(), repeats=())
    assert [point.name for point in report.points] == ["floor"]
    huge = measure_video(
        open_stream(net(), executor, threshold=1e308), clip(3), reference=net(), factors=(0.0, 1e9), repeats=()
    )
    first, most, _ = huge.points
    assert (first.macs_fraction or 0) > 0.5
    assert most.macs_fraction == huge.operating.macs_fraction
    assert Gate(1e308).scaled(4.0).threshold < math.inf
    assert Gate(0.0).scaled(4.0).threshold == 0


def test_steps_are_means_over_the_frames_after_the_first(executor: str) -> None:
    model, frames = net(), clip(5)
    report = measure_video(open_stream(model, executor, tolerance=0.2), frames, reference=model)
    alone = open_stream(model, executor, tolerance=0.2)
    costs = []
    for frame in frames:
        alone(frame)
        costs.append(alone.step_costs)
    assert [step.name for step in report.steps] == [step.name for step in alone.plan.steps]
    assert sum(step.macs_share for step in report.steps) == pytest.approx(1)
    assert sum(step.executed_share for step in report.steps) == pytest.approx(1)
    for place, step in enumerate(report.steps):
        later = [cost[place] for cost in costs[1:]]
        positions = sum(cost.positions for cost in later)
        assert step.active_share == pytest.approx(sum(cost.active for cost in later) / positions)
        assert step.announced_share == pytest.approx(sum(cost.announced for cost in later) / positions)
        assert step.time_share is None
    gates = alone.state.gates
    assert [step.threshold for step in report.steps] == [
        gates[step.outputs[0]].threshold if step.outputs[0] in gates else None for step in alone.plan.steps
    ]
    single = measure_video(open_stream(model, executor, tolerance=0.2), frames[:1], reference=model)
    assert all(step.active_share == 1 for step in single.steps)


def test_times_are_shared_out_where_the_engine_measures_them() -> None:
    from saccade.kernels import cpu

    if not cpu.native_module():
        pytest.skip("there is no native engine")
    report = measure_video(open_stream(net(), "native", tolerance=0.1, profile=True), clip(4), reference=net())
    assert sum(step.time_share or 0 for step in report.steps) == pytest.approx(1)


def test_every_frame_is_handed_out_with_both_results(executor: str) -> None:
    model, frames, seen = net(), clip(4), list[Observation]()
    report = measure_video(open_stream(model, executor, tolerance=0.3), frames, reference=model, observe=seen.append)
    assert [one.row for one in seen] == list(report.frames)
    assert [one.row.macs_fraction for one in seen] == report.run.macs_fraction_per_frame
    for one, frame in zip(seen, frames, strict=True):
        assert one.frame is frame
        with torch.no_grad():
            assert torch.equal(one.dense, model(frame))
        assert one.row.near.relative_error == pytest.approx(distance([one.outputs], [one.dense])[0])


def consistent(report: VideoReport) -> None:
    """A report is of the frames it has, whatever cut it short."""
    run = report.run
    assert run.frames == len(report.frames) == len(run.macs_fraction_per_frame)
    json.loads(json.dumps(report.to_json(), allow_nan=False))


def test_what_cuts_a_run_short_leaves_a_report_of_the_frames_before(executor: str) -> None:
    model = net()

    def torn() -> Any:
        yield from clip(3)
        raise DamagedVideoError("torn.mp4 is damaged")

    report = measure_video(open_stream(model, executor, tolerance=0.1), torn(), reference=model)
    consistent(report)
    assert (report.run.frames, report.run.damage) == (3, "torn.mp4 is damaged")
    for stopped_at in range(4):
        calls = itertools.count()

        def slow(x: Tensor, calls: Any = calls, stopped_at: int = stopped_at) -> Tensor:
            if next(calls) == stopped_at:
                raise KeyboardInterrupt
            return model(x)

        report = measure_video(open_stream(model, executor, tolerance=0.1), clip(6), reference=slow)
        consistent(report)
        assert (report.run.frames, report.run.interrupted) == (stopped_at, True)

    def stop(seen: Observation) -> None:
        if seen.row.index == 2:
            raise KeyboardInterrupt

    report = measure_video(open_stream(model, executor, tolerance=0.1), clip(6), reference=model, observe=stop)
    consistent(report)
    assert report.run.frames == 2


def test_a_stop_right_after_a_frame_was_measured_takes_it_back(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped_late(stream: Stream, source: Any, *, observe: Any, **given: Any) -> Any:
        calls = itertools.count()

        def observe_and_stop(*frame: Any) -> None:
            observe(*frame)
            if next(calls) == 2:
                raise KeyboardInterrupt

        return follow(stream, source, observe=observe_and_stop, **given)

    monkeypatch.setattr(measure, "follow", stopped_late)
    report = measure_video(open_stream(net(), executor, tolerance=0.1), clip(6), reference=net())
    consistent(report)
    assert report.run.frames == 2


def test_no_frame_and_results_that_are_not_finite(executor: str) -> None:
    empty = measure_video(open_stream(net(), executor, tolerance=0.1), [], reference=net(), decode=find)
    consistent(empty)
    assert empty.points == ()
    assert empty.operating.relative_error_mean is None
    nothing = measure_video(
        open_stream(net(), executor, tolerance=0.1),
        clip(2),
        reference=lambda x: torch.full((1, 4, H, W), math.nan),
    )
    consistent(nothing)
    assert math.isnan(nothing.operating.relative_error_worst or 0.0)


def test_the_run_is_the_one_follow_gives(executor: str) -> None:
    model, frames = net(), clip(5)
    report = measure_video(open_stream(model, executor, tolerance=0.1), frames, reference=model, frames=4, model="m")
    run = follow(open_stream(model, executor, tolerance=0.1), frames, frames=4, model="m")
    for name in ("frames", "executed_macs", "gate_macs", "macs_ratio", "tolerance", "record", "model"):
        assert getattr(report.run, name) == getattr(run, name)
