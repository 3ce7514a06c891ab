"""A stream followed over a video: totals, agreement with the dense network, and what cuts a run short."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from saccade.errors import DamagedVideoError, InputError, VideoError
from saccade.evaluate.agreement import (
    Course,
    Timing,
    argmax_agreement,
    largest_difference,
    relative_error,
)
from saccade.evaluate.demo import pixels_changed
from saccade.evaluate.video_run import RunReport, follow
from saccade.preprocess import Preprocess
from saccade.stream import Stream

H, W = 11, 17


def net(*, outputs: int = 4, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, outputs, 3, padding=1)
        ).eval()


def clip(frames: int, *, moving: bool = True, seed: int = 1) -> list[Tensor]:
    """A noise background on which a square moves by one pixel a frame."""
    draw = torch.Generator().manual_seed(seed)
    still = torch.rand(1, 3, H, W, generator=draw)
    result = []
    for index in range(frames):
        picture = still.clone()
        if moving:
            picture[:, :, 3:6, index % (W - 3) : index % (W - 3) + 3] = 0.5
        result.append(picture)
    return result


def stream_of(model: nn.Module, **settings: Any) -> Stream:
    return Stream(model, torch.zeros(1, 3, H, W), **settings)


def strict_json(report: RunReport) -> dict[str, Any]:
    """The report through JSON, with a parser that takes no NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    text = json.dumps(report.to_json(), allow_nan=False)
    data: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return data


# --- totals


def test_the_totals_are_those_of_the_frames() -> None:
    model, frames = net(), clip(6)
    report = follow(stream_of(model, tolerance=0.1), frames, model="net", video="clip", weights="random")
    again = stream_of(model, tolerance=0.1)
    costs = []
    for frame in frames:
        again(frame)
        costs.append(again.cost)
    assert report.frames == len(report.macs_fraction_per_frame) == 6
    assert report.dense_macs == 6 * again.plan.dense_macs
    assert report.executed_macs == sum(cost.executed_macs for cost in costs)
    assert report.gate_macs == sum(cost.gate_macs for cost in costs)
    assert report.macs_ratio == report.dense_macs / (report.executed_macs + report.gate_macs)
    assert report.macs_fraction_per_frame == [cost.macs_fraction for cost in costs]
    assert report.macs_fraction_per_frame[0] == 1.0
    assert report.state_bytes == again.state.nbytes
    assert (report.model, report.source, report.weights) == ("net", "clip", "random")
    assert (report.threshold, report.tolerance, report.record) == (None, 0.1, "coarse")
    assert (report.interrupted, report.damage, report.verify) == (False, None, None)


def test_a_still_video_costs_its_first_frame_and_the_comparison_of_the_input() -> None:
    stream = stream_of(net(), threshold=0.0)
    report = follow(stream, clip(10, moving=False))
    assert report.executed_macs == stream.plan.dense_macs
    assert report.gate_macs == 9 * 3 * H * W
    assert report.threshold == 0.0


def test_a_run_goes_on_where_another_ended() -> None:
    frames = clip(7)
    whole = follow(stream_of(net()), frames)
    stream = stream_of(net())
    parts = [follow(stream, frames[:3]), follow(stream, frames[3:])]
    assert sum(part.executed_macs for part in parts) == whole.executed_macs
    assert stream.frames == 7


def test_no_frames_is_a_report_too() -> None:
    for source, limit in (([], None), (clip(3), 0)):
        report = follow(stream_of(net()), source, frames=limit, verify=True, reference=net())
        data = strict_json(report)
        assert (report.frames, report.dense_macs, report.macs_ratio) == (0, 0, None)
        assert data["ms_per_frame"] == {"median": None, "p90": None}
        assert data["verify"]["max_abs_diff_self"] is None


def test_a_network_without_macs_divides_by_nothing() -> None:
    class Move(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, x], dim=1)

    report = follow(stream_of(Move()), clip(1))
    assert report.macs_ratio is None
    assert report.macs_fraction_per_frame == [0.0]
    strict_json(report)


def test_it_takes_no_more_frames_than_asked_for() -> None:
    taken = []

    def camera() -> Iterator[Tensor]:
        for frame in clip(9):
            taken.append(frame)
            yield frame

    assert follow(stream_of(net()), camera(), frames=4).frames == 4
    assert len(taken) == 4  # a camera would have been waited for


def test_pictures_go_through_the_preprocess_of_the_stream() -> None:
    pictures = [np.full((2 * H, 2 * W, 3), 10 * index, dtype=np.uint8) for index in range(3)]
    shown: list[Any] = []
    stream = stream_of(net(), preprocess=Preprocess(size=(H, W)))
    follow(stream, pictures, on_frame=lambda frame, outputs: shown.append((frame, outputs)))
    assert [frame is picture for (frame, _), picture in zip(shown, pictures, strict=True)] == [True] * 3
    expected = net()(torch.full((1, 3, H, W), 20 / 255))
    torch.testing.assert_close(shown[-1][1], expected)


