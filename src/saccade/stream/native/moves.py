"""Steps that only move data: found out by moving the numbers of rows and channels through the operator itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.graph.plan import Step
from saccade.kernels.call import Call
from saccade.masks import ValueSpec
from saccade.stream.native.builder import Builder, Support, SupportData, UnfitError
from saccade.stream.native.layout import is_identity, numbered

MOST_PARTS = 64


@dataclass(frozen=True)
class Part:
    """Channels [to, to + count) of the result come from one value: `rows` per position (-1: none), `channels`."""

    source: str
    rows: Tensor
    channels: Tensor
    to: int


def add_move(builder: Builder, step: Step, row: int) -> None:
    """Adds a step that moves data: a view of its source's memory where that is possible, else a copy.

    Raises:
        UnfitError: it moves what the engine does not hold, or in too many pieces.
    """
    name = step.outputs[0]
    out = builder.spec(name)
    if out.dtype != "float32" or any(builder.spec(source).dtype != "float32" for source in step.inputs):
        raise UnfitError("it moves whole numbers")
    if any(ref.kind == "weight" for call in step.calls for ref in call.refs()):
        raise UnfitError("it moves weights along")
    if out.numel == 0:
        raise UnfitError("it is empty")
    call = step.calls[0]
    origin = _trace(builder, call, out)
    if _add_view(builder, step, row, origin):
        return
    parts = _find_parts(step, out, origin)
    builder.add_value(name, kept=False)
    supports = [_support(builder, part, out) for part in parts]
    data = []
    for part in parts:
        home = builder.homes.get(part.source)
        if home is not None and home.inside == name:
            continue  # it is there already
        whole = is_identity(part.rows)
        straight = torch.equal(part.channels, part.channels[0] + torch.arange(len(part.channels)))
        data.append(
            (
                builder.ids[part.source],
                0 if whole else builder.indices(part.rows),
                0 if whole else out.positions,
                0 if straight else builder.indices(part.channels),
                int(part.channels[0]),
                part.to,
                len(part.channels),
            )
        )
    program = builder.program
    fills = bool((origin.value < 0).any())
    program.move(row, builder.inputs(step), builder.ids[name], _unique(supports), data, fills, _fill(call))


def _fill(call: Call) -> float:
    value = call.arguments.get("value")
    fill = 0.0 if value is None else float(value)
    if fill != float(torch.tensor(fill, dtype=torch.bfloat16)):
        raise UnfitError("it pads with a number that bf16 does not hold")
    return fill


@dataclass(frozen=True)
class _Origin:
    """Where each element of the result comes from: value (index into the step's inputs, -1 none), row, channel."""

    value: Tensor
    row: Tensor
    channel: Tensor


def _trace(builder: Builder, call: Call, out: ValueSpec) -> _Origin:
    names = list(dict.fromkeys(call.values()))
    # Numbers start at 1 so that what padding brings in (0) is told apart. Doubles hold them exactly and every move
    # operator takes them.
    moved = []
    for which in range(3):
        tensors = {}
        for index, name in enumerate(names):
            rows, channels = numbered(builder.spec(name))
            tensors[name] = (torch.full_like(rows, index), rows, channels)[which].double() + 1
        moved.append(_run(call, tensors))
    value, row, channel = (
        (tensor.movedim(out.channel_axis, -1) if out.channel_axis is not None else tensor)
        .reshape(out.positions, out.channels)
        .long()
        - 1
        for tensor in moved
    )
    return _Origin(value, row, channel)


def _run(call: Call, tensors: dict[str, Tensor]) -> Tensor:
    if "value" in call.arguments and call.arguments.get("mode", "constant") == "constant":
        call = call.replace(value=0.0)
    result: Tensor = call.run(lambda ref: tensors[ref.name])
    return result


def _add_view(builder: Builder, step: Step, row: int, origin: _Origin) -> bool:
    """Adds the step without a copy where the result lies in its source's memory, row by row."""
    if len(step.inputs) != 1 or bool((origin.value < 0).any()) or step.outputs[0] in builder.ids:
        return False
    if step.outputs[0] in builder.homes:  # the concatenation it lies in does not copy it
        return False
    source, name = step.inputs[0], step.outputs[0]
    before, out = builder.spec(source), builder.spec(name)
    program, parent = builder.program, builder.ids[source]
    _, _, stride, _, _ = program.describe(parent)
    at = origin.row * stride + origin.channel
    first = int(at[0, 0])
    steps = at[1:, 0] - at[:-1, 0]
    between = int(steps[0]) if len(steps) else out.channels
    regular = bool((steps == between).all()) and between >= out.channels
    if not regular or not torch.equal(at, at[:, :1] + torch.arange(out.channels)):
        return False
    everyone = torch.arange(out.positions)[:, None]
    same = out.positions == before.positions and bool((origin.row == everyone).all())
    consumed = name in builder.plan.consumed
    if not same and not bool((origin.row == origin.row[:, :1]).all()):
        return False  # one position of the result would need the masks of several
    builder.ids[name] = program.view(parent, out.positions, out.channels, first, between, False, consumed, not same)
    if same:
        program.alias(row, parent, builder.ids[name])
    else:
        supports = [(Support.MAP, parent, builder.indices(origin.row[:, 0].contiguous()), out.positions, 1)]
        program.masks(row, [parent], builder.ids[name], supports)
    return True


def _find_parts(step: Step, out: ValueSpec, origin: _Origin) -> list[Part]:
    """Returns the fewest rectangles (positions x channels) that make up the result."""
    key = origin.value * (int(origin.channel.max()) + 2) + origin.channel
    patterns, which = torch.unique(key, dim=0, return_inverse=True)
    if len(patterns) > MOST_PARTS:
        raise UnfitError("it moves channels in too many ways")
    parts = []
    for index in range(len(patterns)):
        mine = which == index
        first = int(mine.nonzero()[0])
        value, channel = origin.value[first], origin.channel[first]
        start = 0
        while start < out.channels:
            stop = start + 1
            while stop < out.channels and value[stop] == value[start] and _together(origin, mine, start, stop):
                stop += 1
            if value[start] >= 0:
                rows = torch.where(mine, origin.row[:, start], torch.full_like(origin.row[:, start], -1))
                parts.append(Part(step.inputs[int(value[start])], rows, channel[start:stop].clone(), start))
                if len(parts) > MOST_PARTS:
                    raise UnfitError("it moves data in too many pieces")
            start = stop
    return parts


def _together(origin: _Origin, mine: Tensor, first: int, other: int) -> bool:
    return bool((origin.row[mine, first] == origin.row[mine, other]).all())


def _support(builder: Builder, part: Part, out: ValueSpec) -> SupportData:
    value = builder.ids[part.source]
    if is_identity(part.rows):
        return (Support.SAME, value, 0, 0, 1)
    return (Support.MAP, value, builder.indices(part.rows), out.positions, 1)


def _unique(supports: list[SupportData]) -> list[SupportData]:
    """Returns the supports without repetitions of the plain kind."""
    return list(dict.fromkeys(supports))
