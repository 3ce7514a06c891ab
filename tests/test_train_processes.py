"""Several processes train as one would with the same batch: under torchrun, and started by the command itself."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from saccade.errors import TrainingError
from saccade.train import load_recipe, read_weights, train
from saccade.train.processes import average, close_fabric, open_fabric, share_weights
from tests.toy_recipe import recipe

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


def fork(work: Callable[[int], None]) -> None:
    """Run `work(rank)` in two processes that find what torchrun tells its own: quick, as torch is imported already."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    context = multiprocessing.get_context("fork")

    def begin(rank: int) -> None:
        os.environ.update(told, RANK=str(rank), LOCAL_RANK=str(rank), TORCHELASTIC_RUN_ID="fork")
        work(rank)

    workers = [context.Process(target=begin, args=(rank,)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        worker.kill()  # one that waits for the other for ever
    assert [worker.exitcode for worker in workers] == [0, 0]


def train_two(folder: Path, options: dict[str, str], *, signal_at: str = "none:0:0", workers: int = 0) -> None:
    def work(rank: int) -> None:
        os.environ["TOY_SIGNAL"] = signal_at
        train(load_recipe(TOY, options), folder, accelerator="cpu", tensorboard=False, workers=workers)

    fork(work)


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
    train_two(tmp_path / "two", PRECISE, workers=2)
    compare_with_one_process(tmp_path / "two", tmp_path / "one")


def test_means_are_those_of_all_processes(tmp_path: Path) -> None:
    """Gradients, running statistics and values; a gradient of one process counts half; weights are the first's."""

    def work(rank: int) -> None:
        fabric = open_fabric(devices=None, accelerator="cpu", precision="32-true")
        torch.manual_seed(rank)
        model = recipe().build()
        torch.save([model.state_dict(), None], tmp_path / f"before{rank}")
        share_weights(model)
        shared = {name: value.clone() for name, value in model.state_dict().items()}
        index = torch.arange(1 - rank, 9 - rank)  # sample 0 is the second process's
        model(torch.randn(8, 3, 5), index).square().mean().backward()
        own = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        own |= {name: buffer.clone() for name, buffer in model.named_buffers() if buffer.is_floating_point()}
        values = average(model, torch.tensor([1.0 + rank, float("nan") if rank else 0.0]))
        now = {name: p.grad for name, p in model.named_parameters()} | dict(model.named_buffers())
        torch.save([shared, own, now, values], tmp_path / f"after{rank}")
        close_fabric(fabric)

    fork(work)
    first, _ = torch.load(tmp_path / "before0")
    (shared0, own0, now0, values0), (shared1, own1, now1, values1) = (
        torch.load(tmp_path / f"after{k}") for k in (0, 1)
    )
    assert not torch.equal(own0["net.0.weight"], own1["net.0.weight"])
    assert now0["unused"] is now1["unused"] is None
    assert set(own1) - set(own0) == {"correction"}
    for name, value in first.items():
        assert torch.equal(shared0[name], value)
        assert torch.equal(shared1[name], value)
    for name in own1:
        mean = (own0.get(name, torch.zeros_like(own1[name])) + own1[name]) / 2
        torch.testing.assert_close(now0[name], mean, rtol=1e-6, atol=0)
        assert torch.equal(now0[name], now1[name])
    for values in (values0, values1):
        assert values[0] == 1.5
        assert values[1].isnan()


def test_two_processes_stop_together_and_resume_to_the_bit(tmp_path: Path) -> None:
    """One of them gets the signal; with batch norm, and with dropout that draws other numbers in each."""
    train_two(tmp_path / "straight", {})
    train_two(tmp_path / "halting", {}, signal_at="SIGTERM:10:1")
    assert read_weights(tmp_path / "halting").step == 10
    train_two(tmp_path / "halting", {})
    for name in FILES:
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "halting" / name).read_bytes()


def test_each_process_draws_numbers_of_its_own(tmp_path: Path) -> None:
    def work(rank: int) -> None:
        toy, drawn = recipe(steps=2), []

        def loss(model: nn.Module, batch: dict[str, Any]) -> Mapping[str, Tensor]:
            drawn.append((torch.rand(()).item(), float(np.random.rand()), random.random()))
            return toy.loss(model, batch)

        train(replace(toy, loss=loss), tmp_path / "out", accelerator="cpu", tensorboard=False)
        (tmp_path / f"{rank}.json").write_text(json.dumps(drawn))

    fork(work)
    drawn = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    for generator in range(3):
        assert len({numbers[generator] for steps in drawn for numbers in steps}) == 4


def test_what_cannot_be_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(TrainingError, match="got devices=2 under torchrun with 3 processes per node; leave devices"):
        train(load_recipe(TOY), tmp_path, accelerator="cpu", devices=2)
