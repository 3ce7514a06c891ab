"""What tests of routines that make rows share: values as rows, calls at chosen positions, when a result is right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.kernels import cpu

NATIVE: Any = cpu.native_module()
if NATIVE is None:
    pytest.skip(f"no native module: {cpu.why_missing()}", allow_module_level=True)
CHANNELS = (1, 3, 15, 16, 17, 33, 64, 65)
UNTOUCHED = -12345.0


def three(values: Sequence[int], fill: int = 1) -> list[int]:
    """Sizes over depth, height and width; axes that are not there have size `fill`."""
    return [fill] * (3 - len(values)) + list(values)


def padded(channels: int) -> int:
    """Floats of an output row that a producer may write."""
    return (channels + 63) // 64 * 64


def to_rows(value: Tensor, channel_axis: int = 1) -> Tensor:
    """Returns (positions, channels)."""
    return value.movedim(channel_axis, -1).reshape(-1, value.shape[channel_axis])


@dataclass(frozen=True)
class Rows:
    """A value in memory as the engine keeps it: every row is followed by NaN that nobody may use."""

    storage: Tensor
    stride: int

    @classmethod
    def of(cls, value: Tensor, gap: int = 0) -> Rows:
        rows = to_rows(value)
        count, channels = rows.shape
        # The storage ends with the last channel of the last row.
        storage = torch.full((count * (channels + gap) - gap,), float("nan"), dtype=value.dtype)
        storage.as_strided((count, channels), (channels + gap, 1)).copy_(rows)
        return cls(storage, channels + gap)

    @property
    def arguments(self) -> dict[str, int | bool]:
        return {
            "rows": self.storage.data_ptr(),
            "row_stride": self.stride,
            "bf16": self.storage.dtype == torch.bfloat16,
        }


Producer = Callable[[Tensor], Tensor]  # positions -> (positions, channels)


def produce(routine: str, isa: str, channels: int, positions: Tensor, /, **arguments: object) -> Tensor:
    """Calls a routine that makes rows; checks that it wrote its rows and nothing around them."""
    ld, guard = padded(channels) + 64, 2
    out = torch.full((len(positions) + 2 * guard, ld), UNTOUCHED)
    function: Callable[..., None] = getattr(NATIVE, routine)
    target = out.data_ptr() + guard * ld * 4
    function(isa, positions=positions.data_ptr(), count=len(positions), out=target, ld=ld, **arguments)
    inner = out[guard : guard + len(positions)]
    assert (out[:guard] == UNTOUCHED).all()
    assert (out[guard + len(positions) :] == UNTOUCHED).all()
    assert (inner[:, padded(channels) :] == UNTOUCHED).all()
    assert not (inner[:, :channels] == UNTOUCHED).any()
    return inner[:, :channels].clone()


def every(count: int) -> Tensor:
    """Returns the list of all positions."""
    return torch.arange(count, dtype=torch.int32)


def assert_as_exact_as_torch(results: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
    """Ours, torch's and exact results: the largest error against float64 is at most twice torch's own.

    Where torch happens to hit the exact value there still is the rounding of the result, half a unit in its last place.
    """
    error = bound = rounding = 0.0
    for ours, theirs, exact in results:
        assert ours.shape == theirs.shape == exact.shape
        assert torch.equal(ours.isnan(), exact.isnan())
        infinite, finite = exact.isinf(), exact.isfinite()
        assert torch.equal(ours[infinite].double(), exact[infinite])
        if finite.any():
            error = max(error, (ours.double() - exact)[finite].abs().max().item())
            bound = max(bound, 2 * (theirs.double() - exact)[finite].abs().max().item())
            rounding = max(rounding, torch.finfo(torch.float32).eps / 2 * exact[finite].abs().max().item())
    assert error <= bound + rounding, f"error {error:.3g}, torch {bound / 2:.3g}"


def assert_the_same_however_split(producer: Producer, count: int, generator: torch.Generator) -> None:
    """Every position's result is bit for bit that of the complete pass, whichever are computed beside it."""
    whole = producer(every(count)).view(torch.int32)
    for share in (0.1, 0.5, 0.9):
        chosen = (torch.rand(count, generator=generator) < share).nonzero().flatten().int()
        assert torch.equal(producer(chosen).view(torch.int32), whole[chosen.long()])
        for part in chosen.split(1 + int(share * 12)):
            assert torch.equal(producer(part.clone()).view(torch.int32), whole[part.long()])
