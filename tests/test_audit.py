"""Audits of a stream: what they find against the dense network over all cells, what they cost, when they warn."""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from gated_networks import Block, walking
from networks import RandomNetwork, moving_square
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import saccade
from saccade import Audit, Stream
from saccade.errors import InputError, SceneWarning
from saccade.evaluate.agreement import argmax_agreement, relative_error
from saccade.stream.audit import Auditor
from saccade.stream.cones import Cells, make_cells

SIZE = (24, 30)


class Two(nn.Module):
    """Two outputs of different sizes; what a cell depends on is small."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.stem, self.one = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)
            self.two = nn.Conv2d(6, 3, 2, stride=2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x).relu()
        return {"one": self.one(x), "two": self.two(x)}


def plan_of(model: nn.Module | None = None) -> saccade.Plan:
    return saccade.make_plan(model or Two(), torch.zeros(1, 3, *SIZE))


def noisy(frames: int, *, seed: int = 0) -> list[Tensor]:
    return moving_square(frames, SIZE, seed=seed, noise=0.05)


def leaves(outputs: Any) -> list[Tensor]:
    return pytree.tree_leaves(outputs)


def costs(stream: Stream) -> tuple[int, int]:
    return stream.cost.executed_macs, stream.cost.gate_macs


# --- what an audit finds


@pytest.mark.parametrize("measure", ["relative_error", "argmax"])
def test_over_all_cells_the_estimates_are_the_error_of_the_frame(measure: str, executor: str) -> None:
    """The same frame with each of the cells audited in turn: their mean is the frame's error against a full pass."""
    plan = plan_of()
    audit = Audit(every=1, share=1 / 12, measure=measure)
    video = noisy(4)
    squares, wanted = [], None
    count = make_cells(plan, 1 / 12).count
    assert count == 12
    for cell in range(count):
        stream = Stream(plan, tolerance=0.5, executor=executor, audit=audit)
        drawn = _Drawn([cell] * 9)
        stream._auditor._random = drawn  # type: ignore[union-attr, assignment]
        for frame in video[:-1]:
            drawn.cells = [-1]  # in no cell: nothing is forced, and nothing differs
            stream(frame)
        assert stream.audit.worst == 0
        plain = Stream(plan, tolerance=0.5, executor=executor)
        for frame in video:
            got = leaves(plain(frame))
        dense = leaves(plain.full_pass(video[-1]))
        drawn.cells = [cell]
        stream(video[-1])
        squares.append(stream.audit.worst ** (2 if measure == "relative_error" else 1))
        if measure == "relative_error":
            wanted = relative_error(got, dense) ** 2
        else:
            wanted = 1 - argmax_agreement(got, dense, [1, 1])
    assert len(set(squares)) > 3
    # The norm is that of what the stream holds, off by at most the error itself.
    allowed = 2 * wanted**0.5 if measure == "relative_error" else 1e-9
    assert sum(squares) / count == pytest.approx(wanted, rel=allowed)


class _Drawn:
    """Gives the first frame of every run, and the cells it is told."""

    def __init__(self, cells: list[int]) -> None:
        self.cells = cells

    def randrange(self, count: int) -> int:
        return 0 if count == 1 else self.cells[0]


def test_a_frame_audited_whole_gives_exactly_its_error(executor: str) -> None:
    plan = plan_of()
    for measure, share in (("relative_error", 1.0), ("argmax", 1.0), (lambda got, fresh: _worst(got, fresh), 0.1)):
        stream = Stream(plan, tolerance=0.5, executor=executor, audit=Audit(every=1, measure=measure, share=share))
        video = noisy(5)
        for frame in video:
            plain = Stream(plan, tolerance=0.5, executor=executor, state=_copied(stream))
            outputs = stream(frame)
            # What the stream would have given is what a plain one with the same history gives.
            got, dense = plain(frame), plain.full_pass(frame)
            assert all(torch.equal(a, b) for a, b in zip(leaves(outputs), leaves(dense), strict=True))
            if measure == "relative_error":
                wanted = relative_error(leaves(got), leaves(dense))
            elif measure == "argmax":
                wanted = 1 - argmax_agreement(leaves(got), leaves(dense), [1, 1])
            else:
                wanted = _worst(got, dense)
            last = stream._auditor._last[-1]  # type: ignore[union-attr]
            assert (math.sqrt(last) if measure == "relative_error" else last) == pytest.approx(wanted, rel=1e-12)
        report = stream.audit
        assert (report.audits, report.frames, report.cells) == (5, 5, 1)
        assert report.worst > 0


