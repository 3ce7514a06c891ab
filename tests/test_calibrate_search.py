"""The search for thresholds, on costs and errors that can be written down."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from saccade import Gate, make_plan
from saccade.calibrate.calibrate import improve
from saccade.calibrate.footage import LEAST, Block, cut
from saccade.calibrate.notes import Notes
from saccade.calibrate.search import CLOSE, Search, alike, first_guess, over
from saccade.calibrate.sensitivity import announcing_costs
from saccade.calibrate.trial import Trial
from saccade.errors import InputError

COSTS = {"a": 400.0, "b": 30.0, "c": 3.0, "d": 900.0, "e": 50.0}
ERRORS = {"a": 0.5, "b": 4.0, "c": 1.0, "d": 0.01, "e": 2.0}


class Written:
    """Trials by formula: cost = sum C / theta, squared error = sum E theta^2."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, gates: Mapping[str, Gate], blocks: Sequence[Block], *, distances: bool = True) -> Trial:
        self.count += 1
        cost = sum(COSTS[name] / gate.threshold for name, gate in gates.items())
        error = math.sqrt(sum(ERRORS[name] * gate.threshold**2 for name, gate in gates.items()))
        return Trial(cost=cost, macs=int(cost) + 1, dense_macs=10**6, distances=[error], view_error=error, seconds=1e-6)


class OneByOne(Search):
    def _groups(self, base: Trial) -> list[list[str]]:
        return [[name] for name in COSTS]


def search_of(trials: Any, minutes: float = 10.0) -> Search:
    weights = dict.fromkeys(COSTS, torch.ones(1))
    return OneByOne(trials, weights, [], [], until=time.monotonic() + 60 * minutes)


def best_cost(error: float) -> float:
    """Lagrange: C / theta^2 = 2 lambda E theta, so theta = (C / 2 lambda E)^(1/3)."""
    shape = {name: (COSTS[name] / ERRORS[name]) ** (1 / 3) for name in COSTS}
    scale = error / math.sqrt(sum(ERRORS[name] * shape[name] ** 2 for name in COSTS))
    return sum(COSTS[name] / (scale * shape[name]) for name in COSTS)


@pytest.mark.parametrize("bound", [1e-6, 0.3, 5000.0])
def test_the_largest_scale_that_is_allowed_is_found(bound: float) -> None:
    search = search_of(Written())
    found = search.largest(dict.fromkeys(COSTS, 0.0), over(bound))
    assert found is not None
    exact = math.log(bound / math.sqrt(sum(ERRORS.values())))
    assert exact - CLOSE <= found.scale <= exact
    assert search.trials.count <= 6  # type: ignore[attr-defined]
    assert found.logs["c"] == found.scale
    assert found.trial.view_error <= bound


def test_nothing_is_found_where_nothing_is_allowed() -> None:
    assert search_of(Written()).largest(dict.fromkeys(COSTS, 0.0), lambda trial: math.inf) is None


def test_a_scale_without_end_is_not_looked_for() -> None:
    class Still(Written):
        def __call__(self, *args: Any, **options: Any) -> Trial:
            trial = super().__call__(*args, **options)
            trial.macs = 0
            return trial

    trials = Still()
    assert search_of(trials).largest(dict.fromkeys(COSTS, 0.0), lambda trial: -math.inf) is not None
    assert trials.count == 1


def test_sweeps_reach_the_cost_that_can_be_written_down(tmp_path: Path) -> None:
    search = search_of(Written())
    start = search.largest(dict.fromkeys(COSTS, 0.0), over(0.1))
    assert start is not None
    least = best_cost(0.1)
    assert start.trial.cost > 1.3 * least
    best, costs = improve(search, start, Notes(tmp_path / "x.progress", of="this"))
    assert best.trial.view_error <= start.trial.view_error
    assert best.trial.cost < 1.06 * least
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] == best.trial.cost


def test_a_stopped_search_goes_on(tmp_path: Path) -> None:
    search = search_of(Written())
    start = search.largest(dict.fromkeys(COSTS, 0.0), over(0.1))
    assert start is not None
    best, costs = improve(search, start, Notes(tmp_path / "x.progress", of="this"))
    late = search_of(Written(), minutes=0.0)  # no time for a sweep of its own
    again, known = improve(late, start, Notes(tmp_path / "x.progress", of="this"))
    assert known == costs
    assert again.trial.cost < 1.05 * best.trial.cost
    other, fresh = improve(late, start, Notes(tmp_path / "x.progress", of="that"))
    assert (other, fresh) == (start, [start.trial.cost])


