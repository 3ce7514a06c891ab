"""The gate of a step: when a position's change is announced to the steps that read it."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.masks import ValueSpec

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, eq=False)
class Gate:
    """A threshold on |d|_s = sqrt(sum_c weight_c d_c^2), d a position's change since it was last announced.

    Attributes:
        threshold: a change is announced when it is larger; 0 announces every change of any bit.
        weights: one non-negative weight per channel, (channels,); None is 1 / channels, the root mean square.
    """

    threshold: float
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        if not (self.threshold >= 0 and math.isfinite(self.threshold)):
            raise InputError(f"a threshold must be a finite number of at least 0, got {self.threshold}")
        if self.weights is not None and not bool((self.weights >= 0).all()):
            raise InputError("channel weights must be numbers of at least 0; some are negative or NaN")

    def scaled(self, factor: float) -> Gate:
        """Returns the gate with its threshold times the factor, at most the largest number there is."""
        return Gate(min(factor * self.threshold, sys.float_info.max), self.weights)

    def norm(self, difference: Tensor, spec: ValueSpec) -> Tensor:
        """Returns |d|_s of every position: a tensor of the spec's mask shape."""
        squared = difference.square()
        axis = spec.channel_axis
        if axis is None:
            return difference.abs()
        if self.weights is None:
            return squared.mean(axis, keepdim=True).sqrt()
        shape = [1] * len(spec.shape)
        shape[axis] = -1
        return (squared * self.weights.reshape(shape)).sum(axis, keepdim=True).sqrt()

    def distance(self, new: Tensor, old: Tensor, spec: ValueSpec) -> Tensor:
        """Returns |new - old|_s of every position; half precisions are compared in float32."""
        if new.dtype in (torch.float16, torch.bfloat16):
            new, old = new.float(), old.float()
        return self.norm(new - old, spec)


def bits_differ(new: Tensor, old: Tensor, spec: ValueSpec) -> Tensor:
    """Returns where any bit of a position differs: 0.0 and -0.0 do, equal NaNs do not. A mask of the spec."""
    if new.is_complex():
        differ = torch.view_as_real(new).ne(torch.view_as_real(old)).any(-1)
    else:
        bits = _BITS[new.element_size()]
        differ = new.view(bits) != old.view(bits)
    return differ if spec.channel_axis is None else differ.any(spec.channel_axis, keepdim=True)


@dataclass(frozen=True, eq=False)
class GateSettings:
    """What the user asked for; the gate of each value follows on the first frame.

    Attributes:
        threshold: one number for every value, or a gate (or number) per value name, others 0.
        tolerance: threshold of a value = tolerance x root mean square of that value on the first frame.
        reference_every: every so many frames one is computed whole, as a first one is; None: never again.
        alone: frames have nothing to do with one another: each is computed whole, and no records are kept.
    """

    threshold: float | Mapping[str, Gate | float] | None = None
    tolerance: float | None = None
    reference_every: int | None = None
    alone: bool = False

    def __post_init__(self) -> None:
        if self.threshold is not None and self.tolerance is not None:
            raise InputError(
                f"got threshold={self.threshold} and tolerance={self.tolerance}; give one of the two: a threshold is "
                "absolute, a tolerance is relative to what each step puts out"
            )
        if self.tolerance is not None and not (self.tolerance >= 0 and math.isfinite(self.tolerance)):
            raise InputError(f"a tolerance must be a finite number of at least 0, got {self.tolerance}")
        if isinstance(self.threshold, (int, float)):
            Gate(self.threshold)
        every = self.reference_every
        if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
            raise InputError(
                f"reference_every is {every!r}; expected a whole number of frames, at least 1, or None for a video's "
                "first frame only"
            )

    def is_reference(self, frame: int) -> bool:
        """Returns whether a frame, counted from 0 since the last reset, is computed whole."""
        if self.alone:
            return True
        return frame == 0 if self.reference_every is None else frame % self.reference_every == 0

    def gate(self, name: str, spec: ValueSpec, first: Tensor) -> Gate:
        """Returns the gate of a value, given what it was on the first frame; whole numbers are always exact."""
        if not first.is_floating_point():
            return Gate(0.0)
        if self.tolerance is not None:
            rms = float(first.double().square().mean().sqrt()) if first.numel() else 0.0
            return Gate(self.tolerance * rms if math.isfinite(rms) else 0.0)
        if self.threshold is None:
            return Gate(0.0)
        if isinstance(self.threshold, Mapping):
            given = self.threshold.get(name, 0.0)
            gate = given if isinstance(given, Gate) else Gate(float(given))
            if gate.weights is not None and tuple(gate.weights.shape) != (spec.channels,):
                raise InputError(
                    f"the gate of {name} has channel weights of shape {tuple(gate.weights.shape)}, expected "
                    f"({spec.channels},)"
                )
            return gate
        return Gate(float(self.threshold))
