"""`saccade report`: what it writes, says and leaves behind, and how it ends."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saccade.cli.loading import frames_to_run, shown_name, video_source
from saccade.cli.options import StreamOptions
from saccade.preprocess import Preprocess
from saccade.video import write_video
from tests.command_line import H, W, saccade, save_network


def pictures(count: int) -> list[Any]:
    noise = np.random.default_rng(0).integers(0, 120, (2 * H, 2 * W, 3), dtype=np.uint8)
    result = np.stack([noise] * count)
    for index in range(count):
        result[index, 10:20, 4 * (index % 10) : 4 * (index % 10) + 10] = 250
    return list(result)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "net & <co>.pt2"
    save_network(path)
    return str(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_video("clip.mkv", pictures(8), fps=10)
    return tmp_path


def test_it_writes_the_page_and_says_where(model: str, folder: Path) -> None:
    done = saccade("report", model, "clip.mkv", "--json", "report.json")
    assert done.exit_code == 0, done.output
    page = (folder / "report.html").read_text(encoding="utf-8")
    data = json.loads((folder / "report.json").read_text())
    assert "report: report.html" in done.stdout
    assert "macs ratio" in done.stdout
    assert page.startswith("<!doctype html>")
    assert page.count("data:image/jpeg;base64,") == 8 + 4
    assert "net &amp; &lt;co&gt;.pt2" in page
    assert f"{data['run']['macs_ratio']:.3g}\u00d7" in page
    assert (data["run"]["frames"], len(data["frames"]), data["run"]["tolerance"]) == (8, 8, 0.01)
    assert [point["name"] for point in data["points"]] == ["scale"] * 5 + ["repeat"] * 2 + ["floor"]
    assert data["frames"][3]["seconds"] == pytest.approx(0.3)


def test_the_command_in_the_page_repeats_it(model: str, folder: Path) -> None:
    Preprocess(size=(H, W), channels="bgr").save("how it is.json")
    options = ["--threshold", "0.05", "--record", "accumulated", "--executor", "reference"]
    options += ["--frames", "3", "--preprocess", "how it is.json"]
    assert saccade("report", model, "clip.mkv", *options, "--out", "one.html", "--json", "one.json").exit_code == 0
    page = (folder / "one.html").read_text(encoding="utf-8")
    command = html.unescape(re.findall("<pre>(.*?)</pre>", page, re.DOTALL)[0])
    again = saccade(*shlex.split(command)[1:], "--out", "two.html", "--json", "two.json")
    assert again.exit_code == 0, again.output
    first, second = (json.loads((folder / name).read_text()) for name in ("one.json", "two.json"))
    assert first["steps"] == second["steps"]
    assert first["command"] == second["command"] == command
    assert first["operating"]["macs_fraction"] == second["operating"]["macs_fraction"]
    assert "milliseconds are not faster than dense" in page


def test_options_come_back_as_they_were_given() -> None:
    assert StreamOptions(None, None, None, None, "float32", 1).arguments() == []
    given = StreamOptions(None, 0.025, "coarse", "native", "bfloat16", 2).arguments()
    assert given == shlex.split("--tolerance 0.025 --record coarse --executor native --precision bfloat16 --threads 2")
    assert StreamOptions(0.0, None, None, None, "float32", 1).arguments() == ["--threshold", "0.0"]
    assert float(StreamOptions(0.1234567891, None, None, None, "float32", 1).arguments()[1]) == 0.1234567891


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--threshold", "0.1", "--tolerance", "0.1"], "give one of the two"),
        (["--out", "nowhere/report.html"], "there is no folder"),
        (["--out", "."], "is a folder"),
        (["--out", "clip.mkv"], "is the input itself"),
        (["--out", "x", "--json", "x"], "both name x"),
        (["--preprocess", "nope.json"], "cannot read nope.json"),
    ],
)
def test_mistakes_are_said_before_anything_is_written(
    model: str, folder: Path, arguments: list[str], said: str
) -> None:
    done = saccade("report", model, "clip.mkv", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split())
    assert sorted(path.name for path in folder.iterdir()) == ["clip.mkv"]


def test_a_damaged_video_has_a_page_of_what_came_before(model: str, folder: Path) -> None:
    write_video("whole.mkv", pictures(40), fps=10)
    content = Path("whole.mkv").read_bytes()
    for name, size in (("torn.mkv", len(content) * 2 // 3), ("torn-at-once.mkv", 800)):
        Path(name).write_bytes(content[:size])
        done = saccade("report", model, name, "--json", "report.json")
        data = json.loads((folder / "report.json").read_text())
        assert done.exit_code == 1
        assert data["run"]["damage"] in done.stderr
        assert html.escape(data["run"]["damage"]) in (folder / "report.html").read_text()
        assert data["run"]["frames"] == len(data["frames"])
    assert data["run"]["frames"] == 0


def test_ctrl_c_leaves_the_page_of_the_frames_until_then(
    model: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from saccade.video.reading import VideoReader

    real = VideoReader.__next__

    def stopped(reader: VideoReader) -> Any:
        frame = real(reader)
        if frame.index == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return frame

    monkeypatch.setattr(VideoReader, "__next__", stopped)
    done = saccade("report", model, "clip.mkv", "--json", "report.json")
    assert done.exit_code == 130
    assert done.stderr.endswith("interrupted after 5 frames; the report is of these\n")
    assert "Interrupted: this is of the 5 frames" in (folder / "report.html").read_text()
    assert len(json.loads((folder / "report.json").read_text())["frames"]) == 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_said(model: str, folder: Path) -> None:
    done = saccade("report", model, "clip.mkv", "--frames", "1", "--out", "/dev/full")
    assert done.exit_code == 2
    assert "--out /dev/full cannot be written: No space left" in done.stderr


def test_a_video_is_a_file_an_address_or_a_camera(folder: Path) -> None:
    assert video_source("0") == 0
    Path("7").write_bytes(b"")
    assert video_source("7") == "7"
    assert video_source("clip.mkv") == "clip.mkv"
    assert shown_name("rtsp://me:secret@host/x") == "rtsp://host/x"
    assert shown_name("a@b/c.mp4") == "a@b/c.mp4"
    assert [frames_to_run(*given) for given in ((None, None), (9, None), (9, 4), (9, 20), (None, 4))] == [
        None,
        9,
        4,
        9,
        4,
    ]


def test_a_model_there_is_not_is_refused_by_name(folder: Path) -> None:
    done = saccade("report", "street-dettector", "clip.mkv")
    assert done.exit_code == 2
    assert "Did you mean street-detector" in done.stderr
