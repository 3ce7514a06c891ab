"""`saccade classify --engine ray`: the lines of the local engine, whoever dies on the way.

What hands out videos is tested without Ray. Ray itself is a large download: `make test-ray` installs it.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from clips import moving
from hypothesis import given
from hypothesis import strategies as st

from saccade.cli import classify_ray
from saccade.cli.classify_job import ClassifyJob
from saccade.cli.classify_model import load_classifier
from saccade.cli.classify_ray import Worker
from saccade.cli.shares import Shares
from saccade.errors import InputError, SaccadeError
from saccade.exits import FixedBudget, exit_macs
from saccade.video import write_video
from tests.command_line import EXITS_FACTORY, result_lines, saccade, same

with_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed; `make test-ray` installs it and runs this"
)
FACTORY = (
    EXITS_FACTORY
    + """
sizes = []

def watch(self, x):
    sizes.append(len(x))
    if os.environ.get("DRIVER", str(os.getpid())) != str(os.getpid()):  # in a worker of Ray
        if x.mean((1, 2, 3)).max() > 0.97:  # a video that kills
            os.kill(os.getpid(), signal.SIGKILL)
        if len(sizes) == 3 and os.path.exists("kill-one"):
            os.rename("kill-one", "killed-one")
            os.kill(os.getpid(), signal.SIGKILL)

Average.watch = watch
"""
)
COMMAND = """
import os, signal
from saccade.cli import results_file
from saccade.cli.app import main

os.environ["DRIVER"] = str(os.getpid())
write, left = results_file.ResultsFile.write, int(os.environ.get("KILLED_AFTER", 0))

def counted(self, line):
    global left
    write(self, line)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

results_file.ResultsFile.write = counted
main()
"""
GOOD = [f"films/{number:02}.mp4" for number in range(11)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with my_spread_exits.py and films/: 11 short clips, a text, and outside of it a white clip."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "my_spread_exits.py").write_text(FACTORY)
    (folder / "films").mkdir()
    for number, name in enumerate(GOOD):
        shown = [(frame * (number + 1) / len(GOOD)).astype(np.uint8) for frame in moving(4 + number)]
        write_video(folder / name, shown, fps=25, crf=18)
    (folder / "films/text.mp4").write_text("no film")
    write_video(folder / "white.mp4", [np.full((48, 64, 3), 255, np.uint8)] * 5, fps=25, crf=18)
    return folder


@pytest.fixture(autouse=True)
def inside(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path / "cache"))


class DiedError(Exception):
    """As Ray's RayError, of a worker that is no more."""


