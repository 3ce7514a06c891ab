"""Measures of agreement against their definitions, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade import Plan, make_plan
from saccade.calibrate.measures import find_measure
from saccade.errors import InputError
from saccade.evaluate.detection import Detections


def plan_of(channels: int) -> Plan:
    return make_plan(nn.Conv2d(3, channels, 1).eval(), torch.zeros(1, 3, 5, 7))


def test_relative_is_the_error_over_the_size() -> None:
    measure = find_measure("relative", plan_of(2))
    dense = torch.randn(1, 2, 5, 7)
    assert measure.distance([dense.clone()], [dense]) == 0
    assert measure.distance([dense * 1.25], [dense]) == pytest.approx(0.25)
    assert measure.distance([dense], [torch.zeros_like(dense)]) == math.inf


def test_argmax_counts_positions_one_by_one() -> None:
    measure = find_measure("argmax", plan_of(4))
    got, dense = torch.randn(1, 4, 5, 7), torch.randn(1, 4, 5, 7)
    differ = sum(
        max(range(4), key=lambda c: float(got[0, c, y, x])) != max(range(4), key=lambda c: float(dense[0, c, y, x]))
        for y in range(5)
        for x in range(7)
    )
    assert measure.distance([got], [dense]) == pytest.approx(differ / 35)
    assert torch.allclose(measure.view([dense])[0].sum(1), torch.ones(1, 5, 7))


def test_keypoints_are_as_far_as_their_maps_maxima() -> None:
    measure = find_measure("keypoints", plan_of(2))
    got, dense = torch.zeros(1, 2, 5, 7), torch.zeros(1, 2, 5, 7)
    dense[0, 0, 1, 1] = dense[0, 1, 4, 6] = 1
    got[0, 0, 4, 5] = got[0, 1, 4, 6] = 1
    assert measure.distance([got], [dense]) == pytest.approx(5 / 2)  # 3 rows and 4 columns; and 0


def boxes(count: int, score: float = 0.9) -> Detections:
    corners = torch.tensor([[10.0 * i, 0.0, 10.0 * i + 8, 8.0] for i in range(count)]).reshape(count, 4)
    return Detections(corners, torch.full((count,), score), torch.zeros(count, dtype=torch.int64))


def test_detections_are_paired_and_faint_ones_left_out() -> None:
    def decode(outputs: Tensor) -> list[Detections]:
        return [boxes(int(outputs[0, 0, 0, 0])), boxes(3, 0.29)]

    measure = find_measure("detections", plan_of(1), decode=decode)
    three, two = torch.full((1, 1, 5, 7), 3.0), torch.full((1, 1, 5, 7), 2.0)
    assert measure.distance([three], [three]) == 0
    assert measure.distance([two], [three]) == pytest.approx(1 - 4 / 5)


def test_a_function_gets_the_models_own_structure() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"sum": x + 1, "twice": 2 * x}

    plan = make_plan(Two().eval(), torch.zeros(1, 3, 5, 7))
    outputs = [torch.full((1, 3, 5, 7), float(i)) for i in range(2)]
    names = list(plan.structured(outputs))

    def largest(got: Any, dense: Any) -> float:
        assert list(got) == ["sum", "twice"]
        return float(max((got[name] - dense[name]).abs().max() for name in got))

    measure = find_measure(largest, plan)
    assert (measure.name, names) == ("largest", ["sum", "twice"])
    assert measure.distance(outputs, [torch.zeros(1, 3, 5, 7)] * 2) == 1.0


@pytest.mark.parametrize("result", [-0.1, math.nan])
def test_a_functions_number_is_checked(result: float) -> None:
    with pytest.raises(InputError, match="expected a number of at least 0"):
        find_measure(lambda got, dense: result, plan_of(1)).distance([torch.ones(1)], [torch.ones(1)])


def test_a_functions_error_says_what_it_was_given() -> None:
    def broken(got: Any, dense: Any) -> float:
        return float(got["boxes"])

    with pytest.raises(InputError, match=r"broken failed on the outputs \[\(1, 1, 5, 7\)\]"):
        find_measure(broken, plan_of(1)).distance([torch.zeros(1, 1, 5, 7)] * 1, [torch.zeros(1, 1, 5, 7)])


def test_functions_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_measures.py").write_text("def half(got, dense):\n    return 0.5\nnumber = 3\n")
    monkeypatch.chdir(tmp_path)
    assert find_measure("own_measures:half", plan_of(1)).distance([torch.ones(1)], [torch.ones(1)]) == 0.5
    with pytest.raises(InputError, match="is a int, not a function"):
        find_measure("own_measures:number", plan_of(1))
    with pytest.raises(InputError, match="has no 'hald'; did you mean half"):
        find_measure("own_measures:hald", plan_of(1))
    with pytest.raises(InputError, match="there is no module 'no_such_module'"):
        find_measure("no_such_module:nothing", plan_of(1))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("argmax", r"more than one channel; the outputs are \[\(1, 1, 5, 7\)\]"),
        ("detections", "says how its outputs become boxes"),
        ("iou", "there is no measure 'iou'; expected one of relative, argmax"),
    ],
)
def test_measures_that_do_not_fit_are_refused(name: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        find_measure(name, plan_of(1))


def test_keypoints_need_maps() -> None:
    plan = make_plan(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).eval(), torch.zeros(1, 3, 2, 2))
    with pytest.raises(InputError, match=r"needs one output of maps .*\[\(1, 4\)\]"):
        find_measure("keypoints", plan)
