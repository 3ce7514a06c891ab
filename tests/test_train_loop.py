"""The training loop in one process: what decides its result, what it writes, and how it fails."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from saccade.errors import FileFormatError, RecipeError, TrainingError
from saccade.train import Progress, Recipe, Trained, read_weights, stack, train
from saccade.train.checkpoint import write_weights
from saccade.train.files import replace_file
from saccade.train.stopping import Stop
from tests.toy_recipe import SAMPLES, Points, jitter, recipe

FILES = ("weights.safetensors", "log.csv")


def run(toy: Recipe, folder: Path, **options: Any) -> Trained:
    return train(toy, folder, accelerator="cpu", **{"tensorboard": False, **options})


def results(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


def test_recipe_and_seed_decide_every_bit(tmp_path: Path) -> None:
    run(recipe(), tmp_path / "a")
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    run(recipe(), tmp_path / "b", workers=3, tensorboard=True)
    run(recipe(seed=4), tmp_path / "c")
    assert results(tmp_path / "a") == results(tmp_path / "b")
    assert all(a != c for a, c in zip(results(tmp_path / "a"), results(tmp_path / "c"), strict=True))


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_stopping_at_any_step_changes_nothing(tmp_path: Path, kind: str) -> None:
    toy = recipe(kind=kind)  # type: ignore[arg-type]
    straight = run(toy, tmp_path / "straight")
    for at in (1, 5, 7, 8, 23):  # 5 and 7 are steps with a row, 7 with validation too, 8 with a checkpoint
        stopped = run(toy, tmp_path / "halting", stop_after=at)
        assert (stopped.step, stopped.stopped) == (at, "step")
        assert not stopped.weights.exists()
    run(toy, tmp_path / "halting", workers=2)
    assert results(tmp_path / "straight") == results(tmp_path / "halting")
    assert straight.stopped is None


def test_the_loop_is_a_plain_loop(tmp_path: Path) -> None:
    """The same, written down once more with torch alone: SGD with momentum, clipped, one cycle."""
    steps, batch = 12, 8
    toy = replace(recipe(norm=False, kind="sgd", steps=steps, precise=True), augment=None)
    trained = run(toy, tmp_path)
    torch.manual_seed(toy.seed)
    model = toy.build()
    optimizer = toy.optimizer(model)
    assert toy.schedule is not None
    schedule = toy.schedule(optimizer)
    places: list[int] = []
    epoch = 0
    for _ in range(steps):
        while len(places) < batch:
            places += np.random.default_rng([toy.seed, 1, epoch]).permutation(SAMPLES).tolist()
            epoch += 1
        taken, places = places[:batch], places[batch:]
        points = Points(torch.float64)
        optimizer.zero_grad()
        (model(points.x[taken], torch.tensor(taken)) - points.y[taken]).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        schedule.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(trained.model.state_dict()[name], value, rtol=1e-12, atol=1e-12)


def test_the_log_and_the_record(tmp_path: Path) -> None:
    seen: list[Progress] = []
    trained = run(recipe(steps=13), tmp_path, tensorboard=True, on_progress=seen.append)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["step", "loss", "size", "gradient_norm", "rate", "validation_error", "validation_of"]
    assert [row["step"] for row in rows] == ["5", "7", "10", "13"]
    assert [bool(row["validation_error"]) for row in rows] == [False, True, False, True]
    assert [progress.step for progress in seen] == list(range(1, 14))
    for row, part in zip(rows, (range(5), range(5, 7), range(7, 10), range(10, 13)), strict=True):
        assert float(row["loss"]) == pytest.approx(np.mean([seen[k].losses["loss"] for k in part]), rel=1e-6)
        assert seen[part[-1]].row is not None
    with (tmp_path / "times.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["5", "7", "10", "13"]
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["recipe"] == "toy"
    assert record["step"] == record["steps"] == 13
    assert record["last_row"]["validation_of"] == SAMPLES
    assert record["versions"]["torch"] == torch.__version__
    weights = read_weights(trained.folder)
    assert weights.path == trained.weights
    model = recipe().build()
    weights.load_into(model)
    for name, value in trained.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_tensorboard_gets_the_rows(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def fail(model: nn.Module, step: int) -> None:
        if step == 13:
            raise RuntimeError("step 13")

    with pytest.raises(RuntimeError, match="step 13"):  # the row of step 10 is newer than the checkpoint of step 8
        run(replace(recipe(), before_step=fail), tmp_path, tensorboard=True)
    run(recipe(), tmp_path, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [5, 7, 10, 14, 15, 20, 21, 24]
    assert [event.step for event in events.Scalars("validation/error")] == [7, 14, 21, 24]


def test_a_sample_is_changed_otherwise_in_every_epoch(tmp_path: Path) -> None:
    drawn: dict[int, list[float]] = {}

    def augment(sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        drawn.setdefault(sample["index"], []).append(float(rng.normal()))
        return sample

    run(replace(recipe(steps=14), augment=augment), tmp_path)  # three epochs and one sample
    assert sorted(map(len, drawn.values())) == [3] * (SAMPLES - 1) + [4]
    assert len({value for values in drawn.values() for value in values}) == 14 * 8


def test_a_file_is_replaced_at_once_and_readable_as_any_other(tmp_path: Path) -> None:
    path, plain = tmp_path / "weights.safetensors", tmp_path / "plain"
    path.write_bytes(b"old")
    plain.write_bytes(b"")
    with path.open("rb") as reader:  # whoever has the old file open reads it to its end
        replace_file(path, b"new")
        assert (reader.read(), path.read_bytes()) == (b"old", b"new")
    weights = write_weights(tmp_path, recipe().build(), about={"recipe": "toy"}, step=1)
    assert weights.stat().st_mode == plain.stat().st_mode


def test_mixed_precision_computes_in_bfloat16_and_keeps_float32(tmp_path: Path) -> None:
    seen = set()

    def loss(model: nn.Module, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        out = model.net[0](batch["x"])  # a recipe may call a part of its network
        seen.add((out.dtype, torch.is_grad_enabled(), model.training))
        return toy.loss(model, batch)

    toy = replace(recipe(), precision="bf16-mixed")
    trained = run(replace(toy, loss=loss), tmp_path / "a")
    assert seen == {(torch.bfloat16, True, True)}
    assert {value.dtype for value in read_weights(trained.folder).state.values()} == {torch.float32, torch.int64}
    run(toy, tmp_path / "b", stop_after=9)
    run(toy, tmp_path / "b")
    run(toy, tmp_path / "c")
    run(recipe(), tmp_path / "full")
    assert results(tmp_path / "b") == results(tmp_path / "c") != results(tmp_path / "full")


def test_signals_are_noticed_and_a_second_ctrl_c_is_obeyed() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Stop(None) as stop:
        assert stop.reason is None
        for name in ("SIGTERM", "SIGTERM", "SIGINT"):
            os.kill(os.getpid(), getattr(signal, name))
            assert stop.reason == name
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    assert (Stop(1e6).reason, Stop(0).reason) == (None, "time")


def test_a_finished_training_is_left_alone(tmp_path: Path) -> None:
    run(recipe(), tmp_path)
    before = results(tmp_path)
    (tmp_path / "weights.safetensors").unlink()  # as if killed just before
    again = run(recipe(), tmp_path, on_progress=lambda progress: pytest.fail("took a step"))
    assert (again.step, again.stopped, results(tmp_path)) == (24, None, before)


def test_fresh_deletes_what_a_training_wrote_and_nothing_else(tmp_path: Path) -> None:
    run(recipe(seed=1), tmp_path, tensorboard=True)
    (tmp_path / "notes.txt").write_text("mine")
    run(recipe(), tmp_path, fresh=True, stop_after=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "log.csv", "notes.txt", "times.csv"]


def test_a_loss_that_is_not_finite_names_step_and_samples(tmp_path: Path) -> None:
    clean = recipe(seed=7)
    broken = replace(recipe(broken="nan", seed=7), checkpoint_every=1)
    with pytest.raises(
        TrainingError, match=r"step (\d+): loss nan, gradient_norm nan, not finite, on samples .*\b5\b"
    ) as caught:
        run(broken, tmp_path)
    step = int(str(caught.value).split("step ")[1].split(":")[0])
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert kept["step"] == step - 1
    run(clean, tmp_path / "clean", stop_after=step - 1)
    for name, value in read_weights(tmp_path / "clean").state.items():
        assert torch.equal(kept["model"][name], value)


def test_a_gradient_that_is_not_finite_is_found_before_the_weights_take_it(tmp_path: Path) -> None:
    toy = recipe(norm=False)

    def loss(model: nn.Module, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {"loss": (model(batch["x"], batch["index"]) * 0.0).square().sum().sqrt()}  # 0, with the gradient nan

    with pytest.raises(TrainingError, match=r"step 1: gradient_norm nan, not finite"):
        run(replace(toy, loss=loss), tmp_path)


def test_settings_that_do_not_go_together(tmp_path: Path) -> None:
    run(recipe(), tmp_path, stop_after=3)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(TrainingError, match=r"checkpoint.pt is of a training with seed 3, now 4. Train with"):
        run(recipe(seed=4), tmp_path)
    with pytest.raises(TrainingError, match="steps 24, now 25"):
        run(recipe(steps=25), tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    (tmp_path / "checkpoint.pt").write_bytes(before[: len(before) // 2])
    with pytest.raises(FileFormatError, match=r"checkpoint.pt is damaged or not a checkpoint"):
        run(recipe(), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="file cannot be written to"):
        run(recipe(), tmp_path / "file")
    with pytest.raises(TrainingError, match="loss returned error; expected one of them to be called"):
        run(recipe(broken="name"), tmp_path / "name")
    with pytest.raises(TrainingError, match=r"cannot train on 1 x cuda"):
        train(recipe(), tmp_path / "cuda", accelerator="cuda")


def test_a_checkpoint_that_cannot_be_written_leaves_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(recipe(), tmp_path, stop_after=3)
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def full(contents: Any, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match=r"checkpoint.pt cannot be written: No space left on device"):
        run(recipe(), tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_that_cannot_be_read_is_named(tmp_path: Path, workers: int) -> None:
    def fails(sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        return jitter(sample, rng) if sample["index"] != 11 else sample["nothing"]

    with pytest.raises(TrainingError, match="sample 11 of 37 cannot be made: KeyError: 'nothing'"):
        run(replace(recipe(), augment=fails), tmp_path, workers=workers)


def test_weights_of_another_network(tmp_path: Path) -> None:
    run(recipe(), tmp_path)
    weights, other = read_weights(tmp_path), recipe(hidden=7).build()
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(FileFormatError, match=r"another network .*0.weight is \(6, 5\) and in the network \(7, 5\)"):
        weights.load_into(other)
    with pytest.raises(
        FileFormatError,
        match=r"net.2.weight is missing; net.2.bias is missing; net.1.bias is not in the network and 6 more",
    ):
        weights.load_into(recipe(norm=False).build())
    assert all(torch.equal(other.state_dict()[name], value) for name, value in before.items())
    with pytest.raises(FileFormatError, match=r"holds neither weights.safetensors nor checkpoint.pt"):
        read_weights(Path(__file__).parent)


def test_stacking() -> None:
    samples = [
        {"a": torch.ones(2), "b": np.zeros(3), "c": 1, "d": "x"},
        {"a": torch.zeros(2), "b": np.ones(3), "c": 2, "d": "y"},
    ]
    batch = stack(samples)
    assert batch["a"].tolist() == [[1, 1], [0, 0]]
    assert batch["b"].shape == (2, 3)
    assert (batch["c"].tolist(), batch["d"]) == ([1, 2], ["x", "y"])
    with pytest.raises(RecipeError, match=r"'a' has different shapes in one batch, \(1,\), \(2,\); pad it"):
        stack([{"a": torch.ones(1)}, {"a": torch.ones(2)}])
    with pytest.raises(RecipeError, match="different keys"):
        stack([{"a": 1}, {"b": 1}])
    with pytest.raises(RecipeError, match="samples are of type tuple; expected dicts"):
        stack([(1, 2)])


def test_numbers_out_of_range() -> None:
    for name, value in {"steps": 0, "batch": 0, "seed": -1, "clip_norm": 0.0, "precision": "16-mixed"}.items():
        with pytest.raises(RecipeError, match=f"recipe toy: {name} is .*; expected"):
            replace(recipe(), **{name: value})