def test_damaged_notes_are_as_none(tmp_path: Path) -> None:
    path = tmp_path / "x.progress"
    notes = Notes(path, of=1)
    assert notes.read() is None
    notes.write({"a": 0.5}, [3.0, 2.0])
    assert Notes(path, of=1).read() == ({"a": 0.5}, [3.0, 2.0])
    assert Notes(path, of=2).read() is None
    path.write_text(path.read_text()[:20])
    assert notes.read() is None
    path.write_text('{"key": 1}')
    assert notes.read() is None
    notes.close()
    assert not path.exists()
    Notes(None).write({}, [])


class Block2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.wide(self.narrow(x).relu()).sigmoid()


def test_groups_are_of_values_alike() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), *(Block2() for _ in range(4)), nn.Conv2d(8, 1, 1)).eval()
    plan = make_plan(net, torch.zeros(1, 3, 9, 8))
    names = [name for step in plan.steps for name in step.outputs if name in plan.consumed & plan.kept]
    for most in (1, 2, 3, 5, 8, 100):
        groups = alike(plan, names, most)
        assert sorted(name for group in groups for name in group) == sorted(names)
        assert len(groups) == min(most, len(names))
        assert all(group for group in groups)
    source = {name: step.source for step in plan.steps for name in step.outputs}
    kinds = alike(plan, names, 4)  # the input, the first convolution, the narrow ones, the wide ones
    assert sorted(len(group) for group in kinds) == [1, 1, 4, 4]
    assert all(len({source[name].split(".")[-1] for name in group}) == 1 for group in kinds)
    assert all(group == sorted(group, key=names.index) for group in kinds)  # so halves are earlier and later


def test_the_first_guess_follows_what_announcing_costs() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1, stride=2)).eval()
    plan = make_plan(net, torch.zeros(1, 3, 11, 7))
    costs = announcing_costs(plan)
    first, second = plan.steps[1].outputs[0], plan.steps[2].outputs[0]
    assert costs["input"] == pytest.approx(plan.steps[1].macs / 77)
    assert costs[first] == pytest.approx(8 * 2 * 24 / 77)
    assert costs[second] == 0
    logs = first_guess(plan, {"input": torch.ones(3), first: torch.ones(8)})
    assert 2 * (logs["input"] - logs[first]) == pytest.approx(math.log(costs["input"] / costs[first]))


def test_moved_data_passes_the_cost_of_its_readers_on() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(8, 5, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.c(torch.cat([self.a(x), self.b(x)], 1))
            return out

    plan = make_plan(Joined().eval(), torch.zeros(1, 3, 5, 6))
    costs = announcing_costs(plan)
    for step in plan.steps[1:3]:
        assert costs[step.outputs[0]] == pytest.approx(8 * 5)


@pytest.mark.parametrize("lengths", [{"a": 400}, {"a": 12, "b": 13}, {"a": 1000, "b": 37, "c": 50}, {"a": 64}])
@pytest.mark.parametrize("frames", [24, 120, 2000])
def test_blocks_share_no_frame_and_held_out_ones_are_later(lengths: dict[str, int], frames: int) -> None:
    searched, heldout = cut(lengths, frames)
    for name, length in lengths.items():
        early = [block for block in searched if block.clip == name]
        late = [block for block in heldout if block.clip == name]
        numbers = [number for block in (*early, *late) for number in block.numbers]
        assert len(set(numbers)) == len(numbers)
        assert numbers == sorted(numbers)
        assert numbers[-1] < length
        assert all(len(block.counted) >= LEAST for block in (*early, *late))
        assert early
        assert late
    counted = sum(len(block.counted) for block in (*searched, *heldout))
    assert counted <= max(frames, 2 * (LEAST + 2) * len(lengths))
    assert counted >= 0.6 * sum(min(frames // len(lengths), length) for length in lengths.values())


def test_the_first_two_frames_of_a_block_do_not_count() -> None:
    block = Block("a", 3, 10, 14)
    assert block.numbers == [3, 10, 11, 12, 13]
    assert block.counted == [11, 12, 13]


def test_a_clip_too_short_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"b has 11 frames.*at least 12"):
        cut({"a": 100, "b": 11}, 50)