def _worst(got: dict[str, Tensor], fresh: dict[str, Tensor]) -> float:
    assert got.keys() == fresh.keys() == {"one", "two"}
    return max(float((got[name] - fresh[name]).abs().max()) for name in got)


def _copied(stream: Stream) -> saccade.StreamState:
    """A copy of a stream's state through a file, as nothing else may share its memory."""
    import tempfile
    from pathlib import Path

    state = saccade.StreamState(stream.plan, record=stream.state.record, precision=stream.precision)
    with tempfile.TemporaryDirectory() as folder:
        stream.state.save(Path(folder) / "state")
        state.load(Path(folder) / "state")
    return state


def test_the_report_is_of_the_last_audits(executor: str) -> None:
    stream = Stream(plan_of(), tolerance=0.5, executor=executor, audit=Audit(every=1, window=4, confidence=0.9))
    assert stream.audit.audits == 0
    assert stream.audit.mean is stream.audit.low is stream.audit.high is stream.audit.worst is None
    seen = []
    for frame in noisy(9):
        stream(frame)
        seen.append(stream._auditor._last[-1])  # type: ignore[union-attr]
        report = stream.audit
        assert report.mean == pytest.approx(math.sqrt(np.mean(seen[-4:])), rel=1e-12)
        assert report.worst == pytest.approx(math.sqrt(max(seen)), rel=1e-12)
        assert 0 <= report.low <= report.mean <= report.high
    assert report.audits == report.frames == 9
    assert not report.outside
    stream.reset()
    assert stream.audit.audits == stream.audit.frames == stream.audit.macs == 0


def test_an_exact_stream_has_no_error(executor: str) -> None:
    stream = Stream(plan_of(), threshold=0, executor=executor, audit=Audit(every=2, tolerance=0.0))
    for frame in noisy(8):
        for got, wanted in zip(leaves(stream(frame)), leaves(stream.full_pass(frame)), strict=True):
            assert torch.equal(got, wanted)
    assert (stream.audit.audits, stream.audit.mean, stream.audit.low, stream.audit.outside) == (4, 0.0, 0.0, False)


def test_what_is_not_finite_is_an_error_where_it_differs() -> None:
    from saccade.stream.deviation import argmax_change, relative_square

    everywhere = [torch.tensor(True)]
    a = torch.tensor([1.0, math.inf, math.nan, 2.0])
    assert relative_square([a], [a.clone()], everywhere, cells=3) == 0
    b = torch.tensor([1.0, math.inf, math.nan, 4.0])
    assert relative_square([a], [b], everywhere, cells=3) == pytest.approx(3 * 4 / 17)
    for got in ([1.0, 5.0, math.nan, 4.0], [1.0, math.inf, 0.0, 4.0]):
        assert relative_square([torch.tensor(got)], [b], everywhere, cells=3) == math.inf
    assert relative_square([torch.ones(2)], [torch.zeros(2)], everywhere, cells=1) == math.inf
    inside = [torch.tensor([[True, False, True]])]
    got, fresh = torch.tensor([[1.0, 0, 1], [0, 1, 0]]), torch.tensor([[0.0, 1, 1], [1, 0, 0]])
    assert argmax_change([got], [fresh], inside, [0], cells=2) == pytest.approx(2 / 3)


# --- which frames are audited, and what that costs