class RaisedError(DiedError):
    """As Ray's RayTaskError."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Cluster:
    """As much of Ray as is used, in this process; calls end in any order, and workers die.

    A worker has `looked` videos open at a time. Of these, one that kills is never answered. Accidents happen to workers
    with several videos.
    """

    exceptions = SimpleNamespace(RayError=DiedError, RayTaskError=RaisedError)

    def __init__(self, rng: random.Random, *, kill: set[str], accidents: int = 0, looked: int = 3) -> None:
        self.rng, self.kills, self.accidents, self.looked = rng, kill, accidents, looked
        self.held: dict[int, list[str]] = {}  # of living workers
        self.lost, self.numbers = set[str](), count()

    def begun(self) -> tuple[Any, Callable[[], list[dict[str, Any]]]]:
        number = next(self.numbers)
        self.held[number] = []

        def given(paths: list[str]) -> Callable[[], list[dict[str, Any]]]:
            others = {path for each in self.held.values() for path in each}
            assert not others & set(paths), "no two living workers have one video"
            self.held[number] += paths
            assert len(self.held[number]) == 1 or not self.lost & set(self.held[number]), "then alone"
            return lambda: self._step(number)

        return SimpleNamespace(number=number, step=SimpleNamespace(remote=given)), partial(
            list
        )  # each a call of its own

    def _step(self, number: int) -> list[dict[str, Any]]:
        held = self.held[number]
        fine = [path for path in held[: self.looked] if path not in self.kills]
        accident = len(held) > 1 and self.accidents > 0 and self.rng.random() < 0.3
        self.accidents -= accident
        if accident or not fine or (len(fine) < len(held[: self.looked]) and self.rng.random() < 0.5):
            self.lost.update(self.held.pop(number))
            raise DiedError("SIGKILL")
        answered = self.rng.sample(fine, self.rng.randint(1, len(fine)))
        self.held[number] = [path for path in held if path not in answered]
        return [{"path": path} for path in answered]

    def wait(self, calls: list[Any], *, timeout: float | None) -> tuple[list[Any], list[Any]]:
        return [self.rng.choice(calls)], []

    def get(self, call: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        return call()

    def kill(self, worker: Any) -> None:
        assert worker.number not in self.held


@given(
    rng=st.randoms(use_true_random=False),
    videos=st.integers(0, 40),
    deadly=st.integers(0, 3),
    accidents=st.integers(0, 4),
    workers=st.integers(1, 5),
    reserve=st.integers(1, 9),
)
def test_every_video_has_one_line_whoever_dies(
    rng: random.Random, videos: int, deadly: int, accidents: int, workers: int, reserve: int
) -> None:
    paths = [f"{number}.mp4" for number in range(videos)]
    kill = set(rng.sample(paths, min(deadly, videos)))
    ray = Cluster(rng, kill=kill, accidents=accidents)
    found = list(classify_ray._lines(ray, ray.begun, paths, workers=workers, reserve=reserve))
    assert Counter(line["path"] for line in found) == Counter(paths)
    assert {line["path"] for line in found if "error" in line} == kill


def test_all_workers_have_their_share() -> None:
    shares = Shares([str(number) for number in range(20)], workers=3, reserve=6)
    assert [len(shares.take(worker)) for worker in range(3)] == [6, 5, 3], "a third of what is left, at most 6"
    for path in sorted(shares._held[0])[:4]:
        shares.answered(0, path)
    assert len(shares.take(0)) == 0, "it has 2, and a third of the 6 that are left is not more"
    shares.answered(0, sorted(shares._held[0])[0])
    assert len(shares.take(0)) == 1
    with pytest.raises(KeyError):
        shares.answered(0, "nothing")


def test_where_every_worker_dies_the_run_ends() -> None:
    paths = [str(number) for number in range(1000)]
    ray = Cluster(random.Random(1), kill=set(paths))
    with pytest.raises(SaccadeError, match="16 workers died in a row without an answer; the last: SIGKILL"):
        list(classify_ray._lines(ray, ray.begun, paths, workers=2, reserve=4))


@pytest.mark.parametrize("cause", [InputError("there is no folder"), RuntimeError("a bug")])
def test_what_a_worker_raises_ends_the_run(cause: Exception) -> None:
    ray = Cluster(random.Random(1), kill=set())

    def raises() -> None:
        raise RaisedError(cause)

    expected = InputError if isinstance(cause, SaccadeError) else RaisedError
    with pytest.raises(expected, match=str(cause)):
        list(classify_ray._lines(ray, lambda: (None, raises), ["a", "b"], workers=1, reserve=4))


@pytest.mark.parametrize("step", [0.0, 1000.0])
def test_batches_stay_full_from_step_to_step(made: Path, step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Handing over lines, one or many, and taking more videos does not empty the running batch."""
    monkeypatch.setattr(classify_ray, "STEP", step)
    monkeypatch.setattr(sys, "path", sys.path[:])
    classifier = load_classifier("my_spread_exits:model", weights=None, preprocess=None, classes=None)
    batch = in_flight = 2
    job = ClassifyJob(
        classifier,
        FixedBudget(2),
        exit_macs(classifier.model, classifier.frame),
        top=1,
        snap="exact",
        stride=1,
        batch=batch,
        in_flight=in_flight,
        workers=1,
        accelerator="cpu",
    )
    worker = Worker()
    assert worker.begin(str(made), pickle.dumps(job), torch.get_num_threads()) == []
    sizes = sys.modules["my_spread_exits"].sizes
    sizes.clear()
    shares, looks = Shares(GOOD, workers=1, reserve=2 * in_flight), 0
    found: list[dict[str, Any]] = []
    while shares.unfinished:
        lines = worker.step(shares.take(0))
        assert len(lines) == 1 if step == 0 else 1 <= len(lines) <= in_flight
        if len(shares._fresh) >= 2 * in_flight:
            looks = len(sizes)  # so far there were enough for all
        for line in lines:
            shares.answered(0, line["path"])
        found += lines
    assert Counter(line["path"] for line in found) == Counter(GOOD)
    assert set(sizes[:looks]) == {batch}
    assert worker.step([]) == []
    assert [line["path"] for line in worker.step(GOOD[:1])] == GOOD[:1], "one that has run out begins again"


