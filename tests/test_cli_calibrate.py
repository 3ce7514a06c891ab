"""`saccade calibrate`, and `saccade run` with what it stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from clips import clip
from torch import nn

from saccade import Calibration
from saccade.cli.stored import calibration_path
from tests.command_line import H, W, saccade, save_network


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with net.pt2 and clip.mp4, in which nothing of the user's own is found."""
    save_network(tmp_path / "net.pt2")
    clip(tmp_path / "clip.mp4", 40)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SACCADE_HOME", str(tmp_path / "home"))
    return tmp_path


def test_what_is_calibrated_is_stored_beside_the_model_and_run_uses_it(folder: Path) -> None:
    done = saccade("calibrate", "net.pt2", "clip.mp4", "--tolerance", "0.03", "--minutes", "0.1", "--json", "out.json")
    assert done.exit_code == 0, done.stderr
    told = json.loads((folder / "out.json").read_text())
    assert told["measure"] == "relative"
    assert told["tolerance"] == 0.03
    assert told["macs_ratio"] > 1
    assert set(told["holdout"]) == {"frames", "mean", "worst", "worst_frame", "within_tolerance"}
    assert told["holdout"]["frames"] > 5
    assert told["holdout"]["worst_frame"].startswith("clip.mp4:")
    assert told["search"]["after_sweeps"][-1] <= told["search"]["after_sweeps"][0]
    assert told["file"] == "net.calibration"
    stored = Calibration.load(folder / "net.calibration")
    assert told["thresholds"] == {name: gate.threshold for name, gate in stored.gates.items()}

    ran = saccade("run", "clip.mp4", "--model", "net.pt2", "--json", "-")
    assert ran.exit_code == 0
    assert "thresholds from net.calibration (relative within 0.03)" in ran.stderr
    report = json.loads(ran.stdout)
    assert report["calibration"]["tolerance"] == 0.03
    assert report["calibration"]["holdout"] == told["holdout"]
    assert report["threshold"] == told["thresholds"]
    assert report["tolerance"] is None


def test_a_tolerance_overrules_what_was_calibrated(folder: Path) -> None:
    saccade("calibrate", "net.pt2", "clip.mp4", "--minutes", "0.02", "--out", "other.calibration")
    assert not (folder / "net.calibration").exists()
    plain = json.loads(saccade("run", "clip.mp4", "--model", "net.pt2", "--json", "-").stdout)
    assert plain["tolerance"] == 0.01
    assert plain["calibration"] is None
    named = saccade("run", "clip.mp4", "--model", "net.pt2", "--calibration", "other.calibration", "--json", "-")
    assert json.loads(named.stdout)["calibration"]["measure"] == "relative"
    (folder / "other.calibration").rename(folder / "net.calibration")
    asked = json.loads(saccade("run", "clip.mp4", "--model", "net.pt2", "--threshold", "0", "--json", "-").stdout)
    assert (asked["threshold"], asked["calibration"]) == (0.0, None)
    both = saccade("run", "clip.mp4", "--model", "net.pt2", "--threshold", "0", "--calibration", "net.calibration")
    assert both.exit_code == 2
    assert "give one of them" in both.stderr


def test_a_calibration_of_another_model_is_not_used(folder: Path) -> None:
    saccade("calibrate", "net.pt2", "clip.mp4", "--minutes", "0.02")
    net = nn.Conv2d(3, 2, 3).eval()
    torch.export.save(torch.export.export(net, (torch.zeros(1, 3, H, W),)), folder / "net.pt2")
    ran = saccade("run", "clip.mp4", "--model", "net.pt2", "--json", "-")
    assert ran.exit_code == 0
    assert "it is not used" in ran.stderr
    assert json.loads(ran.stdout)["calibration"] is None


def test_models_without_a_file_keep_theirs_in_the_users_folder(folder: Path) -> None:
    assert (
        calibration_path("timm:resnet18@pretrained")
        == folder / "home/calibrations/timm-resnet18@pretrained.calibration"
    )
    assert calibration_path("net.pt2") == Path("net.calibration")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["net.pt2", "none.mp4"], "there is no video none.mp4"),
        (["none.pt2", "clip.mp4"], "none.pt2"),
        (["net.pt2", "clip.mp4", "clip.mp4"], "given twice"),
        (["net.pt2", "clip.mp4", "--minimise", "watts"], "expected macs or ms"),
        (["net.pt2", "clip.mp4", "--measure", "iou"], "there is no measure 'iou'"),
        (["net.pt2", "clip.mp4", "--tolerance", "0"], "expected more than 0"),
        (["net.pt2", "clip.mp4", "--out", "."], "is a folder"),
    ],
)
def test_what_cannot_be_is_said_and_leaves_nothing(folder: Path, arguments: list[str], says: str) -> None:
    done = saccade("calibrate", *arguments)
    assert done.exit_code == 2
    assert says in done.stderr
    assert not list(folder.glob("*.calibration"))
