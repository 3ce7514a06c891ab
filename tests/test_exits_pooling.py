"""Accumulated pooling, frame by frame, against definitions that have all frames at once (float64)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from saccade.errors import InputError
from saccade.exits import AttentionPooling, LSTMPooling, Pooling, make_pooling
from saccade.graph.mac_counter import count_macs

NAMES = ["max", "average", "lstm", "attention", "none"]


def made(name: str, size: int) -> Pooling:
    torch.manual_seed(3)
    pooling = make_pooling(name, size).double()  # type: ignore[arg-type]
    for parameter in pooling.parameters():
        nn.init.normal_(parameter, std=0.7)
    return pooling


def accumulated(pooling: Pooling, features: Tensor) -> Tensor:
    memory: tuple[Tensor, ...] = ()
    found = []
    for t, x in enumerate(features.unbind(1), start=1):
        z, memory = pooling(memory, x, t)
        found.append(z)
        assert all(len(tensor) == len(features) for tensor in memory)
    return torch.stack(found, 1)


def whole(pooling: Pooling, name: str, features: Tensor) -> Tensor:
    """z_t for every t from x_1 ... x_t together."""
    if isinstance(pooling, LSTMPooling):
        lstm = nn.LSTM(pooling.size, pooling.size, batch_first=True).double()
        lstm.load_state_dict({f"{key}_l0": value for key, value in pooling.cell.state_dict().items()})
        return lstm(features)[0]
    found = []
    for t in range(1, features.shape[1] + 1):
        x = features[:, :t]
        if isinstance(pooling, AttentionPooling):
            width = pooling.size // pooling.heads
            parts = []
            for head in range(pooling.heads):
                weight = (x @ pooling.query[head] / math.sqrt(width)).softmax(1)
                parts.append((weight[..., None] * x[..., head * width : (head + 1) * width]).sum(1))
            found.append(torch.cat(parts, 1))
        else:
            found.append({"max": x.amax(1), "average": x.mean(1), "none": x[:, -1]}[name])
    return torch.stack(found, 1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("size", "frames"), [(12, 5), (7, 1), (1, 3), (8, 16)])
def test_frame_by_frame_is_all_at_once(name: str, size: int, frames: int) -> None:
    pooling, features = made(name, size), 3 * torch.randn(4, frames, size, dtype=torch.float64)
    got, wanted = accumulated(pooling, features), whole(pooling, name, features)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_all_at_once(name: str) -> None:
    pooling, features = made(name, 6), torch.randn(3, 4, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, 6, dtype=torch.float64)
    got = torch.autograd.grad((accumulated(pooling, features) * weight).sum(), features)[0]
    wanted = torch.autograd.grad((whole(pooling, name, features) * weight).sum(), features)[0]
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["max", "average", "attention"])
def test_the_last_z_does_not_depend_on_the_order(name: str) -> None:
    pooling, features = made(name, 6), torch.randn(3, 5, 6, dtype=torch.float64)
    turned = accumulated(pooling, features[:, [3, 0, 4, 1, 2]])
    torch.testing.assert_close(turned[:, -1], accumulated(pooling, features)[:, -1], rtol=1e-12, atol=1e-12)


def test_attention_begins_as_the_average_and_bears_large_scores() -> None:
    features = torch.randn(2, 6, 12, dtype=torch.float64)
    fresh = make_pooling("attention", 12).double()
    torch.testing.assert_close(accumulated(fresh, features), accumulated(made("average", 12), features))
    pooling = made("attention", 12)
    with torch.no_grad():
        pooling.query.mul_(1e4)
    torch.testing.assert_close(accumulated(pooling, features), whole(pooling, "attention", features))


@pytest.mark.parametrize("name", NAMES)
def test_memory_does_not_grow(name: str) -> None:
    pooling, memory, sizes = made(name, 8), (), set()
    for t in range(1, 6):
        _, memory = pooling(memory, torch.randn(2, 8, dtype=torch.float64), t)
        sizes.add(sum(tensor.numel() for tensor in memory))
    assert len(sizes) == 1


def test_macs_by_hand_and_as_torch_runs_them() -> None:
    assert [made(name, 16).macs() for name in NAMES] == [16, 16, 8 * 16 * 16, 8 * 16 + 2 * 16, 0]
    lstm, attention, x = made("lstm", 16), made("attention", 16), torch.zeros(1, 16, dtype=torch.float64)
    zeros = (x, x)
    assert count_macs(lstm, zeros, x, 2) == lstm.macs()
    assert count_macs(attention, (), x, 1) == attention.macs() - 2 * 16  # weighing is no product of matrices


def test_wrong_requests_are_named() -> None:
    with pytest.raises(InputError, match="there is no pooling 'min'; expected one of max, average, lstm"):
        make_pooling("min", 4)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="attention of 10 features with 4 heads"):
        AttentionPooling(10, heads=4)
