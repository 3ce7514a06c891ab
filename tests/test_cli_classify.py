"""`saccade classify`: a line per video, what is wrong told per file, killed and resumed without loss or repetition."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import audio, clip, faststart, moving

from saccade.cli.results_file import ResultsFile
from saccade.errors import SaccadeError
from saccade.exits import Confidence, FixedBudget, FrameExit, LearnedGate, VideoVisits, classify_video, exit_macs
from saccade.kernels import cpu
from saccade.preprocess import Preprocess
from saccade.video import write_video
from saccade.zoo import load_model
from tests.command_line import EXITS_FACTORY, saccade, same
from tests.command_line import result_lines as lines

FACTORY = (
    EXITS_FACTORY
    + """
calls = 0

def watch(self, x):
    global calls
    calls += 1
    if calls == int(os.environ.get("KILLED_AT", 0)):
        os.kill(os.getpid(), signal.SIGKILL)

Average.watch = watch

def reduced():
    from saccade.reduce import Reduce, convert
    made, example = model()
    with torch.random.fork_rng():
        torch.manual_seed(4)
        convert(made.backbone, Reduce(time=1, channels=2), example=example[:, 0])
    gate = made.backbone.conv.gate
    nn.init.ones_(gate.inner.weight)
    nn.init.ones_(gate.outer.weight)
    gate.outer.bias.data[:] = torch.tensor([-5.0, 0.5])
    gate.norm.running_mean.fill_(3 * 9 * (0.032 - 0.4))  # between what the films give
    gate.norm.running_var.fill_(1e-4)
    return made.eval(), example

def no_exits():
    return nn.Flatten(), torch.zeros(1, 4, 3, 24, 32)
