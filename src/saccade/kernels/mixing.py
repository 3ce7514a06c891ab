"""The sum of a dynamic convolution's options (VA-RED2, eq. 5): what was computed and what is rebuilt, weighted.

The options are linear in what was computed, so every output frame is a sum of few computed ones, and every channel one
of few maps, each times a number per clip and channel. Those numbers are made first, from the options' weights and the
cheap operations'; then maps are passed over once for each term, not once for each option and operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Part = tuple[slice, slice]  # channels and frames of a map
ALL = slice(None)


class Cheap(NamedTuple):
    """What rebuilds the maps that options leave out, entry k - 1 for option k.

    Attributes:
        before: (2**k - 1, C), by which the computed frame before one left out is multiplied; (0, C): by 1.
        after: the same of the computed frame behind it; (0, C): it is not read.
        filters: (C - K_k, 1, 1, h, w), over space, by which channel K_k + g is made of channel g mod K_k.
    """

    before: Sequence[Tensor]
    after: Sequence[Tensor]
    filters: Sequence[Tensor]


class Term(NamedTuple):
    """`to` of the output gets `of` of a map, times a number per clip and channel.

    Attributes:
        map, number: which of the maps and of the numbers.
        of, to: channels and frames.
        begins: nothing is there yet of this part of the output: it is written, not added to.
        reads_first: no other such term reads these elements of the map.
    """

    map: int
    number: int
    of: Part
    to: Part
    begins: bool
    reads_first: bool


def mix(
    y: Tensor, time: Tensor, channels: Tensor, cheap: Cheap, *, frames: int, out: int, largest: tuple[int, int] = (0, 0)
) -> Tensor:
    """Returns the sum of the options (eq. 5), (B, C, T, H, W).

    Args:
        y: what was computed, (B, K, n, H, W): the frames and channels of the options `largest`.
        time, channels: weights of the options, (B, options); 0 for all larger than those computed. A dimension with one
            option is left alone.
        cheap: what rebuilds the rest.
        frames, out: T and C.
        largest: the options of time and of channels that were computed.
    """
    if time.shape[1] > 1:
        y = _mix_frames(y, time, cheap, frames=frames, largest=largest[0])
    if channels.shape[1] > 1:
        y = _mix_channels(y, channels, cheap, out=out, largest=largest[1])
    return y


def _used(weights: Tensor, largest: int) -> list[int]:
    """Returns the options that some clip gives a weight, and the one that was computed."""
    some = (weights > 0).any(0).tolist()
    return [k for k in range(largest, len(some)) if some[k] or k == largest]


def _mix_frames(y: Tensor, time: Tensor, cheap: Cheap, *, frames: int, largest: int) -> Tensor:
    """Returns the sum of the options of time.

    Frame i R + j of an option with R = 2**k is before[j - 1] y_i + after[j - 1] y_{i+1} per channel, y_i the i-th frame
    it computes (eq. 1); the last has itself for a next.
    """
    used, kept, computed = _used(time, largest), y.shape[1], y.shape[2]
    period = 2 ** used[-1]  # output frames this far apart are made alike
    numbers: list[Tensor] = []
    terms: list[Term] = []
    for j in range(min(period, frames)):
        found: dict[tuple[int, int], Tensor] = {}  # by how many output frames a source lies ahead; of which option
        for k in used:
            weight, behind = time[:, k : k + 1].expand(-1, kept), j % 2**k
            before, after = (parts[k - 1] if behind else time[:0] for parts in (cheap.before, cheap.after))
            own = weight * before[behind - 1, :kept] if len(before) else weight
            found[-behind, 0] = found[-behind, 0] + own if (-behind, 0) in found else own
            if len(after):
                found[2**k - behind, k] = weight * after[behind - 1, :kept]
        for (ahead, k), number in found.items():
            begins = (ahead, k) == next(iter(found))
            for of, to in _places(j, ahead, 2**k, period=period, largest=largest, computed=computed, frames=frames):
                terms.append(Term(0, len(numbers), (ALL, of), (ALL, to), begins, reads_first=ahead == 0))
            numbers.append(number)
    return weighted_sum([y], numbers, terms, channels=kept, frames=frames)


def _places(
    j: int, ahead: int, stride: int, *, period: int, largest: int, computed: int, frames: int
) -> list[tuple[slice, slice]]:
    """Returns which computed frames frames j, j + period, ... read so far ahead, and which frames those are.

    Behind the last computed frame lies none: the one a stride before stands in for it.
    """
    count, step, first = -(-(frames - j) // period), period >> largest, (j + ahead) >> largest
    fit = min(count, -(-(computed - first) // step))
    places = []
    if fit:
        of = slice(first, first + (fit - 1) * step + 1, step)
        places.append((of, slice(j, j + (fit - 1) * period + 1, period)))
    if fit < count:
        last = first + fit * step - (stride >> largest)
        places.append((slice(last, last + 1), slice(j + fit * period, j + fit * period + 1)))
    return places


def _mix_channels(y: Tensor, channels: Tensor, cheap: Cheap, *, out: int, largest: int) -> Tensor:
    """Returns the sum of the options of channels: the computed ones as they are, the others made from them (eq. 1)."""
    used, kept = _used(channels, largest), y.shape[1]
    maps, terms = [y], [Term(0, 0, (ALL, ALL), (slice(0, kept), ALL), begins=True, reads_first=True)]
    numbers: list[Tensor] = []
    whole = y.new_zeros(len(y), kept)
    for k in used:
        own = out - len(cheap.filters[k - 1]) if k else out
        weight = channels[:, k : k + 1]
        whole = whole + F.pad(weight.expand(-1, own), (0, kept - own))
        if k == 0:
            continue
        maps.append(rebuild_channels(y[:, :own], cheap.filters[k - 1]))
        begins = k == used[0]  # above those computed
        terms.append(
            Term(len(maps) - 1, len(numbers) + 1, (ALL, ALL), (slice(own, out), ALL), begins, reads_first=True)
        )
        numbers.append(weight)
    return weighted_sum(maps, [whole, *numbers], terms, channels=out, frames=y.shape[2])


def rebuild_channels(y: Tensor, filters: Tensor) -> Tensor:
    """Returns the channels left out, (B, C - K, T, H, W), from those computed, (B, K, T, H, W)."""
    rest, kept = len(filters), y.shape[1]
    source = y[:, :rest] if rest <= kept else y[:, [g % kept for g in range(rest)]]
    if filters.shape[-2:] == (1, 1):
        return source * filters.reshape(-1, 1, 1, 1)
    return F.conv3d(source, filters, padding=[0, filters.shape[-2] // 2, filters.shape[-1] // 2], groups=rest)


def weighted_sum(
    maps: Sequence[Tensor], numbers: Sequence[Tensor], terms: Sequence[Term], *, channels: int, frames: int
) -> Tensor:
    """Returns the sum of the terms, (B, channels, frames, H, W), with a gradient to maps and numbers.

    Args:
        maps: (B, c, t, H, W) each.
        numbers: (B, channels of a term) or (B, 1) each.
        terms: every element of the output has one that begins it, and this comes first; every element of a map has one
            that reads it first, somewhere.
        channels, frames: of the output.
    """
    found: Tensor = _WeightedSum.apply(len(maps), terms, (channels, frames), *maps, *numbers)
    return found


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, count: int, terms: Sequence[Term], size: tuple[int, int], *tensors: Tensor) -> Tensor:
        maps, numbers = tensors[:count], tensors[count:]
        ctx.save_for_backward(*tensors)
        ctx.count, ctx.terms = count, terms
        like = maps[0]
        out = empty_as(like, (len(like), *size, *like.shape[3:]), torch.result_type(like, numbers[0]))
        for term in terms:
            into = out[:, *term.to]
            source, number = _taken(maps, numbers, term)
            if term.begins:
                torch.mul(source, number, out=into)
            else:
                into.addcmul_(source, number)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tensors, count = ctx.saved_tensors, ctx.count
        maps, numbers = tensors[:count], tensors[count:]
        wanted = ctx.needs_input_grad[3:]
        to_maps = [torch.empty_like(x) if need else None for x, need in zip(maps, wanted[:count], strict=True)]
        to_numbers = [torch.zeros_like(x) if need else None for x, need in zip(numbers, wanted[count:], strict=True)]
        for term in sorted(ctx.terms, key=lambda term: not term.reads_first):
            given = gradient[:, *term.to]
            source, number = _taken(maps, numbers, term)
            to_map, to_number = to_maps[term.map], to_numbers[term.number]
            if to_map is not None and term.reads_first:
                torch.mul(given, number, out=to_map[:, *term.of])
            elif to_map is not None:
                to_map[:, *term.of].addcmul_(given, number)
            if to_number is not None:
                to_number += (given * source).sum((2, 3, 4)).sum_to_size(to_number.shape)
        return None, None, None, *to_maps, *to_numbers


def _taken(maps: Sequence[Tensor], numbers: Sequence[Tensor], term: Term) -> tuple[Tensor, Tensor]:
    number = numbers[term.number]
    return maps[term.map][:, *term.of], number.reshape(*number.shape, 1, 1, 1)


def empty_as(like: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Returns an empty tensor of another shape whose axes lie in memory in the same order."""
    order = sorted(range(like.dim()), key=lambda axis: -like.stride()[axis])
    empty = like.new_empty([shape[axis] for axis in order], dtype=dtype)
    return empty.permute([order.index(axis) for axis in range(like.dim())])