def test_one_frame_of_every_run_is_audited_and_paid_for(executor: str) -> None:
    plan = plan_of()
    audited = Stream(plan, tolerance=0.3, executor=executor, audit=Audit(every=5, share=1 / 12, seed=3))
    video = noisy(41)
    spent, at = 0, []
    for index, frame in enumerate(video):
        before = audited.audit
        twin = Stream(plan, tolerance=0.3, executor=executor, state=_copied(audited)) if index else None
        audited(frame)
        more = audited.audit.macs - before.macs
        if audited.audit.audits > before.audits:
            at.append(index)
        if twin is not None:
            twin(frame)
            assert sum(costs(audited)) == sum(costs(twin)) + more
        total = [sum(getattr(cost, name) for cost in audited.step_costs) for name in ("executed_macs", "gate_macs")]
        assert total == list(costs(audited))
        assert audited.cost.dense_macs == plan.dense_macs
        spent += more
    assert [index // 5 for index in at] == list(range(9))[: len(at)]
    assert len(at) in (8, 9)
    assert len({index % 5 for index in at}) > 1
    assert audited.audit.macs == spent > 0
    assert audited.audit.macs_share == spent / (41 * plan.dense_macs)
    assert audited.frames == audited.audit.frames == 41


def test_an_audit_computes_its_cell_and_little_else(executor: str) -> None:
    """On a still scene: nothing changed, so what is computed is the cone, and the frame after shows the same."""
    plan = plan_of()
    cells: Cells = make_cells(plan, 1 / 12)
    stream = Stream(plan, tolerance=0.3, executor=executor, audit=Audit(every=1, share=1 / 12))
    video = noisy(2)
    for frame in video:
        stream(frame)
    for _ in range(6):
        outputs = stream(video[-1])
        drawn = [name for name, mask in stream.active.items() if mask.any() and name not in plan.inputs]
        assert drawn
        assert 0 < stream.cost.executed_macs < plan.dense_macs / 2
    quiet = Stream(plan, tolerance=0.3, executor=executor, state=_copied(stream))
    for got, wanted in zip(leaves(quiet(video[-1])), leaves(outputs), strict=True):
        assert torch.equal(got, wanted)
    assert cells.count == stream.audit.cells


def test_the_same_seed_draws_the_same_audits_and_another_seed_others() -> None:
    def where(seed: int) -> list[int]:
        stream = Stream(plan_of(), tolerance=0.3, executor="reference", audit=Audit(every=7, seed=seed))
        counts = []
        for frame in noisy(28):
            stream(frame)
            counts.append(stream.audit.audits)
        return counts

    assert where(0) == where(0)
    assert len({tuple(where(seed)) for seed in range(4)}) > 1


def test_an_audit_is_no_frame_of_the_video(executor: str) -> None:
    """Reference frames come when they would, and cost nothing more when drawn: their error is 0."""
    plan = plan_of()
    stream = Stream(plan, tolerance=0.3, reference_every=4, executor=executor, audit=Audit(every=1))
    for index, frame in enumerate(noisy(9)):
        before = stream.audit.macs
        stream(frame)
        whole = index % 4 == 0
        assert (stream.audit.macs == before) == whole
        assert stream.audit.macs - before < plan.dense_macs
        assert (stream.cost.executed_macs == plan.dense_macs) or not whole
        assert stream.frames == index + 1


def test_video_frames_are_audited_like_tensors(executor: str) -> None:
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    video = [np.clip(ground + rng.normal(0, 6, ground.shape), 0, 255).astype(np.uint8) for _ in range(6)]
    audit = Audit(every=2, share=1 / 12)
    pictures = Stream(Two(), video[0], tolerance=0.3, executor=executor, audit=audit)
    tensors = Stream(pictures.plan, tolerance=0.3, executor=executor, audit=audit)
    for frame in video:
        got, wanted = pictures(frame), tensors(pictures.preprocess(frame))  # type: ignore[misc]
        for a, b in zip(leaves(got), leaves(wanted), strict=True):
            torch.testing.assert_close(a, b)
    assert pictures.audit.audits == tensors.audit.audits == 3
    assert pictures.audit.mean == pytest.approx(tensors.audit.mean, rel=1e-3)


@pytest.mark.parametrize("form", ["residual", "refresh"])
def test_audits_of_gated_networks_open_every_gate(form: str, executor: str) -> None:
    """Nothing fires: the error grows until an audit, which makes the frame what it would be computed whole."""
    torch.manual_seed(2)
    plan = saccade.make_plan(Block(norm=True, form=form, threshold=1e6), torch.zeros(1, 3, 19, 23))
    stream = Stream(plan, executor=executor, audit=Audit(every=3, share=1.0, seed=1))
    for frame in walking(9, (1, 3, 19, 23)):
        before = stream.audit.audits
        outputs, full = stream(frame), stream.full_pass(frame)
        same = all(torch.equal(a, b) for a, b in zip(leaves(outputs), leaves(full), strict=True))
        assert same or stream.audit.audits == before
    assert stream.audit.audits == 3
    assert stream.audit.mean > 0


def test_networks_of_any_kind_can_be_audited(executor: str) -> None:
    for seed in range(5):
        plan = saccade.make_plan(RandomNetwork(seed), torch.zeros(1, 3, 13, 17))
        stream = Stream(plan, tolerance=1.0, executor=executor, audit=Audit(every=1, share=0.25))
        for frame in moving_square(4, (13, 17), seed=seed, noise=0.1):
            stream(frame)
        assert stream.audit.mean > 0


# --- when it warns


def test_a_scene_that_leaves_is_warned_of_once_and_again_when_it_leaves_again(executor: str) -> None:
    """The error is what the test says: half of what is allowed, then twice, and so again."""
    rng = np.random.default_rng(3)
    scenes = [0.05 * rng.exponential(size=50) + 0.025 for _ in range(5)]
    scenes[1] *= 4
    scenes[3] *= 4
    errors = iter(np.concatenate(scenes))
    audit = Audit(every=1, tolerance=0.1, measure=lambda got, fresh: next(errors), window=6)
    stream = Stream(plan_of(), executor=executor, audit=audit)
    frame, caught, states = noisy(1)[0], [], []
    stream(frame)  # computed whole
    for index in range(250):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            stream(frame)
        caught += [(index, warning) for warning in seen]
        states.append(stream.audit.outside)
    first, second = (index for index, _ in caught)
    assert 50 <= first < 65
    assert 150 <= second < 165
    back = [states.index(False, first), states.index(False, second)]
    assert 100 <= back[0] <= 106 + 4
    assert 200 <= back[1] <= 206 + 4
    assert states == [first <= i < back[0] or second <= i < back[1] for i in range(250)]
    assert stream.audit.alarms == 2
    warning = caught[0][1]
    assert warning.category is SceneWarning
    assert "over 0.1 (mean of the last 6" in str(warning.message)
    assert f"up to frame {first + 1}" in str(warning.message)
    assert "action='refresh'" in str(warning.message)
    assert warning.filename == __file__


def test_a_scene_is_not_back_before_a_window_of_audits_says_so() -> None:
    """A short burst raises the alarm while the mean of the window is still within the tolerance."""
    errors = iter([0.0] * 20 + [5.0] * 3 + [0.0] * 40)
    stream = Stream(
        plan_of(),
        executor="reference",
        audit=Audit(every=1, tolerance=1.0, measure=lambda got, fresh: next(errors), confidence=0.98),
    )
    frame, states, means = noisy(1)[0], [], []
    stream(frame)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SceneWarning)
        for _ in range(63):
            stream(frame)
            states.append(stream.audit.outside)
            means.append(stream.audit.mean)
    assert max(means) <= 1.0
    assert states == [22 <= index < 22 + 16 for index in range(63)]


