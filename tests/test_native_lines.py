"""Native sums, means, extremes, softmax and layer norm against torch in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.instruction_sets import every_isa
from tests.native_producers import (
    CHANNELS,
    Rows,
    assert_as_exact_as_torch,
    assert_the_same_however_split,
    every,
    produce,
    to_rows,
)

REDUCTIONS: dict[str, tuple[int, Callable[..., Tensor]]] = {
    "sum": (0, torch.sum),
    "mean": (1, torch.mean),
    "max": (2, torch.amax),
    "min": (3, torch.amin),
}
LINES = {"softmax": 0, "log_softmax": 1, "layer_norm": 2}


def members_of(shape: tuple[int, ...], dims: tuple[int, ...]) -> Tensor:
    """Returns (outputs, members): the input positions each output reduces, of a (B, C, ...) value."""
    sizes = [shape[0], *shape[2:]]
    index = torch.arange(int(torch.tensor(sizes).prod()), dtype=torch.int32).reshape(sizes)
    axes = [0 if dim == 0 else dim - 1 for dim in dims]
    kept = [axis for axis in range(len(sizes)) if axis not in axes]
    return index.permute(*kept, *axes).reshape(-1, int(torch.tensor([sizes[axis] for axis in axes]).prod()))


def native_reduce(isa: str, kind: str, x: Tensor, members: Tensor, positions: Tensor, gap: int = 0) -> Tensor:
    rows = Rows.of(x, gap)
    members = members.contiguous()
    return produce(
        "reduce",
        isa,
        x.shape[1],
        positions,
        kind=REDUCTIONS[kind][0],
        channels=x.shape[1],
        members=members.data_ptr(),
        member_count=members.shape[1],
        **rows.arguments,
    )


@every_isa
@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize(
    ("size", "dims"),
    [
        ((1, 1), (2, 3)),
        ((1, 7), (3,)),
        ((5, 3), (2,)),
        ((13, 17), (3,)),
        ((13, 17), (2, 3)),
        ((56, 57), (2, 3)),
        ((2, 3, 5), (2, 3, 4)),
        ((5, 3), (0,)),
    ],
)
def test_reductions_are_as_exact_as_torch(isa: str, kind: str, size: tuple[int, ...], dims: tuple[int, ...]) -> None:
    function = REDUCTIONS[kind][1]
    for dtype in (torch.float32, torch.bfloat16):
        results = []
        for channels in CHANNELS:
            x = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(channels)).add(0.5).to(dtype)
            members = members_of(x.shape, dims)
            channel = 0 if 0 in dims else 1
            theirs = to_rows(function(x.float(), dim=dims), channel)
            exact = to_rows(function(x.double(), dim=dims), channel)
            results.append((native_reduce(isa, kind, x, members, every(len(members)), 5), theirs, exact))
        if kind in ("max", "min"):
            assert all(torch.equal(ours, theirs) for ours, theirs, _ in results)
        else:
            assert_as_exact_as_torch(results)


@every_isa
@pytest.mark.parametrize(("kind", "function"), [("mean", F.adaptive_avg_pool1d), ("max", F.adaptive_max_pool1d)])
def test_outputs_may_reduce_fewer_members_than_others(
    isa: str, kind: str, function: Callable[[Tensor, int], Tensor]
) -> None:
    size, out = 23, 9
    ranges = [range(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]
    most = max(map(len, ranges))
    assert len({len(each) for each in ranges}) > 1
    members = torch.tensor([[*each, *([-1] * (most - len(each)))] for each in ranges], dtype=torch.int32)
    results = []
    for channels in CHANNELS:
        x = torch.randn(1, channels, size, generator=torch.Generator().manual_seed(channels))
        ours = native_reduce(isa, kind, x, members, every(out))
        results.append((ours, to_rows(function(x, out)), to_rows(function(x.double(), out))))
    assert_as_exact_as_torch(results)


@every_isa
@pytest.mark.parametrize("kind", ["max", "min"])
def test_extremes_keep_nan_as_torch_does(isa: str, kind: str) -> None:
    for channels in CHANNELS:
        x = torch.randn(1, channels, 6, 9, generator=torch.Generator().manual_seed(channels))
        x[0, 0, 1, 3] = x[0, -1, 2, 8] = x[0, channels // 2, 3, 0] = float("nan")
        x[0, 0, 4] = float("inf")
        x[0, 0, 5] = -float("inf")
        expected = to_rows(REDUCTIONS[kind][1](x, dim=3))
        ours = native_reduce(isa, kind, x, members_of(x.shape, (3,)), every(6))
        torch.testing.assert_close(ours, expected, rtol=0, atol=0, equal_nan=True)


@every_isa
def test_large_values_that_cancel_are_summed_as_exactly_as_torch_does(isa: str) -> None:
    x = torch.randn(1, 33, 1, 1000, generator=torch.Generator().manual_seed(0)) * 1e6
    x = torch.cat([x, -x.flip(3) + 1], dim=3)
    ours = native_reduce(isa, "sum", x, members_of(x.shape, (3,)), every(1))
    assert_as_exact_as_torch([(ours, to_rows(x.sum(3)), to_rows(x.double().sum(3)))])


@every_isa
@pytest.mark.parametrize("kind", REDUCTIONS)
def test_reductions_give_the_same_however_the_positions_are_split(isa: str, kind: str) -> None:
    for channels in CHANNELS:
        x = torch.randn(2, channels, 31, 9, generator=torch.Generator().manual_seed(channels))
        assert_the_same_however_split(
            lambda positions, x=x: native_reduce(isa, kind, x, members_of(x.shape, (3,)), positions),
            62,
            torch.Generator().manual_seed(channels),
        )


def native_normalise(
    isa: str,
    kind: str,
    rows: Tensor,
    positions: Tensor,
    epsilon: float = 0.0,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    gap: int = 0,
) -> Tensor:
    value = Rows.of(rows, gap)
    return produce(
        "normalise",
        isa,
        rows.shape[1],
        positions,
        kind=LINES[kind],
        channels=rows.shape[1],
        epsilon=epsilon,
        scale=0 if scale is None else scale.data_ptr(),
        shift=0 if shift is None else shift.data_ptr(),
        **value.arguments,
    )


WIDTHS = (*CHANNELS, 2, 32, 150, 1000)


def lines(width: int, factor: float, offset: float, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(width)
    return (torch.randn(69, width, generator=generator) * factor + offset).to(dtype)


@every_isa
@pytest.mark.parametrize("kind", ["softmax", "log_softmax"])
@pytest.mark.parametrize(("factor", "offset"), [(1.0, 0.0), (20.0, 50.0), (0.01, -3.0)])
def test_softmax_is_as_exact_as_torch(isa: str, kind: str, factor: float, offset: float) -> None:
    function = getattr(torch, kind)
    for width, dtype in itertools.product(WIDTHS, (torch.float32, torch.bfloat16)):
        x = lines(width, factor, offset, dtype)
        ours = native_normalise(isa, kind, x, every(len(x)), gap=3)
        assert_as_exact_as_torch([(ours, function(x.float(), -1), function(x.double(), -1))])


@every_isa
@pytest.mark.parametrize("kind", ["softmax", "log_softmax"])
def test_softmax_of_nan_and_infinities_is_torchs(isa: str, kind: str) -> None:
    for width in WIDTHS:
        x = lines(width, 1.0, 0.0, torch.float32)
        x[1, 0] = x[2, -1] = float("nan")
        x[3, width // 2] = float("inf")
        x[4] = -float("inf")
        x[5, : width // 2] = -float("inf")
        exact = getattr(torch, kind)(x.double(), -1)
        ours = native_normalise(isa, kind, x, every(len(x)))
        assert exact[1:5].isnan().all(-1).tolist() == [True] * 4
        assert_as_exact_as_torch([(ours, getattr(torch, kind)(x, -1), exact)])


@every_isa
@pytest.mark.parametrize(("factor", "offset"), [(1.0, 0.0), (3.0, 100.0), (0.001, 0.0)])
@pytest.mark.parametrize("affine", ["both", "scale", "shift", "neither"])
def test_layer_norm_is_as_exact_as_torch(isa: str, factor: float, offset: float, affine: str) -> None:
    for width, dtype in itertools.product(WIDTHS, (torch.float32, torch.bfloat16)):
        x = lines(width, factor, offset, dtype)
        generator = torch.Generator().manual_seed(1)
        scale, shift = torch.randn(2, width, generator=generator).unbind()
        weights = (scale if affine in ("both", "scale") else None, shift if affine in ("both", "shift") else None)
        ours = native_normalise(isa, "layer_norm", x, every(len(x)), 1e-5, *weights, gap=3)
        theirs = F.layer_norm(x.float(), (width,), *weights, eps=1e-5)
        wide = [None if each is None else each.double() for each in weights]
        exact = F.layer_norm(x.double(), (width,), *wide, eps=1e-5)
        assert_as_exact_as_torch([(ours, theirs, exact)])


@every_isa
@pytest.mark.parametrize("kind", LINES)
def test_normalisation_gives_the_same_however_the_positions_are_split(isa: str, kind: str) -> None:
    for width in WIDTHS:
        x = lines(width, 1.0, 0.0, torch.float32)
        assert_the_same_however_split(
            lambda positions, x=x: native_normalise(isa, kind, x, positions, 1e-5),
            len(x),
            torch.Generator().manual_seed(width),
        )
