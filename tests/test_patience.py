"""Streams rest from following where every position changes: when, for how long, and what their results are then."""

from __future__ import annotations

import pytest
import torch
from gated_networks import Gated
from torch import Tensor, nn

import saccade
from saccade.stream import patience
from saccade.stream.patience import LONGEST_REST

SIZE = (12, 20)


@pytest.fixture(autouse=True)
def _streams_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "VAIN", 0.97)


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)).eval()


def noise(count: int, *, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(1, 3, *SIZE, generator=generator) for _ in range(count)]


def schedule(frames: int) -> list[int]:
    """Returns which of so many frames of noise are followed, by adding up the rests one after another."""
    followed, at, rest = [], 1, 1
    while at < frames:
        followed.append(at)
        at, rest = at + 1 + rest, min(2 * rest, LONGEST_REST)
    return followed


@pytest.mark.parametrize("tolerance", [0.0, 0.03])
def test_noise_is_followed_ever_more_rarely_and_whole_frames_are_exact(executor: str, tolerance: float) -> None:
    stream = saccade.Stream(network(), noise(1)[0], tolerance=tolerance, executor=executor)
    followed = []
    for index, frame in enumerate(noise(180)):
        output = stream(frame)
        whole = stream.cost.gate_macs == 0
        if not whole:
            followed.append(index)
        if whole or tolerance == 0:
            assert torch.equal(output, stream.full_pass(frame))
    assert followed == schedule(180)
    assert followed[:4] == [1, 3, 6, 11]
    assert followed[-1] - followed[-2] == 1 + LONGEST_REST


def test_a_scene_that_settles_is_followed_again_and_noise_afterwards_begins_anew(executor: str) -> None:
    stream = saccade.Stream(network(), noise(1)[0], tolerance=0.03, executor=executor)
    for frame in noise(12):
        stream(frame)  # the twelfth is followed, and eight are to rest
    still = noise(1, seed=1)[0]
    shares = []
    for _ in range(12):
        stream(still)
        shares.append(stream.cost.macs_fraction)
    assert shares[:8] == [1.0] * 8
    assert max(shares[8:]) < 0.5
    gates = []
    for frame in noise(4, seed=2):
        stream(frame)
        gates.append(stream.cost.gate_macs > 0)
    assert gates == [True, False, True, False]


def test_thresholds_stay_those_of_the_first_frame(executor: str) -> None:
    stream = saccade.Stream(network(), noise(1)[0], tolerance=0.03, executor=executor)
    first, *others = noise(12)
    stream(first)
    gates = {name: gate.threshold for name, gate in stream.state.gates.items()}
    for frame in others:
        stream(10 * frame)
    assert {name: gate.threshold for name, gate in stream.state.gates.items()} == gates
    assert any(gates.values())


def test_a_reset_forgets_what_was_in_vain(executor: str) -> None:
    stream = saccade.Stream(network(), noise(1)[0], executor=executor)
    for frame in noise(12):
        stream(frame)
    stream.reset()
    gates = []
    for frame in noise(4):
        stream(frame)
        gates.append(stream.cost.gate_macs > 0)
    assert gates == [False, True, False, True]


def test_gates_that_were_trained_are_asked_in_every_frame(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "VAIN", 0.0)  # whatever they compute
    stream = saccade.Stream(Gated(3, 8, norm=False).eval(), noise(1)[0], executor=executor)
    for index, frame in enumerate(noise(8)):
        stream(frame)
        assert (stream.cost.gate_macs > 0) == (index > 0)