def noisy_still(noise: float, frames: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    ground = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    return [ground + noise * torch.randn(ground.shape, generator=generator) for _ in range(frames)]


def test_refreshing_computes_the_next_frame_whole_and_sets_thresholds_anew(executor: str) -> None:
    """The light goes out: thresholds of the bright scene swallow what is left of it, until a refresh."""
    plan = plan_of()
    audit = Audit(every=1, tolerance=0.03, action="refresh", share=1 / 12)
    stream = Stream(plan, tolerance=0.2, executor=executor, audit=audit)
    bright = noisy_still(0.01, 30)
    dark = [frame * 0.2 for frame in noisy_still(0.2, 40)]
    for frame in bright:
        stream(frame)
    assert stream.audit.alarms == 0
    thresholds = {name: gate.threshold for name, gate in stream.state.gates.items()}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        while not stream.audit.alarms:
            stream(dark[stream.frames - len(bright)])
    assert ["computed whole" in str(warning.message) for warning in seen] == [True]
    assert not stream.audit.outside
    assert stream.audit.mean is None
    assert stream.audit.worst > 0.03
    stream(dark[0])
    assert stream.cost.executed_macs >= plan.dense_macs
    renewed = {name: gate.threshold for name, gate in stream.state.gates.items()}
    assert all(renewed[name] < 0.5 * thresholds[name] for name in plan.inputs)
    stream(dark[0])
    assert stream.cost.executed_macs < plan.dense_macs


def test_without_a_tolerance_audits_only_report(executor: str) -> None:
    stream = Stream(plan_of(), threshold=1e6, executor=executor, audit_every=1)
    for frame in noisy_still(1.0, 30):
        stream(frame)
    assert (stream.audit.outside, stream.audit.alarms, stream.audit.tolerance) == (False, 0, None)
    assert stream.audit.low > 0.1


def test_a_frame_that_is_refused_is_no_frame_of_the_audits(executor: str) -> None:
    stream = Stream(plan_of(), tolerance=0.3, executor=executor, audit=Audit(every=2))
    for frame in noisy(6):
        with pytest.raises(InputError, match="NaN"):
            stream(frame * math.nan)
        stream(frame)
    assert (stream.audit.frames, stream.audit.audits) == (6, 3)


# --- how it is asked for


def test_the_short_form_and_the_long() -> None:
    plan = plan_of()
    assert Stream(plan, executor="reference").audit is None
    assert Stream(plan, executor="reference", audit_every=7).audit.every == 7
    both = Stream(plan, executor="reference", audit_every=7, audit=Audit(every=3, tolerance=0.1))
    assert (both.audit.every, both.audit.tolerance) == (7, 0.1)


def test_streams_of_a_pool_are_audited_each_at_its_own_time() -> None:
    plan = plan_of()
    with saccade.StreamPool(plan, streams=3, tolerance=0.3, audit_every=6, audit=Audit(seed=4)) as pool:
        rounds = []
        for frame in noisy(24):
            pool([frame] * 3)
            rounds.append([stream.audit.audits for stream in pool.streams])
        assert rounds[-1] == [4, 4, 4]
        assert len({tuple(each) for each in zip(*rounds, strict=True)}) == 3
        single = Stream(plan, tolerance=0.3, audit=Audit(every=6, seed=6))
        for frame in noisy(24):
            single(frame)
        assert dataclasses.replace(pool.streams[2].audit) == single.audit


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "every is 0; expected a whole number"),
        ({"every": 2.5}, "every is 2.5"),
        ({"window": 0}, "window is 0"),
        ({"tolerance": -1.0}, "tolerance is -1.0"),
        ({"tolerance": math.nan}, "tolerance is nan"),
        ({"measure": "psnr"}, "measure is 'psnr'; expected relative_error or argmax"),
        ({"share": 0.0}, "share is 0.0"),
        ({"share": 1.5}, "share is 1.5"),
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"action": "stop"}, "action is 'stop'; expected warn or refresh"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Audit(**settings)


def test_a_measure_that_cannot_be_taken_is_refused() -> None:
    class Sum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum(1, keepdim=True)

    with pytest.raises(InputError, match="more than one channel"):
        Auditor(plan_of(Sum()), Audit(measure="argmax"))
    stream = Stream(plan_of(), tolerance=0.3, executor="reference", audit=Audit(every=1, measure=lambda a, b: -1.0))
    frames = noisy(2)
    stream(frames[0])
    with pytest.raises(InputError, match=r"measure gave -1\.0"):
        stream(frames[1])
    assert stream.frames == 2
