"""Networks of clips over a video: which frames a clip is made of, what is reported, what `saccade run` refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import clip
from torch import Tensor, nn
from typer.testing import CliRunner

from saccade import Engine, Preprocess, read_video
from saccade.cli.app import app
from saccade.data.sampling import clip_span
from saccade.errors import DamagedVideoError, InputError
from saccade.evaluate.clip_run import run_clips

NAMES = ("sit", "stand", "walk", "run")
FACTORY = """
import torch
from torch import nn
from saccade import Preprocess
from saccade.zoo import LoadedModel

def classifier():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layers = nn.Sequential(nn.Conv3d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 4))
    return layers.eval()

def clips(kind="classification", shape=(1, 3, 5, 12, 16)):
    return LoadedModel(
        name="mine", model=classifier(), example=(torch.zeros(shape),), preprocess=Preprocess(size=(12, 16)),
        kind=kind, class_names=("sit", "stand", "walk", "run"), frame_stride=2,
    )

def boxes():
    return clips("detection")

def pictures():
    return nn.Conv2d(3, 2, 3), torch.zeros(1, 3, 12, 16)

def clips_last():
    return clips(shape=(1, 5, 3, 12, 16))
"""


class Numbers(nn.Module):
    """Scores that tell which frames a clip is made of: frame i of a video is full of the number i."""

    def forward(self, clips: Tensor) -> Tensor:
        """Return the mean of every frame, (B, T)."""
        return clips.mean((1, 3, 4))


@pytest.mark.parametrize(("frames", "stride"), [(4, 1), (3, 2), (2, 5), (1, 3)])
@pytest.mark.parametrize("length", [0, 1, 2, 5, 6, 7, 12, 13, 30])
def test_clips_follow_one_another(length: int, frames: int, stride: int) -> None:
    engine = Engine(Numbers(), torch.zeros(1, 1, frames, 2, 3))
    seen: list[list[int]] = []

    def watched(given: Tensor) -> Any:
        scores = engine(given)
        seen.append(scores[0].round().long().tolist())
        return scores

    watched.__dict__ |= {name: getattr(engine, name) for name in ("executor", "precision", "threads", "isa", "cost")}
    report = run_clips(
        watched,  # type: ignore[arg-type]
        range(length),
        prepare=lambda i: torch.full((1, 1, 2, 3), float(i)),
        frames=frames,
        stride=stride,
    )
    span = clip_span(frames, stride)
    starts = [start for start in range(0, length, frames * stride) if start + span <= length]
    wanted = [[start + stride * i for i in range(frames)] for start in starts]
    if not wanted and length:
        wanted = [[i * stride % length for i in range(frames)]]
    assert seen == wanted
    assert report.frames == length
    ends = [(start, start + span - 1) for start in starts] or [(0, length - 1)] * (length > 0)
    assert [(each.first_frame, each.last_frame) for each in report.clips] == ends
    unused = [i for i in range(length) if starts and i >= starts[-1] + frames * stride]
    assert report.frames_left == len(unused)


def settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_clip_run.py").write_text(FACTORY)
    clip(tmp_path / "a.mp4", 23)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def saccade(*arguments: str | Path) -> Any:
    result = CliRunner().invoke(app, ["run", *(str(argument) for argument in arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_run_says_which_classes_a_network_of_clips_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settled(tmp_path, monkeypatch)
    result = saccade("a.mp4", "--model", "mine_clip_run:clips", "--json", "out.json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(Path("out.json").read_text())
    from mine_clip_run import classifier  # type: ignore[import-not-found]

    pictures = [Preprocess(size=(12, 16))(frame) for frame in read_video("a.mp4")]
    found = []
    for start, each in zip((0, 10), report["clips"], strict=True):
        with torch.no_grad():
            scores = classifier()(torch.stack(pictures[start : start + 9 : 2], 2))[0]
        found.append(scores.double().softmax(0))
        best = found[-1].argsort(descending=True).tolist()
        assert [one["label"] for one in each["classes"]] == best
        assert [one["name"] for one in each["classes"]] == [NAMES[label] for label in best]
        assert [one["probability"] for one in each["classes"]] == pytest.approx(found[-1][best].tolist(), rel=1e-4)
        assert (each["first_frame"], each["last_frame"]) == (start, start + 8)
    mean = (found[0] + found[1]) / 2
    assert [one["probability"] for one in report["classes"]] == pytest.approx(mean.sort().values.flip(0).tolist())
    assert (report["frames"], report["frames_left"], report["clip_stride"]) == (23, 3, 2)
    assert report["executed_macs"] == report["dense_macs"] > 0
    assert "0 to 8" in result.stdout
    assert f"{NAMES[int(mean.argmax())]} {float(mean.max()):.3f}" in result.stdout
    assert "2 of 5 frames, one in 2" in result.stdout
    other = saccade("a.mp4", "--model", "mine_clip_run:clips", "--json", "-", "--clip-stride", "1", "--frames", "11")
    assert [each["last_frame"] for each in json.loads(other.stdout)["clips"]] == [4, 9]


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("clips", ["--tolerance", "0.1", "--verify"], "takes clips.*leave --tolerance, --verify away"),
        ("clips", ["--out", "o.mp4"], "leave --out away"),
        ("clips", ["--camera", "moving", "--profile"], "leave --camera, --profile away"),
        ("boxes", [], "takes clips and gives detection; run shows the classes"),
        ("clips_last", [], r"takes \(1, 5, 3, 12, 16\); run makes pictures"),
        ("pictures", ["--clip-stride", "2"], "--clip-stride is of networks of clips"),
    ],
)
def test_what_run_cannot_do_with_clips_is_said(
    model: str, options: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(tmp_path, monkeypatch)
    result = saccade("a.mp4", "--model", f"mine_clip_run:{model}", *options)
    assert result.exit_code == 2
    assert re.search(said, result.stderr)
    assert not Path("o.mp4").exists()


def test_a_damaged_video_ends_the_run_not_the_report() -> None:
    def frames() -> Iterator[int]:
        yield from range(7)
        raise DamagedVideoError("it breaks off")

    engine = Engine(Numbers(), torch.zeros(1, 1, 3, 2, 3))
    report = run_clips(engine, frames(), prepare=lambda i: torch.full((1, 1, 2, 3), float(i)), frames=3)
    assert (len(report.clips), report.frames, report.damage) == (2, 7, "it breaks off")
    assert report.ms_per_clip.median is not None


def test_a_network_without_scores_is_told_so() -> None:
    engine = Engine(nn.ReLU(), torch.zeros(1, 1, 2, 2, 3))
    with pytest.raises(InputError, match=r"gave \(1, 1, 2, 2, 3\) for a clip; expected scores of classes"):
        run_clips(engine, range(4), prepare=lambda i: torch.zeros(1, 1, 2, 3), frames=2)
