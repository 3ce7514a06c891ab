"""What of a stream's history can move along with the picture, and what must be computed anew.

The picture moved by whole pixels: what the input was at p + d, the new frame has at p. A value moves by d over its
stride, where that is a whole number of its positions, else it stays. A step is then right where it stands if everything
it reads moved as far as it did, but for positions that are forced:

- those that nothing came to, and those that read them where no edge of their own says so;
- those whose window reads padding now or did before;
- all of them where an operator is tied to places (global pooling, a layer over the whole picture), where what it reads
  moved by other amounts, and where its stride does not divide the movement.

The change rule finds the rest: the input's step compares the new frame with the moved old one. So at threshold 0 a
moved frame is bit for bit a full pass, and with thresholds nothing strays further than without moves: records move with
values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from torch import Tensor

from saccade.graph.plan import Plan, Step
from saccade.kernels.call import Call
from saccade.kernels.elementwise import ELEMENTWISE
from saccade.kernels.gated import RESIDUAL
from saccade.kernels.table import find_rule
from saccade.masks import ValueSpec
from saccade.stream.camera.reads import (
    Axes,
    FixedError,
    Reads,
    differing,
    map_axes,
    outside,
    reading,
    weights_are_spread,
    whole,
)
from saccade.stream.checks import NOTHING
from saccade.stream.gated import input_of, is_gated
from saccade.stream.moves import NO_MOVES, Move


@dataclass(frozen=True)
class Place:
    """Where a value lies over the picture: its vertical and horizontal axis, and input pixels per position on each."""

    axes: Axes
    stride: tuple[Fraction, Fraction]


@dataclass(frozen=True, eq=False)
class Shift:
    """What becomes of a stream's history when the picture moved.

    Attributes:
        by: (down, right) in input pixels: the new frame at p is the old one at p + by.
        moves: by value name, how far what is stored of it moves.
        forced: by value name, mask of the positions to compute whatever changed.
        moved_macs: share of the plan's macs that need not be done again, if nothing but the camera moved.
        reasons: by step name, why all of it is computed.
    """

    by: tuple[int, int]
    moves: Mapping[str, Move]
    forced: Mapping[str, Tensor]
    moved_macs: float
    reasons: Mapping[str, str]


STAYS = Shift((0, 0), NO_MOVES, NOTHING, 0.0, {})


def why_fixed(plan: Plan) -> str:
    """Returns why nothing of a plan's history can move with the picture, "" where something can."""
    if len(plan.inputs) != 1:
        return f"it takes {len(plan.inputs)} inputs, not one picture"
    spec = plan.values[plan.inputs[0]]
    if len(spec.shape) != 4 or spec.shape[0] != 1 or spec.channel_axis != 1:
        return f"its input {spec.shape} is no picture (1, C, H, W)"
    for step in plan.steps:
        if is_gated(step) and step.calls[0].arguments["form"] == RESIDUAL and input_of(step) not in plan.kept:
            return f"its gated convolution {step.name} adds up changes of data that is moved about"
    return ""


@dataclass(frozen=True, eq=False)
class _Through:
    """How a step's result reads one of its inputs: axis by axis, and which positions read padding."""

    axes: Axes
    reads: tuple[Reads, Reads]
    edges: tuple[Tensor, Tensor]


class Geography:
    """Where a plan's values lie over its one input picture; the same for every movement.

    Args:
        plan: a plan of which something can move (`why_fixed`).

    Attributes:
        places: by value name; values that do not lie over the picture are left out.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._through: dict[tuple[int, str, Axes], _Through | str] = {}
        self.places = {plan.inputs[0]: Place((2, 3), (Fraction(1), Fraction(1)))}
        for step in plan.steps:
            place = self._place(step) if step.calls and len(step.outputs) == 1 else None
            if place is not None:
                self.places[step.outputs[0]] = place

    def _place(self, step: Step) -> Place | None:
        for call in step.calls:
            for name in call.values():
                before = self.places.get(name)
                way = (
                    None if before is None else self.through(call, name, before.axes, self.plan.values[step.outputs[0]])
                )
                if before is not None and isinstance(way, _Through):
                    down, right = (stride * read.step for stride, read in zip(before.stride, way.reads, strict=True))
                    return Place(way.axes, (down, right))
        return None

    def through(self, call: Call, name: str, axes: Axes, out: ValueSpec) -> _Through | str:
        """Returns how the result `out` of a step's call reads a value with these axes, or why not place by place."""
        key = (id(call), name, axes)
        if key not in self._through:
            try:
                mapped = map_axes(call, name, axes, self.plan.scope, out)
            except FixedError as reason:
                self._through[key] = str(reason)
            else:
                shape = self.plan.values[name].shape
                top, left = (outside(read, shape[axis]) for read, axis in zip(mapped.reads, axes, strict=True))
                self._through[key] = _Through(mapped.axes, mapped.reads, (top, left))
        return self._through[key]


@dataclass(frozen=True, eq=False)
class _Moved:
    """A value that moves: by how many positions, and which rows and columns of it are not what was `by` further on.

    Of values that are kept these are only those that nothing came to (None): who reads one of them read beyond the edge
    before, and is told by that.
    """

    axes: Axes
    by: tuple[int, int]
    dirty: tuple[Tensor, Tensor] | None


class _ScatteredError(Exception):
    """What a step reads did not move as one; the message says how."""


def find_shift(geography: Geography, by: tuple[int, int]) -> Shift:
    """Returns what becomes of a stream's history when the picture moved by (down, right) input pixels, not (0, 0)."""
    return _Shifting(geography, by).run()


