"""The command line: what it prints where, what it leaves behind, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from saccade import __version__
from saccade.cli.app import app
from saccade.cli.console import settle_gate
from saccade.errors import InputError
from saccade.preprocess import Preprocess
from saccade.video import read_video, write_video

H, W = 24, 32


def small_net(outputs: int = 4) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, outputs, 1)).eval()


def pictures(count: int) -> list[Any]:
    result = np.full((count, 2 * H, 2 * W, 3), 120, dtype=np.uint8)
    for index in range(count):
        result[index, 10:20, 4 * index : 4 * index + 10] = 250
    return list(result)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "net.pt2"
    torch.export.save(torch.export.export(small_net(), (torch.zeros(1, 3, H, W),)), path)
    return str(path)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_video(path, pictures(8), fps=10)
    return str(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saccade(*arguments: str | Path) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def in_a_process(*arguments: str, code: str = "from saccade.cli import main; main()") -> Any:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def frames_in(path: Path) -> int:
    with read_video(path) as reader:
        return sum(1 for _ in reader)


# --- what it prints


def test_the_version_loads_nothing_that_only_commands_need() -> None:
    code = (
        "import sys\nfrom saccade.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'timm', 'rich.table', 'saccade.zoo', 'saccade.report'} & set(sys.modules)"
    )
    done = in_a_process("--version", code=code)
    assert (done.stdout, done.stderr, done.returncode) == (f"saccade {__version__}\n", "", 0)


def test_json_on_stdout_is_json_and_nothing_else(model: str, video: str) -> None:
    done = in_a_process("run", video, "--model", model, "--frames", "5", "--json", "-", "--verify")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # not a terminal: no progress
    data = json.loads(done.stdout)
    assert data["frames"] == len(data["macs_fraction_per_frame"]) == 5
    assert data["tolerance"] == 0.01
    assert data["verify"]["relative_error"]["mean"] < 0.1


def test_run_writes_json_overlay_and_a_table(model: str, video: str, folder: Path) -> None:
    done = saccade(
        "run",
        video,
        "--model",
        model,
        "--json",
        "run.json",
        "--out",
        "seen.mp4",
        "--threshold",
        "0",
        "--executor",
        "reference",
    )
    assert done.exit_code == 0, done.output
    data = json.loads((folder / "run.json").read_text())
    assert (data["frames"], data["threshold"], data["tolerance"], data["record"]) == (
        8,
        0.0,
        None,
        "reference",
    )
    assert (data["model"], data["source"]) == (model, video)
    assert frames_in(folder / "seen.mp4") == 8
    assert "macs ratio" in done.stdout
    assert "milliseconds are not faster than dense" in " ".join(done.stdout.split())
    assert "seen.mp4" in done.stdout


def test_run_takes_another_preprocess_and_record(model: str, video: str, folder: Path) -> None:
    Preprocess(size=(H, W), channels="bgr", mean=(0.5,)).save("how.json")
    first = saccade("run", video, "--model", model, "--json", "-", "--preprocess", "how.json", "--verify")
    assert first.exit_code == 0, first.output
    second = saccade("run", video, "--model", model, "--json", "-", "--record", "accumulated", "--tolerance", "0.2")
    assert json.loads(second.stdout)["record"] == "accumulated"
    assert json.loads(second.stdout)["tolerance"] == 0.2


def test_audits_are_reported_and_warned_of_in_a_line(model: str, video: str, folder: Path) -> None:
    audited = ("run", video, "--model", model, "--tolerance", "5", "--audit-every", "1", "--audit-tolerance", "0.0001")
    done = in_a_process(*audited, "--json", "run.json")
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"warning: {model} has left what it was set for: audits up to frame 1 show a relative error")
    audit = json.loads((folder / "run.json").read_text())["audit"]
    assert (audit["audits"], audit["alarms"], audit["outside"], audit["every"]) == (8, 1, True, 1)
    assert 0 < audit["low"] <= audit["mean"] <= audit["worst"]
    words = " ".join(done.stdout.split())
    assert "audits 8, of one of" in words
    assert "outside, over 0.0001 1 time" in words
    refreshed = saccade(*audited, "--audit-action", "refresh", "--json", "-")
    assert json.loads(refreshed.stdout)["audit"]["alarms"] >= 3
    assert "the next frame is computed whole" in refreshed.stderr
    plain = saccade("run", video, "--model", model, "--json", "-")
    assert json.loads(plain.stdout)["audit"] is None


def test_explain_accounts_for_every_mac(model: str, folder: Path) -> None:
    data = json.loads(saccade("explain", "--model", model, "--json", "-").stdout)
    assert sum(step["macs"] for step in data["steps"]) == data["dense_macs"]
    assert data["dense_macs"] >= H * W * (3 * 9 * 6 + 6 * 4)
    assert data["sparse_macs_share"] == 1.0
    assert {"name", "op", "form", "macs", "reason"} <= set(data["steps"][0])
    assert all(step["form"] == "sparse" and step["reason"] == "" for step in data["steps"])
    table = saccade("explain", "--model", model, "--json", "plan.json")
    assert json.loads((folder / "plan.json").read_text()) == data
    for step in data["steps"]:
        assert step["name"] in table.stdout


def test_random_weights_are_said(folder: Path, video: str) -> None:
    (folder / "nets.py").write_text(
        "import torch\nfrom torch import nn\nfrom saccade.zoo import LoadedModel\n"
        "def make():\n    return LoadedModel(name='x', model=nn.Conv2d(3, 2, 1), example=(torch.zeros(1, 3, 8, 8),),"
        " weights='random, seed 0')\n"
    )
    done = saccade("explain", "--model", "nets:make", "--json", "-")
    assert "nets:make has random weights" in done.stderr
    json.loads(done.stdout)
    done = saccade("run", video, "--model", "nets:make")
    assert done.exit_code == 2
    assert "nets:make does not say how a frame becomes its input (1, 3, 8, 8); give --preprocess" in done.stderr


def test_the_demo_compares_dense_and_stream(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from saccade.zoo import shipped, street_detector

    if not street_detector.WEIGHTS.exists():
        untrained = street_detector.street_detector(pretrained=False)
        monkeypatch.setattr(shipped, "street_detector", lambda: untrained)
    done = saccade("demo", "--frames", "4", "--json", "demo.json")
    assert done.exit_code == 0, done.output
    data = json.loads((folder / "demo.json").read_text())
    assert data["run"]["frames"] == 4
    assert 0 <= data["f1"] <= 1
    assert 0 < data["pixels_changed"] < 1
    assert frames_in(folder / "saccade-demo.mp4") == 4
    assert "average precision" in done.stdout


# --- what it says when it cannot


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--threshold", "0.1", "--tolerance", "0.1"], r"got --threshold 0.1 and --tolerance 0.1; give one"),
        (["--tolerance", "-1"], "at least 0, got -1"),
        (["--record", "none"], "unknown record 'none'"),
        (["--audit-tolerance", "0.1"], "need --audit-every N"),
        (["--audit-every", "0"], "--audit-every"),
        (
            ["--audit-every", "9", "--audit-action", "refresh"],
            "(Audit(tolerance=X), --audit-tolerance X)",
        ),
        (["--audit-every", "9", "--audit-action", "stop"], "action is 'stop'; expected warn or refresh"),
        (["--out", "nowhere/seen.mp4"], "there is no folder"),
        (["--json", "nowhere/run.json"], "there is no folder"),
        (["--json", "."], "is a folder; expected the name of a file"),
        (["--out", "x.json", "--json", "x.json"], "both name x.json"),
        (["--out", "seen.nonsense"], "seen.nonsense"),
        (["--preprocess", "nope.json"], "cannot read nope.json"),
        (["--model", "nope.pt2"], "there is no file nope.pt2"),
        (["--model", "street-dettector"], "Did you mean street-detector"),
        (["--frames", "-1"], "--frames"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(
    model: str, video: str, folder: Path, arguments: list[str], said: str
) -> None:
    done = saccade("run", video, "--model", model, *arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.output
    assert done.stdout == ""
    assert not list(folder.glob("*.json"))


def test_a_missing_video_and_a_missing_camera(model: str, folder: Path) -> None:
    done = saccade("run", "nope.mp4", "--model", model)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "error: there is no file nope.mp4" in done.stderr
    done = saccade("run", "97", "--model", model)
    assert done.exit_code == 2
    assert "camera" in done.stderr


def test_the_video_is_not_overwritten(model: str, video: str) -> None:
    before = Path(video).read_bytes()
    for option in ("--out", "--json"):
        done = saccade("run", video, "--model", model, option, video)
        assert done.exit_code == 2
        assert "is the input itself" in done.stderr
    assert Path(video).read_bytes() == before


def test_a_full_disk_is_said(model: str, video: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = saccade("run", video, "--model", model, "--json", "/dev/full", "--frames", "1")
    assert done.exit_code == 2
    assert "--json /dev/full cannot be written: No space left" in done.stderr


def test_one_of_threshold_and_tolerance_is_settled() -> None:
    assert settle_gate(None, None) == (None, 0.01)
    assert settle_gate(0.0, None) == (0.0, None)
    assert settle_gate(None, 0.0) == (None, 0.0)
    with pytest.raises(InputError, match="give one of the two"):
        settle_gate(0.0, 0.0)


# --- cut short


def test_a_damaged_video_leaves_its_report_and_overlay(model: str, folder: Path) -> None:
    write_video("whole.mkv", pictures(8) * 4, fps=10)
    content = Path("whole.mkv").read_bytes()
    Path("torn.mkv").write_bytes(content[: len(content) * 2 // 3])
    done = saccade("run", "torn.mkv", "--model", model, "--json", "run.json", "--out", "seen.mp4")
    data = json.loads((folder / "run.json").read_text())
    assert done.exit_code == 1
    assert data["damage"]
    assert data["damage"] in done.stderr
    assert 0 < data["frames"] == frames_in(folder / "seen.mp4") < 32
    assert "the video is damaged" in done.stdout


def test_a_video_torn_in_its_first_frame_leaves_a_report_of_none(model: str, folder: Path) -> None:
    write_video("whole.mkv", pictures(8) * 4, fps=10)
    Path("torn.mkv").write_bytes(Path("whole.mkv").read_bytes()[:800])
    done = saccade("run", "torn.mkv", "--model", model, "--json", "run.json", "--out", "seen.mp4")
    assert done.exit_code == 1
    data = json.loads((folder / "run.json").read_text())
    assert (data["frames"], data["macs_ratio"]) == (0, None)
    assert not (folder / "seen.mp4").exists()


INTERRUPTED_RUN = """
import os, signal
import saccade.cli.run as run
from saccade.cli import main

