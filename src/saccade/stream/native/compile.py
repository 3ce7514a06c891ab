"""From a plan to a program of the native engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from weakref import WeakValueDictionary

import torch

from saccade.graph.plan import Plan, Step
from saccade.kernels.call import RESULT, Call, Ref
from saccade.kernels.cpu import choose_isa, native_module
from saccade.kernels.dynamic import DYNAMIC_CONVOLUTION
from saccade.kernels.elementwise import ELEMENTWISE
from saccade.kernels.gated import GATED_CONVOLUTION
from saccade.kernels.lines import LINEAR, NORMALISATION, REDUCTION
from saccade.kernels.rule import Rule, only_value
from saccade.kernels.table import find_rule
from saccade.kernels.window import CONVOLUTION, INTERPOLATION, POOLING
from saccade.masks import ValueSpec
from saccade.stream.gated import is_gated
from saccade.stream.native.builder import Builder, Support, SupportData, UnfitError
from saccade.stream.native.dynamic import add_dynamic
from saccade.stream.native.epilogue import Rows, align
from saccade.stream.native.gates import add_gated, why_gate_unfit
from saccade.stream.native.homes import find_homes
from saccade.stream.native.lines import normalisation, reduction
from saccade.stream.native.moves import add_move
from saccade.stream.native.windows import adaptive_pooling, convolution, interpolation, linear, pooling

Head = Callable[[Builder, Step], tuple[str, tuple[Any, ...]]]
_HEADS: dict[str, tuple[Rule, Head, Support]] = {
    rule.family: (rule, head, support)
    for rule, head, support in (
        (CONVOLUTION, convolution, Support.WINDOW),
        (POOLING, pooling, Support.WINDOW),
        (INTERPOLATION, interpolation, Support.AXES),
        (LINEAR, linear, Support.SAME),
        (REDUCTION, reduction, Support.MEMBERS),
        (NORMALISATION, normalisation, Support.SAME),
    )
}
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, eq=False)
class Compiled:
    """A plan compiled for the native engine; shared by any number of streams.

    Attributes:
        program: the engine's program.
        plan: what was compiled.
        precision: "float32" or "bfloat16".
        isa: the instruction set.
        ids: the engine's number of every value.
        callbacks: steps that run in torch, by name, with the reason.
    """

    program: Any
    plan: Plan
    precision: str
    isa: str
    ids: MappingProxyType[str, int]
    callbacks: MappingProxyType[str, str]


def why_unfit(plan: Plan) -> str:
    """Returns why a plan cannot run on the native engine at all, "" where it can."""
    for name, spec in plan.values.items():
        if spec.torch_dtype.is_floating_point and spec.dtype != "float32":
            return f"its value {name} is {spec.dtype}; the native engine computes in float32 and bfloat16"
        if spec.torch_dtype.is_complex:
            return f"its value {name} is complex"
        if spec.positions >= 2**31:
            return f"its value {name} has {spec.positions} positions"
    for step in plan.steps:
        if is_gated(step) and (problem := why_gate_unfit(plan, step)):
            return f"its gated convolution {step.name}: {problem}"
    for name, weight in plan.weights.items():
        if weight.device.type != "cpu" or weight.layout != torch.strided:
            return f"its weight {name} is on {weight.device} in layout {weight.layout}"
    return ""


_programs: WeakValueDictionary[tuple[int, str, str], Compiled] = WeakValueDictionary()


def shared_program(plan: Plan, precision: str) -> Compiled:
    """Returns the plan compiled for this machine; streams of one plan share it, and so their weights."""
    key = (id(plan), precision, choose_isa())  # a compiled plan holds its plan, so the number is not given again
    compiled = _programs.get(key)
    if compiled is None:
        compiled = _programs[key] = compile_plan(plan, precision=precision)
    return compiled


def compile_plan(plan: Plan, *, precision: str = "float32", isa: str | None = None) -> Compiled:
    """Returns a plan compiled for an instruction set (by default the best of this machine)."""
    module = native_module()
    assert module is not None
    chosen = choose_isa(isa)
    builder = Builder(module, module.Program(chosen), plan, precision == "bfloat16", find_homes(plan))
    for row, step in enumerate(plan.steps):
        positions = sum(plan.values[name].positions for name in step.outputs)
        builder.program.row(step.macs, positions)
        try:
            _add_step(builder, step, row)
        except UnfitError as reason:
            _add_callback(builder, step, row, str(reason))
    builder.program.finish()
    builder.alive.clear()
    return Compiled(
        builder.program,
        plan,
        precision,
        chosen,
        MappingProxyType(builder.ids),
        MappingProxyType(builder.callbacks),
    )


def _add_step(builder: Builder, step: Step, row: int) -> None:
    if not step.calls:
        return _add_input(builder, step, row)
    if step.form == "dense":
        raise UnfitError(step.reason)
    if any(builder.spec(name).dtype != "float32" for name in (*step.outputs, *step.inputs)):
        raise UnfitError("it computes with whole numbers")
    if any(0 in builder.spec(name).shape for name in (*step.outputs, *step.inputs)):
        raise UnfitError("it is empty")
    rule = find_rule(step.calls[0])
    assert rule is not None
    if rule.moves:
        return add_move(builder, step, row)
    if rule is GATED_CONVOLUTION:
        return add_gated(builder, step, row)
    if rule is DYNAMIC_CONVOLUTION:
        return add_dynamic(builder, step, row)
    if rule is ELEMENTWISE:
        return _add_elementwise(builder, step, row)
    _, head, support = _HEADS[rule.family]
    if "adaptive" in step.calls[0].base:
        head, support = adaptive_pooling, Support.MEMBERS
    method, own = head(builder, step)
    source = only_value(step.calls[0])
    out = builder.spec(step.outputs[0])
    rows = Rows(builder, out)
    for call in step.calls[1:]:
        rows.add(call)
    supports: list[SupportData] = [(support, builder.ids[source], 0, 0, 1), *rows.supports]
    inputs = builder.inputs(step)
    inputs.sort(key=lambda value: value != builder.ids[source])  # the engine reads its first input
    output = builder.add_value(step.outputs[0], kept=True)
    getattr(builder.program, method)(row, inputs, output, supports, rows.ops, *own)
    return None


def _add_elementwise(builder: Builder, step: Step, row: int) -> None:
    """Adds a step that begins with an elementwise call: one operand is loaded, the call works on its row."""
    call, out = step.calls[0], builder.spec(step.outputs[0])
    source = max(call.values(), key=lambda name: builder.spec(name).numel)
    address, broadcast = align(builder, builder.spec(source), out)
    rows = Rows(builder, out)
    rows.add(_replace_one(call, Ref("value", source)))
    for later in step.calls[1:]:
        rows.add(later)
    kind = Support.MAP if address else Support.SAME
    own: SupportData = (kind, builder.ids[source], address, out.positions if address else 0, 1)
    inputs = builder.inputs(step)
    inputs.sort(key=lambda value: value != builder.ids[source])
    output = builder.add_value(step.outputs[0], kept=True)
    supports = [own, *rows.supports]
    builder.program.load(row, inputs, output, supports, rows.ops, address, broadcast)


def _replace_one(call: Call, ref: Ref) -> Call:
    """Returns the call reading the result so far in place of the first argument that is `ref`."""
    for name, argument in call.arguments.items():
        if argument == ref:
            return Call(call.target, {**call.arguments, name: RESULT})
    raise UnfitError("it reads its value in a list")


def _add_input(builder: Builder, step: Step, row: int) -> None:
    name = step.outputs[0]
    spec = builder.spec(name)
    if spec.dtype != "float32":
        raise UnfitError(f"it takes {spec.dtype}")
    inner = _inner(spec)
    value = builder.add_value(name, kept=True)
    slot = builder.plan.inputs.index(name)
    builder.program.input(row, value, slot, spec.positions // max(inner, 1), inner)


def _inner(spec: ValueSpec) -> int:
    """Returns how many elements follow one another within a channel; without channels, all."""
    return spec.numel if spec.channel_axis is None else math.prod(spec.shape[spec.channel_axis + 1 :])


def _add_callback(builder: Builder, step: Step, row: int, reason: str) -> None:
    outputs = [builder.add_value(name, kept=step.gated) for name in step.outputs]
    builder.callbacks[step.name] = reason
    builder.program.callback(row, builder.inputs(step), outputs)