@dataclass(eq=False)
class _Shifting:
    geography: Geography
    by: tuple[int, int]
    moved: dict[str, _Moved] = field(default_factory=dict)
    scattered: set[str] = field(default_factory=set)
    forced: dict[str, Tensor] = field(default_factory=dict)
    lines: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        return self.geography.plan

    def run(self) -> Shift:
        kept = 0.0
        for step in self.plan.steps:
            if not step.calls:
                self.place(step.outputs[0])
                continue
            try:
                self.follow(step)
            except _ScatteredError as reason:
                self.give_up(step, str(reason))
            kept += step.macs * self.staying(step)
        moves = {
            name: Move(value.axes, value.by)
            for name, value in self.moved.items()
            if name in self.plan.kept and any(value.by)
        }
        total = self.plan.dense_macs
        return Shift(self.by, moves, self.forced, kept / total if total else 0.0, self.reasons)

    def staying(self, step: Step) -> float:
        """Returns the share of a step's positions that hold after the move; of one that cannot move, none."""
        (name, *others) = step.outputs
        if others or step.name in self.reasons or name not in self.lines:
            return 0.0
        top, left = (float(line.double().mean()) for line in self.lines[name])
        return (1 - top) * (1 - left)

    def place(self, name: str) -> None:
        """Moves a value as far as the picture, where its stride allows that, else leaves it where it is."""
        place = self.geography.places.get(name)
        if place is None:
            return
        steps = [whole(by / stride) for by, stride in zip(self.by, place.stride, strict=True)]
        if None not in steps and any(steps):
            self.moved[name] = _Moved(place.axes, (steps[0] or 0, steps[1] or 0), None)

    def give_up(self, step: Step, reason: str) -> None:
        """Computes all of a step that is kept; data that only moves cannot be: whoever reads it is."""
        if not step.gated:
            self.scattered.update(step.outputs)
            return
        self.reasons[step.name] = reason
        for name in step.outputs:
            self.forced[name] = self.plan.values[name].full_mask(True)
            self.place(name)

    def follow(self, step: Step) -> None:
        """Moves a step's result as far as what it reads moved; raises _ScatteredError where that is not possible."""
        if any(name in self.scattered for name in step.inputs):
            raise _ScatteredError("it reads data that is moved about")
        if not any(name in self.moved for name in step.inputs):
            return
        if step.form == "dense" or len(step.outputs) != 1:
            raise _ScatteredError(f"{step.op} has no sparse form")
        out = self.plan.values[step.outputs[0]]
        result: _Moved | None = None
        for call in step.calls:
            for name in dict.fromkeys(call.values()):
                own = self.through(call, name, out)
                if own is not None and result is not None:
                    if (own.axes, own.by) != (result.axes, result.by):
                        raise _ScatteredError("what it reads moved by different amounts")
                    own = _Moved(own.axes, own.by, _joined(result.dirty, own.dirty))
                result = own or result
        assert result is not None
        self.check_still(step, result, out)
        name = step.outputs[0]
        if not step.gated:
            self.moved[name] = result
            return
        assert result.dirty is not None
        self.moved[name] = _Moved(result.axes, result.by, None)
        self.lines[name] = result.dirty
        self.forced[name] = _cross(result.axes, result.dirty, out)

    def through(self, call: Call, name: str, out: ValueSpec) -> _Moved | None:
        """Returns how a call's result moves with one of the values it reads; None for one that stays."""
        value = self.moved.get(name)
        if value is None:
            return None
        way = self.geography.through(call, name, value.axes, out)
        if isinstance(way, str):
            raise _ScatteredError(way)
        steps = [whole(by / read.step) for by, read in zip(value.by, way.reads, strict=True)]
        if None in steps:
            raise _ScatteredError("its stride does not divide the movement")
        by = (steps[0] or 0, steps[1] or 0)
        dirty = (differing(way.edges[0], by[0]), differing(way.edges[1], by[1]))
        if value.dirty is not None:
            top, left = (reading(read, line) for read, line in zip(way.reads, value.dirty, strict=True))
            dirty = (dirty[0] | top, dirty[1] | left)
        return _Moved(way.axes, by, dirty)

    def check_still(self, step: Step, result: _Moved, out: ValueSpec) -> None:
        """Raises where a step reads, beside what moved, a value that lies over the picture and did not."""
        for call in step.calls:
            for name in call.values():
                if name not in self.moved and not _is_global(call, self.plan.values[name], result, out):
                    raise _ScatteredError("what it reads moved by different amounts")
            if weights_are_spread(call, self.plan.scope, result.axes, out):
                raise _ScatteredError("its weights differ from place to place")


def _is_global(call: Call, spec: ValueSpec, result: _Moved, out: ValueSpec) -> bool:
    """Returns whether an operand is the same everywhere in the picture."""
    if find_rule(call) is not ELEMENTWISE:
        return False
    shift = len(out.shape) - len(spec.shape)
    return all(axis < shift or spec.shape[axis - shift] == 1 for axis in result.axes)


Lines = tuple[Tensor, Tensor]


def _joined(first: Lines | None, second: Lines | None) -> Lines:
    assert first is not None
    assert second is not None
    return first[0] | second[0], first[1] | second[1]


def _cross(axes: Axes, lines: Lines, spec: ValueSpec) -> Tensor:
    """Returns the mask of the rows and columns that are dirty."""
    mask = spec.full_mask(False)
    for axis, line in zip(axes, lines, strict=True):
        shape = [1] * len(spec.shape)
        shape[axis] = -1
        mask |= line.reshape(shape)
    return mask


def shares_by_step(plan: Plan) -> dict[int, float]:
    """Returns the share of the macs that moves along when the picture moves by 1, 2, 4, ... 64 pixels both ways."""
    geography = Geography(plan)
    return {step: find_shift(geography, (step, step)).moved_macs for step in (1, 2, 4, 8, 16, 32, 64)}
