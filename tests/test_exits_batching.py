"""Continuous batching: the answers of one by one, full batches, and no more in flight than allowed."""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Iterator

import pytest
import torch
from exits_definition import small
from torch import Tensor

from saccade.errors import InputError
from saccade.exits import (
    Confidence,
    ExitRule,
    Exits,
    FixedBudget,
    LearnedGate,
    Oracle,
    classify_video,
    classify_videos,
    exit_macs,
)

COUNT = 24
RANDOM = torch.Generator().manual_seed(0)
VIDEOS = torch.randn(COUNT, 4, 3, 5, 4, dtype=torch.float64, generator=RANDOM)
VIDEOS += torch.randn(COUNT, 4, 3, 1, 1, dtype=torch.float64, generator=RANDOM)
RULES: dict[str, ExitRule] = {
    "gate": LearnedGate(0.6),
    "probability": Confidence(0.9),
    "entropy": Confidence(0.3, "entropy"),
    "budget": FixedBudget(2),
    "never": Confidence(2.0),
}


class Counted:
    """A video that says when a frame of it is taken, and that is closed once."""

    def __init__(self, number: int, given: list[int], *, length: int = 4) -> None:
        self.number, self.given, self.length, self.closed = number, given, length, 0

    def __iter__(self) -> Iterator[Tensor]:
        for frame in VIDEOS[self.number][: self.length]:
            self.given.append(self.number)
            yield frame

    def close(self) -> None:
        self.closed += 1


LENGTHS = [1 + number % 4 if number % 3 else 4 for number in range(COUNT)]  # some end early


@functools.cache
def one_by_one(pooling: str, name: str) -> list[Exits]:
    model = small(pooling)
    macs = exit_macs(model, VIDEOS[:1, 0])
    return [
        classify_video(model, iter(video[:length]), RULES[name], macs=macs)
        for video, length in zip(VIDEOS, LENGTHS, strict=True)
    ]


@pytest.mark.parametrize("pooling", ["max", "lstm", "none"])
@pytest.mark.parametrize(("batch", "in_flight", "workers"), [(1, 1, 1), (3, 3, 2), (7, 19, 3), (64, None, 2)])
def test_batched_is_one_by_one(pooling: str, batch: int, in_flight: int | None, workers: int) -> None:
    model = small(pooling).train()
    macs = exit_macs(model, VIDEOS[:1, 0])
    for name, rule in RULES.items():
        order = random.Random(batch).sample(range(COUNT), COUNT)
        given: list[int] = []
        videos = [Counted(number, given, length=LENGTHS[number]) for number in order]
        answered = list(
            classify_videos(model, videos, rule, macs=macs, batch=batch, in_flight=in_flight, workers=workers)
        )
        assert sorted(done.video.number for done in answered) == list(range(COUNT))
        assert all(module.training for module in model.modules())
        frames = []
        for done in answered:
            alone = one_by_one(pooling, name)[done.video.number]
            assert done.error is None
            assert done.exits is not None
            for what in ("frames", "executed_macs", "gate_macs"):
                assert torch.equal(getattr(done.exits, what), getattr(alone, what)), what
            assert done.exits.dense_macs == alone.dense_macs
            torch.testing.assert_close(done.exits.scores, alone.scores, rtol=1e-11, atol=1e-12)
            assert torch.equal(done.exits.scores.argmax(1), alone.scores.argmax(1))
            assert not done.exits.scores.requires_grad
            assert done.video.closed == 1
            assert given.count(done.video.number) == int(alone.frames), "a frame was given in vain"
            frames.append(int(alone.frames))
        assert len(set(frames)) > (3 if name == "never" else 1), f"{name}: too few different exits"


