"""Training of gates: what it reaches, what it goes on from, the budget, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gated_networks import Gated
from torch import Tensor, nn

from benchmarks.adapting import ratio_at
from saccade import Gate, Plan, Preprocess, Stream, make_plan
from saccade.adapt.adapt import adapt, starts
from saccade.adapt.budget import at_budget
from saccade.adapt.checkpoint import Checkpoint
from saccade.adapt.fit import Fit, Training
from saccade.calibrate.footage import Block, Clip, Footage
from saccade.calibrate.measures import find_measure
from saccade.calibrate.trial import Trial, Trials
from saccade.errors import InputError
from tests.small_footage import H, W, clip, pictures, small_plan

BUDGET = 0.3


@pytest.fixture(scope="module")
def plan() -> Plan:
    return small_plan()


@pytest.fixture(scope="module")
def footage(plan: Plan) -> Any:
    with Footage(plan, [clip()], frames=80) as kept:
        yield kept


def fit_of(plan: Plan, gates: Mapping[str, Gate], **options: Any) -> Fit:
    measure = find_measure("relative", plan)
    return Fit(plan, gates, budget=BUDGET, measure=measure, how=Training(**options), seed=0)


# --- training


def test_training_lowers_the_error_at_equal_macs(plan: Plan, footage: Footage) -> None:
    """From gates that are far from good: one threshold is a hundred times too large for the others."""
    trials = Trials(footage, find_measure("relative", plan))
    bad = starts(footage, trials.measure, 0)["first guess"]
    name = plan.steps[1].outputs[0]
    bad[name] = Gate(100 * bad[name].threshold, bad[name].weights)
    bad, before = at_budget(trials, bad, footage.searched, BUDGET)
    fit = fit_of(plan, bad, rate=0.1)
    for _ in range(80):
        fit.learn(footage, footage.searched)
    gates, after = at_budget(trials, fit.gates(), footage.searched, BUDGET)
    assert after.view_error < 0.8 * before.view_error
    held = [trials(at_budget(trials, g, footage.heldout, BUDGET)[0], footage.heldout) for g in (bad, gates)]
    assert held[1].view_error < 0.8 * held[0].view_error


def test_training_keeps_to_the_budget(plan: Plan, footage: Footage) -> None:
    trials = Trials(footage, find_measure("relative", plan))
    far = {
        name: Gate(3 * g.threshold, g.weights) for name, g in starts(footage, trials.measure, 0)["first guess"].items()
    }
    fit = fit_of(plan, far)
    for _ in range(150):
        fit.learn(footage, footage.searched)
    assert fit.seen["macs"] == pytest.approx(BUDGET, rel=0.2)


def test_the_gates_judged_best_are_kept_through_a_checkpoint(plan: Plan, footage: Footage, tmp_path: Path) -> None:
    gates = starts(footage, find_measure("relative", plan), 0)["first guess"]
    fit, again = fit_of(plan, gates), fit_of(plan, gates)
    seen = []
    for error in (0.3, 0.1, 0.2):
        fit.learn(footage, footage.searched)
        fit.judge(error)
        seen.append({name: gate.threshold for name, gate in fit.gates().items()})
    Checkpoint(tmp_path / "x", of=1).write(fit, 1.0)
    Checkpoint(tmp_path / "x", of=1).read(again)
    for one in (fit, again):
        assert {name: gate.threshold for name, gate in one.best().items()} == seen[1] != seen[2]
        one.judge(0.15)
        assert {name: gate.threshold for name, gate in one.best().items()} == seen[1]
        one.judge(0.05)
        assert {name: gate.threshold for name, gate in one.best().items()} == seen[2]
    fresh = fit_of(plan, gates)
    fresh.learn(footage, footage.searched)
    Checkpoint(tmp_path / "y", of=1).write(fresh, 1.0)
    Checkpoint(tmp_path / "y", of=1).read(again)
    again.learn(footage, footage.searched)
    assert {name: gate.threshold for name, gate in again.best().items()} == {
        name: gate.threshold for name, gate in again.gates().items()
    }


def test_the_same_seed_gives_the_same_gates_and_another_does_not(plan: Plan, footage: Footage) -> None:
    gates = starts(footage, find_measure("relative", plan), 0)["first guess"]
    found = []
    for seed in (0, 0, 1):
        fit = Fit(plan, gates, budget=BUDGET, measure=find_measure("relative", plan), how=Training(), seed=seed)
        fit.learn(footage, footage.searched)
        fit.learn(footage, footage.searched)
        found.append({name: gate.threshold for name, gate in fit.gates().items()})
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize("noise", [False, True])
def test_a_resumed_training_equals_an_unbroken_one_to_the_bit(
    plan: Plan, footage: Footage, tmp_path: Path, noise: bool
) -> None:
    gates = starts(footage, find_measure("relative", plan), 0)["first guess"]
    whole, first, second = (fit_of(plan, gates, noise=noise) for _ in range(3))
    for _ in range(7):
        whole.learn(footage, footage.searched)
    for _ in range(4):
        first.learn(footage, footage.searched)
    Checkpoint(tmp_path / "x.progress", of=1).write(first, 12.5)
    assert Checkpoint(tmp_path / "x.progress", of=1).read(second) == 12.5
    for _ in range(3):
        second.learn(footage, footage.searched)
    assert second.steps == 7
    assert second.seen == whole.seen
    for name, gate in whole.gates().items():
        other = second.gates()[name]
        assert gate.threshold == other.threshold
        assert torch.equal(gate.weights, other.weights)  # type: ignore[arg-type]


def test_foreign_and_damaged_checkpoints_are_as_none(plan: Plan, footage: Footage, tmp_path: Path) -> None:
    path = tmp_path / "x.progress"
    fit = fit_of(plan, starts(footage, find_measure("relative", plan), 0)["first guess"])
    assert Checkpoint(path, of=1).read(fit) == 0
    fit.learn(footage, footage.searched)
    Checkpoint(path, of=1).write(fit, 3.0)
    assert Checkpoint(path, of=2).read(fit) == 0
    path.write_bytes(path.read_bytes()[:100])
    assert Checkpoint(path, of=1).read(fit) == 0
    Checkpoint(path, of=1).close()
    assert not path.exists()
    Checkpoint(None).write(fit, 1.0)


def test_exact_gates_stay_and_gates_without_weights_learn(plan: Plan, footage: Footage) -> None:
    first, second, third = (plan.steps[index].outputs[0] for index in range(3))
    fit = fit_of(plan, {first: Gate(0.0), second: Gate(0.05), third: Gate(0.05, torch.full((6,), 0.3))})
    for _ in range(3):
        fit.learn(footage, footage.searched)
    gates = fit.gates()
    assert gates[first].threshold == 0
    assert gates[second].threshold != 0.05
    assert gates[second].weights is not None
    assert gates[second].weights.shape == (6,)
    assert not torch.equal(gates[third].weights, torch.full((6,), 0.3))  # type: ignore[arg-type]


# --- the budget


class Written:
    """Trials by formula: the share of macs is 1 / (1 + threshold), and at least some."""

    def __init__(self, least: float = 0.0) -> None:
        self.least, self.count = least, 0

    def __call__(self, gates: Mapping[str, Gate], blocks: Sequence[Block], *, distances: bool = True) -> Trial:
        self.count += 1
        share = max(self.least, 1 / (1 + gates["a"].threshold))
        return Trial(macs=int(share * 10**9), dense_macs=10**9)


@pytest.mark.parametrize("budget", [0.001, 0.25, 0.9])
@pytest.mark.parametrize("start", [1e-3, 1.0, 1e4])
def test_thresholds_are_scaled_to_the_budget(budget: float, start: float) -> None:
    trials: Any = Written()
    gates, trial = at_budget(trials, {"a": Gate(start)}, [], budget)
    assert 0.97 * budget <= trial.macs / trial.dense_macs <= budget
    assert gates["a"].threshold == pytest.approx(1 / budget - 1, rel=0.05 / (1 - budget))
    assert trials.count < 30


def test_a_budget_below_what_dense_steps_cost_is_refused_with_what_can_be() -> None:
    with pytest.raises(InputError, match=r"the budget 0.1 cannot be met.*at least 0.2 of the dense macs"):
        at_budget(Written(0.2), {"a": Gate(1.0)}, [], 0.1)  # type: ignore[arg-type]


def test_ratios_at_equal_error_are_read_off_between_scales() -> None:
    """Where macs fall as the square of the error grows, at any error of the range."""
    trials = [Trial(macs=int(10**9 / error**2), dense_macs=10**9, view_error=error) for error in (1.0, 2.0, 3.0, 5.0)]
    for error in (1.0, 1.3, 2.7, 5.0):
        assert ratio_at(trials, error) == pytest.approx(error**2, rel=1e-3)


# --- the whole


def test_adapting_keeps_its_budget_and_says_what_anybody_sees(plan: Plan, tmp_path: Path, executor: str) -> None:
    said: list[str] = []
    measure = find_measure("relative", plan)
    progress = tmp_path / "x.progress"
    found = adapt(
        plan, [clip()], budget=BUDGET, measure=measure, frames=80, steps=30, executor=executor, progress=progress,
        say=said.append,
    )  # fmt: skip
    known = found.calibration
    assert known.method == "adapt"
    assert found.steps == 30
    assert set(found.before) == {"one tolerance", "first guess"}
    assert not progress.exists()
    assert any(text.startswith("step 30: error") for text in said)
    with Footage(plan, [clip()], frames=80, executor=executor) as footage:
        trials = Trials(footage, measure, executor=executor)
        assert trials(known.gates, footage.searched).macs_ratio >= 1 / BUDGET
        seen = trials(known.gates, footage.heldout)
        assert seen.macs_ratio == known.macs_ratio == found.after.macs_ratio
        assert known.holdout.worst == pytest.approx(seen.worst)
        assert found.after.view_error == pytest.approx(seen.view_error)
    stream = Stream(plan, calibration=known, executor=executor)
    for frame in pictures(3):
        stream(frame)
    assert stream.cost.macs_fraction < 1


def test_a_stopped_run_goes_on_to_the_same_gates(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saccade.adapt.adapt.KEPT_EVERY", -1.0)
    stops_at = "never"

    def stop(text: str) -> None:
        if text.startswith(stops_at):
            raise KeyboardInterrupt

    def run(name: str) -> dict[str, float]:
        measure = find_measure("relative", plan)
        found = adapt(
            plan, [clip()], budget=BUDGET, measure=measure, frames=80, steps=6, progress=tmp_path / name, say=stop
        )
        assert found.steps == 6
        return {name: gate.threshold for name, gate in found.calibration.gates.items()}

    whole = run("a")
    stops_at = "step 4:"
    with pytest.raises(KeyboardInterrupt):
        run("b")
    stops_at = "step 1:"  # never comes again
    assert run("b") == whole
    assert list(tmp_path.iterdir()) == []


def test_a_start_is_used_and_compared_with(plan: Plan, footage: Footage) -> None:
    measure = find_measure("relative", plan)
    start = starts(footage, measure, 0)["first guess"]
    name = plan.steps[2].outputs[0]
    start[name] = replace(start[name], threshold=0.0)
    found = adapt(plan, [clip()], budget=BUDGET, measure=measure, start=start, frames=80, steps=2)
    assert set(found.before) == {"one tolerance", "first guess", "calibration"}
    if found.chosen in ("adapt", "calibration"):
        assert found.calibration.gates[name].threshold == 0
    errors = {key: checked.view_error for key, checked in found.before.items()}
    assert found.after.view_error <= 1.5 * min(errors.values())


def test_what_is_nearest_on_the_frames_trained_on_is_stored(plan: Plan, footage: Footage) -> None:
    measure = find_measure("relative", plan)
    good = starts(footage, measure, 0)["first guess"]
    name = plan.steps[1].outputs[0]
    bad = good | {name: Gate(100 * good[name].threshold, good[name].weights)}
    found = adapt(plan, [clip()], budget=BUDGET, measure=measure, start=bad, frames=80, steps=0)
    assert found.chosen not in ("adapt", "calibration")
    trials = Trials(footage, measure)
    stored = trials(found.calibration.gates, footage.searched)
    worse = trials(at_budget(trials, bad, footage.searched, BUDGET)[0], footage.searched)
    assert stored.view_error < worse.view_error


@pytest.mark.parametrize("budget", [0.0, 1.0, -1.0, math.nan, 25.0])
def test_budgets_that_are_no_share_are_refused(plan: Plan, budget: float) -> None:
    with pytest.raises(InputError, match="expected a share of the dense macs between 0 and 1"):
        adapt(plan, [clip()], budget=budget, measure=find_measure("relative", plan))


@pytest.mark.parametrize(
    ("clips", "says"),
    [
        ([clip(60, still=True)], "the footage never changes"),
        ([clip(11)], r"made.mp4 has 11 frames"),
        ([], "no clip"),
    ],
)
def test_footage_that_will_not_do_is_refused(plan: Plan, clips: list[Clip], says: str) -> None:
    with pytest.raises(InputError, match=says):
        adapt(plan, clips, budget=0.5, measure=find_measure("relative", plan), steps=1)


def test_values_without_a_derivative_stay_exact() -> None:
    """What only an argmax reads has no gradient: no gate is learnt for it, and the labels stay right."""

    class Labels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = self.a(x).relu()
            return self.b(x), self.c(x).argmax(1)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        plan = make_plan(Labels().eval(), torch.zeros(1, 3, H, W), preprocess=Preprocess(size=(H, W)))
    with Footage(plan, [clip()], frames=80) as footage:
        gates = starts(footage, find_measure("relative", plan), 0)["first guess"]
    read = {step.op: step.outputs[0] for step in plan.steps}
    assert read["conv2d"] not in gates
    assert len(gates) == 2


def test_plans_with_gates_of_their_own_are_refused() -> None:
    gated = Gated(3, 4, norm=True)
    plan = make_plan(gated.eval(), torch.zeros(1, 3, H, W), preprocess=Preprocess(size=(H, W)))
    with pytest.raises(InputError, match=r"has gated convolutions .* adapt takes networks without"):
        adapt(plan, [clip()], budget=0.5, measure=find_measure("relative", plan), steps=1)


def test_plans_without_any_derivative_are_refused() -> None:
    plan = make_plan(nn.Conv2d(3, 4, 3).eval(), torch.zeros(1, 3, H, W), preprocess=Preprocess(size=(H, W)))
    measure = replace(find_measure("relative", plan), view=lambda outputs: [x.detach() for x in outputs])
    with pytest.raises(InputError, match="nothing to learn from"):
        adapt(plan, [clip()], budget=0.5, measure=measure, steps=1)
