"""Row operations and load of the native engine, on every instruction set of this machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from saccade.kernels import cpu
from tests.instruction_sets import every_isa
from tests.native_rows import OPS, Operation, apply_rows, indices, load_rows, native

pytestmark = pytest.mark.skipif(native is None, reason=f"no native module: {cpu.why_missing()}")

CHANNELS = (1, 3, 15, 16, 17, 63, 64, 65, 130)
COUNTS = (1, 2, 7, 100)
INF, NAN = math.inf, math.nan

# What each operation is, in torch: r the row, o the operand, a, b, c its numbers.
Definition = Callable[[Tensor, Tensor, float, float, float], Tensor]
DEFINITIONS: dict[str, Definition] = {
    "add": lambda r, o, a, b, c: torch.add(r, o, alpha=a),
    "sub": lambda r, o, a, b, c: torch.sub(r, o, alpha=a),
    "rsub": lambda r, o, a, b, c: torch.sub(o, r, alpha=a),
    "mul": lambda r, o, a, b, c: r * o,
    "div": lambda r, o, a, b, c: r / o,
    "rdiv": lambda r, o, a, b, c: o / r,
    "maximum": lambda r, o, a, b, c: torch.maximum(r, o),
    "minimum": lambda r, o, a, b, c: torch.minimum(r, o),
    "relu": lambda r, o, a, b, c: F.relu(r),
    "clamp": lambda r, o, a, b, c: r.clamp(a, b),
    "leaky_relu": lambda r, o, a, b, c: F.leaky_relu(r, a),
    "prelu": lambda r, o, a, b, c: torch.where(r > 0, r, o * r),
    "sigmoid": lambda r, o, a, b, c: r.sigmoid(),
    "silu": lambda r, o, a, b, c: F.silu(r),
    "tanh": lambda r, o, a, b, c: r.tanh(),
    "gelu": lambda r, o, a, b, c: F.gelu(r),
    "gelu_tanh": lambda r, o, a, b, c: F.gelu(r, approximate="tanh"),
    "hardswish": lambda r, o, a, b, c: F.hardswish(r),
    "hardsigmoid": lambda r, o, a, b, c: F.hardsigmoid(r),
    "elu": lambda r, o, a, b, c: torch.ops.aten.elu(r, a, b, c),
    "softplus": lambda r, o, a, b, c: F.softplus(r, a, b),
    "mish": lambda r, o, a, b, c: F.mish(r),
    "exp": lambda r, o, a, b, c: r.exp(),
    "log": lambda r, o, a, b, c: r.log(),
    "sqrt": lambda r, o, a, b, c: r.sqrt(),
    "rsqrt": lambda r, o, a, b, c: r.rsqrt(),
    "reciprocal": lambda r, o, a, b, c: r.reciprocal(),
    "neg": lambda r, o, a, b, c: -r,
    "abs": lambda r, o, a, b, c: r.abs(),
    "square": lambda r, o, a, b, c: r.square(),
    "power": lambda r, o, a, b, c: r.pow(a),
    "round_bf16": lambda r, o, a, b, c: r.to(torch.bfloat16).to(r.dtype),
}
# These lose all digits far below 0, in float64 too: what they are there is said in another way.
IN_FLOAT64: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": lambda r: r * 0.5 * torch.erfc(-r * math.sqrt(0.5)),
    "gelu_tanh": lambda r: r * torch.sigmoid(math.sqrt(8 / math.pi) * (r + 0.044715 * r**3)),
}
BINARY = ("add", "sub", "rsub", "mul", "div", "rdiv", "maximum", "minimum", "prelu")
NUMBERS: dict[str, list[tuple[float, ...]]] = {
    "add": [(1.0,), (0.3,), (-1.0,)],
    "sub": [(1.0,), (2.5,), (-1.0,)],
    "rsub": [(1.0,), (-0.7,)],
    "clamp": [(-0.5, 2.0), (-INF, 1.5), (0.25, INF), (2.0, 1.0)],
    "leaky_relu": [(0.01,), (-0.5,)],
    "elu": [(1.0, 1.0, 1.0), (1.67, 1.05, 1.0), (0.7, 2.0, 1.3)],
    "softplus": [(1.0, 20.0), (2.5, 3.0)],
    "power": [(e,) for e in (0.0, 1.0, 2.0, 3.0, 4.0, -1.0, -2.0, -3.0, 0.5, -0.5, 2.4, 1 / 3, -0.1)],
}
CASES = [(name, numbers) for name in OPS for numbers in NUMBERS.get(name, [(1.0,)])]
every_case = pytest.mark.parametrize(("name", "numbers"), CASES)


def test_every_operation_is_defined() -> None:
    assert list(DEFINITIONS) == OPS


def single(x: float) -> float:
    """Returns the fp32 number that the engine is given for x."""
    return float(torch.tensor(x, dtype=torch.float32))


def define(name: str, numbers: tuple[float, ...], r: Tensor, o: Tensor) -> Tensor:
    if r.dtype == torch.float64 and name in IN_FLOAT64:
        return IN_FLOAT64[name](r)
    a, b, c = (*map(single, numbers), 0.0, 0.0, 0.0)[:3]
    return DEFINITIONS[name](r, o, a, b, c)


def ulp(exact: Tensor) -> Tensor:
    """Returns the distance of fp32 numbers around float64 numbers."""
    size = exact.abs().clamp(min=2.0**-126)
    return torch.ldexp(torch.ones_like(size), torch.frexp(size).exponent - 24)


def spread(count: int, channels: int, seed: int) -> Tensor:
    """Returns numbers of either sign, as many between 2^-10 and 2^-9 as between 2^6 and 2^7."""
    made = torch.Generator().manual_seed(seed)
    sign = torch.randint(0, 2, (count, channels), generator=made) * 2 - 1
    return sign * torch.exp2(torch.rand(count, channels, generator=made) * 17 - 10)


def operands(channels: int, positions: int, seed: int) -> Iterator[tuple[float | Tensor, Tensor | None]]:
    """Yields operands of every kind with their maps: a number, channels, rows, rows far apart, bf16, one per row."""
    made = torch.Generator().manual_seed(seed)
    full = torch.randn(positions, channels, generator=made)
    apart = torch.full((positions, channels + 5), NAN)[:, :channels].copy_(full)
    few = torch.randint(0, 3, (positions,), generator=made, dtype=torch.int32)
    yield single(0.7), None
    yield full[0].contiguous(), None
    yield full, None
    yield apart, None
    yield full[:3].contiguous(), few % min(3, positions)
    yield apart.to(torch.bfloat16), None
    yield torch.full((positions, channels + 3), NAN, dtype=torch.bfloat16)[:, :channels].copy_(full), few % positions
    yield full[:, :1].contiguous(), None
    yield full[:3, :1].to(torch.bfloat16).contiguous(), few % min(3, positions)


def at_positions(other: float | Tensor, map: Tensor | None, positions: Tensor, channels: int) -> Tensor:
    """Returns the operand of each row, (count, channels)."""
    if isinstance(other, float):
        return torch.full((len(positions), channels), other)
    if other.dim() == 1:
        return other.expand(len(positions), channels)
    rows = positions if map is None else map[positions.long()]
    return other[rows.long()].float().expand(len(positions), channels)


@every_isa
@every_case
def test_an_operation_errs_at_most_twice_as_much_as_torch(isa: str, name: str, numbers: tuple[float, ...]) -> None:
    """Errors are in ulps of the exact result, and compared for each power of two and sign of the input by itself.

    One ulp is added: where torch has no rounding to do, or happens to round well in all of a few hundred samples (as
    the ends of sigmoid, all 1), twice its error is less than one rounding of ours.
    """
    samples: list[tuple[Tensor, ...]] = []
    for channels in CHANNELS:
        for count in COUNTS:
            r = spread(count, channels, seed=channels * 1000 + count)
            positions = torch.arange(0, 2 * count, 2, dtype=torch.int32)
            choices = operands(channels, 2 * count, seed=count) if name in BINARY else [(None, None)]
            for other, map in choices:
                o = r if other is None else at_positions(other, map, positions, channels)
                mine = apply_rows(isa, [Operation(name, *numbers, other=other, map=map)], r, positions)
                exact, theirs = define(name, numbers, r.double(), o.double()), define(name, numbers, r, o)
                samples.append(tuple(t.reshape(-1) for t in (r, mine.double(), theirs.double(), exact)))
    r, mine, theirs, exact = (torch.cat(parts) for parts in zip(*samples, strict=True))
    assert torch.equal(mine.isnan(), exact.isnan())
    narrowed = exact.float().double()
    plain = exact.isfinite() & narrowed.isfinite() & theirs.isfinite()
    assert bool((mine == narrowed)[~plain & narrowed.isinf() & (theirs == narrowed)].all())
    r, mine, theirs, exact = (t[plain] for t in (r, mine, theirs, exact))
    error, allowed = ((t - exact).abs() / ulp(exact) for t in (mine, theirs))
    group = torch.frexp(r).exponent * 2 + (r < 0)
    for number in group.unique():
        chosen = group == number
        worst = error[chosen].argmax()
        assert float(error[chosen][worst]) <= 2 * float(allowed[chosen].max()) + 1, float(r[chosen][worst])


SPECIAL = (NAN, INF, -INF, 0.0, -0.0, 2.0**-149, -(2.0**-149), 1e-39, -1e-39, 3.4e38, -3.4e38, 1.0, -1.0, 0.5)
LIMITS = (88.0, 88.5, 89.0, -87.5, -88.5, -104.0, -200.0, 6.0, -3.0, 3.0, 20.0)


@every_isa
@every_case
def test_special_values_are_those_of_torch(isa: str, name: str, numbers: tuple[float, ...]) -> None:
    """NaN, infinity, and the sign of zero; how exact numbers are is the test above.

    Where torch in float32 overflows on the way (hardswish of 3e38), its result in float64 is right as well.
    """
    r = torch.tensor([*SPECIAL, *LIMITS, *(-x for x in LIMITS)])
    others = SPECIAL if name in BINARY else (None,)
    for other in others:
        # Many rows: torch has other code for the end of a tensor than for the rest.
        o = r if other is None else torch.full_like(r, other)
        mine = apply_rows(isa, [Operation(name, *numbers, other=other)], r.reshape(1, -1))[0]
        right = torch.zeros(len(r), dtype=torch.bool)
        for dtype in (torch.float32, torch.float64):
            expected = define(name, numbers, r.to(dtype).repeat(16), o.to(dtype).repeat(16))[: len(r)].float()
            near = (mine.double() - expected.double()).abs() <= 1e-3 * expected.double().abs() + ulp(expected.double())
            near &= (mine.signbit() == expected.signbit()) | (name in ("maximum", "minimum"))
            right |= (mine == expected) & expected.isinf() | near | (mine.isnan() & expected.isnan())
        assert bool(right.all()), (other, r[~right], mine[~right])


@every_isa
def test_rounding_to_bf16_is_that_of_torch(isa: str) -> None:
    """Every upper half, with lower halves about the tie; torch's NaNs are one, ours keep their upper bits."""
    upper = torch.arange(2**16, dtype=torch.int32) << 16
    for lower in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        r = (upper | lower).view(torch.float32).reshape(-1, 128)
        mine = apply_rows(isa, [Operation("round_bf16")], r)
        expected = r.to(torch.bfloat16).float()
        assert torch.equal(mine.isnan(), r.isnan())
        assert torch.equal(mine.nan_to_num(7.0).view(torch.int32), expected.nan_to_num(7.0).view(torch.int32))


