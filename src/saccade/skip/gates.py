"""The gates of Skip-Convolutions (section 3.2): which positions of a layer are worth computing, given what changed.

Every gate is a convolution with one output channel and the layer's own stride, padding and dilation; it fires where
that is more than 0. The norm gates read sum_c |r|, the learned one r itself, or |r|.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.kernels.convolving import Geometry, convolve


@dataclass(frozen=True)
class InputNorm:
    """Input-norm gate (eq. 5): fires where the sum of |r| over the kernel's support is more than `threshold`.

    Nothing to train; one threshold serves all layers.
    """

    threshold: float = 1e-2

    def __post_init__(self) -> None:
        _check_threshold(self)


@dataclass(frozen=True)
class OutputNorm:
    """Output-norm gate (eq. 7): fires where |w| times the sum of |r| over the support is more than `threshold`.

    Nothing to train; one threshold serves all layers. The paper leaves the scale of its norms open. Here |w| is the
    mean of the absolute weights over all of their dimensions, so that the product is about the mean change of an
    output channel, whatever the layer's size.
    """

    threshold: float = 15e-5

    def __post_init__(self) -> None:
        _check_threshold(self)


@dataclass(frozen=True)
class Gumbel:
    """Learned gate (eq. 8): a convolution phi on r, trained with Gumbel noise and a straight-through gradient.

    Attributes:
        temperature: of the sigmoid whose gradient stands in for the step's.
        bias: what phi's bias starts from; None is 1, and -2 with `magnitude`. On r its weights start at 0 in effect (a
            hundredth of a convolution's usual scale), so at first a gate fires with probability sigmoid(bias)
            wherever it is.
        magnitude: phi reads |r| in place of r. Not in the paper: what a change is worth hardly depends on its sign, and
            a linear function of r cannot be large for both signs. Its weights start at 1, so that it starts as the
            input-norm gate of threshold -bias, and learns from there.
    """

    temperature: float = 1.0
    bias: float | None = None
    magnitude: bool = False

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise InputError(f"a gate's temperature must be a positive number, got {self.temperature}")
        if self.bias is not None and not math.isfinite(self.bias):
            raise InputError(f"a gate's first bias must be a finite number, got {self.bias}")


GateKind = InputNorm | OutputNorm | Gumbel


@dataclass(frozen=True)
class Skip:
    """What a convolution becomes.

    Attributes:
        gate: the gate.
        block: 1, 2, 4 or 8: side of the square of positions that fire together (section 3.2, structured sparsity).
        form: "residual", eq. 3: z_t = z_{t-1} + g . (w * r_t), or "refresh": z_t is computed anew where the gate fires.
    """

    gate: GateKind
    block: int = 1
    form: str = "residual"

    def __post_init__(self) -> None:
        if not isinstance(self.gate, GateKind):
            raise InputError(f"unknown gate {self.gate!r}; expected InputNorm(...), OutputNorm(...) or Gumbel(...)")
        if not isinstance(self.block, int) or self.block < 1:
            raise InputError(f"a block is {self.block!r} positions wide; expected a whole number of at least 1")
        if self.form not in ("residual", "refresh"):
            raise InputError(f"unknown form {self.form!r}; expected 'residual' or 'refresh'")


class Kernel(NamedTuple):
    """A gate as a convolution with `weight` (1, C, kernel...) and `bias` (1,).

    `magnitude`: it reads |r|, not r; summed over the channels where its weight has only one.
    """

    weight: Tensor
    bias: Tensor
    magnitude: bool


def norm_kernel(gate: InputNorm | OutputNorm, weight: Tensor) -> Kernel:
    """Returns a norm gate's kernel for a layer with these weights, (out, in / groups, kernel...)."""
    ones = torch.ones(1, 1, *weight.shape[2:], dtype=weight.dtype, device=weight.device)
    if isinstance(gate, OutputNorm):
        ones = ones * weight.detach().abs().mean()
    bias = torch.full((1,), -gate.threshold, dtype=weight.dtype, device=weight.device)
    return Kernel(ones, bias, magnitude=True)


def scores(residual: Tensor, kernel: Kernel, geometry: Geometry) -> Tensor:
    """Returns the score (N, 1, ...) of every output position; residual is (N, C, ...)."""
    source = residual.abs() if kernel.magnitude else residual
    if kernel.magnitude and kernel.weight.shape[1] == 1:
        source = source.sum(1, keepdim=True)
    return convolve(source, kernel.weight, kernel.bias, geometry)


def decide(score: Tensor) -> Tensor:
    """Returns where a gate fires at inference, 1 or 0: round(sigmoid(score)), which is 1 where the score is over 0."""
    return (score > 0).to(score.dtype)


def sample(score: Tensor, *, temperature: float) -> Tensor:
    """Returns a draw from Bernoulli(sigmoid(score)), 1 or 0, with the noisy sigmoid's gradient (straight through)."""
    uniform = torch.rand_like(score).clamp_(torch.finfo(score.dtype).tiny, 1 - torch.finfo(score.dtype).eps)
    noisy = score + uniform.log() - torch.log1p(-uniform)
    soft = torch.sigmoid(noisy / temperature)
    return decide(noisy).detach() + (soft - soft.detach())


def initial_phi(channels: int, kernel: Sequence[int], start: Gumbel, like: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the first weight (1, C, kernel...) and bias (1,) of a learned gate, of the type of `like`."""
    weight = torch.ones(1, channels, *kernel, dtype=like.dtype, device=like.device)
    if not start.magnitude:
        weight.normal_(0.0, 0.01 / math.sqrt(channels * math.prod(kernel)))
    bias = start.bias if start.bias is not None else -2.0 if start.magnitude else 1.0
    return weight, torch.full((1,), bias, dtype=like.dtype, device=like.device)


def _check_threshold(gate: InputNorm | OutputNorm) -> None:
    if not (gate.threshold >= 0 and math.isfinite(gate.threshold)):
        raise InputError(
            f"{type(gate).__name__}: the threshold is {gate.threshold}; expected a finite number of at least 0"
        )
