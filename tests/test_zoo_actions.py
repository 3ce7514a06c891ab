"""The shipped classifier of surveillance videos: its record, its weights, and its answers on the clips it never saw."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from saccade.data.actions import CLASSES, read_actions
from saccade.errors import FileFormatError
from saccade.exits import FrameExit, LearnedGate, VideoVisits, classify_videos, exit_macs
from saccade.exits.pooling import make_pooling
from saccade.zoo import load_model, shipped
from saccade.zoo.shipped_weights import WEIGHTS_FOLDER
from tests.assets import require_asset

RECORD = json.loads((WEIGHTS_FOLDER / "actions.json").read_text())


def test_the_record_fits_the_weights() -> None:
    loaded = load_model("actions")
    assert isinstance(loaded.model, FrameExit)
    assert not loaded.model.training
    assert RECORD["parameters"] == sum(parameter.numel() for parameter in loaded.model.parameters())
    said = ("frames", "hidden", "pooling", "order")
    assert [RECORD["options"][name] for name in said] == [loaded.model.frames, 32, "average", loaded.model.order]
    assert type(loaded.model.pooling) is type(make_pooling("average", 32))
    assert loaded.class_names == CLASSES
    assert loaded.example[0].shape == (1, 6, 3, 3, 112, 112)
    assert loaded.frame_stride * loaded.model.frames == 60  # a window of a stream is as long as the clips
    with (WEIGHTS_FOLDER / "actions.log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert int(rows[-1]["step"]) == RECORD["steps"]
    assert float(rows[-1]["classification"]) < float(rows[0]["classification"])


def test_weights_that_are_gone_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "WEIGHTS_FOLDER", tmp_path)
    with pytest.raises(FileFormatError, match="expected the actions classifier's weights; reinstall saccade"):
        load_model("actions")


def test_the_clips_of_the_test_block_are_told_as_well_as_the_record_says() -> None:
    videos = read_actions(require_asset("actions"), part="test").videos
    loaded = load_model("actions")
    model, how = loaded.model, loaded.preprocess
    assert isinstance(model, FrameExit)
    assert how is not None
    macs = exit_macs(model, torch.zeros(1, 3, 3, 112, 112))
    truth = {video.path: video.label for video in videos}
    visits = (VideoVisits(video.path, model, how, clip=3, cache=False) for video in videos)
    found = list(classify_videos(model, visits, LearnedGate(), macs=macs))
    assert len(found) == len(videos) == 60
    assert all(each.exits is not None for each in found)
    right = [int(each.exits.scores.argmax()) == truth[each.video.path] for each in found if each.exits is not None]
    frames = [float(each.exits.frames) for each in found if each.exits is not None]
    assert 100 * sum(right) / 60 == pytest.approx(RECORD["test"]["top1"], abs=7)  # at other places of the clips
    assert sum(frames) / 60 == pytest.approx(RECORD["test"]["frames"], abs=1)