real = run.read_video

class Camera:
    def __init__(self, *args, **kwargs):
        self.reader, self.given = real(*args, **kwargs), 0
        self.fps, self.frame_count_estimate = self.reader.fps, None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.reader.close()

    def __iter__(self):
        return self

    def __next__(self):
        if self.given == 3:
            os.kill(os.getpid(), signal.SIGINT)
        self.given += 1
        return next(self.reader)

run.read_video = Camera
main()
"""


def test_ctrl_c_leaves_the_report_and_a_playable_overlay(model: str, video: str, folder: Path) -> None:
    arguments = ("run", video, "--model", model, "--json", "run.json", "--out", "seen.mp4")
    done = in_a_process(*arguments, code=INTERRUPTED_RUN)
    assert done.returncode == 130, done.stderr
    assert done.stderr == "interrupted after 3 frames; the report is of these\n"
    data = json.loads((folder / "run.json").read_text())
    assert (data["frames"], data["interrupted"], data["damage"]) == (3, True, None)
    assert frames_in(folder / "seen.mp4") == 3


def test_ctrl_c_before_the_first_frame(model: str, video: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import saccade.cli.loading

    def load(name: str) -> Any:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(saccade.cli.loading, "load_model", load)
    done = CliRunner().invoke(app, ["run", video, "--model", model])
    assert done.exit_code == 130
    assert done.stderr == "interrupted\n"


def test_progress_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from saccade.cli.console import progress

    class Terminal:
        written = ""

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            self.written += text
            return len(text)

        def flush(self) -> None:
            pass

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("frames", 2) as advance:
        advance()
    assert "frames" in terminal.written


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_costs_the_overlay_and_not_the_report(model: str, video: str, folder: Path) -> None:
    (folder / "overlay.mkv").symlink_to("/dev/full")
    result = saccade("run", video, "--model", model, "--out", "overlay.mkv", "--json", "report.json")
    assert result.exit_code == 2
    assert "The run goes on without the overlay" in result.stderr
    assert json.loads((folder / "report.json").read_text())["frames"] == 8
