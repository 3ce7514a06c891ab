"""Skip-Convolutions by the letter: position by position in float64, loops only. What tests compare the layer with."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Layer:
    """A convolution: weight (O, C / groups, kernel...), bias (O,), and one stride, padding, dilation per axis."""

    weight: Array
    bias: Array
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1


@dataclass(frozen=True)
class GateRule:
    """kind "input", "output", "phi" or "|phi|"; `number` is the threshold, or phi's bias; phi (C, kernel...)."""

    kind: str
    number: float
    phi: Array | None = None


def output_size(layer: Layer, size: tuple[int, ...]) -> tuple[int, ...]:
    kernel = layer.weight.shape[2:]
    return tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, layer.stride, layer.padding, layer.dilation, strict=True)
    )


def window(x: Array, layer: Layer, at: tuple[int, ...]) -> Array:
    """Returns what one output position reads of x (C, ...): (C, kernel...), zeros outside."""
    kernel = layer.weight.shape[2:]
    seen = np.zeros((x.shape[0], *kernel))
    for tap in itertools.product(*map(range, kernel)):
        place = tuple(
            a * s - p + t * d
            for a, s, p, t, d in zip(at, layer.stride, layer.padding, tap, layer.dilation, strict=True)
        )
        if all(0 <= q < n for q, n in zip(place, x.shape[1:], strict=True)):
            seen[(slice(None), *tap)] = x[(slice(None), *place)]
    return seen


def convolution(x: Array, layer: Layer, *, with_bias: bool) -> Array:
    """Returns the convolution of x (C, ...)."""
    size = output_size(layer, x.shape[1:])
    out = np.zeros((layer.weight.shape[0], *size))
    outs, ins = layer.weight.shape[0] // layer.groups, layer.weight.shape[1]
    for at in itertools.product(*map(range, size)):
        seen = window(x, layer, at)
        for o in range(layer.weight.shape[0]):
            group = o // outs
            out[(o, *at)] = (layer.weight[o] * seen[group * ins : (group + 1) * ins]).sum()
            if with_bias:
                out[(o, *at)] += layer.bias[o]
    return out


def score(residual: Array, layer: Layer, rule: GateRule) -> Array:
    """Returns eq. 5, 7 or 8 before the decision: it fires where this is more than 0."""
    size = output_size(layer, residual.shape[1:])
    found = np.zeros(size)
    for at in itertools.product(*map(range, size)):
        seen = window(residual, layer, at)
        if rule.phi is not None:
            found[at] = ((np.abs(seen) if rule.kind == "|phi|" else seen) * rule.phi).sum() + rule.number
        else:
            scale = np.abs(layer.weight).mean() if rule.kind == "output" else 1.0
            found[at] = scale * np.abs(seen).sum() - rule.number
    return found


def blocks(fired: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Returns the gate (..., H, W) in side x side squares: one fires whole if any of it does."""
    out = np.zeros_like(fired)
    height, width = fired.shape[-2:]
    for y, x in itertools.product(range(height), range(width)):
        top, left = y // side * side, x // side * side
        out[..., y, x] = fired[..., top : top + side, left : left + side].any(axis=(-2, -1))
    return out


def follow(
    clip: Array, layer: Layer, rule: GateRule, *, block: int, form: str, reference: list[bool]
) -> tuple[Array, NDArray[np.bool_]]:
    """Returns z (T, O, ...) and where it was computed (T, ...) of a clip (T, C, ...)."""
    values, masks = [], []
    for t, frame in enumerate(clip):
        whole = convolution(frame, layer, with_bias=True)
        if reference[t]:
            values.append(whole)
            masks.append(np.ones(whole.shape[1:], bool))
            continue
        residual = frame - clip[t - 1]
        fired = blocks(score(residual, layer, rule) > 0, block)
        if form == "residual":
            values.append(values[-1] + fired * convolution(residual, layer, with_bias=False))
        else:
            values.append(np.where(fired, whole, values[-1]))
        masks.append(fired)
    return np.stack(values), np.stack(masks)
