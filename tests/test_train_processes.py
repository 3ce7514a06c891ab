"""Several processes train as one would with the same batch: under torchrun, and started by the command itself."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from saccade.errors import TrainingError
from saccade.train import load_recipe, read_weights, train

TOY = str(Path(__file__).parent / "toy_recipe.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
PRECISE = {"norm": "no", "precise": "yes"}  # float64, no batch norm, no dropout
FILES = ("weights.safetensors", "log.csv")

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available() and hasattr(os, "fork")), reason="needs gloo and fork"
)


def run_command(launch: list[str], folder: Path, *options: str) -> None:
    command = [*launch, TOY, "train", TOY, "--out", str(folder), "--accelerator", "cpu", *options]
    for name, value in PRECISE.items():
        command += ["--set", f"{name}={value}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(TOY).parent.parent), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=250)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("step 24 ") == 1  # one process speaks
    assert ended.stdout.count("trained on") == 1


def fork(folder: Path, options: dict[str, str], *, signal_at: str = "none:0:0", **settings: Any) -> None:
    """Train in two processes that find what torchrun tells its own: quick, as they need not import torch again."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    context = multiprocessing.get_context("fork")

    def work(rank: str) -> None:
        os.environ.update(told, RANK=rank, LOCAL_RANK=rank, TORCHELASTIC_RUN_ID="fork", TOY_SIGNAL=signal_at)
        train(load_recipe(TOY, options), folder, accelerator="cpu", tensorboard=False, **settings)

    workers = [context.Process(target=work, args=(str(rank),)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]


def compare_with_one_process(folder: Path, one: Path) -> None:
    """Everything is equal to rounding, a parameter that one of the processes does not use in a step included."""
    train(load_recipe(TOY, PRECISE), one, accelerator="cpu", tensorboard=False)
    expected, got = read_weights(one).state, read_weights(folder).state
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(got[name], value, rtol=1e-10, atol=1e-12)
    assert expected["correction"] != 1
    assert expected["unused"].tolist() == got["unused"].tolist() == [1, 1, 1]
    rows = [list(csv.reader((path / "log.csv").read_text().splitlines())) for path in (one, folder)]
    for row, other in zip(*rows, strict=True):
        for text, value in zip(row, other, strict=True):
            assert text == value or float(value) == pytest.approx(float(text), rel=1e-5)


def test_torchrun_with_two_processes_is_one_with_the_same_batch(tmp_path: Path) -> None:
    run_command(TORCHRUN, tmp_path / "two", "--json", str(tmp_path / "record.json"))
    assert json.loads((tmp_path / "record.json").read_text())["processes"] == 2
    compare_with_one_process(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
def test_the_command_starts_its_own_processes(tmp_path: Path) -> None:
    run_command([sys.executable], tmp_path / "two", "--devices", "2")
    compare_with_one_process(tmp_path / "two", tmp_path / "one")


def test_forked_processes_stand_for_those_of_torchrun(tmp_path: Path) -> None:
    fork(tmp_path / "two", PRECISE, workers=2)
    compare_with_one_process(tmp_path / "two", tmp_path / "one")


def test_two_processes_stop_together_and_resume_to_the_bit(tmp_path: Path) -> None:
    """One of them gets the signal; with batch norm, and with dropout that draws other numbers in each."""
    fork(tmp_path / "straight", {})
    fork(tmp_path / "halting", {}, signal_at="SIGTERM:10:1")
    assert read_weights(tmp_path / "halting").step == 10
    fork(tmp_path / "halting", {})
    for name in FILES:
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "halting" / name).read_bytes()


def test_what_cannot_be_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(TrainingError, match="got devices=2 under torchrun with 3 processes per node; leave devices"):
        train(load_recipe(TOY), tmp_path, accelerator="cpu", devices=2)
