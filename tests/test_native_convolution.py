"""Native convolution at chosen positions against torch in float64, on every instruction set of the machine."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.instruction_sets import ISAS, every_isa
from tests.native_convolution import Case, Native, bits, case, worst_errors
from tests.native_producers import every, to_rows

DTYPES = (torch.float32, torch.bfloat16)
# Channels around the widths of vectors (4, 8, 16), blocks (8, 16, 32) and matrix tiles (32), and sums longer than a
# fold (192 units); maps around the positions of a tile (6, 12) and of a panel (32).
PLAIN = [
    case((1, 1), 1, 1),
    case((1, 1), 300, 33),
    case((1, 7), 16, 15),
    case((13, 17), 64, 64),
    case((13, 17), 33, 17, stride=2, batch=2),
    case((5, 3), 48, 65, pad=1),
    case((1, 1), 8, 8, kernel=3, pad=1),
    case((1, 7), 3, 31, kernel=3, pad=1),
    case((5, 3), 32, 16, kernel=3, pad=1, batch=2),
    case((13, 17), 3, 32, kernel=3, stride=2, pad=1),
    case((13, 17), 1, 8, kernel=3, pad=1),
    case((13, 17), 17, 33, kernel=3, pad=1),
    case((13, 17), 31, 48, kernel=3, stride=2, pad=1),
    case((13, 17), 64, 130, kernel=3, pad=1),
    case((13, 17), 15, 3, kernel=3, stride=3),
    case((13, 17), 16, 16, kernel=3, pad=2, dilation=2, batch=2),
    case((13, 17), 32, 32, kernel=3, pad=(2, 3), dilation=(2, 3)),
    case((13, 17), 3, 16, kernel=3, pad=3, dilation=3),
    case((5, 3), 65, 300, kernel=3, pad=1),
    case((5, 3), 130, 31, kernel=3, pad=1),
    case((5, 3), 300, 16, kernel=3, pad=1),
    case((9, 40), 64, 32, kernel=3, pad=1),
    case((13, 17), 8, 17, kernel=2, stride=2),
    case((5, 3), 16, 33, kernel=2, pad=1, dilation=3),
    case((13, 17), 3, 64, kernel=7, stride=2, pad=3),
    case((13, 17), 8, 15, kernel=5, pad=2),
    case((1, 1), 17, 16, kernel=7, pad=3),
    case((13, 17), 33, 8, kernel=(1, 5), pad=(0, 2)),
    case((5, 40), 32, 8, kernel=(5, 1), stride=(1, 2), pad=(4, 0)),
    case((4, 5), 3, 8, kernel=3, pad=6),  # rows of outputs that read nothing but padding
]
GROUPED = [
    case((13, 17), 32, 48, kernel=3, pad=1, groups=2),
    case((5, 3), 48, 96, kernel=3, pad=1, groups=3, batch=2),
    case((5, 3), 300, 99, groups=3),
    case((13, 17), 64, 34, kernel=3, stride=2, pad=1, groups=2),
    case((13, 17), 9, 9, kernel=3, pad=1, groups=3),
    case((13, 17), 130, 130, kernel=(1, 5), pad=(0, 2), dilation=(1, 2), groups=2),
    case((5, 3), 64, 300, kernel=3, pad=1, groups=2),
    case((13, 17), 33, 33, kernel=3, pad=1, groups=33),
    case((13, 17), 17, 34, kernel=3, pad=1, groups=17),
    case((13, 17), 16, 48, kernel=5, stride=2, pad=2, groups=16),
]
# Groups of few channels: summed by input channels, or several as one.
SMALL_GROUPS = [
    case((13, 17), 50, 10, kernel=3, pad=1, groups=10),
    case((5, 3), 64, 16, kernel=3, stride=2, pad=1, groups=16, batch=2),
    case((13, 17), 48, 18, kernel=3, pad=2, dilation=2, groups=6),
    case((13, 17), 128, 128, kernel=3, pad=1, groups=32),
    case((1, 1), 6, 3, kernel=3, pad=1, groups=3),
    case((13, 17), 32, 24, groups=4),
    case((13, 17), 28, 12, groups=4, stride=2),
    case((5, 3), 96, 96, kernel=3, pad=1, groups=12),
]
TRANSPOSED = [
    case((5, 3), 16, 17, kernel=3, pad=1, transposed=True),
    case((5, 3), 33, 16, kernel=2, stride=2, transposed=True, batch=2),
    case((1, 7), 64, 32, kernel=3, stride=2, pad=1, extra=1, transposed=True),
    case((13, 17), 32, 65, kernel=4, stride=2, pad=1, transposed=True),
    case((5, 3), 8, 8, kernel=5, stride=3, pad=2, extra=(0, 2), transposed=True),
    case((5, 3), 31, 15, kernel=3, stride=2, pad=2, dilation=2, extra=1, transposed=True),
    case((5, 3), 17, 3, kernel=2, stride=3, dilation=3, transposed=True),
    case((5, 3), 48, 64, kernel=3, stride=2, pad=1, groups=2, transposed=True),
    case((5, 3), 16, 16, kernel=4, stride=2, pad=1, groups=16, transposed=True),
    case((5, 3), 12, 24, kernel=3, stride=(1, 2), pad=1, groups=3, transposed=True),
    case((5, 3), 300, 1, kernel=2, stride=2, transposed=True),
    case((5, 3), 8, 17, dilation=2, extra=1, transposed=True),  # one tap, and outputs beyond the input
    case((5, 3), 8, 17, pad=1, dilation=3, extra=2, transposed=True),  # one tap, of another position
]
OTHER_RANKS = [
    case((1,), 3, 8, kernel=3, pad=1),
    case((41,), 16, 33, kernel=5, stride=2, pad=2, batch=3),
    case((41,), 33, 16, kernel=3, pad=6, dilation=3),
    case((17,), 32, 16, kernel=4, stride=2, pad=1, transposed=True),
    case((3, 5, 7), 16, 17, kernel=3, pad=1, batch=2),
    case((4, 5, 9), 3, 16, kernel=(3, 5, 5), stride=(1, 2, 2), pad=(1, 2, 2)),
    case((7, 9, 11), 3, 16, kernel=7, stride=2, pad=3),
    case((3, 2, 4), 2, 8, kernel=(3, 3, 5), pad=(1, 1, 5)),  # columns of outputs that read nothing but padding
    case((4, 4, 4), 32, 48, kernel=(2, 3, 1), stride=(2, 1, 2), pad=(1, 0, 0), dilation=(1, 1, 2)),
    case((3, 4, 5), 16, 16, kernel=(3, 1, 1), pad=(1, 0, 0), groups=2),
    case((2, 3, 4), 17, 8, kernel=3, stride=(1, 2, 3), pad=1, extra=(0, 1, 2), transposed=True),
]
CASES = PLAIN + GROUPED + SMALL_GROUPS + TRANSPOSED + OTHER_RANKS


SAMPLES = 8  # inputs that torch's error is the largest of: the maximum over one small map is a matter of luck


@pytest.mark.parametrize("convolution", CASES, ids=lambda each: each.name)
def test_convolution_is_as_exact_as_torch(convolution: Case) -> None:
    x, weight, bias = convolution.numbers()
    more = torch.randn(SAMPLES * convolution.batch, *x.shape[1:], generator=torch.Generator().manual_seed(1))
    for shift, (before, behind) in ((bias, (0, 0)), (None, (3, 6))):
        double = None if shift is None else shift.double()
        theirs, exact = (
            convolution.torch(more, weight, shift),
            convolution.torch(more.double(), weight.double(), double),
        )
        bound = 2 * largest(theirs.double() - exact) + rounding(exact)
        exact = to_rows(exact[: convolution.batch])
        for isa in ISAS:
            ours = Native(isa, convolution, more[: convolution.batch], weight, shift, before, behind)
            error = largest(ours(every(convolution.positions)).double() - exact)
            assert error <= bound, f"{isa}: {error:.3g}, twice torch's error is {bound:.3g}"


@pytest.mark.parametrize("convolution", CASES, ids=lambda each: each.name)
def test_bfloat16_is_as_exact_as_torch(convolution: Case) -> None:
    """As stored in bfloat16; until then it has the precision of float32, whose epsilon is 2**16 times smaller."""
    x, weight, bias = convolution.numbers(torch.bfloat16)
    rounded, bias = weight.bfloat16(), bias.bfloat16()
    more = torch.randn(SAMPLES * convolution.batch, *x.shape[1:], generator=torch.Generator().manual_seed(1)).bfloat16()
    theirs = convolution.torch(more, rounded, bias)
    exact = convolution.torch(more.double(), rounded.double(), bias.double())
    torch_error = largest(theirs.double() - exact)
    exact = to_rows(exact[: convolution.batch])
    for isa, (before, behind) in itertools.product(ISAS, ((0, 0), (3, 6))):
        native = Native(isa, convolution, more[: convolution.batch], weight, bias.float(), before, behind)
        ours = native(every(convolution.positions))
        assert largest(ours.bfloat16().double() - exact) <= 2 * torch_error
        assert largest(ours.double() - exact) <= torch_error / 256


def largest(x: Tensor) -> float:
    """Returns the largest magnitude; NaN where any number is."""
    return x.abs().max().item()


def rounding(exact: Tensor) -> float:
    """Returns by how much the exact value is rounded where torch happens to hit it: half a unit in the last place."""
    return torch.finfo(torch.float32).eps / 2 * largest(exact)


def lists(count: int, generator: torch.Generator) -> list[Tensor]:
    """Returns lists of positions of every kind: single ones, runs, evenly spaced ones, random ones."""
    chosen = [torch.tensor([p]) for p in range(count)] if count <= 60 else []
    for length in (1, 2, 6, 7, 12, 13, 31, 32, 33, 65):
        for _ in range(2):
            if length <= count:
                start = int(torch.randint(0, count - length + 1, (), generator=generator))
                chosen.append(torch.arange(start, start + length))
    chosen += [torch.arange(count)[step - 1 :: step] for step in (2, 3, 5)]
    for share in (0.02, 0.1, 0.4, 0.7, 0.95):
        chosen.append((torch.rand(count, generator=generator) < share).nonzero().flatten())
    chosen.append(torch.arange(0))
    return chosen


LAWS = [
    PLAIN[5], PLAIN[8], PLAIN[9], PLAIN[11], PLAIN[13], PLAIN[16], PLAIN[19], PLAIN[21], PLAIN[24], PLAIN[29],
    GROUPED[0], GROUPED[3], GROUPED[7], GROUPED[8], *SMALL_GROUPS, *TRANSPOSED[2:6], TRANSPOSED[9], *OTHER_RANKS[2:6],
]  # fmt: skip


@pytest.mark.parametrize("convolution", LAWS, ids=lambda each: each.name)
def test_a_position_has_the_same_bits_whichever_are_computed_beside_it(convolution: Case) -> None:
    generator = torch.Generator().manual_seed(0)
    for dtype, isa in itertools.product(DTYPES, ISAS):
        native = Native(isa, convolution, *convolution.numbers(dtype))
        whole = bits(native(every(convolution.positions)))
        for positions in lists(convolution.positions, generator):
            assert torch.equal(bits(native(positions)), whole[positions])


@every_isa
def test_a_call_with_more_positions_than_a_chunk_has_the_same_bits(isa: str) -> None:
    for convolution in (case((47, 53), 16, 130, kernel=3, pad=1), case((47, 53), 8, 10, groups=2)):
        for dtype in DTYPES:
            native = Native(isa, convolution, *convolution.numbers(dtype))
            whole = bits(native(every(convolution.positions)))
            parts = [bits(native(part)) for part in every(convolution.positions).split(331)]
            assert torch.equal(torch.cat(parts), whole)


@every_isa
def test_a_prefix_of_the_channels_has_the_bits_of_all_of_them(isa: str) -> None:
    for convolution in (
        PLAIN[13],
        PLAIN[18],
        PLAIN[23],
        GROUPED[1],
        GROUPED[2],
        GROUPED[8],
        *SMALL_GROUPS,
        TRANSPOSED[7],
    ):
        out = convolution.channels[1]
        positions = every(convolution.positions)[::3].contiguous()
        for dtype in DTYPES:
            native = Native(isa, convolution, *convolution.numbers(dtype))
            whole = bits(native(positions))
            for prefix in sorted({1, min(7, out), out // 3, out // 3 + 1, out // 2, out - 1, out}):
                assert torch.equal(bits(native(positions, prefix)), whole[:, :prefix])


@every_isa
def test_wider_rows_give_the_same_bits(isa: str) -> None:
    for convolution in (*PLAIN[8:14], *PLAIN[20:26], *GROUPED[:3], *SMALL_GROUPS[:3], SMALL_GROUPS[5], TRANSPOSED[1]):
        for dtype in DTYPES:
            numbers = convolution.numbers(dtype)
            narrow, *wide = (
                bits(Native(isa, convolution, *numbers, before, behind)(every(convolution.positions)))
                for before, behind in ((0, 0), (1, 0), (0, 1), (16, 32))
            )
            assert all(torch.equal(each, narrow) for each in wide)


@every_isa
def test_nan_and_infinities_reach_the_positions_that_read_them_and_no_others(isa: str) -> None:
    convolution = case((9, 40), 32, 33, kernel=3, pad=1)
    for dtype, special in itertools.product(DTYPES, (float("nan"), float("inf"))):
        x, weight, bias = convolution.numbers(dtype)
        clean = Native(isa, convolution, x, weight, bias)(every(convolution.positions))
        x[0, 5, 4, 20] = special
        ours = Native(isa, convolution, x, weight, bias)(every(convolution.positions))
        reads = torch.zeros(9, 40, dtype=torch.bool)
        reads[3:6, 19:22] = True
        assert not ours[reads.flatten()].isfinite().any()
        assert torch.equal(bits(ours[~reads.flatten()]), bits(clean[~reads.flatten()]))


@st.composite
def convolutions(draw: st.DrawFn) -> Case:
    transposed = draw(st.booleans())
    axes = []
    for _ in range(draw(st.integers(1, 3))):
        kernel, stride, dilation = (draw(st.integers(1, most)) for most in (4, 3, 3))
        pad = draw(st.integers(0, 3))
        reach = (kernel - 1) * dilation
        if transposed:
            extra = draw(st.integers(0, max(stride, dilation) - 1))
            least = max(1, -((reach + extra - 2 * pad) // stride) + 1)  # so that there is an output
        else:
            extra, least = 0, max(1, reach + 1 - 2 * pad)
        axes.append((draw(st.integers(least, least + 6)), kernel, stride, pad, dilation, extra))
    size, kernel, stride, pad, dilation, extra = zip(*axes, strict=True)
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 8]))
    into, out = (groups * draw(st.sampled_from([1, 2, 3, 8, 15, 16, 17, 32, 33, 65])) for _ in range(2))
    batch = draw(st.integers(1, 2))
    return Case(size, (into, out), kernel, stride, pad, dilation, groups, batch, transposed, extra)


@settings(max_examples=300)
@given(convolutions(), st.sampled_from(ISAS), st.sampled_from(DTYPES), st.data())
def test_any_convolution_at_any_positions_is_right(
    convolution: Case, isa: str, dtype: torch.dtype, data: st.DataObject
) -> None:
    x, weight, bias = convolution.numbers(dtype)
    before, behind = data.draw(st.sampled_from([(0, 0), (2, 3)]))
    prefix = data.draw(st.integers(1, convolution.channels[1]))
    share = data.draw(st.sampled_from([0.0, 0.05, 0.3, 0.8, 1.0]))
    used = weight.to(dtype)
    exact = to_rows(convolution.torch(x.double(), used.double(), bias.double()))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 9)))
    chosen = (torch.rand(len(exact), generator=generator) < share).nonzero().flatten()
    native = Native(isa, convolution, x, weight, bias, before, behind)
    whole, some = native(every(len(exact))), native(chosen, prefix)
    assert ((whole.double() - exact).abs() <= worst_errors(convolution, x, used, bias)).all()
    assert torch.equal(bits(some), bits(whole[chosen, :prefix]))
