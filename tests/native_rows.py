"""The native module's row routines on tensors, for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from saccade.kernels import cpu

NONE, SCALAR, CHANNELS, ROWS = range(4)  # kinds of operand
ANNOUNCE_ALL, EXACT, REFERENCE, ACCUMULATED = range(4)  # forms of record
native: Any = cpu.native_module()
OPS: list[str] = list(native.row_ops()) if native is not None else []


@dataclass(frozen=True)
class Operation:
    """One elementwise operation; `other` is its operand: a number, (channels,), or (rows, channels or 1)."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0
    gamma: float = 0.0
    other: float | Tensor | None = None
    map: Tensor | None = None

    def packed(self) -> tuple[Any, ...]:
        """Returns what the module is given; tensors must outlive the call."""
        kind, gamma, vector, rows, broadcast = NONE, self.gamma, 0, (0, 0, False), 0
        if isinstance(self.other, float):
            kind, gamma = SCALAR, self.other
        elif self.other is not None and self.other.dim() == 1:
            kind, vector = CHANNELS, self.other.data_ptr()
        elif self.other is not None:
            kind, rows, broadcast = ROWS, place(self.other), int(self.other.shape[1] == 1)
        index = OPS.index(self.name)
        at = 0 if self.map is None else self.map.data_ptr()
        return index, kind, self.alpha, self.beta, gamma, vector, rows, at, broadcast


def place(rows: Tensor) -> tuple[int, int, bool]:
    """Returns address, stride and whether the type is bf16, of rows (positions, channels)."""
    return rows.data_ptr(), rows.stride(0), rows.dtype == torch.bfloat16


def padded(channels: int) -> int:
    return (channels + 63) // 64 * 64


def scratch(rows: Tensor, ld: int | None = None, beyond: float = float("nan")) -> Tensor:
    """Returns rows (count, channels) in a matrix as producers leave it, `beyond` behind the channels."""
    count, channels = rows.shape
    matrix = torch.full((count, ld or padded(channels)), beyond)
    matrix[:, :channels] = rows
    return matrix


def indices(given: Tensor | list[int]) -> Tensor:
    return torch.as_tensor(given, dtype=torch.int32)


def apply_rows(
    isa: str, operations: list[Operation], rows: Tensor, positions: Tensor | None = None, beyond: float = float("nan")
) -> Tensor:
    """Returns rows (count, channels) after the operations."""
    count, channels = rows.shape
    at = torch.arange(count, dtype=torch.int32) if positions is None else positions
    matrix = scratch(rows, beyond=beyond)
    packed = [operation.packed() for operation in operations]
    native.apply_rows(
        isa,
        ops=packed,
        channels=channels,
        positions=at.data_ptr(),
        count=count,
        rows=matrix.data_ptr(),
        ld=matrix.stride(0),
    )
    return matrix[:, :channels].clone()


def load_rows(isa: str, source: Tensor, channels: int, positions: Tensor, map: Tensor | None = None) -> Tensor:
    """Returns the source's rows (count, channels) at some positions."""
    out = torch.full((len(positions), padded(channels)), float("nan"))
    native.load_rows(
        isa,
        source=place(source),
        channels=channels,
        map=0 if map is None else map.data_ptr(),
        broadcast=int(source.shape[1] == 1 and channels > 1),
        positions=positions.data_ptr(),
        count=len(positions),
        out=out.data_ptr(),
        ld=out.stride(0),
    )
    return out[:, :channels]


@dataclass
class Kept:
    """What `keep` works on: a value, its record and its mask."""

    form: int
    value: Tensor  # (positions, channels), any stride between positions
    record: Tensor  # reference: (positions, channels); accumulated: (positions,)
    announced: Tensor  # (positions,), uint8
    threshold: float = 0.0
    weights: Tensor | None = None
    first: bool = False
    whole: tuple[Tensor, ...] = field(default=())  # memory that the tensors lie in, gaps included

    def clone(self) -> Kept:
        """Returns a copy with the same strides and gaps."""

        def copy(tensor: Tensor) -> Tensor:
            base = tensor._base if tensor._base is not None else tensor
            return base.clone().as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

        value, record, announced = copy(self.value), copy(self.record), self.announced.clone()
        return Kept(self.form, value, record, announced, self.threshold, self.weights, self.first)

    def memory(self) -> list[Tensor]:
        """Returns every byte that `keep` may have written, and those between them."""
        bases = [tensor._base if tensor._base is not None else tensor for tensor in (self.value, self.record)]
        return [base.contiguous().view(torch.uint8).reshape(-1) for base in (*bases, self.announced)]


def keep_rows(
    isa: str, kept: Kept, positions: Tensor, rows: Tensor, ld: int | None = None, beyond: float = float("nan")
) -> int:
    """Keeps rows (count, channels) at some positions; returns how many were announced."""
    matrix = scratch(rows, ld, beyond)
    record = place(kept.record) if kept.record.dim() == 2 else (kept.record.data_ptr(), 1, False)
    told: int = native.keep_rows(
        isa,
        value=place(kept.value),
        channels=rows.shape[1],
        form=kept.form,
        record=record,
        threshold=kept.threshold,
        weights=0 if kept.weights is None else kept.weights.data_ptr(),
        announced=kept.announced.data_ptr(),
        first=kept.first,
        positions=positions.data_ptr(),
        count=len(positions),
        rows=matrix.data_ptr(),
        ld=matrix.stride(0),
    )
    return told
