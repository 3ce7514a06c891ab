"""Native depthwise convolution against torch in float64, on every instruction set of the machine."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests.instruction_sets import ISAS, every_isa
from tests.native_producers import (
    CHANNELS,
    NATIVE,
    UNTOUCHED,
    Rows,
    assert_as_exact_as_torch,
    assert_the_same_however_split,
    every,
    padded,
    three,
    to_rows,
)

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@dataclass(frozen=True)
class Case:
    """A depthwise convolution over a map, with numbers made from a seed."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]
    batch: int = 1

    @property
    def out(self) -> list[int]:
        axes = zip(self.size, self.kernel, self.stride, self.pad, self.dilation, strict=True)
        return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes]

    def numbers(self, channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(channels)
        x = torch.randn(self.batch, channels, *self.size, generator=generator).to(dtype)
        weight = torch.randn(channels, 1, *self.kernel, generator=generator)
        return x, weight, torch.randn(channels, generator=generator)

    def torch(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        function = CONVOLUTIONS[len(self.size)]
        return function(x, weight, bias, self.stride, self.pad, self.dilation, x.shape[1])


class Native:
    """The packed convolution of one instruction set, and its input."""

    def __init__(self, isa: str, case: Case, x: Tensor, weight: Tensor, bias: Tensor | None, gap: int = 0) -> None:
        self.channels = x.shape[1]
        self.rows = Rows.of(x, gap)
        weight = weight.contiguous()
        self.packed = NATIVE.PackedConvolution(
            isa,
            batch=case.batch,
            in_size=three(case.size),
            out_size=three(case.out),
            kernel=three(case.kernel),
            stride=three(case.stride),
            pad=three(case.pad, 0),
            dilation=three(case.dilation),
            in_channels=self.channels,
            out_channels=self.channels,
            groups=self.channels,
            transposed=False,
            bf16=x.dtype == torch.bfloat16,
            weight=weight.data_ptr(),
            bias=0 if bias is None else bias.data_ptr(),
        )

    def __call__(self, positions: Tensor, prefix: int | None = None) -> Tensor:
        prefix = self.channels if prefix is None else prefix
        ld = padded(self.channels) + 64
        out = torch.full((len(positions) + 4, ld), UNTOUCHED)
        self.packed.run(
            rows=self.rows.storage.data_ptr(),
            stride=self.rows.stride,
            positions=positions.data_ptr(),
            count=len(positions),
            prefix=prefix,
            out=out.data_ptr() + 2 * ld * 4,
            ld=ld,
        )
        inner = out[2:-2]
        assert (out[:2] == UNTOUCHED).all()
        assert (out[-2:] == UNTOUCHED).all()
        assert (inner[:, padded(self.channels) :] == UNTOUCHED).all()
        assert not (inner[:, :prefix] == UNTOUCHED).any()
        return inner[:, :prefix].clone()


Result = tuple[Tensor, Tensor, Tensor]


def results(isa: str, case: Case, dtype: torch.dtype, with_bias: bool, gap: int) -> Iterator[Result]:
    """Yields our, torch's and the exact rows."""
    for channels in CHANNELS:
        x, weight, bias = case.numbers(channels, dtype)
        given, used = (bias if with_bias else None), weight.to(dtype)
        theirs = case.torch(x.float(), used.float(), given)
        exact = case.torch(x.double(), used.double(), None if given is None else given.double())
        ours = Native(isa, case, x, weight, given, gap)(every(theirs.numel() // channels))
        yield ours, to_rows(theirs), to_rows(exact)


CASES = [
    Case((1, 1), (3, 3), (1, 1), (1, 1), (1, 1)),
    Case((1, 7), (3, 3), (1, 1), (1, 1), (1, 1)),
    Case((5, 3), (2, 4), (1, 1), (1, 2), (1, 1)),
    Case((13, 17), (3, 3), (1, 1), (1, 1), (1, 1), batch=2),
    Case((13, 37), (3, 3), (2, 2), (1, 1), (1, 1)),
    Case((13, 37), (5, 5), (1, 1), (2, 2), (1, 1)),
    Case((13, 37), (5, 5), (2, 2), (2, 2), (1, 1), batch=2),
    Case((13, 29), (7, 7), (1, 1), (3, 3), (1, 1)),
    Case((13, 17), (3, 3), (3, 3), (0, 1), (1, 1)),
    Case((13, 37), (3, 3), (1, 1), (2, 3), (2, 3)),
    Case((13, 37), (1, 3), (2, 1), (0, 2), (1, 2)),
    Case((9, 21), (4, 1), (1, 1), (0, 0), (1, 1)),
    Case((4, 4), (9, 9), (1, 1), (4, 4), (1, 1)),
    Case((41,), (3,), (1,), (4,), (1,), batch=3),
    Case((3, 5, 19), (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1), batch=2),
    Case((4, 5, 9), (2, 3, 1), (2, 1, 2), (1, 0, 0), (1, 2, 1)),
]


@every_isa
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.size} by {case.kernel}, stride {case.stride}")
def test_depthwise_convolution_is_as_exact_as_torch(isa: str, case: Case) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        for with_bias, gap in ((True, 0), (False, 5)):
            assert_as_exact_as_torch(results(isa, case, dtype, with_bias, gap))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    axes = []
    for _ in range(draw(st.integers(1, 3))):
        kernel, stride, dilation = (draw(st.integers(1, most)) for most in (5, 3, 3))
        pad = draw(st.integers(0, 6))
        least = max(1, (kernel - 1) * dilation + 1 - 2 * pad)
        axes.append((draw(st.integers(least, least + 12)), kernel, stride, pad, dilation))
    return Case(*zip(*axes, strict=True), draw(st.integers(1, 2)))


@given(cases(), st.sampled_from(CHANNELS), st.sampled_from([torch.float32, torch.bfloat16]), st.integers(0, 1))
def test_depthwise_convolution_of_any_shape_errs_by_its_roundings_only(
    case: Case, channels: int, dtype: torch.dtype, gap: int
) -> None:
    x, weight, bias = case.numbers(channels, dtype)
    used = weight.to(dtype).double()
    exact = to_rows(case.torch(x.double(), used, bias.double()))
    # Two roundings per tap, each of at most half a unit of a sum that is never larger than the sum of the sizes.
    sizes = to_rows(case.torch(x.double().abs(), used.abs(), bias.double().abs()))
    bound = 1.01 * math.prod(case.kernel) * torch.finfo(torch.float32).eps * sizes
    for isa in ISAS:
        ours = Native(isa, case, x, weight, bias, gap)(every(len(exact)))
        assert ((ours.double() - exact).abs() <= bound).all(), isa


@every_isa
@pytest.mark.parametrize("case", CASES[3:7], ids=lambda case: f"{case.kernel} stride {case.stride}")
def test_depthwise_convolution_gives_the_same_however_the_positions_are_split(isa: str, case: Case) -> None:
    for channels, dtype in itertools.product(CHANNELS, (torch.float32, torch.bfloat16)):
        x, weight, bias = case.numbers(channels, dtype)
        count = case.batch * case.out[0] * case.out[1]
        native = Native(isa, case, x, weight, bias)
        assert_the_same_however_split(native, count, torch.Generator().manual_seed(channels))


@every_isa
def test_a_prefix_has_the_bits_of_the_complete_rows(isa: str) -> None:
    case = CASES[3]
    x, weight, bias = case.numbers(65, torch.float32)
    native = Native(isa, case, x, weight, bias)
    positions = every(2 * 13 * 17)
    whole = native(positions)
    for prefix in (1, 5, 16, 31, 32, 64, 65):
        assert torch.equal(native(positions, prefix), whole[:, :prefix])


@every_isa
def test_padding_is_not_read(isa: str) -> None:
    case = CASES[3]
    x, weight, _ = case.numbers(17, torch.float32)
    weight[:, :, 0, :] = float("inf")  # over the padding above the first row
    ours = Native(isa, case, x, weight, None)(every(2 * 13 * 17)).reshape(2, 13, 17, 17)
    assert ours[:, 0].isfinite().all()
    assert not ours[:, 1:].isfinite().any()
