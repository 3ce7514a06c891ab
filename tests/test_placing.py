"""Values of an engine that share memory: none is written over while it is needed, whatever the network."""

from __future__ import annotations

import pytest
import torch
from drawn_networks import LAYERS, Drawn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import saccade
from saccade.kernels import cpu
from saccade.stream.native import bound
from saccade.stream.native.pages import LINE
from saccade.stream.native.placing import Life, lives, places

native = pytest.mark.skipif(not cpu.native_module(), reason="there is no native engine")
BUFFER = st.tuples(st.integers(0, 500), st.integers(0, 9), st.integers(0, 9))


@given(st.lists(BUFFER, max_size=14))
def test_no_two_buffers_that_are_alive_at_one_step_share_a_byte(drawn: list[tuple[int, int, int]]) -> None:
    sizes = [size for size, _, _ in drawn]
    alive = [Life(min(first, last), max(first, last)) for _, first, last in drawn]
    begins, total = places(sizes, alive)
    assert all(begin % LINE == 0 and begin + size <= total for begin, size in zip(begins, sizes, strict=True))
    for step in range(10):
        taken: set[int] = set()
        for begin, size, life in zip(begins, sizes, alive, strict=True):
            if life.first <= step <= life.last:
                own = set(range(begin, begin + size))
                assert not own & taken
                taken |= own
    assert total <= sum(-(-size // LINE) * LINE for size in sizes)


def test_one_after_the_other_they_share_all() -> None:
    assert places([640, 640, 100, 640], [Life(0, 0), Life(1, 1), Life(2, 2), Life(3, 3)]) == ([0, 0, 0, 0], 640)
    assert places([64, 128, 64], [Life(0, 1), Life(1, 2), Life(2, 3)]) == ([128, 0, 128], 192)


class Joined(nn.Module):
    """Values that lie in another's memory: parts of a concatenation, made long before it and read after."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(5))
        self.last = nn.Conv2d(16, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        early = self.layers[0](x).relu()
        y = early
        for layer in list(self.layers)[1:]:
            y = layer(y).relu()
        return self.last(torch.cat([early, y], 1)) + early[:, :8]


@native
def test_a_buffer_is_needed_as_long_as_any_value_in_it() -> None:
    plan = saccade.make_plan(Joined().eval(), torch.randn(1, 8, 9, 7))
    together = {name: 0 for name in plan.values}
    assert lives(plan, together) == [Life(0, len(plan.steps))]
    apart = {name: number for number, name in enumerate(plan.values)}
    found = lives(plan, apart)
    for name, number in apart.items():
        made = next(row for row, step in enumerate(plan.steps) if name in step.outputs)
        read = [row for row, step in enumerate(plan.steps) if name in step.inputs]
        ends = len(plan.steps) if name in [ref.name for ref in plan.outputs] else max(read, default=made)
        assert found[number] == Life(made, ends)


@native
def test_a_chain_takes_the_memory_of_two_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    empty = bound.pages.empty
    monkeypatch.setattr(bound.pages, "empty", lambda count, dtype=None: sizes.append(count) or empty(count, dtype))
    chain = nn.Sequential(*(nn.Conv2d(16, 16, 3, padding=1) for _ in range(12))).eval()
    picture = torch.randn(1, 16, 32, 32)
    torch.testing.assert_close(saccade.Engine(chain, picture, executor="native")(picture), chain(picture))
    assert sizes == [2 * 16 * 32 * 32]


@native
@settings(max_examples=100, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    kinds=st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=14),
    seed=st.integers(0, 2**20),
    channels=st.integers(1, 9),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
)
def test_an_engine_gives_the_bits_of_a_stream_whose_values_lie_apart(
    kinds: list[str], seed: int, channels: int, height: int, width: int
) -> None:
    network = Drawn(kinds, seed, (1, channels, height, width))
    first, second = torch.rand(2, 1, channels, height, width)
    plan = saccade.make_plan(network, first)
    engine, stream = saccade.Engine(network, first, executor="native"), saccade.Stream(plan, executor="native")
    for picture in (first, second, first):
        stream.reset()
        for found, wanted in zip(engine(picture), stream(picture), strict=True):
            assert torch.equal(found, wanted)
