"""`saccade redundancy`: which frames it looks at, what it writes, what it refuses."""

from __future__ import annotations

import json
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import clip
from torch import nn

from saccade import Preprocess, read_video
from saccade.cli.redundancy import cut_starts
from saccade.errors import InputError
from saccade.reduce import Rebuilt, Redundancy, Similarity, Thresholds, measure_redundancy
from saccade.report.redundancy_plot import NAMED, PANELS, redundancy_by_layer
from tests.command_line import H, W, saccade, save_network

FACTORIES = """
import torch
from torch import nn

def made(*layers):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return nn.Sequential(*(make() for make in layers)).eval()

def clips():
    stem = lambda: nn.Conv3d(3, 4, 3, padding=1)
    return made(stem, nn.ReLU, lambda: nn.Conv3d(4, 1, (5, 1, 1))), torch.zeros(1, 3, 5, 24, 32)

def clips_last():
    return clips()[0], torch.zeros(1, 5, 3, 24, 32)

def two():
    return clips()[0], (torch.zeros(1, 3, 24, 32), torch.zeros(1, 3, 24, 32))

def none():
    return made(nn.Flatten), torch.zeros(1, 3, 24, 32)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with net.pt2, mine.py and a.mp4 (30 frames) and b.mp4 (12 frames)."""
    save_network(tmp_path / "net.pt2")
    (tmp_path / "mine_redundancy.py").write_text(FACTORIES)
    clip(tmp_path / "a.mp4", 30)
    clip(tmp_path / "b.mp4", 12)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def frames_of(path: Path, numbers: range) -> torch.Tensor:
    how = Preprocess(size=(H, W))
    return torch.cat([how(frame) for frame in read_video(path) if frame.index in numbers])


def test_pictures_are_measured_on_clips_spread_over_the_videos(folder: Path) -> None:
    done = saccade("redundancy", "net.pt2", "a.mp4", "b.mp4", "--clips", "2", "--stride", "1", "--json", "out.json")
    assert done.exit_code == 0, done.stderr
    for words in ("CC, mean over pairs", "RP: pairs with CC > 0.85 and RMSE < 0.05", "6x8x24x32", "4 clips; of 2"):
        assert words in done.stdout
    told = json.loads((folder / "out.json").read_text())
    assert set(told) == {
        *("model", "weights", "frames", "stride", "clips", "threshold_cc", "threshold_rmse"),
        *("time", "channel", "rebuilt", "layers"),
    }
    assert (told["frames"], told["stride"], told["threshold_cc"], told["threshold_rmse"]) == (8, 1, 0.85, 0.05)
    cuts = [("a.mp4", 0), ("a.mp4", 22), ("b.mp4", 0), ("b.mp4", 4)]
    assert [(cut["video"], cut["start"]) for cut in told["clips"]] == cuts
    network = torch.export.load(folder / "net.pt2")
    found = measure_redundancy(network, [frames_of(folder / video, range(at, at + 8)) for video, at in cuts])
    quantities = {"time": Similarity, "channel": Similarity, "rebuilt": Rebuilt}
    for dimension, kind in quantities.items():
        assert set(told[dimension]) == {field.name for field in fields(kind)}
        for name, value in told[dimension].items():
            over = found.rebuilt(name) if dimension == "rebuilt" else found.spread(dimension, name)
            assert value == pytest.approx(over._asdict())
    assert [(layer["name"], layer["shape"]) for layer in told["layers"]] == [
        ("0", [6, 8, H, W]),
        ("2", [4, 8, H, W]),
    ]
    assert told["layers"][1]["channel"]["rmse"] == pytest.approx(found.layers[1].spread("channel", "rmse")._asdict())
    assert set(told["layers"][0]) == {"name", "shape", "time", "channel", "rebuilt", "not_applicable"}


def test_a_network_of_clips_sees_as_many_frames_as_its_example(folder: Path) -> None:
    ran = saccade("redundancy", "mine_redundancy:clips", "a.mp4", "--clips", "1", "--stride", "3", "--json", "-")
    assert ran.exit_code == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["frames"], told["stride"]) == (5, 3)
    assert told["clips"] == [{"video": "a.mp4", "start": 8}]
    first, last = told["layers"]
    assert first["shape"] == [4, 5, H, W]
    assert last["shape"] == [1, 1, H, W]
    assert last["not_applicable"] == {"channel": "one channel", "time": "one frame"}
    assert (last["time"], last["channel"], last["rebuilt"]) == (None, None, None)
    assert told["time"] == first["time"]
    made: dict[str, Any] = {}
    exec(FACTORIES, made)
    given = frames_of(folder / "a.mp4", range(8, 21, 3)).transpose(0, 1)[None]
    expected = measure_redundancy(made["clips"]()[0], [given]).spread("time", "cc")
    assert expected is not None
    assert told["time"]["cc"] == pytest.approx(expected._asdict())

    seven = saccade("redundancy", "mine_redundancy:clips", "a.mp4", "--clips", "1", "--frames", "7", "--json", "-")
    assert json.loads(seven.stdout)["layers"][0]["shape"] == [4, 7, H, W]
    shown = saccade("redundancy", "mine_redundancy:clips", "a.mp4", "--clips", "1")
    assert "-: does not apply (one channel; one frame)" in shown.stdout


