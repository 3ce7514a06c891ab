"""Native pooling and linear interpolation against torch in float64, on every instruction set of the machine."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.instruction_sets import every_isa
from tests.native_producers import (
    CHANNELS,
    NATIVE,
    Rows,
    assert_as_exact_as_torch,
    assert_the_same_however_split,
    every,
    produce,
    three,
    to_rows,
)

POOLS = {
    ("max", 1): F.max_pool1d,
    ("max", 2): F.max_pool2d,
    ("max", 3): F.max_pool3d,
    ("average", 1): F.avg_pool1d,
    ("average", 2): F.avg_pool2d,
    ("average", 3): F.avg_pool3d,
}


@dataclass(frozen=True)
class Case:
    """A pooling window over a map."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...] = (1, 1, 1)
    ceil_mode: bool = False
    batch: int = 1

    @property
    def arguments(self) -> dict[str, object]:
        rank = len(self.size)
        return {
            "kernel": three(self.kernel),
            "stride": three(self.stride),
            "pad": three(self.pad, 0),
            "dilation": three(self.dilation[:rank]),
            "in_size": three(self.size),
            "batch": self.batch,
        }


CASES = [
    Case((1, 1), (1, 1), (1, 1), (0, 0)),
    Case((1, 1), (3, 3), (1, 1), (1, 1)),
    Case((1, 7), (3, 3), (1, 1), (1, 1)),
    Case((5, 3), (2, 2), (2, 2), (0, 0)),
    Case((5, 3), (2, 2), (2, 2), (1, 1), ceil_mode=True),
    Case((13, 17), (3, 3), (2, 2), (1, 1), batch=2),
    Case((13, 17), (3, 3), (2, 2), (1, 1), ceil_mode=True),
    Case((12, 16), (3, 2), (3, 2), (1, 1), ceil_mode=True),
    Case((13, 17), (5, 5), (1, 1), (2, 2)),
    Case((13, 17), (4, 1), (3, 1), (2, 0), batch=2),
    Case((7, 7), (7, 7), (1, 1), (0, 0)),
    Case((1, 1), (3, 3), (2, 2), (1, 1), ceil_mode=True),
    Case((10,), (3,), (2,), (1,), ceil_mode=True, batch=3),
    Case((3, 5, 7), (2, 3, 3), (1, 2, 2), (1, 1, 1), ceil_mode=True, batch=2),
    Case((4, 4, 4), (3, 1, 2), (3, 2, 2), (1, 0, 1), ceil_mode=True),
]
DILATED = [
    Case((13, 17), (3, 3), (1, 1), (1, 1), (2, 3)),
    Case((13, 17), (2, 4), (2, 3), (1, 2), (3, 2), ceil_mode=True),
    Case((4, 6), (3, 3), (1, 1), (1, 1), (1, 2)),
]


def name(case: Case) -> str:
    return f"{case.size} by {case.kernel}, stride {case.stride}, {'up' if case.ceil_mode else 'down'}"


def torch_pool(case: Case, kind: str, x: Tensor, **options: object) -> Tensor:
    given: dict[str, object] = {"padding": case.pad, "ceil_mode": case.ceil_mode, **options}
    rank = len(case.size)
    if kind == "max":
        given["dilation"] = case.dilation[:rank]
    result: Tensor = POOLS[kind, rank](x, case.kernel, case.stride, **given)
    return result


def native_pool(
    isa: str, case: Case, kind: str, x: Tensor, out: Tensor, positions: Tensor, gap: int = 0, **options: object
) -> Tensor:
    rows = Rows.of(x, gap)
    given = {"count_include_pad": True, "divisor_override": 0, **options}
    return produce(
        "pool",
        isa,
        x.shape[1],
        positions,
        average=kind == "average",
        channels=x.shape[1],
        out_size=three(out.shape[2:]),
        **case.arguments,
        **rows.arguments,
        **given,
    )


