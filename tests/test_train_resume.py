"""A training that is killed or stopped, and resumed, ends as if nothing had happened: through the command line."""

from __future__ import annotations

import multiprocessing
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


def command(folder: Path, *options: str) -> list[str]:
    return ["train", TOY, "--out", str(folder), "--accelerator", "cpu", *options]


def killed(folder: Path, step: int, *, fresh_process: bool) -> int:
    """Return how a process ended that is killed in the middle of a step; a forked one is quicker than a fresh one."""
    if fresh_process:
        environment = {**os.environ, "TOY_SIGNAL": f"SIGKILL:{step}:0", "PYTHONPATH": str(Path(TOY).parent.parent)}
        arguments = [sys.executable, TOY, *command(folder, "--workers", "2")]
        return subprocess.run(arguments, capture_output=True, env=environment, check=False, timeout=200).returncode

    def work() -> None:
        os.environ["TOY_SIGNAL"] = f"SIGKILL:{step}:0"
        CliRunner().invoke(app, command(folder))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(100)
    assert process.exitcode is not None
    return process.exitcode


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("straight")
    assert CliRunner().invoke(app, command(folder)).exit_code == 0
    return [(folder / name).read_bytes() for name in FILES]


def test_killed_in_the_middle_of_a_step(tmp_path: Path, straight: list[bytes]) -> None:
    """The kill comes in step 15, after rows the checkpoint of step 8 does not have, and again in step 16."""
    for step, fresh_process in ((15, True), (16, False)):
        assert killed(tmp_path, step, fresh_process=fresh_process) == -signal.SIGKILL
        assert read_weights(tmp_path).step == 8
        assert (tmp_path / "log.csv").read_text().splitlines()[-1].startswith(("14,", "15,"))
    done = CliRunner().invoke(app, command(tmp_path))
    assert done.exit_code == 0
    assert "going on after step 8" in done.stderr
    assert [(tmp_path / name).read_bytes() for name in FILES] == straight


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_the_step_and_leaves_a_checkpoint(
    tmp_path: Path, straight: list[bytes], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("TOY_SIGNAL", f"{name}:10:0")  # a step with a row, which the resumed run writes
    stopped = CliRunner().invoke(app, command(tmp_path, "--fresh"))
    assert stopped.exit_code == 128 + getattr(signal, name)
    assert f"stopped by {name} after step 10 of 24; the same command without --fresh goes on" in stopped.stderr
    assert read_weights(tmp_path).step == 10
    monkeypatch.delenv("TOY_SIGNAL")
    stopped = CliRunner().invoke(app, command(tmp_path, "--minutes", "0"))
    assert (stopped.exit_code, "stopped by time after step 11" in stopped.stderr) == (0, True)
    assert CliRunner().invoke(app, command(tmp_path)).exit_code == 0
    assert [(tmp_path / name).read_bytes() for name in FILES] == straight