"""
)
COUNT = 13
GOOD = [*(f"films/{number:02}.mp4" for number in range(8)), *(f"films/more/{number:02}.mp4" for number in range(5))]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with my_exits.py and films/: 13 short clips, some of the same names in two folders, and a text."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "my_exits.py").write_text(FACTORY)
    (folder / "films/more").mkdir(parents=True)
    for number, name in enumerate(GOOD):
        shown = [(frame * (number + 1) / COUNT).astype(np.uint8) for frame in moving(5 + number)]
        write_video(folder / name, shown, fps=25, crf=18)
    (folder / "films/notes.txt").write_text("not a film")
    (folder / "films/.hidden.mp4").write_text("not a film either")
    (folder / "films/again").symlink_to(folder / "films", target_is_directory=True)
    return folder


@pytest.fixture(autouse=True)
def inside(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path / "cache"))


def classify(*arguments: str | Path, model: str = "my_exits:model") -> Any:
    return saccade("classify", *arguments, "--model", model, "--accelerator", "cpu")


def test_each_video_has_one_line_as_if_it_were_alone(tmp_path: Path) -> None:
    out, names = tmp_path / "out.jsonl", tmp_path / "names.txt"
    names.write_text("left\nright\nstill\n")
    model = load_model("my_exits:model").model
    assert isinstance(model, FrameExit)
    how, macs = Preprocess(size=(24, 32)), exit_macs(model, torch.zeros(1, 3, 24, 32))
    first = [classify_video(model, VideoVisits(path, model, how), FixedBudget(1), macs=macs) for path in GOOD]
    tops = sorted(float(exits.scores.max()) for exits in first)
    threshold = (tops[COUNT // 2 - 1] + tops[COUNT // 2]) / 2  # half of them are left after their first frame
    rule = ("--rule", "confidence", "--threshold", repr(threshold))
    done = classify("films", "films/03.mp4", "--out", out, "--batch", "5", "--workers", "2", "--classes", names, *rule)
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("films/03.mp4 was given before; it is classified once") == 1
    assert done.stderr.count("given before") == 1
    found = lines(out)
    assert sorted(line["path"] for line in found) == sorted(GOOD)
    for line in found:
        video = VideoVisits(line["path"], model, how)
        alone = classify_video(model, video, Confidence(threshold), macs=macs)
        order = alone.scores[0].argsort(descending=True).tolist()
        assert [each["index"] for each in line["top"]] == order
        assert [each["class"] for each in line["top"]] == [["left", "right", "still"][index] for index in order]
        assert line["top"][0]["score"] == pytest.approx(float(alone.scores.max()), abs=1e-5)
        assert (line["frames"], line["macs"]) == (int(alone.frames), int(alone.macs))
        assert (line["gate_macs"], line["dense_macs"]) == (int(alone.gate_macs), macs.dense)
        assert line["visited"] == video.visited
        assert len(line["visited"]) == line["frames"]
        assert line["pictures"] == 5 + GOOD.index(line["path"])
        assert line["decoded"] == video.cost.frames_decoded
        assert 0 < line["decode_ms"] < line["ms"]
    assert len({line["frames"] for line in found}) > 1
    exits = Counter(line["frames"] for line in found)
    assert ", ".join(f"{t}: {n}" for t, n in sorted(exits.items())) in done.stdout


def test_without_a_file_lines_go_to_stdout_and_the_table_does_not() -> None:
    done = classify("films/00.mp4", "films/01.mp4", "--rule", "budget", "--threshold", "2", "--top", "1")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["frames"], len(line["top"])) for line in found] == [(2, 1)] * 2
    assert "left after frame" in done.stderr


def test_what_is_wrong_with_a_file_is_told_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "empty.mp4").touch()
    (bad / "text.mp4").write_text("no film")
    audio(bad / "song.avi")
    whole = faststart(clip(tmp_path / "whole.mp4", 30), tmp_path / "fast.mp4").read_bytes()
    (bad / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    clip(bad / "one.mkv", 1)
    clip(tmp_path / "film.mp4", 6).rename(bad / "film.data")
    (bad / "closed").mkdir()
    listed = os.listdir

    def closed(path: Any) -> list[str]:
        if str(path).endswith("closed"):  # as root, who runs tests in containers, may read everything
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "listdir", closed)
    (tmp_path / "list.txt").write_text("bad\r\nfilms-that-are-not-there.mp4\n\nbad/film.data\n")
    out = tmp_path / "out.jsonl"
    done = classify(tmp_path / "list.txt", "films/00.mp4", tmp_path / "no-list.txt", "--out", out, "--batch", "2")
    assert done.exit_code == 1, done.stderr
    told = {Path(line["path"]).name: line.get("error") for line in lines(out)}
    assert {name for name, error in told.items() if error is None} == {"one.mkv", "film.data", "00.mp4"}
    errors = {
        "empty.mp4": "is empty (0 bytes)",
        "text.mp4": "is not a video that FFmpeg can read",
        "song.avi": "holds no video, only audio",
        "cut.mp4": "is damaged",
        "films-that-are-not-there.mp4": "there is no file",
        "closed": "the folder cannot be read: Permission denied",
        "no-list.txt": "the list cannot be read: No such file",
    }
    for name, error in errors.items():
        assert error in told.pop(name), name
    assert len(told) == 3
    assert "failed" in done.stdout


def killed(out: Path, call: int, *options: str) -> int:
    """Returns how a process ended that is killed in the middle of a call of the backbone."""

    def work() -> None:
        os.environ["KILLED_AT"] = str(call)
        sys.modules["my_exits"].calls = 0  # type: ignore[attr-defined]
        classify("films", "films/none.mp4", "--out", out, "--batch", "2", "--workers", "2", *options)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(100)
    assert process.exitcode is not None
    return process.exitcode


def test_killed_and_resumed_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    straight, out = tmp_path / "straight.jsonl", tmp_path / "out.jsonl"
    assert classify("films", "films/none.mp4", "--out", straight, "--batch", "4").exit_code == 1
    wanted = {line["path"]: line for line in lines(straight)}
    assert len(wanted) == COUNT + 1
    kept: list[dict[str, Any]] = []
    for call in (7, 6):
        assert killed(out, call, "--resume") == -signal.SIGKILL
        assert lines(out)[: len(kept)] == kept, "what was written stays"
        assert len(kept) < len(lines(out)) < len(wanted)
        kept = lines(out)
    with out.open("ab") as file:
        file.write(b'{"path": "films/0')  # as a full disk leaves it
    done = classify("films", "films/none.mp4", "--out", out, "--resume")
    assert done.exit_code == 1, "what failed before the kill counts"
    assert f"going on: {len(kept)} of 14 videos are done" in done.stderr
    assert "the last line of" in done.stderr
    found = lines(out)
    assert found[: len(kept)] == kept
    assert len(found) == len(wanted)
    assert all(same(line, wanted[line["path"]]) for line in found)
    again = classify("films", "films/none.mp4", "--out", out, "--resume")
    assert lines(out) == found
    for label in ("left after frame", "macs per video", "failed"):  # the summary is of all, not of this run
        summary = [line for line in again.stdout.splitlines() if label in line]
        assert summary == [line for line in done.stdout.splitlines() if label in line] != []


def test_results_of_something_else_are_not_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    one = ("films/00.mp4", "--out", out)
    assert classify(*one).exit_code == 0
    before = out.read_bytes()
    refused = {
        "is there already": classify(*one),
        "line 1, is of another run": classify(*one, "--resume", "--threshold", "0.6"),
        "another file": classify(*one, "--resume", "--snap", "keyframe"),
    }
    for message, done in refused.items():
        assert done.exit_code == 2
        assert message in done.stderr
    assert out.read_bytes() == before
    for text, message in ((before + before, "two lines for films/00.mp4"), (b"{}\n" + before, "line 1, is no result")):
        out.write_bytes(text)
        done = classify(*one, "--resume")
        assert (done.exit_code, message in done.stderr, out.read_bytes()) == (2, True, text)


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    out = tmp_path / "out.jsonl"
    assert classify("films/00.mp4", "--out", out).exit_code == 0
    with out.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = classify("films/01.mp4", "--out", out, "--resume")
    assert (done.exit_code, "is being written by another process" in done.stderr) == (2, True)
    new = tmp_path / "new.jsonl"
    with ResultsFile(new, run="r", resume=True, on_line=list), pytest.raises(SaccadeError, match="by another process"):
        ResultsFile(new, run="r", resume=True, on_line=list)


def test_a_line_that_was_not_finished_is_cut_off_whole(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with ResultsFile(out, run="r", resume=False, on_line=list) as file:
        file.write({"path": "a"})
    whole = out.read_bytes()
    out.write_bytes(whole + b'{"path": "' + b"b" * 1000)  # longer than what will be written
    with ResultsFile(out, run="r", resume=True, on_line=list) as file:
        assert out.read_bytes() == whole
        file.write({"path": "c"})
    assert [line["path"] for line in lines(out)] == ["a", "c"]


def test_key_frames_cost_one_picture_each(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    plot = tmp_path / "exits.svg"
    pytest.importorskip("matplotlib")
    done = classify("films/more", "--out", out, "--snap", "keyframe", "--rule", "all", "--plot", plot)
    assert done.exit_code == 0, done.stderr
    assert plot.exists()
    for line in lines(out):
        assert line["frames"] == 4
        assert line["visited"] == [0] * 4  # they have one key frame
        assert line["decoded"] == 1


@pytest.mark.skipif(not cpu.native_module(), reason="there is no native engine")
@pytest.mark.parametrize("kind", ["model", "reduced"])
def test_the_backbone_may_run_on_the_native_engine(kind: str, tmp_path: Path) -> None:
    found = {}
    for engine in ("torch", "native"):
        out = tmp_path / f"{engine}.jsonl"
        options = ("--backbone-engine", engine, "--out", out, "--batch", "4", "--workers", "2")
        done = classify("films", *options, model=f"my_exits:{kind}")
        assert done.exit_code == 0, done.stderr
        found[engine] = {line["path"]: line for line in lines(out)}
    for path, line in found["native"].items():
        macs, wanted = line.pop("macs"), found["torch"][path]
        assert macs == pytest.approx(wanted.pop("macs"), rel=0.03 if kind == "reduced" else 0)
        assert same(line, wanted)
    again = classify(
        "films", "--out", tmp_path / "torch.jsonl", "--resume", "--backbone-engine", "native", model=f"my_exits:{kind}"
    )
    assert "13 of 13 videos are done" in again.stderr, "results of either are gone on with by the other"


def test_macs_are_those_that_a_reduced_backbone_spent_on_each_video(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = classify(
        "films", "--rule", "budget", "--threshold", "3", "--out", out, "--batch", "5", model="my_exits:reduced"
    )
    assert done.exit_code == 0, done.stderr
    model = load_model("my_exits:reduced").model
    assert isinstance(model, FrameExit)
    how, macs = Preprocess(size=(24, 32)), exit_macs(model, torch.zeros(1, 3, 24, 32))
    spent = set()
    for line in lines(out):
        alone = classify_video(model, VideoVisits(line["path"], model, how), FixedBudget(3), macs=macs)
        assert line["macs"] == int(alone.macs)
        assert line["dense_macs"] == macs.dense
        spent.add(line["macs"])
    assert len(spent) > 1, "the gates chose the same everywhere"


def test_trained_weights_say_how_large_the_model_is(tmp_path: Path) -> None:
    from saccade.train.checkpoint import write_weights
    from saccade.zoo.frame_exit import frame_exit

    model = frame_exit("tiny", classes=3, frames=4, hidden=16, gate_hidden=8, pooling="average", seed=5)
    whole = torch.nn.ModuleDict({"net": model})  # the FrameExit may be a part of what was trained
    about = {"recipe": "toy", "options": {"pooling": "average", "classes": "3"}, "steps": 2}
    write_weights(tmp_path, whole, about=about, step=2)
    done = classify("films/05.mp4", "--weights", tmp_path, "--rule", "all", model="frameexit:tiny")
    assert done.exit_code == 0, done.stderr
    line = json.loads(done.stdout)
    how = load_model("frameexit:tiny").preprocess
    assert how is not None
    macs = exit_macs(model, torch.zeros(1, 3, 112, 112))
    alone = classify_video(model, VideoVisits("films/05.mp4", model, how), LearnedGate(1 - 1e-9), macs=macs)
    told = {each["index"]: each["score"] for each in line["top"]}
    assert [told[index] for index in range(3)] == pytest.approx(alone.scores[0].tolist(), abs=1e-5)
    assert line["dense_macs"] == macs.dense
    wrong = classify("films/05.mp4", "--weights", tmp_path, model="frameexit:x3d-tiny")
    assert (wrong.exit_code, "weights of another network" in wrong.stderr) == (2, True)


def test_wrong_requests_are_named(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("one\n")
    for options, message in (
        (["--resume"], "--resume without --out"),
        (["--rule", "budget"], "expected a number of frames"),
        (["--rule", "all", "--threshold", "1"], "has none"),
        (["--rule", "margin"], "there is no rule 'margin'"),
        (["--snap", "near"], "expected exact or keyframe"),
        (["--batch", "8", "--in-flight", "4"], "as many in flight as in a batch"),
        (["--backbone-engine", "tpu"], "expected torch or native"),
        (["--classes", str(tmp_path / "names.txt")], "got 1 names of classes for 3 classes"),
    ):
        done = classify("films/00.mp4", *options)
        assert (done.exit_code, message in done.stderr) == (2, True), done.stderr
    done = classify("films/00.mp4", model="my_exits:no_exits")
    assert "is a Flatten; expected a FrameExit" in done.stderr
