"""A camera that moves, from the command line and in its benchmark."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import saccade
from benchmarks import camera
from saccade.cli.app import app


@pytest.fixture
def model(tmp_path: Path) -> str:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1))
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(network.eval(), (torch.zeros(1, 3, 48, 64),)), path)
    return str(path)


def test_a_run_follows_a_camera_and_reports_it(model: str, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    world = np.kron(draw.integers(0, 256, (12, 40, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    video = tmp_path / "pan.mkv"
    saccade.write_video(
        video, [np.ascontiguousarray(world[:, 8 * i : 8 * i + 64]) for i in range(6)], fps=10, codec="ffv1"
    )
    shares = {}
    for how in ("still", "moving"):
        done = CliRunner().invoke(
            app, ["run", str(video), "-m", model, "--tolerance", "0.1", "--camera", how, "--json", "-"]
        )
        assert done.exit_code == 0, done.output
        report = json.loads(done.stdout)
        assert report["camera"] == how
        assert report["moved_frames"] == (5 if how == "moving" else 0)
        shares[how] = sum(report["macs_fraction_per_frame"][1:])
    assert shares["moving"] < 0.5 * shares["still"]
    refused = CliRunner().invoke(app, ["run", str(video), "-m", model, "--camera", "shaky"])
    assert refused.exit_code == 2
    assert "still, moving" in refused.output


def test_explain_says_what_moves(model: str) -> None:
    told = json.loads(CliRunner().invoke(app, ["explain", "-m", model, "--json", "-"]).stdout)["camera"]
    assert told["reason"] == ""
    assert 0.8 < told["moved_macs"]["1"] < 1
    table = CliRunner().invoke(app, ["explain", "-m", model]).stdout
    assert "moving camera: of the macs move along" in " ".join(table.split())
    assert "computed whole: 3.sum (sum over the picture)" in " ".join(table.split())


def test_the_benchmark_pans_by_whole_pixels_and_counts_both_cameras() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, 2, 1))
    plan = saccade.make_plan(network, torch.zeros(1, 3, 64, 96), preprocess=saccade.Preprocess(), name="small")
    frames = list(camera.rendered("pan 8", (64, 96), 3, 1))
    assert [frame.shape for frame in frames] == [(64, 96, 3)] * 3
    moved = np.abs(frames[1][:, :80].astype(int) - frames[0][:, 8:88]).mean()
    assert moved < 0.5 * np.abs(frames[1].astype(int) - frames[0]).mean()
    row = camera.run("small", "pan 8", 4, 0.05, plan)
    assert row["frames"] == 4
    assert row["moving"]["moved_frames"] == 1.0
    assert row["still"]["moved_frames"] == 0.0
    assert row["moving"]["macs_share"] < row["still"]["macs_share"]
    assert "| small | pan 8 | 0.05 |" in camera.table([row])
    assert camera.path_of("still", 3, 0).tolist() == [[8, 8]] * 3
    assert np.abs(camera.path_of("shake", 50, 0) - 8).max() == 4
