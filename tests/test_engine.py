"""`Engine`: inputs that have nothing to do with one another, each computed whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade import Engine, Stream, make_plan
from saccade.errors import InputError


class Two(nn.Module):
    """Two inputs, a structured result, and a part that only moves data."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 9, 3, padding=1), nn.Conv2d(9, 5, 3, 2)
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Return maps and scores of pictures x and weights y (N, 9)."""
        z = torch.relu(self.first(x)) * y[:, :, None, None]
        maps = self.second(z)
        return {"maps": maps.flip(3), "scores": [self.head(maps.mean((2, 3)))]}


MODEL = Two().eval()
X, Y = torch.randn(5, 3, 11, 14), torch.randn(5, 9)


def test_every_input_gives_what_the_model_gives(executor: Any) -> None:
    engine = Engine(MODEL, (X[:1], Y[:1]), executor=executor)
    assert engine.executor == executor
    for order in (range(5), (3, 0, 3, 3)):
        for i in order:
            wanted, found = MODEL(X[i : i + 1], Y[i : i + 1]), engine(X[i : i + 1], Y[i : i + 1])
            torch.testing.assert_close(found, wanted)
            assert engine.cost.executed_macs == engine.cost.dense_macs == engine.plan.dense_macs
            assert engine.cost.gate_macs == 0
            assert engine.cost.ms > 0
    assert [cost.name for cost in engine.step_costs] == [step.name for step in engine.plan.steps]


def test_a_batch_is_its_inputs_one_by_one(executor: Any) -> None:
    engine = Engine(MODEL, (X[:1], Y[:1]), executor=executor)
    together = engine(X, Y)
    assert len(engine.costs) == 5
    for i in range(5):
        alone = engine(X[i : i + 1], Y[i : i + 1])
        assert torch.equal(together["maps"][i], alone["maps"][0])
        assert torch.equal(together["scores"][0][i], alone["scores"][0][0])
    assert len(engine.costs) == 1


def test_results_stay_what_they_were(executor: Any) -> None:
    engine = Engine(MODEL, (X[:1], Y[:1]), executor=executor)
    first = engine(X[:1], Y[:1])["maps"]
    kept = first.clone()
    engine(X[1:2], Y[1:2])
    assert torch.equal(first, kept)


def test_a_plan_is_shared_with_streams_and_no_state_is(executor: Any) -> None:
    plan = make_plan(MODEL, (X[:1], Y[:1]))
    engine, stream = Engine(plan, executor=executor), Stream(plan, executor=executor)
    for i in (0, 1, 1):
        torch.testing.assert_close(engine(X[i : i + 1], Y[i : i + 1]), stream(X[i : i + 1], Y[i : i + 1]))
    assert stream.cost.executed_macs == 0
    assert engine.cost.executed_macs == engine.cost.dense_macs


def test_bad_input_is_named(executor: Any) -> None:
    engine = Engine(MODEL, (X[:1], Y[:1]), executor=executor)
    with pytest.raises(
        InputError, match=r"input 'x' of number 0 has shape \(1, 3, 11, 13\), expected \(1, 3, 11, 14\)"
    ):
        engine(X[:1, :, :, 1:], Y[:1])
    with pytest.raises(InputError, match=r"'x' of number 0 has shape .* a batch of 1"):
        engine(X, Y[:3])
    with pytest.raises(InputError, match="batch of 0"):
        engine(X[:0], Y[:0])
    with pytest.raises(InputError, match=r"(?s)got 1 inputs .* call the engine the way"):
        engine(X)
    bad = X.clone()
    bad[2, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        engine(bad, Y)
    torch.testing.assert_close(engine(X[:1], Y[:1]), MODEL(X[:1], Y[:1]))