def test_thresholds_are_those_asked_for(folder: Path) -> None:
    shares = []
    for cc, rmse in ((0.2, 1.0), (0.9, 1.0), (0.9, 1e-6)):
        given = ("--clips", "1", "--threshold-cc", f"{cc}", "--threshold-rmse", f"{rmse}", "--json", "-")
        told = json.loads(saccade("redundancy", "net.pt2", "a.mp4", *given).stdout)
        assert (told["threshold_cc"], told["threshold_rmse"]) == (cc, rmse)
        shares.append(told["channel"]["redundant_pairs"]["mean"])
    assert all(before > after for before, after in pairwise(shares))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["net.pt2", "none.mp4"], "there is no video none.mp4"),
        (["none.pt2", "a.mp4"], "none.pt2"),
        (
            ["net.pt2", "a.mp4", "b.mp4", "--frames", "13"],
            "b.mp4 has 12 frames; a clip of 13 frames, one in 1, takes 13",
        ),
        (["net.pt2", "b.mp4", "--stride", "2"], "b.mp4 has 12 frames; a clip of 8 frames, one in 2, takes 15"),
        (["net.pt2", "b.mp4", "--clips", "6"], "5 different clips of 8 frames, one in 1, but 6 were asked for"),
        (["mine_redundancy:clips", "a.mp4", "--frames", "4"], "does not take an input (1, 3, 4, 24, 32)"),
        (["mine_redundancy:clips_last", "a.mp4"], "takes (1, 5, 3, 24, 32); expected one input"),
        (["mine_redundancy:two", "a.mp4"], "takes (1, 3, 24, 32), (1, 3, 24, 32); expected one input"),
        (["mine_redundancy:none", "a.mp4"], "runs no 2d or 3d convolution"),
        (["net.pt2", "a.mp4", "--threshold-cc", "1"], "expected -1 to below 1"),
        (["net.pt2", "a.mp4", "--threshold-rmse", "0"], "expected more than 0"),
        (["net.pt2", "a.mp4", "--plot", "nowhere/plot.svg"], "--plot nowhere/plot.svg: there is no folder"),
        (["net.pt2", "a.mp4", "--json", "a.mp4"], "is the input itself"),
        (["net.pt2", "a.mp4", "--json", "x.svg", "--plot", "x.svg"], "--plot and --json both name x.svg"),
    ],
)
def test_what_cannot_be_is_said(folder: Path, arguments: list[str], says: str) -> None:
    before = set(folder.iterdir())
    done = saccade("redundancy", *arguments)
    assert done.exit_code == 2
    assert says in done.stderr
    assert {path for path in folder.iterdir() if path.name != "__pycache__"} == before - {folder / "__pycache__"}


def test_clips_lie_evenly_from_the_first_frame_to_the_last(folder: Path) -> None:
    video = str(folder / "b.mp4")
    assert cut_starts(video, 4, 1, 3) == [0, 4, 8]
    assert cut_starts(video, 4, 3, 3) == [0, 1, 2]
    assert cut_starts(video, 12, 1, 1) == [0]
    assert cut_starts(video, 1, 5, 12) == list(range(12))
    assert cut_starts(video, 5, 2, 1) == [1]
    with pytest.raises(InputError, match="3 different clips"):
        cut_starts(video, 4, 3, 4)


# --- the plot


def measured(layers: int) -> Redundancy:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        convolutions = [nn.Conv2d(3, 3, 1) for _ in range(layers)]
        return measure_redundancy(
            nn.Sequential(*convolutions, nn.Conv2d(3, 1, 1)).eval(), list(torch.randn(2, 3, 3, 5, 6))
        )


def test_the_plot_has_a_panel_per_quantity_and_a_line_per_dimension() -> None:
    pytest.importorskip("matplotlib")
    found = measured(4)
    figure = redundancy_by_layer(found, title="net")
    assert len(figure.axes) == len(PANELS)
    for axes, quantity in zip(figure.axes, PANELS, strict=True):
        unit = 100 if quantity == "redundant_maps" else 1
        for bars, dimension, places in zip(axes.containers, ("time", "channel"), (range(5), range(4)), strict=True):
            over = [found.layers[place].spread(dimension, quantity) for place in places]
            assert bars.get_label() == dimension
            assert list(bars[0].get_xdata()) == list(places)
            assert list(bars[0].get_ydata()) == pytest.approx([unit * each.mean for each in over])
            ends = [segment[:, 1] for segment in bars[2][0].get_segments()]
            for end, each in zip(ends, over, strict=True):
                assert list(end) == pytest.approx([unit * each.low, unit * each.high])
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == ["0", "1", "2", "3", "4"]


def test_many_layers_are_numbered_and_a_missing_dimension_is_no_error() -> None:
    pytest.importorskip("matplotlib")
    assert "order" in redundancy_by_layer(measured(NAMED)).axes[-1].get_xlabel()
    one = measure_redundancy(nn.Conv2d(3, 1, 1).eval(), [torch.randn(1, 3, 4, 4)], thresholds=Thresholds())
    redundancy_by_layer(one).draw_without_rendering()


def test_the_command_writes_the_plot(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    done = saccade("redundancy", "net.pt2", "b.mp4", "--clips", "2", "--plot", "plot.svg")
    assert done.exit_code == 0, done.stderr
    assert (folder / "plot.svg").read_text().startswith("<?xml")
    assert (folder / "plot.png").read_bytes()[:4] == b"\x89PNG"
    assert "plot.svg" in done.stderr
