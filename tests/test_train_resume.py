"""A training that is killed or stopped, and resumed, ends as if nothing had happened: through the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from saccade.cli.app import app
from saccade.train import read_weights

TOY = str(Path(__file__).parent / "toy_recipe.py")
FILES = ("weights.safetensors", "log.csv")


def in_a_process(folder: Path, signal_at: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, TOY, "train", TOY, "--out", str(folder), "--accelerator", "cpu", *options]
    environment = {**os.environ, "TOY_SIGNAL": signal_at, "PYTHONPATH": str(Path(TOY).parent.parent)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=200)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("straight")
    assert CliRunner().invoke(app, ["train", TOY, "--out", str(folder), "--accelerator", "cpu"]).exit_code == 0
    return [(folder / name).read_bytes() for name in FILES]


def test_killed_in_the_middle_of_a_step(tmp_path: Path, straight: list[bytes]) -> None:
    """The kill comes in step 15, after rows the checkpoint of step 8 does not have, and again in step 16."""
    for at in (15, 16):
        ended = in_a_process(tmp_path, f"SIGKILL:{at}:0", "--workers", "2")
        assert ended.returncode == -signal.SIGKILL
        assert read_weights(tmp_path).step == 8
        assert (tmp_path / "log.csv").read_text().splitlines()[-1].startswith(("14,", "15,"))
    done = CliRunner().invoke(app, ["train", TOY, "--out", str(tmp_path), "--accelerator", "cpu"])
    assert done.exit_code == 0
    assert "going on after step 8" in done.stderr
    assert [(tmp_path / name).read_bytes() for name in FILES] == straight


def test_sigterm_ends_the_step_and_leaves_a_checkpoint(tmp_path: Path, straight: list[bytes]) -> None:
    ended = in_a_process(tmp_path, "SIGTERM:10:0")
    assert ended.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step 10 of 24; the same command goes on" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert read_weights(tmp_path).step == 10
    assert CliRunner().invoke(app, ["train", TOY, "--out", str(tmp_path), "--accelerator", "cpu"]).exit_code == 0
    assert [(tmp_path / name).read_bytes() for name in FILES] == straight


def test_ctrl_c_and_the_end_of_the_time(tmp_path: Path, straight: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["train", TOY, "--out", str(tmp_path), "--accelerator", "cpu"]
    monkeypatch.setenv("TOY_SIGNAL", "SIGINT:3:0")
    stopped = CliRunner().invoke(app, command)
    assert (stopped.exit_code, "stopped by SIGINT after step 3" in stopped.stderr) == (130, True)
    monkeypatch.delenv("TOY_SIGNAL")
    stopped = CliRunner().invoke(app, [*command, "--minutes", "0"])
    assert (stopped.exit_code, "stopped by time after step 4" in stopped.stderr) == (0, True)
    assert CliRunner().invoke(app, command).exit_code == 0
    assert [(tmp_path / name).read_bytes() for name in FILES] == straight
