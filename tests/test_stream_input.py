"""What a stream refuses, with what message, and that nothing is lost by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import RandomNetwork, moving_square
from torch import nn

import saccade
from saccade.errors import FileFormatError, InputError, StateError

SIZE = (13, 17)
VIDEO = moving_square(6, SIZE)


@pytest.fixture
def stream(executor: str) -> saccade.Stream:
    return saccade.Stream(RandomNetwork(1), torch.zeros(1, 3, *SIZE), tolerance=0.01, executor=executor)


def broken(value: float) -> torch.Tensor:
    frame = VIDEO[2].clone()
    frame[0, 1, 3, 4] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            torch.zeros(1, 3, 20, 17),
            r"'x' of frame 2 has shape \(1, 3, 20, 17\), expected \(1, 3, 13, 17\); .*resize",
        ),
        (
            torch.zeros(2, 3, 13, 17),
            r"has shape \(2, 3, 13, 17\).*made for a batch of 1: use one stream per video",
        ),
        (VIDEO[0].double(), r"has type torch.float64, expected torch.float32; convert it"),
        (VIDEO[0].mul(255).byte(), r"has type torch.uint8, expected torch.float32; convert it"),
        (VIDEO[0].to("meta"), r"is on meta in layout torch.strided, expected a dense tensor in the CPU's memory"),
        (VIDEO[0].to_sparse(), r"is on cpu in layout torch.sparse_coo, expected a dense tensor .*\.to_dense\(\)"),
        (
            broken(float("nan")),
            r"holds 1 NaN or infinite values, expected finite ones; the frame was not used",
        ),
        (broken(float("inf")), r"holds 1 NaN or infinite values"),
        (
            (VIDEO[0], VIDEO[0]),
            r"(?s)got 2 inputs structured as .*, expected 1 as .*the way the example called",
        ),
        (
            np.zeros((13, 17, 3), np.uint8),
            r"got a video frame \(ndarray\) but this stream does not know.*preprocess=",
        ),
    ],
    ids=["size", "batch", "float64", "uint8", "device", "layout", "nan", "inf", "count", "frame"],
)
def test_a_bad_frame_is_refused_and_the_stream_goes_on(stream: saccade.Stream, frame: Any, message: str) -> None:
    other = saccade.Stream(stream.plan, tolerance=0.01, executor=stream.executor)
    for good in VIDEO[:2]:
        stream(good)
        other(good)
    with pytest.raises(InputError, match=message):
        stream(frame)
    assert stream.frames == 2
    a, b = stream(VIDEO[3]), other(VIDEO[3])
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_frame_goes_through_the_preprocess_stored_with_the_plan(executor: str) -> None:
    preprocess = saccade.Preprocess(size=SIZE)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    stream = saccade.Stream(RandomNetwork(1), pixels, preprocess=preprocess, executor=executor)
    again = saccade.Stream(stream.plan, executor=executor)
    a, b = stream(pixels), again(preprocess(pixels))
    for key in a:  # the native engine preprocesses frames itself, to rounding
        torch.testing.assert_close(a[key], b[key], rtol=0, atol=0 if executor == "reference" else 1e-5)
    c = saccade.Stream(stream.plan, executor=executor)(saccade.Frame(pixels, 0, 0.0))
    assert all(torch.equal(a[key], c[key]) for key in a)


def test_a_stream_made_from_a_frame_takes_frames(executor: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    model = RandomNetwork(1)
    stream = saccade.Stream(model, saccade.Frame(pixels, 0, 0.0), tolerance=0.01, executor=executor)
    got = stream(saccade.Frame(pixels, 0, 0.0))
    expected = model(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)
    for key in expected:
        torch.testing.assert_close(got[key], expected[key])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": -1.0}, "a threshold must be a finite number of at least 0, got -1.0"),
        ({"threshold": float("nan")}, "a threshold must be a finite number of at least 0, got nan"),
        ({"tolerance": -0.1}, "a tolerance must be a finite number of at least 0, got -0.1"),
        ({"threshold": 0.1, "tolerance": 0.1}, "got threshold=0.1 and tolerance=0.1; give one of the two"),
        (
            {"threshold": {"nobody": 0.1}},
            "thresholds are given for nobody, which the plan of .* does not have",
        ),
        ({"executor": "warp"}, "unknown executor 'warp'; expected one of native, reference"),
        ({"record": "tape"}, "unknown record 'tape'; expected one of reference, coarse, accumulated"),
        ({"executor": "reference", "precision": "bfloat16"}, "precision='bfloat16' needs the native executor"),
        ({"executor": "reference", "threads": 2}, "threads and profile are the native executor's"),
    ],
)
def test_bad_settings_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        saccade.Stream(nn.ReLU(), torch.zeros(1, 3, *SIZE), **arguments)


def test_bad_channel_weights_are_refused(executor: str) -> None:
    with pytest.raises(InputError, match="channel weights must be numbers of at least 0"):
        saccade.Gate(0.1, torch.tensor([1.0, -1.0]))
    gates = {"input": saccade.Gate(0.1, torch.ones(5))}
    stream = saccade.Stream(nn.Conv2d(3, 2, 1), VIDEO[0], threshold=gates, executor=executor)
    with pytest.raises(InputError, match=r"the gate of input has channel weights of shape \(5,\), expected \(3,\)"):
        stream(VIDEO[0])
    assert (stream.frames, stream.state.nbytes) == (0, 0)


def test_a_state_of_another_plan_is_refused(stream: saccade.Stream, tmp_path: Path) -> None:
    other = saccade.Stream(RandomNetwork(2), torch.zeros(1, 3, *SIZE), executor=stream.executor)
    other(VIDEO[0])
    stream(VIDEO[0])
    other.state.save(tmp_path / "other")
    with pytest.raises(StateError, match="is a state of another plan"):
        stream.state.load(tmp_path / "other")
    assert stream.frames == 1
    with pytest.raises(StateError, match="the state belongs to another plan"):
        saccade.Stream(stream.plan, state=other.state)
    twin = saccade.Stream(stream.plan, record="accumulated", executor=stream.executor)
    stream.state.save(tmp_path / "own")
    with pytest.raises(StateError, match="holds coarse records, this stream keeps accumulated ones; open"):
        twin.state.load(tmp_path / "own")


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "is damaged or not a saccade-state file"),
        (cut, "is damaged or not a saccade-state file"),
        (lambda data: b"\x80\x04K\x01." * 9, "is damaged or not a saccade-state file"),
        (lambda data: data.replace(b'"frames":"2"', b'"frames":"x"'), "the state in .* is damaged"),
        (
            lambda data: data.replace(b"saccade-state", b"saccade-stale"),
            "is not a saccade-state file but saccade-stale",
        ),
    ],
    ids=["empty", "cut", "pickle", "field", "kind"],
)
def test_a_damaged_state_is_refused(
    stream: saccade.Stream, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    for frame in VIDEO[:2]:
        stream(frame)
    path = tmp_path / "state"
    stream.state.save(path)
    before = path.read_bytes()
    path.write_bytes(damage(before))
    assert path.read_bytes() != before
    with pytest.raises(FileFormatError, match=message):
        stream.state.load(path)
    assert stream.frames == 2


def test_a_state_that_cannot_be_written_says_so(stream: saccade.Stream, tmp_path: Path) -> None:
    stream(VIDEO[0])
    with pytest.raises(FileFormatError, match=r"cannot write .*existing folder"):
        stream.state.save(tmp_path / "nowhere" / "state")
    with pytest.raises(FileFormatError, match="there is no file"):
        stream.state.load(tmp_path / "nowhere" / "state")


def test_gradients_do_not_leak_into_the_stream(stream: saccade.Stream) -> None:
    out = stream(VIDEO[0].clone().requires_grad_())
    assert not any(tensor.requires_grad for tensor in out.values())