def random(case: Case, channels: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(channels)
    return torch.randn(case.batch, channels, *case.size, generator=generator).to(dtype)


@every_isa
@pytest.mark.parametrize("case", CASES + DILATED, ids=name)
def test_max_pooling_picks_the_number_torch_picks(isa: str, case: Case) -> None:
    for channels, dtype in itertools.product(CHANNELS, (torch.float32, torch.bfloat16)):
        x = random(case, channels, dtype)
        expected = torch_pool(case, "max", x.float())
        count = expected.numel() // channels
        for gap in (0, 5):
            ours = native_pool(isa, case, "max", x, expected, every(count), gap)
            assert torch.equal(ours, to_rows(expected))


@every_isa
def test_max_pooling_keeps_nan_and_infinities_as_torch_does(isa: str) -> None:
    case = Case((9, 11), (3, 3), (2, 1), (1, 1))
    for channels in CHANNELS:
        x = random(case, channels)
        generator = torch.Generator().manual_seed(0)
        for special in (float("nan"), float("inf"), -float("inf")):
            x[torch.rand(x.shape, generator=generator) < 0.1] = special
        x[:, :, 4:8, 2:6] = -float("inf")
        expected = torch_pool(case, "max", x)
        ours = native_pool(isa, case, "max", x, expected, every(expected.numel() // channels))
        assert expected.isnan().any()
        torch.testing.assert_close(ours, to_rows(expected), rtol=0, atol=0, equal_nan=True)


@every_isa
@pytest.mark.parametrize("case", CASES, ids=name)
@pytest.mark.parametrize(("include", "divisor"), [(True, 0), (False, 0), (True, 7), (False, -2)])
def test_average_pooling_divides_as_torch_does(isa: str, case: Case, include: bool, divisor: int) -> None:
    if divisor and len(case.size) == 1:
        pytest.skip("torch takes no divisor over one axis")
    options: dict[str, object] = {"count_include_pad": include}
    if divisor:
        options["divisor_override"] = divisor
    for dtype in (torch.float32, torch.bfloat16):
        results = []
        for channels in CHANNELS:
            x = random(case, channels, dtype)
            theirs = torch_pool(case, "average", x.float(), **options)
            exact = torch_pool(case, "average", x.double(), **options)
            ours = native_pool(isa, case, "average", x, theirs, every(theirs.numel() // channels), 5, **options)
            results.append((ours, to_rows(theirs), to_rows(exact)))
        assert_as_exact_as_torch(results)


@every_isa
@pytest.mark.parametrize("kind", ["max", "average"])
def test_pooling_gives_the_same_however_the_positions_are_split(isa: str, kind: str) -> None:
    case = Case((11, 19), (3, 3), (2, 1), (1, 1), batch=2)
    for channels in CHANNELS:
        x = random(case, channels)
        out = torch_pool(case, kind, x)
        assert_the_same_however_split(
            lambda positions, x=x, out=out: native_pool(isa, case, kind, x, out, positions),
            out.numel() // x.shape[1],
            torch.Generator().manual_seed(channels),
        )


def test_another_instruction_set_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="no instruction set i286 on this machine"):
        NATIVE.mask_or("i286", mask=0, out=0, count=0)


MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
SIZES = [
    ((1, 1), (4, 4)),
    ((1, 7), (1, 14)),
    ((5, 3), (10, 6)),
    ((5, 3), (5, 9)),
    ((5, 3), (8, 3)),
    ((13, 17), (7, 40)),
    ((4, 4), (4, 4)),
    ((6,), (13,)),
    ((2, 3, 5), (4, 6, 10)),
    ((3, 3, 5), (3, 6, 5)),
    ((3, 4, 5), (7, 4, 11)),
    ((3, 4, 5), (7, 9, 5)),
    ((3, 4, 5), (7, 4, 5)),
]


def table(in_size: int, out_size: int, align_corners: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Lower input, higher input and weight of the higher one, of each output along one axis."""
    out = torch.arange(out_size, dtype=torch.float64)
    if in_size == out_size:
        source = out
    elif align_corners:
        source = out * ((in_size - 1) / (out_size - 1) if out_size > 1 else 0.0)
    else:
        source = ((out + 0.5) * (in_size / out_size) - 0.5).clamp(min=0)
    low = source.floor().clamp(max=in_size - 1)
    high = (low + 1).clamp(max=in_size - 1)
    return low.int(), high.int(), (source - low).float()


def native_interpolate(
    isa: str, x: Tensor, size: Sequence[int], positions: Tensor, align_corners: bool, gap: int = 0
) -> Tensor:
    rows = Rows.of(x, gap)
    in_size, out_size = three(x.shape[2:]), three(size)
    low, high, weight = zip(*(table(i, o, align_corners) for i, o in zip(in_size, out_size, strict=True)), strict=True)
    return produce(
        "interpolate",
        isa,
        x.shape[1],
        positions,
        batch=x.shape[0],
        channels=x.shape[1],
        in_size=in_size,
        out_size=out_size,
        low=[each.data_ptr() for each in low],
        high=[each.data_ptr() for each in high],
        weight=[each.data_ptr() for each in weight],
        **rows.arguments,
    )


@every_isa
@pytest.mark.parametrize(("size", "out_size"), SIZES)
@pytest.mark.parametrize("align_corners", [False, True])
def test_interpolation_is_as_exact_as_torch(
    isa: str, size: tuple[int, ...], out_size: tuple[int, ...], align_corners: bool
) -> None:
    options = {"size": out_size, "mode": MODES[len(size)], "align_corners": align_corners}
    for dtype, gap in itertools.product((torch.float32, torch.bfloat16), (0, 5)):
        results = []
        for channels in CHANNELS:
            x = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(channels)).to(dtype)
            theirs = F.interpolate(x.float(), **options)
            exact = F.interpolate(x.double(), **options)
            ours = native_interpolate(isa, x, out_size, every(theirs.numel() // channels), align_corners, gap)
            results.append((ours, to_rows(theirs), to_rows(exact)))
        assert_as_exact_as_torch(results)


@every_isa
def test_an_axis_that_keeps_its_size_reads_one_input(isa: str) -> None:
    x = torch.zeros(1, 17, 4, 3)
    x[..., 1, :] = float("nan")
    ours = native_interpolate(isa, x, (4, 6), every(24), False).reshape(4, 6, 17)
    assert torch.equal(ours.isnan().all(-1).all(-1), torch.tensor([False, True, False, False]))
    assert not ours[[0, 2, 3]].isnan().any()


@every_isa
def test_interpolation_gives_the_same_however_the_positions_are_split(isa: str) -> None:
    for channels in CHANNELS:
        x = torch.randn(2, channels, 3, 5, 4, generator=torch.Generator().manual_seed(channels))
        assert_the_same_however_split(
            lambda positions, x=x: native_interpolate(isa, x, (3, 9, 11), positions, False),
            2 * 3 * 9 * 11,
            torch.Generator().manual_seed(channels),
        )