@every_isa
@every_case
def test_an_element_has_the_same_bits_wherever_it_is_computed(isa: str, name: str, numbers: tuple[float, ...]) -> None:
    """In any split of the rows, at any place in a vector, and whatever lies beyond the channels."""
    count, channels = 23, 37
    r = spread(count, channels, seed=5)
    r[3, 5:9] = torch.tensor([NAN, INF, -0.0, 1e-40])
    positions = indices(list(range(1, 2 * count, 2)))
    other = torch.randn(2 * count, channels) if name in BINARY else None
    operation = Operation(name, *numbers, other=other)
    whole = apply_rows(isa, [operation], r, positions).view(torch.int32)
    for at in range(count):
        alone = apply_rows(isa, [operation], r[at : at + 1], positions[at : at + 1], beyond=1e-41).view(torch.int32)
        assert torch.equal(alone[0], whole[at])
    for channel in (0, 7, 16, 36):
        part = None if other is None else other[:, channel:].contiguous()
        moved = apply_rows(isa, [Operation(name, *numbers, other=part)], r[:, channel:], positions)
        assert torch.equal(moved.view(torch.int32), whole[:, channel:])


@every_isa
@pytest.mark.parametrize("channels", [1, 3, 64, 100, 5000])
def test_operations_in_one_call_are_operations_one_after_the_other(isa: str, channels: int) -> None:
    r = spread(300, channels, seed=2)
    rows, map = torch.randn(9, channels), torch.arange(600, dtype=torch.int32) % 9
    chain = [
        Operation("add", 1.0, other=rows, map=map),
        Operation("relu"),
        Operation("mul", other=torch.randn(channels)),
        Operation("silu"),
        Operation("round_bf16"),
    ]
    positions = torch.arange(0, 600, 2, dtype=torch.int32)
    stepwise = r
    for operation in chain:
        stepwise = apply_rows(isa, [operation], stepwise, positions)
    assert torch.equal(apply_rows(isa, chain, r, positions), stepwise)
    assert torch.equal(apply_rows(isa, [], r, positions), r)
    assert apply_rows(isa, chain, r[:0], positions).shape == (0, channels)


@every_isa
@pytest.mark.parametrize("channels", CHANNELS)
def test_rows_are_loaded_as_they_are(isa: str, channels: int) -> None:
    positions = indices([0, 1, 4, 9, 10, 11])
    for other, map in operands(channels, 12, seed=channels):
        if isinstance(other, Tensor) and other.dim() == 2:
            loaded = load_rows(isa, other, channels, positions, map)
            assert torch.equal(loaded, at_positions(other, map, positions, channels))