def test_pictures_without_a_preprocess_and_other_wrong_arguments() -> None:
    picture = np.zeros((H, W, 3), dtype=np.uint8)
    with pytest.raises(InputError, match=r"got a video frame \(ndarray\), and nothing says how"):
        follow(stream_of(net()), [picture])
    with pytest.raises(InputError, match="frames is -1; expected how many"):
        follow(stream_of(net()), [], frames=-1)
    with pytest.raises(InputError, match="no reference was given"):
        follow(stream_of(net()), [], verify=True)
    with pytest.raises(InputError, match=r"outputs \[\(1, 4, 11, 17\)\], the original program \[\(1, 5, 11, 17\)\]"):
        follow(stream_of(net()), clip(1), verify=True, reference=net(outputs=5))


def test_no_field_has_gone() -> None:
    names = {field.name for field in dataclasses.fields(RunReport)}
    assert names >= {
        *(
            "frames",
            "executor",
            "dense_macs",
            "executed_macs",
            "gate_macs",
            "macs_ratio",
            "state_bytes",
            "format",
        ),
        *("macs_fraction_per_frame", "ms_per_frame", "threshold", "tolerance", "record", "model", "weights"),
        *(
            "source",
            "interrupted",
            "damage",
            "verify",
            "saccade_version",
            "torch_version",
            "threads",
            "machine",
        ),
    }


# --- agreement


def test_threshold_zero_is_exactly_the_full_pass_and_near_the_original() -> None:
    model = net()
    checked = follow(stream_of(model, threshold=0.0), clip(5), verify=True, reference=model).verify
    assert checked is not None
    assert checked.max_abs_diff_self == 0.0
    assert checked.relative_error.mean is not None
    assert checked.relative_error.mean < 1e-5  # batch norm is folded in the plan
    assert checked.argmax_agreement is not None
    assert checked.argmax_agreement.mean is not None
    assert checked.argmax_agreement.mean > 0.99


def test_a_threshold_shows_in_every_measure() -> None:
    model, frames = net(), clip(20)
    outputs: list[Tensor] = []
    stream = stream_of(model, threshold=0.3)
    report = follow(stream, frames, verify=True, reference=model, on_frame=lambda _, result: outputs.append(result))
    with torch.no_grad():
        dense = [model(frame) for frame in frames]
    own = [stream.full_pass(frame) for frame in frames]
    errors = [
        np.linalg.norm((a.double() - b.double()).numpy().ravel()) / np.linalg.norm(b.double().numpy().ravel())
        for a, b in zip(outputs, dense, strict=True)
    ]
    same = [np.mean(a.numpy().argmax(1) == b.numpy().argmax(1)) for a, b in zip(outputs, dense, strict=True)]
    checked = report.verify
    assert checked is not None
    assert checked.max_abs_diff_self == max(
        np.abs(a.double().numpy() - b.double().numpy()).max() for a, b in zip(outputs, own, strict=True)
    )
    assert checked.max_abs_diff_self > 0
    assert checked.relative_error.mean == pytest.approx(np.mean(errors), rel=1e-9)
    assert checked.relative_error.last_tenth == pytest.approx(np.mean(errors[-2:]), rel=1e-9)
    assert checked.argmax_agreement is not None
    assert checked.argmax_agreement.mean == pytest.approx(np.mean(same), rel=1e-9)
    assert checked.argmax_agreement.last_tenth == pytest.approx(np.mean(same[-2:]), rel=1e-9)


def test_one_channel_has_no_argmax_and_several_outputs_are_averaged() -> None:
    one = net(outputs=1)
    checked = follow(stream_of(one), clip(2), verify=True, reference=one).verify
    assert checked is not None
    assert checked.argmax_agreement is None

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = net()

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            y = self.body(x)
            return {"a": y, "b": y[:, :1]}

    class Turned(Two):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            y = self.body(x)
            return {"a": -y, "b": -y[:, :1]}

    checked = follow(stream_of(Two().eval()), clip(2), verify=True, reference=Turned().eval()).verify
    assert checked is not None
    assert checked.relative_error.mean == pytest.approx(2.0, rel=1e-5)
    assert checked.argmax_agreement is not None
    assert checked.argmax_agreement.mean == 0.0


def test_numbers_that_are_not_finite_become_null() -> None:
    report = follow(stream_of(net()), clip(2), verify=True, reference=lambda x: torch.full((1, 4, H, W), math.nan))
    assert strict_json(report)["verify"]["relative_error"]["mean"] is None


finite_floats = st.floats(-1e6, 1e6)


