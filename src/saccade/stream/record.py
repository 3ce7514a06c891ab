"""The record of what was announced: a copy of it, or one accumulated number per position."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.masks import ValueSpec
from saccade.stream.gate import Gate, bits_differ


class Record(ABC):
    """What consumers of one value were last told; decides what to announce next. Never changed, only replaced."""

    @abstractmethod
    def update(self, old: Tensor, new: Tensor, active: Tensor, gate: Gate, spec: ValueSpec) -> tuple[Tensor, Record]:
        """Returns which active positions to announce, and the record after that.

        Args:
            old: the value before this frame, of the spec's shape.
            new: the value now; equal to `old` where not active.
            active: mask of what was computed, of the spec's mask shape.
            gate: threshold and weights.
            spec: the value's spec.
        """

    @abstractmethod
    def tensor(self) -> Tensor:
        """The one tensor the record consists of; what is saved, and what it costs in memory."""

    @abstractmethod
    def holding(self, tensor: Tensor) -> Record:
        """Returns a record of this form that consists of another tensor."""


@dataclass(frozen=True, eq=False)
class ReferenceRecord(Record):
    """Keeps a copy a of what was announced, and announces where |y - a|_s > threshold. Costs a second copy."""

    announced: Tensor

    def update(self, old: Tensor, new: Tensor, active: Tensor, gate: Gate, spec: ValueSpec) -> tuple[Tensor, Record]:
        """See `Record.update`."""
        if gate.threshold == 0:
            told = active & bits_differ(new, self.announced, spec)
        else:
            told = active & ~(gate.distance(new, self.announced, spec) <= gate.threshold)
        return told, ReferenceRecord(torch.where(told, new, self.announced))

    def tensor(self) -> Tensor:
        """See `Record.tensor`."""
        return self.announced

    def holding(self, tensor: Tensor) -> Record:
        """See `Record.holding`."""
        return ReferenceRecord(tensor)


@dataclass(frozen=True, eq=False)
class CoarseRecord(Record):
    """Keeps the copy in bfloat16: half the memory, and a bound looser by the rounding of the copy, |a| / 512 at most.

    At threshold 0 what was announced is what the value was, so it stays exact.
    """

    announced: Tensor

    def update(self, old: Tensor, new: Tensor, active: Tensor, gate: Gate, spec: ValueSpec) -> tuple[Tensor, Record]:
        """See `Record.update`."""
        if gate.threshold == 0:
            return active & bits_differ(new, old, spec), self
        told = active & ~(gate.distance(new, self.announced.to(new.dtype), spec) <= gate.threshold)
        return told, CoarseRecord(torch.where(told, new.to(torch.bfloat16), self.announced))

    def tensor(self) -> Tensor:
        """See `Record.tensor`."""
        return self.announced

    def holding(self, tensor: Tensor) -> Record:
        """See `Record.holding`."""
        return CoarseRecord(tensor)


@dataclass(frozen=True, eq=False)
class AccumulatedRecord(Record):
    """Keeps one number per position, the sum of |y_new - y_old|_s since it was last announced.

    The sum is never less than |y - a|_s (triangle inequality), so the bound on what was not announced holds all the
    same; it announces earlier than a copy would, and noise now and then.
    """

    moved: Tensor

    def update(self, old: Tensor, new: Tensor, active: Tensor, gate: Gate, spec: ValueSpec) -> tuple[Tensor, Record]:
        """See `Record.update`."""
        if gate.threshold == 0:
            return active & bits_differ(new, old, spec), self
        moved = torch.where(active, self.moved + gate.distance(new, old, spec), self.moved)
        told = active & ~(moved <= gate.threshold)
        return told, AccumulatedRecord(moved.masked_fill(told, 0.0))

    def tensor(self) -> Tensor:
        """See `Record.tensor`."""
        return self.moved

    def holding(self, tensor: Tensor) -> Record:
        """See `Record.holding`."""
        return AccumulatedRecord(tensor)


RECORDS = ("reference", "coarse", "accumulated")
COARSE_FROM = 0.01  # tolerance from which rounding a copy to bfloat16 changes nothing (benchmarks.records)


def default_record(tolerance: float | None) -> str:
    """Returns the form used when none is asked for: "coarse" where the tolerance is well above its rounding."""
    return "coarse" if tolerance is not None and tolerance >= COARSE_FROM else "reference"


def start_record(form: str, value: Tensor, spec: ValueSpec) -> Record:
    """Returns a record of the given form after `value` was announced everywhere."""
    if form == "reference":
        return ReferenceRecord(value)
    if form == "coarse":
        return CoarseRecord(value.to(torch.bfloat16) if value.is_floating_point() else value)
    dtype = torch.float64 if value.dtype == torch.float64 else torch.float32
    return AccumulatedRecord(torch.zeros(spec.mask_shape, dtype=dtype))


def restore_record(form: str, tensor: Tensor) -> Record:
    """Returns the record whose `tensor()` was saved."""
    if form == "reference":
        return ReferenceRecord(tensor)
    return CoarseRecord(tensor) if form == "coarse" else AccumulatedRecord(tensor)


def check_record(form: str) -> str:
    """Returns the form's name; raises InputError for an unknown one."""
    if form not in RECORDS:
        raise InputError(f"unknown record {form!r}; expected one of {', '.join(RECORDS)}")
    return form
