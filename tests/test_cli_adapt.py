"""`saccade adapt`, and `saccade run` with what it stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clips import clip

from saccade import Calibration
from tests.command_line import saccade, save_network


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with net.pt2 and clip.mp4, in which nothing of the user's own is found."""
    save_network(tmp_path / "net.pt2")
    clip(tmp_path / "clip.mp4", 40)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SACCADE_HOME", str(tmp_path / "home"))
    return tmp_path


def test_what_is_adapted_is_stored_beside_the_model_and_run_uses_it(folder: Path) -> None:
    done = saccade("adapt", "net.pt2", "clip.mp4", "--budget", "0.15", "--steps", "20", "--json", "out.json")
    assert done.exit_code == 0, done.stderr
    assert "first guess" in done.stdout
    assert 1 <= done.stderr.count("step ") <= 3  # a line per stage, not per step
    told = json.loads((folder / "out.json").read_text())
    assert told["budget"] == 0.15
    assert told["steps"] == 20
    assert told["macs_ratio"] > 4
    assert set(told["before"]) == {"one tolerance", "first guess"}
    for checked in (told, *told["before"].values()):
        assert checked["macs_ratio"] > 1
        assert set(checked["holdout"]) == {"frames", "mean", "worst", "worst_frame", "within_tolerance"}
    stored = Calibration.load(folder / "net.calibration")
    assert stored.method == "adapt"
    assert told["thresholds"] == {name: gate.threshold for name, gate in stored.gates.items()}
    assert not list(folder.glob("*.adapting"))

    ran = saccade("run", "clip.mp4", "--model", "net.pt2", "--json", "-")
    assert ran.exit_code == 0
    report = json.loads(ran.stdout)
    assert report["calibration"]["holdout"] == told["holdout"]
    assert report["threshold"] == told["thresholds"]


def test_it_starts_from_what_was_calibrated(folder: Path) -> None:
    assert saccade("calibrate", "net.pt2", "clip.mp4", "--minutes", "0.02").exit_code == 0
    done = saccade(
        "adapt", "net.pt2", "clip.mp4", "--budget", "0.2", "--steps", "2", "--start", "net.calibration",
        "--out", "other.calibration", "--json", "-",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert set(json.loads(done.stdout)["before"]) == {"one tolerance", "first guess", "calibration"}
    assert Calibration.load(folder / "net.calibration").method == "calibrate"
    assert Calibration.load(folder / "other.calibration").method == "adapt"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["net.pt2", "none.mp4"], "there is no video none.mp4"),
        (["none.pt2", "clip.mp4"], "none.pt2"),
        (["net.pt2", "clip.mp4", "clip.mp4"], "given twice"),
        (["net.pt2", "clip.mp4", "--budget", "1.5"], "a share of the dense macs between 0 and 1"),
        (["net.pt2", "clip.mp4", "--budget", "0.0001", "--steps", "0"], "cannot be met"),
        (["net.pt2", "clip.mp4", "--measure", "iou"], "there is no measure 'iou'"),
        (["net.pt2", "clip.mp4", "--start", "none.calibration"], "none.calibration"),
        (["net.pt2", "clip.mp4", "--out", "."], "is a folder"),
    ],
)
def test_what_cannot_be_is_said_and_leaves_nothing(folder: Path, arguments: list[str], says: str) -> None:
    done = saccade("adapt", *arguments)
    assert done.exit_code == 2
    assert says in done.stderr
    assert not list(folder.glob("*.calibration"))


def test_no_steps_store_the_better_of_what_there_was(folder: Path) -> None:
    done = saccade("adapt", "net.pt2", "clip.mp4", "--budget", "0.2", "--steps", "0")
    assert done.exit_code == 0
    assert "0 steps did not better what there was" in done.stderr