@settings(max_examples=50)
@given(st.lists(finite_floats, min_size=1, max_size=45))
def test_the_last_tenth_is_the_last_ceil_of_a_tenth(values: list[float]) -> None:
    tail = values[len(values) - (len(values) + 9) // 10 :]
    course = Course.of(list(values))
    assert course.mean == pytest.approx(float(np.mean(values)))
    assert course.last_tenth == pytest.approx(float(np.mean(tail)))


def test_courses_and_timings_leave_out_what_is_not_known() -> None:
    assert Course.of([]) == Course(None, None)
    assert Course.of([None, 2.0, None]) == Course(2.0, None)
    assert Timing.of([]) == Timing(None, None)
    assert Timing.of([3.0, 1.0, 2.0]) == Timing(2.0, pytest.approx(2.8))


def test_differences_at_the_edges() -> None:
    empty, zero, one = torch.zeros(0), torch.zeros(3), torch.ones(3)
    infinite = torch.tensor([math.inf, -math.inf, 1.0])
    assert largest_difference(empty, empty) == 0.0
    assert largest_difference(infinite, infinite) == 0.0
    assert largest_difference(infinite, zero) == math.inf
    assert math.isnan(largest_difference(torch.tensor([math.nan, 5.0]), torch.zeros(2)))
    assert largest_difference(torch.tensor([True, False]), torch.tensor([True, True])) == 1.0
    assert relative_error([zero], [zero]) == 0.0
    assert relative_error([one], [zero]) is None
    assert relative_error([one, zero], [zero, one]) == pytest.approx(math.sqrt(2))
    assert argmax_agreement([torch.zeros(1, 1, 4)], [torch.zeros(1, 1, 4)], [1]) is None
    assert argmax_agreement([torch.eye(4)[None]], [torch.eye(4)[None]], [None]) is None
    assert argmax_agreement([torch.eye(4)], [torch.eye(4).flip(0)], [1]) == 0.0
    assert argmax_agreement([torch.eye(3)], [torch.eye(3).flip(0)], [1]) == pytest.approx(1 / 3)


def test_changed_pixels_are_counted_once_whatever_their_channels() -> None:
    frames = np.zeros((3, 4, 5, 3), dtype=np.uint8)
    frames[1, 0, 0] = 255  # one pixel comes, and goes again
    frames[2, 1, 1, 2] = 8  # too little to count
    assert pixels_changed(frames) == pytest.approx(1 / 20)
    frames[2, 1, 1, 2] = 9
    assert pixels_changed(frames) == pytest.approx((1 / 20 + 2 / 20) / 2)
    assert pixels_changed(frames[:1]) is None


# --- cut short


def ending(frames: Iterable[Tensor], error: BaseException) -> Iterator[Tensor]:
    yield from frames
    raise error


def test_a_damaged_video_keeps_what_came_before() -> None:
    model = net()
    source = ending(clip(3), DamagedVideoError("x.mp4 is damaged after 3 frames"))
    report = follow(stream_of(model), source, verify=True, reference=model)
    assert (report.frames, report.damage, report.interrupted) == (3, "x.mp4 is damaged after 3 frames", False)
    assert report.executed_macs == follow(stream_of(model), clip(3)).executed_macs
    assert strict_json(report)["verify"]["max_abs_diff_self"] == 0.0


def test_a_video_damaged_from_the_start_is_a_report_and_one_that_never_was_an_error() -> None:
    assert follow(stream_of(net()), ending([], DamagedVideoError("torn"))).damage == "torn"
    with pytest.raises(VideoError, match="without a single picture"):
        follow(stream_of(net()), ending([], VideoError("a stream without a single picture")))
    assert follow(stream_of(net()), ending(clip(2), VideoError("the camera is gone"))).damage == "the camera is gone"


def test_ctrl_c_between_frames_within_one_and_while_drawing() -> None:
    report = follow(stream_of(net()), ending(clip(3), KeyboardInterrupt()))
    assert (report.frames, report.interrupted, report.damage) == (3, True, None)

    def stop(frame: Any, outputs: Any) -> None:
        raise KeyboardInterrupt

    report = follow(stream_of(net()), clip(3), on_frame=stop)
    assert (report.frames, report.interrupted) == (1, True)

    calls = []

    def slow(x: Tensor) -> Tensor:
        calls.append(x)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return net()(x)

    report = follow(stream_of(net()), clip(3), verify=True, reference=slow)
    assert (report.frames, report.interrupted) == (1, True)  # the second frame was not run to its end
    assert report.verify is not None


def test_an_error_while_drawing_is_not_damage_of_the_video() -> None:
    def full_disk(frame: Any, outputs: Any) -> None:
        raise VideoError("no space left")

    with pytest.raises(VideoError, match="no space left"):
        follow(stream_of(net()), clip(3), on_frame=full_disk)
