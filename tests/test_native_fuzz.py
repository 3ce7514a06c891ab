"""Plans, changes and settings nobody thought of, on the native executor against the rule and the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from drawn_networks import LAYERS, Drawn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from native_check import follow
from torch import Tensor
from torch.utils import _pytree as pytree

import saccade
from saccade.kernels import cpu

pytestmark = pytest.mark.skipif(cpu.native_module() is None, reason="there is no native engine")

shapes = st.tuples(
    st.sampled_from([1, 1, 1, 2]), st.sampled_from([1, 2, 3, 4, 6, 16]), st.integers(1, 20), st.integers(1, 20)
)
gates = st.sampled_from(
    [{}, {"threshold": 0}, {"threshold": 0.05}, {"threshold": 0.5}, {"tolerance": 0.01}, {"tolerance": 0.3}]
)
streams = st.fixed_dictionaries(
    {
        "record": st.sampled_from(["reference", "coarse", "accumulated"]),
        "precision": st.sampled_from(["float32", "float32", "bfloat16"]),
        "threads": st.sampled_from([1, 1, 1, 2]),
    }
)
# Of each frame: how many positions change, as a share; a seed for where; and the size of the change.
changes = st.lists(
    st.tuples(st.sampled_from([0.0, 0.01, 0.1, 0.6, 0.98, 1.0]), st.integers(0, 99), st.sampled_from([0.01, 1.0])),
    min_size=2,
    max_size=5,
)


def change(frame: Tensor, share: float, seed: int, size: float) -> Tensor:
    """Returns the frame with a share of its positions changed, one channel each; 0.01 is one position."""
    generator = torch.Generator().manual_seed(seed)
    batch, channels, height, width = frame.shape
    where = torch.rand(batch, 1, height, width, generator=generator) < share
    if share == 0.01:
        where.zero_()
        where.view(-1)[seed % where.numel()] = True
    channel = torch.randint(channels, (batch, 1, height, width), generator=generator)
    hit = where & (torch.arange(channels).view(1, -1, 1, 1) == channel)
    return torch.where(hit, frame + size * torch.randn(frame.shape, generator=generator), frame)


def check(kinds: list[str], seed: int, shape: Any, gate: Any, stream_settings: Any, frames: Any, isa: str) -> None:
    model = Drawn(kinds, seed, shape)
    frame = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    plan = saccade.make_plan(model, frame)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cpu.ISA_VARIABLE, isa)
        stream = saccade.Stream(plan, executor="native", **gate, **stream_settings)
        reference = saccade.Stream(plan, executor="reference", record=stream_settings["record"], **gate)
        exact = not any(gate.values())
        for what in [None, *frames]:
            frame = frame if what is None else change(frame, *what)
            outputs, expected = follow(stream, frame), reference(frame)
            assert pytree.tree_structure(outputs) == pytree.tree_structure(expected)
            if exact:
                full = stream.full_pass(frame)
                assert all(torch.equal(a, b) for a, b in zip(outputs, full, strict=True))
            if exact and stream_settings["precision"] == "float32":
                for a, b in zip(outputs, expected, strict=True):
                    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()) + 1e-5)


everything = given(
    kinds=st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=8),
    seed=st.integers(0, 10_000),
    shape=shapes,
    gate=gates,
    stream_settings=streams,
    frames=changes,
    isa=st.sampled_from(cpu.machine_isas() or ("none",)),
)
unhurried = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}


@settings(max_examples=120, derandomize=True, **unhurried)
@everything
def test_drawn_networks_follow_the_rule(**drawn: Any) -> None:
    check(**drawn)


@pytest.mark.slow
@settings(max_examples=4_000, **unhurried)
@everything
def test_very_many_drawn_networks_follow_the_rule(**drawn: Any) -> None:
    check(**drawn)
