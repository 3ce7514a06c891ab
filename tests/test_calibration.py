"""Calibration from footage to a stream: sensitivities, trials, the file, the whole, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade import Audit, AuditReport, Calibration, Gate, Plan, Stream, make_plan
from saccade.calibrate.calibrate import busiest, calibrate, halves, holdout
from saccade.calibrate.footage import Block, Clip, Footage
from saccade.calibrate.measures import find_measure
from saccade.calibrate.sensitivity import channel_weights, evened
from saccade.calibrate.trial import Trial, Trials, seconds_per_mac, thinned
from saccade.errors import FileFormatError, InputError, StateError
from saccade.kernels import cpu
from saccade.stream.calibration import Holdout
from saccade.stream.dense import dense_values
from tests.small_footage import H, Net, W, clip, pictures, small_plan


@pytest.fixture(scope="module")
def plan() -> Plan:
    return small_plan()


# --- sensitivity


def test_weights_are_the_mean_square_of_the_exact_derivative(plan: Plan) -> None:
    """Against the whole Jacobian, one output value at a time."""
    x = torch.randn(1, 3, H, W, generator=torch.Generator().manual_seed(1))
    found = channel_weights(plan, [[x]], view=list, projections=400)
    assert set(found) == plan.consumed & plan.kept
    values, (output,) = dense_values(plan, [x], gradients_of=set(found))
    size = float(output.detach().square().sum())
    exact = {name: torch.zeros(plan.values[name].channels) for name in found}
    flat = output.flatten()
    for index in range(len(flat)):
        grads = torch.autograd.grad(flat[index], [values[n] for n in found], retain_graph=True, allow_unused=True)
        for name, gradient in zip(found, grads, strict=True):
            if gradient is not None:
                exact[name] += gradient.square().mean((0, 2, 3)) / size
    for name, weights in found.items():
        assert torch.allclose(weights, evened(exact[name]), rtol=0.2), name


def test_weights_foretell_what_a_small_change_does(plan: Plan) -> None:
    x = torch.randn(1, 3, H, W, generator=torch.Generator().manual_seed(1))
    found = channel_weights(plan, [[x]], view=list, projections=50)
    _, (before,) = dense_values(plan, [x])
    generator = torch.Generator().manual_seed(2)
    told, happened = 0.0, 0.0
    for _ in range(20):
        change = 1e-3 * torch.randn(x.shape, generator=generator)
        _, (after,) = dense_values(plan, [x + change])
        told += float((change.square() * found[plan.inputs[0]].reshape(1, 3, 1, 1)).sum())
        happened += float((after - before).square().sum() / before.square().sum())
    assert told == pytest.approx(happened, rel=0.15)


def test_what_nothing_depends_on_weighs_nothing() -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x) * torch.tensor([1.0, 0.0, 2.0]).reshape(1, 3, 1, 1)

    convolution = nn.Conv2d(3, 2, 1)
    nn.init.ones_(convolution.weight)
    plan = make_plan(nn.Sequential(Half(), convolution).eval(), torch.zeros(1, 3, 4, 5))
    weights = channel_weights(plan, [[torch.ones(1, 3, 4, 5)]], view=list)["input"]
    assert weights[1] == pytest.approx(0.1 * float(weights.mean()))  # but for what is shared out evenly
    assert weights[2] > weights[0] > weights[1]


def test_what_only_labels_are_made_of_stays_exact() -> None:
    """Their gradient is none; a weight of 0 would keep every change of them quiet for ever."""

    class Labelled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head, self.map = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 1), nn.Conv2d(4, 1, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = F.silu(self.body(x))
            return F.silu(self.head(x)).argmax(1), self.map(x)

    plan = make_plan(Labelled().eval(), torch.zeros(1, 3, 9, 8))
    (logits,) = [step.outputs[0] for step in plan.steps if step.source == "head"]
    x = torch.rand(1, 3, 9, 8)
    view = find_measure("relative", plan).view
    assert logits not in channel_weights(plan, [[x]], view=view)
    assert set(plan.inputs) < set(channel_weights(plan, [[x]], view=view))


# --- footage and trials


def test_footage_keeps_frames_and_what_the_dense_network_gives(plan: Plan, executor: str) -> None:
    with Footage(plan, [clip(40)], frames=40, executor=executor) as footage:
        frames = pictures(40)
        for block in (*footage.searched, *footage.heldout):
            for number in block.numbers:
                (x,) = footage.inputs(block.clip, number)
                assert plan.preprocess is not None
                assert torch.equal(x, plan.preprocess(frames[number]))
                _, (wanted,) = dense_values(plan, [x])
                assert torch.allclose(footage.outputs(block.clip, number)[0], wanted, atol=1e-5)


def test_a_trial_is_what_a_stream_gives(plan: Plan, executor: str) -> None:
    measure = find_measure("relative", plan)
    gates = {name: Gate(0.03) for name in plan.consumed & plan.kept}
    with Footage(plan, [clip(50)], frames=50, executor=executor) as footage:
        block = footage.searched[0]
        trial = Trials(footage, measure, executor=executor)(gates, [block])
        stream = Stream(plan, threshold=gates, record="reference", executor=executor)
        spent, distances = 0, []
        for number in block.numbers:
            got = stream(*footage.inputs(block.clip, number))
            if number in block.counted:
                spent += stream.cost.executed_macs + stream.cost.gate_macs
                wanted = footage.outputs(block.clip, number)[0]
                distances.append(float((got - wanted).norm() / wanted.norm()))
    assert trial.macs == spent
    assert trial.cost == pytest.approx(spent / len(distances))
    assert trial.distances == pytest.approx(distances)
    assert trial.frames == [f"made.mp4:{number}" for number in block.counted]
    assert trial.view_error == pytest.approx(np.mean(np.power(distances, 4)) ** 0.25, rel=1e-3)
    assert trial.macs_ratio == pytest.approx(plan.dense_macs * len(distances) / spent)


def test_exact_gates_are_no_distance_away(plan: Plan, executor: str) -> None:
    with Footage(plan, [clip()], frames=60, executor=executor) as footage:
        trial = Trials(footage, find_measure("relative", plan), executor=executor)({}, footage.searched)
    assert trial.worst == 0
    assert trial.view_error == 0


@pytest.mark.skipif(not cpu.native_module(), reason="there is no native engine")
def test_time_per_mac_adds_up_to_time(plan: Plan) -> None:
    with Footage(plan, [clip()], frames=60) as footage:
        each = seconds_per_mac(footage, {}, footage.searched)
        trials = Trials(footage, find_measure("relative", plan), seconds_per_mac=each)
        assert set(each) == {step.name for step in plan.steps}
        assert all(seconds >= 0 for seconds in each.values())
        assert trials({}, footage.searched).cost > 0


def test_large_maps_are_thinned_and_small_ones_left() -> None:
    small, large = torch.randn(1, 2, 9, 7), torch.randn(1, 4, 512, 1024)
    kept, thin = thinned([small, large])
    assert kept is small
    assert thin.shape[1] == 4
    assert thin.numel() < large.numel() / 4
    assert float(thin.square().mean()) == pytest.approx(float(large.square().mean()), rel=0.02)


def test_halves_of_blocks_share_no_counted_frame() -> None:
    blocks = [Block("a", 40 * i, 40 * i + 10, 40 * i + 10 + size) for i, size in enumerate((5, 6, 9, 20, 19))]
    first, second = halves(blocks)
    for block, early, late in zip(blocks, first, second, strict=True):
        assert early.lead == late.lead == block.lead
        assert early.counted
        assert late.counted
        assert not set(early.counted) & set(late.counted)
        assert set(early.counted) | set(late.counted) <= set(block.counted)


def test_the_busiest_blocks_are_those_that_cost_most(plan: Plan, executor: str) -> None:
    def frames() -> list[np.ndarray[Any, Any]]:
        still, moving = pictures(30, still=True), pictures(300)
        return [*moving[:100], *(still * 4)[:100], *moving[100:200]]

    with Footage(plan, [Clip("a", frames)], frames=300, executor=executor) as footage:
        trials = Trials(footage, find_measure("relative", plan), executor=executor)
        chosen = busiest(trials, {}, footage.searched)
        assert chosen
        assert [block for block in footage.searched if block in chosen] == chosen
        assert all(block.stop <= 100 or block.lead >= 200 for block in chosen)


# --- the file


def made(of: Plan, /, **changes: Any) -> Calibration:
    gates = {name: Gate(0.1 * i, torch.rand(of.values[name].channels)) for i, name in enumerate(sorted(of.consumed))}
    whole = Calibration(gates, of.digest, "net", "relative", 0.02, 3.5, Holdout(7, 0.01, 0.015, "a:3", 1.0))
    return replace(whole, **changes)


def test_a_calibration_goes_to_a_file_and_back(plan: Plan, tmp_path: Path) -> None:
    there = made(plan, clips=("a.mp4", "b.mp4"), record="coarse", method="adapt")
    there.save(tmp_path / "net.calibration")
    back = Calibration.load(tmp_path / "net.calibration")
    assert {n: g.threshold for n, g in back.gates.items()} == {n: g.threshold for n, g in there.gates.items()}
    for name, gate in there.gates.items():
        assert gate.weights is not None
        assert torch.equal(gate.weights, back.gates[name].weights)  # type: ignore[arg-type]
    assert replace(back, gates={}).__dict__ == replace(there, gates={}).__dict__


def test_a_stream_uses_a_calibration(plan: Plan, tmp_path: Path, executor: str) -> None:
    known = made(plan, record="coarse")
    known.save(tmp_path / "net.calibration")
    a = Stream(plan, calibration=tmp_path / "net.calibration", executor=executor)
    b = Stream(plan, threshold=known.gates, record="coarse", executor=executor)
    for frame in pictures(4):
        assert torch.equal(a(frame), b(frame))
        assert a.cost.executed_macs == b.cost.executed_macs
    assert a.state.record == "coarse"
    assert a.calibration is not None
    assert Stream(plan, calibration=known, record="accumulated").state.record == "accumulated"


def test_audits_watch_over_what_was_calibrated(plan: Plan) -> None:
    def audit_of(known: Calibration, **options: Any) -> AuditReport:
        found = Stream(plan, calibration=known, executor="reference", audit_every=3, **options).audit
        assert found is not None
        return found

    relative, labels, own = (made(plan, measure=name) for name in ("relative", "argmax", "my_measure"))
    assert (audit_of(relative).tolerance, audit_of(relative).measure) == (0.02, "relative_error")
    assert (audit_of(labels).tolerance, audit_of(labels).measure) == (0.02, "argmax")
    assert (audit_of(own).tolerance, audit_of(own).measure) == (None, "relative_error")
    assert audit_of(labels, audit=Audit(tolerance=0.5)).tolerance == 0.5
    assert audit_of(relative, audit=Audit(measure="argmax")).tolerance is None
    assert audit_of(relative, audit=Audit(action="refresh")).tolerance == 0.02
    with pytest.raises(InputError, match="from which on to refresh"):
        audit_of(own, audit=Audit(action="refresh"))


def test_calibrations_of_other_plans_and_two_gates_are_refused(plan: Plan) -> None:
    other = made(plan, plan="0" * 64, model="another")
    with pytest.raises(StateError, match=r"made for another plan \(of another\); this stream runs net"):
        Stream(plan, calibration=other)
    with pytest.raises(InputError, match="a calibration beside a threshold or tolerance"):
        Stream(plan, calibration=made(plan), tolerance=0.1)


def test_scaled_gates_keep_their_weights(plan: Plan) -> None:
    known = made(plan)
    scaled = known.scaled(2.5)
    for name, gate in known.gates.items():
        assert scaled[name].threshold == 2.5 * gate.threshold
        assert scaled[name].weights is gate.weights


def test_damaged_calibrations_are_refused(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "net.calibration"
    with pytest.raises(FileFormatError, match="there is no file"):
        Calibration.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(FileFormatError):
        Calibration.load(path)
    plan.save(path)
    with pytest.raises(FileFormatError, match="is not a saccade-calibration file"):
        Calibration.load(path)


# --- the whole


def test_calibrating_keeps_its_promise_on_frames_it_never_saw(plan: Plan, executor: str, tmp_path: Path) -> None:
    said: list[str] = []
    found = calibrate(
        plan,
        [clip(120)],
        tolerance=0.02,
        measure=find_measure("relative", plan),
        frames=120,
        minutes=0.2,
        executor=executor,
        progress=tmp_path / "x.progress",
        say=said.append,
    )
    checked = found.calibration.holdout
    assert found.kept == (checked.within_tolerance >= 0.99)
    assert found.kept
    assert found.attempts == 1  # the held-out frames are like those searched on
    assert checked.worst <= 0.02 or checked.within_tolerance < 1
    assert checked.frames >= 30
    assert found.calibration.macs_ratio > 1.1
    assert found.found <= found.guess
    assert not (tmp_path / "x.progress").exists()
    assert any("held-out" in text for text in said)
    # What it says of the held-out frames is what anybody sees who runs the stream over them.
    frames = pictures(120)
    stream = Stream(plan, calibration=found.calibration, executor=executor)
    with Footage(plan, [clip(120)], frames=120, executor=executor) as footage:
        trials = Trials(footage, find_measure("relative", plan), executor=executor)
        assert trials(found.calibration.gates, footage.searched).worst <= 0.9 * 0.02
        (last, *_) = footage.heldout
        distances = []
        for number in last.numbers:
            got = stream(frames[number])
            _, (wanted,) = dense_values(plan, footage.inputs(last.clip, number))
            if number in last.counted:
                distances.append(float((got - wanted).norm() / wanted.norm()))
    assert max(distances) <= checked.worst + 1e-5


def test_the_holdout_is_summed_up() -> None:
    trial = Trial(distances=[0.1, 0.4, 0.2, 0.3], frames=["a:1", "a:2", "b:1", "b:2"])
    assert holdout(trial, 0.2) == Holdout(4, pytest.approx(0.25), 0.4, "a:2", 0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("clips", "tolerance", "says"),
    [
        ([clip(60, still=True)], 0.01, "the footage never changes"),
        ([clip(11)], 0.01, r"made.mp4 has 11 frames; calibrating takes at least 12"),
        ([], 0.01, "no clip to calibrate on"),
        ([clip()], 0.0, "expected more than 0"),
        ([clip()], 1e-12, "cannot be met: rounding alone makes a distance of"),
    ],
)
def test_footage_and_tolerances_that_will_not_do_are_refused(
    plan: Plan, clips: list[Clip], tolerance: float, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        calibrate(plan, clips, tolerance=tolerance, measure=find_measure("relative", plan), minutes=0.01)


def test_frames_need_a_preprocess() -> None:
    plan = make_plan(Net().eval(), torch.zeros(1, 3, H, W))
    with pytest.raises(InputError, match="is a ndarray and the plan does not know"):
        Footage(plan, [clip()], frames=60)
