"""A live stream window by window: the answers of `classify_video`, as soon as they are sure, and little is held."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import clip
from exits_definition import small
from torch import Tensor, nn

from saccade.errors import InputError
from saccade.exits import (
    Confidence,
    ExitRule,
    FixedBudget,
    FrameExit,
    LearnedGate,
    LiveAnswer,
    LiveExits,
    Oracle,
    classify_video,
    exit_macs,
)
from saccade.preprocess import Preprocess
from saccade.video import read_video
from tests.command_line import EXITS_FACTORY, saccade

RANDOM = torch.Generator().manual_seed(0)
STREAM = torch.randn(40, 3, 5, 4, dtype=torch.float64, generator=RANDOM)
STREAM += torch.randn(40, 3, 1, 1, dtype=torch.float64, generator=RANDOM)
RULES: dict[str, ExitRule] = {
    "gate": LearnedGate(0.6),
    "probability": Confidence(0.9),
    "budget": FixedBudget(2),
    "never": Confidence(2.0),
}


def same(answer: LiveAnswer, model: FrameExit, frames: list[Tensor], rule: ExitRule) -> bool:
    """Whether an answer is that of `classify_video` on frames in the order of the visits."""
    alone = classify_video(model, frames, rule, macs=exit_macs(model, frames[0][None]))
    numbers = ("frames", "executed_macs", "gate_macs", "scores")
    return all(torch.equal(getattr(answer.exits, name), getattr(alone, name)) for name in numbers)


@pytest.mark.parametrize("order", ["coarse-to-fine", "sequential", "random"])
@pytest.mark.parametrize(("window", "every"), [(8, None), (7, 3), (9, 1), (3, 3), (1, 1), (10, 15)])
def test_every_window_has_the_answer_of_classify_video_as_soon_as_it_is_sure(
    window: int, every: int | None, order: str
) -> None:
    model = small(order=order).train()
    macs, step = exit_macs(model, STREAM[:1]), every or window
    firsts = range(0, len(STREAM) - window + 1, step)
    for rule in RULES.values():
        live, counts = LiveExits(model, rule, macs=macs, window=window, every=every), Counter[int]()
        for number, frame in enumerate(STREAM):
            for answer in live.push(frame):
                places = model.positions(window, seed=answer.first // step)
                order_of_visits = [answer.first + place for place in places]
                assert same(answer, model, [STREAM[k] for k in order_of_visits if k < len(STREAM)], rule)
                assert list(answer.visited) == order_of_visits[: int(answer.exits.frames)]
                assert answer.at == number == max(answer.visited), "it was sure before, or is not yet"
                assert answer.last == answer.first + window - 1
                assert answer.latency_ms > 0
                assert not answer.exits.scores.requires_grad
                counts[answer.first] += 1
            assert live.held <= min(window, 4 * -(-window // step))
        assert all(module.training for module in model.modules())
        assert set(firsts) <= set(counts)
        assert set(counts.values()) == {1}
        early = [answered for answered in counts if answered not in firsts]  # sure before the stream ended
        assert all(first % step == 0 and first < len(STREAM) for first in early)


def test_an_answer_that_is_sure_does_not_wait_for_the_end_and_what_is_not_looked_at_costs_nothing() -> None:
    model, prepared = small(frames=4), list[int]()

    def prepare(number: int) -> Tensor:
        prepared.append(number)
        return STREAM[number][None]

    live = LiveExits(model, FixedBudget(1), macs=exit_macs(model, STREAM[:1]), window=8, preprocess=prepare)
    answers = [answer for number in range(40) for answer in live.push(number)]
    assert [(answer.first, answer.at) for answer in answers] == [(8 * k, 8 * k + 5) for k in range(5)]
    assert prepared == [8 * k + 5 for k in range(5)]
    live = LiveExits(model, FixedBudget(2), macs=exit_macs(model, STREAM[:1]), window=8, preprocess=prepare)
    held = []
    for number in range(8):
        live.push(number)
        held.append(live.held)
    assert held == [0, 1, 1, 2, 2, 0, 0, 0]  # 5, 1, 7 and 3 may be visited, in this order


def test_a_stream_that_ends_is_answered_after_the_frames_that_came() -> None:
    model, rule = small(frames=4), Confidence(2.0)
    live = LiveExits(model, rule, macs=exit_macs(model, STREAM[:1]), window=8)
    for _ in range(2):  # the second stream knows nothing of the first
        assert not any(live.push(frame) for frame in STREAM[:5])
        (answer,) = live.finish()
        assert same(answer, model, [STREAM[1], STREAM[3]], rule)
        assert (answer.first, answer.at, answer.visited) == (0, 4, (1, 3))
        assert live.held == 0
    live.push(STREAM[0])
    assert live.finish() == []


@pytest.mark.parametrize(("count", "stride", "window"), [(3, 2, 9), (2, 1, 4), (4, 3, 6)])
def test_clips_lie_around_the_places_and_inside_the_window(count: int, stride: int, window: int) -> None:
    torch.manual_seed(0)
    model = FrameExit(nn.Conv3d(3, 5, (2, 3, 3)), features=5, classes=2, frames=3, hidden=4).double().eval()
    rule, answers = Confidence(2.0), list[LiveAnswer]()
    example = torch.zeros(1, 3, count, 5, 4, dtype=torch.float64)
    live = LiveExits(model, rule, macs=exit_macs(model, example), window=window, clip=count, stride=stride)
    for frame in STREAM:
        answers += live.push(frame)
        assert live.held <= window
    span = (count - 1) * stride + 1
    assert {answer.first for answer in answers} >= set(range(0, len(STREAM) - window + 1, window))
    for answer in answers:
        frames = []
        for place in model.positions(window):
            if span > window:
                numbers = [k * stride % window for k in range(count)]
            else:
                start = min(range(window - span + 1), key=lambda at, p=place: abs(at + span // 2 - p))
                numbers = [start + k * stride for k in range(count)]
            frames.append(torch.stack([STREAM[answer.first + k] for k in numbers], 1))
        assert same(answer, model, frames, rule)


def test_a_picture_that_does_not_fit_costs_its_window_alone() -> None:
    model = small(frames=4)
    live = LiveExits(model, FixedBudget(2), macs=exit_macs(model, STREAM[:1]), window=4)
    found: list[int] = []
    for number, frame in enumerate(STREAM[:16]):
        if number == 6:  # the first that the second window looks at
            with pytest.raises(RuntimeError):
                live.push(frame[:2])
            continue
        found += [answer.first for answer in live.push(frame)]
    assert found == [0, 8, 12]
    assert live.held == 0


def test_answers_found_before_one_fails_are_not_lost() -> None:
    """The window from 0 on looks at pictures 5, 1 and 7, that from 2 on at 7 first."""
    model, calls = small(frames=4), Counter[int]()

    def prepare(number: int) -> Tensor:
        calls[number] += 1
        if calls[number] == 2:
            raise InputError("it is torn")
        return STREAM[number][None]

    live = LiveExits(model, FixedBudget(3), macs=exit_macs(model, STREAM[:1]), window=8, every=2, preprocess=prepare)
    assert not any(live.push(number) for number in range(7))
    with pytest.raises(InputError, match="torn"):
        live.push(7)
    assert [(answer.first, answer.at) for answer in live.push(8)] == [(0, 7)]


def test_wrong_requests_are_named() -> None:
    model = small()
    macs = exit_macs(model, STREAM[:1])
    for options in ({"window": 0}, {"window": 4, "every": 0}, {"window": 4, "clip": 0}, {"window": 4, "stride": 0}):
        with pytest.raises(InputError, match="expected at least 1 of each"):
            LiveExits(model, LearnedGate(), macs=macs, **options)
    with pytest.raises(InputError, match="a stream has none"):
        LiveExits(model, Oracle(torch.zeros(1)), macs=macs, window=4)


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """23 pictures, beside a model."""
    (tmp_path / "my_live_exits.py").write_text(EXITS_FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return clip(tmp_path / "film.mp4", 23)


@pytest.mark.parametrize("engine", ["reference", None])
def test_run_gives_one_answer_per_window(film: Path, engine: str | None) -> None:
    options = [] if engine is None else ["--executor", engine]
    done = saccade("run", film, "--model", "my_live_exits:model", "--clip-stride", "2", "--json", "out.json", *options)
    assert done.exit_code == 0, done.stderr
    report = json.loads(Path("out.json").read_text())
    from my_live_exits import model as make  # type: ignore[import-not-found]

    model, how = make()[0], Preprocess(size=(24, 32))
    pictures = [how(frame)[0] for frame in read_video(film)]
    macs, spent, scores = exit_macs(model, torch.zeros(1, 3, 24, 32)), 0, []
    assert [each["first_frame"] for each in report["clips"]] == [0, 8, 16]
    for each in report["clips"]:
        numbers = [each["first_frame"] + place for place in model.positions(8)]
        came = [k for k in numbers if k < 23]
        alone = classify_video(model, [pictures[k] for k in came], LearnedGate(), macs=macs)
        assert each["visited"] == came[: int(alone.frames)]
        told = {one["label"]: one["probability"] for one in each["classes"]}
        assert [told[k] for k in range(3)] == pytest.approx(alone.scores[0].tolist(), abs=1e-4)
        assert each["last_frame"] == min(each["first_frame"] + 7, 22)
        assert each["answered_at"] <= each["last_frame"]
        spent, scores = spent + int(alone.macs), [*scores, alone.scores[0]]
    assert report["executed_macs"] + report["gate_macs"] == spent
    assert report["dense_macs"] == 3 * macs.dense
    assert (report["frames"], report["clip_frames"], report["clip_stride"]) == (23, 4, 2)
    mean = torch.stack(scores).mean(0)
    assert [one["label"] for one in report["classes"]] == mean.argsort(descending=True).tolist()
    looked = len(report["clips"][0]["visited"])
    assert re.search(rf"0 to 7, {looked} looked at", done.stdout)


def test_what_run_cannot_do_with_a_frame_exit_is_said(film: Path) -> None:
    for options, said in (
        (["--tolerance", "0.1"], "looks at windows of a video.*leave --tolerance away"),
        (["--out", "o.mp4", "--verify"], "leave --out, --verify away"),
        (["--executor", "fast"], "unknown executor 'fast'"),
        (["--executor", "reference", "--precision", "bfloat16"], "needs the native executor"),
    ):
        done: Any = saccade("run", film, "--model", "my_live_exits:model", *options)
        assert (done.exit_code, bool(re.search(said, done.stderr))) == (2, True), done.stderr