@pytest.mark.parametrize(("batch", "in_flight", "workers"), [(4, 8, 3), (5, 5, 1)])
def test_batches_are_full_and_the_bound_is_held(batch: int, in_flight: int, workers: int) -> None:
    """Frames count from before they are taken out of a video until the backbone has seen them."""
    model = small()
    macs = exit_macs(model, VIDEOS[:1, 0])
    lock, sizes, most, begun = threading.Lock(), list[int](), 0, 0

    class Taking(Counted):
        def __iter__(self) -> Iterator[Tensor]:
            nonlocal most, begun
            for frame in super().__iter__():
                with lock:
                    begun += 1
                    most = max(most, begun - sum(sizes))
                yield frame

    model.backbone.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    videos = (Taking(number, []) for number in range(COUNT))
    answered = list(
        classify_videos(model, videos, LearnedGate(0.6), macs=macs, batch=batch, in_flight=in_flight, workers=workers)
    )
    left = len(answered)
    assert left == COUNT
    assert batch <= most <= in_flight
    looked = sum(int(done.exits.frames) for done in answered if done.exits is not None)
    assert sum(sizes) == looked
    short = next((place for place, size in enumerate(sizes) if size < batch), len(sizes))
    assert all(size < batch for size in sizes[short:]), "a batch that is not full comes only where videos run out"
    assert sum(sizes[short:]) < 4 * batch


def test_the_order_of_coming_is_kept_and_no_video_is_begun_early() -> None:
    model, given = small(), list[int]()
    macs = exit_macs(model, VIDEOS[:1, 0])
    begun: list[int] = []

    def coming() -> Iterator[Counted]:
        for number in range(COUNT):
            begun.append(number)
            yield Counted(number, given)

    answers = classify_videos(model, coming(), FixedBudget(1), macs=macs, batch=4, in_flight=6)
    assert begun == []
    first = [next(answers).video.number for _ in range(4)]
    assert first == [0, 1, 2, 3]
    assert len(begun) == 6
    answers.close()
    assert len(given) <= 6


def test_what_is_wrong_with_a_video_is_its_own() -> None:
    model = small()
    macs = exit_macs(model, VIDEOS[:1, 0])

    def broken(after: int) -> Iterator[Tensor]:
        yield from VIDEOS[1][:after]
        raise OSError("the disk is gone")

    videos = [VIDEOS[0], broken(0), broken(2), VIDEOS[2][:0], VIDEOS[3][:, :, :4, :3], VIDEOS[4]]
    found = {
        id(done.video): done for done in classify_videos(model, videos, FixedBudget(3), macs=macs, batch=2, workers=2)
    }
    told = [found[id(video)] for video in videos]
    assert [done.exits is None for done in told] == [False, True, True, True, True, False]
    assert [str(done.error) for done in told[1:3]] == ["the disk is gone"] * 2
    assert "a video without frames" in str(told[3].error)
    assert "(3, 4, 3) beside others torch.float64 (3, 5, 4)" in str(told[4].error)


def test_what_is_wrong_with_the_model_is_raised_and_videos_are_closed() -> None:
    model = small()
    macs = exit_macs(model, VIDEOS[:1, 0])
    model.backbone = torch.nn.Flatten()
    videos = [Counted(number, []) for number in range(8)]
    with pytest.raises(InputError, match="the backbone returned"):
        list(classify_videos(model, videos, LearnedGate(), macs=macs, batch=2))
    assert [video.closed for video in videos[:4]] == [1] * 4
    assert not any(thread.name.startswith("saccade-frames") for thread in threading.enumerate())


def test_torch_keeps_its_number_of_threads() -> None:
    model, seen = small(), list[int]()
    macs = exit_macs(model, VIDEOS[:1, 0])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)

        def frames() -> Iterator[Tensor]:
            seen.append(torch.get_num_threads())
            yield VIDEOS[0][0]

        list(classify_videos(model, [frames()], FixedBudget(1), macs=macs))
        assert seen == [1]
        assert torch.get_num_threads() == 2
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert seen == [1, 2]
    finally:
        torch.set_num_threads(before)


def test_wrong_requests_are_named() -> None:
    model = small()
    macs = exit_macs(model, VIDEOS[:1, 0])
    with pytest.raises(InputError, match="got batch 4, in_flight 3 and 1 workers"):
        classify_videos(model, VIDEOS, LearnedGate(), macs=macs, batch=4, in_flight=3)
    with pytest.raises(InputError, match="an Oracle knows the labels of one batch"):
        classify_videos(model, VIDEOS, Oracle(torch.zeros(COUNT)), macs=macs)
