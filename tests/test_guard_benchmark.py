"""benchmarks.guard: what happens to the scenes, and what its figures mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import saccade
from benchmarks import guard
from saccade.preprocess import Preprocess
from saccade.zoo import LoadedModel


@pytest.mark.parametrize("name", guard.SCENES)
def test_nothing_happens_before_its_time_and_all_of_it_after(name: str) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (70, 48, 40, 3), dtype=np.uint8)
    changed = guard.SCENES[name](frames, 4, np.random.default_rng(1))
    assert changed.dtype == np.uint8
    assert changed.shape == frames.shape
    assert np.array_equal(changed[:4], frames[:4])
    same = [np.array_equal(a, b) for a, b in zip(changed[4:], frames[4:], strict=True)]
    assert all(same) if name == "nothing" else not any(same)
    last = changed[-1].astype(float)
    if name == "night falls":
        assert last.mean() == pytest.approx(0.1 * frames[-1].mean(), rel=0.05)
    if name == "fog":
        assert last.std() == pytest.approx(0.25 * frames[-1].std(), rel=0.05)
    if name == "rain":
        assert last.mean() > frames[-1].mean()
    if name == "the camera is bumped":
        assert np.array_equal(changed[-1], np.roll(frames[-1], (3, -4), (0, 1)))


def test_errors_are_of_the_frames_that_were_measured() -> None:
    assert guard.rms([3.0, None, 4.0]) == pytest.approx(12.5**0.5)
    assert guard.within([0.1, None, 0.3, 0.2], 0.2) == pytest.approx(2 / 3)


def test_a_run_gives_a_row_per_scene_and_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))
    loaded = LoadedModel("net", network, (torch.zeros(1, 3, 32, 40),), Preprocess(), "random")
    monkeypatch.setattr(guard, "load_model", lambda name: loaded)
    monkeypatch.setattr(guard, "SCENES", {"nothing": guard.SCENES["nothing"], "dark": guard.darken})
    monkeypatch.setattr(guard, "TOLERANCE", 0.3)
    result = guard.run(size=(32, 40), calibrate=6, frames=40, start=8, every=2, seeds=2)
    quiet, dark = result["rows"]
    assert result["allowed_error"] == guard.MARGIN * result["calibrated_error"]
    for row in (quiet, dark):
        assert row["audits"] == [20, 20]
        assert len(row["errors"]) == 40
        assert sum(error is None for error in row["errors"]) == 20
        assert 0 < max(row["audits_macs_share"]) < 1
    measured = [[error is None for error in row["errors"]] for row in (quiet, dark)]
    assert measured[0] == measured[1]
    told = guard.table({**result, "rows": [{**dark, "warned_at_frame": [[18], []], "warned_at_audit": [[9], []]}]})
    assert "| 10 (5); never |" in told


def test_warnings_are_placed_at_their_frame_and_audit() -> None:
    torch.manual_seed(0)
    plan = saccade.make_plan(nn.Conv2d(3, 2, 3), torch.zeros(1, 3, 16, 16), preprocess=Preprocess())
    frames = np.zeros((12, 16, 16, 3), np.uint8)
    errors = iter([0.0, 0.0, 1e9, 0.0, 0.0, 0.0])
    audit = saccade.Audit(every=2, tolerance=1.0, measure=lambda got, fresh: next(errors), seed=5)
    course = guard.follow(plan, frames, audit, measure=True)
    whole = course.errors[0] is None  # the first frame was drawn, and asks for no measure
    assert course.audits == [3 + whole]
    assert course.warned[0] // 2 == 2 + whole
    assert course.report.audits == 6