def test_a_folder_that_a_machine_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no folder .*nowhere on .*all its machines share"):
        Worker().begin(str(tmp_path / "nowhere"), b"", 1)


def test_what_cannot_be_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    out = tmp_path / "out.jsonl"
    for options, message in (
        (["--engine", "ray"], "pip install 'saccade[ray]'"),
        (["--engine", "ray", "--ray-address", "ray://head:10001"], "run the command on a machine of the cluster"),
        (["--engine", "spark"], "expected local or ray"),
        (["--ray-workers", "2"], "without --engine ray"),
        (["--ray-address", "auto"], "without --engine ray"),
    ):
        done = saccade("classify", GOOD[0], "--model", "my_spread_exits:model", "--out", out, *options)
        assert (done.exit_code, message in done.stderr, out.exists()) == (2, True, False), done.stderr


def spread(out: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Runs the command on two workers of a cluster of its own; returns its exit code and what it said."""
    options = "--model my_spread_exits:model --engine ray --ray-workers 2 --accelerator cpu --batch 2".split()
    with out.with_suffix(".log").open("w+") as log:  # no pipe, which a process left behind would keep open
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, "classify", *arguments, *options, "--out", str(out)],
            stdout=log,
            stderr=log,
            env=os.environ | environment,
            check=False,
        )
        log.seek(0)
        return done.returncode, log.read()


@with_ray
@pytest.mark.slow
def test_the_lines_are_those_of_the_local_engine_though_workers_die(tmp_path: Path) -> None:
    """One worker is killed once, and every one that looks at the white clip."""
    local, out = tmp_path / "local.jsonl", tmp_path / "out.jsonl"
    films = ("films", "nowhere.mp4")
    assert saccade("classify", *films, "--model", "my_spread_exits:model", "--out", local).exit_code == 1
    wanted = {line["path"]: line for line in result_lines(local)}
    assert len(wanted) == len(GOOD) + 2
    Path("kill-one").touch()
    code, said = spread(out, *films, "white.mp4")
    assert code == 1, said
    assert Path("killed-one").exists()
    found = result_lines(out)
    assert Counter(line["path"] for line in found) == Counter([*wanted, "white.mp4"])
    for line in found:
        if line["path"] == "white.mp4":
            assert "died 3 times" in line["error"]
        else:
            assert same(line, wanted[line["path"]]), (line, wanted[line["path"]])
    assert "failed" in said


@with_ray
@pytest.mark.slow
def test_a_killed_driver_goes_on_with_either_engine(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    code, said = spread(out, "films", KILLED_AFTER="5")
    assert code == -signal.SIGKILL, said
    kept = result_lines(out)
    assert len(kept) == 5
    code, said = spread(out, "films", "--resume", KILLED_AFTER="3")
    assert code == -signal.SIGKILL, said
    assert "going on: 5 of 12 videos are done" in said
    done = saccade("classify", "films", "--model", "my_spread_exits:model", "--out", out, "--resume")
    assert done.exit_code == 1, done.stderr  # films/text.mp4
    found = result_lines(out)
    assert found[:5] == kept
    assert Counter(line["path"] for line in found) == Counter([*GOOD, "films/text.mp4"])
