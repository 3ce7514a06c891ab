"""The native routines of gated convolutions by themselves, on every instruction set, against float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from saccade.kernels import cpu
from tests.instruction_sets import every_isa

pytestmark = pytest.mark.skipif(cpu.native_module() is None, reason="there is no native engine")
EPS = torch.finfo(torch.float32).eps


def padded(channels: int) -> int:
    return (channels + 63) // 64 * 64


def chosen(count: int, seed: int) -> Tensor:
    """Some positions: runs, single ones, the first and the last."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(count, generator=generator) < 0.3
    mask[count // 3 : count // 2] = True
    mask[[0, -1]] = True
    return mask.nonzero().flatten().to(torch.int32)


@every_isa
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 3, 8, 13, 32, 70])
@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad", "dilation"),
    [
        ((1, 9, 31), (1, 3, 3), (1, 1, 1), (0, 1, 1), (1, 1, 1)),
        ((1, 14, 17), (1, 3, 3), (1, 2, 2), (0, 1, 1), (1, 1, 1)),
        ((1, 12, 19), (1, 1, 5), (1, 3, 1), (0, 0, 4), (1, 1, 2)),
        ((3, 7, 22), (2, 3, 3), (1, 1, 1), (1, 2, 0), (1, 2, 1)),
        ((1, 5, 6), (1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1)),
        ((1, 1, 1), (1, 3, 3), (1, 1, 1), (0, 1, 1), (1, 1, 1)),
    ],
    ids=["3x3", "stride", "1x5 dilated", "3d", "1x1", "one pixel"],
)
def test_scores(
    isa: str, dtype: torch.dtype, channels: int, absolute: bool, size, kernel, stride, pad, dilation
) -> None:  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(channels)
    module, batch = cpu.native_module(), 2
    x = torch.randn(batch, *size, channels, generator=generator).to(dtype)
    weight = torch.randn(1, channels, *kernel, generator=generator)
    planes = x.double().movedim(-1, 1)
    planes = planes.abs() if absolute else planes
    want = torch.conv3d(planes, weight.double(), None, stride, pad, dilation) + 0.37
    scale = torch.conv3d(planes.abs(), weight.double().abs(), None, stride, pad, dilation) + 0.37
    rows = torch.full((x.numel() + 64,), float("nan"), dtype=dtype)  # what lies behind may be read, not used
    rows[: x.numel()] = x.flatten()
    packed = torch.zeros(math.prod(kernel), padded(channels))
    packed[:, :channels] = weight.reshape(channels, -1).T
    positions = chosen(want.numel(), channels)
    got = torch.full((len(positions) + 8,), 7.0)
    assert module is not None
    module.score(
        isa, batch=batch, in_size=size, out_size=tuple(want.shape[2:]), kernel=kernel, stride=stride, pad=pad,
        dilation=dilation, channels=channels, absolute=absolute,
        rows=(rows.data_ptr(), channels, dtype == torch.bfloat16),
        weights=packed.data_ptr(), bias=0.37, positions=positions.data_ptr(), count=len(positions), out=got.data_ptr(),
    )  # fmt: skip
    assert torch.equal(got[len(positions) :], torch.full((8,), 7.0)), "it wrote beyond"
    error = (got[: len(positions)].double() - want.flatten()[positions.long()]).abs()
    terms = math.prod(kernel) * channels  # lanes are summed apart: far fewer roundings than terms
    assert bool((error <= (8 + terms**0.5) * EPS * scale.flatten()[positions.long()]).all())


@every_isa
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 3, 8, 13, 32, 70])
@pytest.mark.parametrize("asked", ["rows", "norms", "both"])
def test_differences(isa: str, dtype: torch.dtype, channels: int, asked: str) -> None:
    generator = torch.Generator().manual_seed(channels)
    module, count = cpu.native_module(), 41
    now = torch.randn(count, channels + 3, generator=generator).to(dtype)  # inside wider rows
    last = torch.randn(count, channels, generator=generator).to(dtype)
    before, positions = last.clone(), chosen(count, 1)
    rows, norms = torch.zeros(count, channels, dtype=dtype), torch.zeros(count)
    assert module is not None
    bf16 = dtype == torch.bfloat16
    module.difference(
        isa, now=(now.data_ptr(), channels + 3, bf16), last=(last.data_ptr(), channels, bf16), channels=channels,
        rows=0 if asked == "norms" else rows.data_ptr(), norms=0 if asked == "rows" else norms.data_ptr(),
        positions=positions.data_ptr(), count=len(positions),
    )  # fmt: skip
    there = torch.zeros(count, 1, dtype=torch.bool)
    there[positions.long()] = True
    change = torch.where(there, now[:, :channels] - before, torch.zeros_like(before))
    assert torch.equal(last, torch.where(there, now[:, :channels], before))
    if asked != "norms":
        assert torch.equal(rows, change)
    if asked != "rows":
        torch.testing.assert_close(norms.double(), change.double().abs().sum(1), rtol=8 * EPS, atol=0)


@every_isa
@pytest.mark.parametrize("channels", [1, 3, 8, 13, 32, 70])
@pytest.mark.parametrize("add", [True, False])
def test_sums(isa: str, channels: int, add: bool) -> None:
    generator = torch.Generator().manual_seed(channels)
    module, count, ld = cpu.native_module(), 41, padded(channels)
    total = torch.randn(count, channels, generator=generator)
    positions = chosen(count, 2)
    fresh = torch.randn(len(positions), ld, generator=generator)
    given, before = fresh[:, :channels].clone(), total.clone()
    assert module is not None
    module.accumulate(
        isa, sum=total.data_ptr(), channels=channels, add=add, positions=positions.data_ptr(), count=len(positions),
        rows=fresh.data_ptr(), ld=ld,
    )  # fmt: skip
    want = before.clone()
    want[positions.long()] = before[positions.long()] + given if add else given
    assert torch.equal(total, want)
    assert torch.equal(fresh[:, :channels], want[positions.long()])
