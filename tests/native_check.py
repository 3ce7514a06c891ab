"""One frame of a native stream held against the change rule, step by step, from what the engine itself holds.

Every step is judged by its own inputs, so a decision at rounding distance in one step does not spread to the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import saccade
from saccade.graph.plan import Step
from saccade.kernels.call import Call, Ref
from saccade.kernels.table import find_rule
from saccade.kernels.window import CONVOLUTION, INTERPOLATION
from saccade.masks import ValueSpec
from saccade.stream.checks import NOTHING
from saccade.stream.native.fallback import Memory
from saccade.stream.record import AccumulatedRecord, Record
from saccade.stream.reference import find_active, run_step

EPS = torch.finfo(torch.float32).eps


def memory_of(stream: saccade.Stream) -> Memory:
    """The stream's values and masks in the engine's memory."""
    return stream._executor._bound[stream.state].memory


def callbacks_of(stream: saccade.Stream) -> dict[str, str]:
    """The steps that run in torch, and why."""
    return dict(stream._executor.compiled.callbacks)


@dataclass(frozen=True)
class Before:
    """What a stream held before a frame."""

    values: dict[str, Tensor]
    records: dict[str, Record]

    @classmethod
    def of(cls, stream: saccade.Stream) -> Before:
        values = {name: value.clone() for name, value in stream.state.values.items()}
        records = {name: record.holding(record.tensor().clone()) for name, record in stream.state.records.items()}
        return cls(values, records)


def follow(stream: saccade.Stream, *inputs: Any) -> Any:
    """Runs a frame, asserts that every step did what the rule says, and returns the outputs."""
    first, before = stream.frames == 0, Before.of(stream)
    outputs = stream(*inputs)
    check_frame(stream, before, first=first)
    return outputs


def check_frame(
    stream: saccade.Stream, before: Before, *, first: bool = False, forced: Mapping[str, Tensor] = NOTHING
) -> None:
    """Asserts that the last frame was what the rule makes of the state before it."""
    plan, memory = stream.plan, memory_of(stream)
    costs = {cost.name: cost for cost in stream.step_costs}
    for step in plan.steps:
        told = any(bool(memory.announced[name].any()) for name in step.inputs)
        masks = find_active(plan, step, memory.announced, told=told, first=first, forced=forced)
        if not step.gated:
            (name,) = step.outputs
            assert torch.equal(memory.announced[name], masks[0]), f"{step.name}: announcements are not passed on"
            moved = run_step(step, lambda ref: _lookup(stream, ref))[0].to(memory.values[name].dtype)
            assert torch.equal(memory.values[name], moved), f"{step.name}: what moved is not what is there"
        else:
            for name, mask in zip(step.outputs, masks, strict=True):
                _check_active(stream, step, name, mask, costs[step.name].form)
                _check_announced(stream, step, name, before, first=first)
            _check_values(stream, step, before, first=first)
        _check_cost(stream, step, costs[step.name], told=told, first=first)
    total = [sum(getattr(cost, field) for cost in costs.values()) for field in ("executed_macs", "gate_macs")]
    assert total == [stream.cost.executed_macs, stream.cost.gate_macs]


def _check_active(stream: saccade.Stream, step: Step, name: str, expected: Tensor, form: str) -> None:
    active = memory_of(stream).active[name]
    if not step.calls:
        return  # the engine leaves out what is bit for bit the frame before
    if form == "whole":
        assert expected.all(), f"{step.name}: whole, but not all active"
    if find_rule(step.calls[0]) is INTERPOLATION:  # the definition leaves a margin for rounding there
        assert not (active & ~expected).any(), f"{step.name}: active where nothing it reads was announced"
    else:
        assert torch.equal(active, expected), f"{step.name}: {int(active.sum())} active, not {int(expected.sum())}"


def _check_announced(stream: saccade.Stream, step: Step, name: str, before: Before, *, first: bool) -> None:
    plan, memory = stream.plan, memory_of(stream)
    spec, announced, active = plan.values[name], memory.announced[name], memory.active[name]
    if first or name not in plan.consumed:
        if step.calls or first:
            assert torch.equal(announced, active), f"{name}: not everything computed is announced"
        return
    gate, record, old = stream.state.gates[name], before.records[name], before.values[name]
    new = stream.state.values[name]
    expected, after = record.update(old, new, active, gate, spec)
    if gate.threshold == 0:
        assert torch.equal(announced, expected), f"{name}: other positions announced than those that differ"
        return
    distance = gate.distance(new, old if isinstance(record, AccumulatedRecord) else record.tensor(), spec)
    if isinstance(record, AccumulatedRecord):
        distance = distance + record.tensor()
    near = active & ((distance - gate.threshold).abs() <= 64 * EPS * (distance + gate.threshold))
    differ = (announced != expected) & ~near
    assert not differ.any(), f"{name}: {int(differ.sum())} positions announced, or not, against the rule"
    held = stream.state.records[name].tensor()
    same = (announced == expected).expand(held.shape)
    torch.testing.assert_close(held[same], after.tensor()[same], rtol=64 * EPS, atol=0)


def _check_values(stream: saccade.Stream, step: Step, before: Before, *, first: bool) -> None:
    memory = memory_of(stream)
    if not step.calls:
        return
    fresh = run_step(step, lambda ref: _lookup(stream, ref, step))
    exact = run_step(_in_double(step), lambda ref: _lookup(stream, ref, step, double=True))
    for name, single, double in zip(step.outputs, fresh, exact, strict=True):
        value, active = memory.values[name], memory.active[name]
        where = active.expand(value.shape)
        if not first:
            old = before.values[name]
            assert torch.equal(value[~where].view(-1), old[~where].view(-1)), f"{name}: changed where not active"
        if not value.is_floating_point():
            assert torch.equal(value[where], single[where]), name
            continue
        error = (value.double() - double)[where].abs()
        torchs = (single.double() - double)[where].abs()
        allowed = 2 * (torchs.max() if torchs.numel() else 0) + 8 * EPS * _scale(stream, step, double)
        if value.dtype == torch.bfloat16:
            allowed = allowed + double[where].abs() / 256
        assert bool((error <= allowed).all()), f"{name}: off by {float(error.max()):.2e}, torch by {torchs.max():.2e}"


def _check_cost(stream: saccade.Stream, step: Step, cost: saccade.StepCost, *, told: bool, first: bool) -> None:
    plan, memory = stream.plan, memory_of(stream)
    specs = [plan.values[name] for name in step.outputs]
    kind = memory.active if step.gated else memory.announced
    active = [int(kind[name].sum()) if step.calls else plan.values[name].positions for name in step.outputs]
    announced = sum(int(memory.announced[name].sum()) for name in step.outputs)
    positions = sum(spec.positions for spec in specs)
    assert (cost.active, cost.announced, cost.positions) == (sum(active), announced, positions), step.name
    assert cost.executed_macs == (step.macs * sum(active) // positions if positions else 0), step.name
    decided = positions if told and step.calls else 0
    for name, spec, count in zip(step.outputs, specs, active, strict=True):
        decided += count * spec.channels if step.gated and name in plan.consumed else 0
    assert cost.gate_macs == (0 if first else decided), step.name
    assert torch.equal(stream.active[step.name].sum(), torch.tensor(active[0])), step.name
    assert (cost.form == "skipped") == (cost.active == 0), step.name


def _scale(stream: saccade.Stream, step: Step, result: Tensor) -> float:
    """The size of the numbers a step handles, results and operands."""
    tensors = [result, *(memory_of(stream).values[name] for name in step.inputs)]
    return max([float(t.double().abs().max()) for t in tensors if t.numel() and t.is_floating_point()], default=0.0)


def _lookup(stream: saccade.Stream, ref: Ref, step: Step | None = None, *, double: bool = False) -> Tensor:
    plan = stream.plan
    if ref.kind == "weight":
        tensor = plan.weights[ref.name]
        if stream.precision == "bfloat16" and step is not None and _is_product_weight(stream, step, ref):
            tensor = tensor.bfloat16().float()
    else:
        tensor = memory_of(stream).values[ref.name].to(plan.values[ref.name].torch_dtype)
    return tensor.double() if double and tensor.is_floating_point() else tensor


def _is_product_weight(stream: saccade.Stream, step: Step, ref: Ref) -> bool:
    call, rule = step.calls[0], find_rule(step.calls[0])
    products = rule is not None and (rule is CONVOLUTION or rule.family == "linear")
    return products and call.arguments["weight"] == ref and step.name not in callbacks_of(stream)


def _in_double(step: Step) -> Step:
    """The step with its results asked for in float64 where it says float32."""
    calls = tuple(
        Call(call.target, {k: torch.float64 if v == torch.float32 else v for k, v in call.arguments.items()})
        for call in step.calls
    )
    return (
        Step(**{**step.__dict__, "calls": calls})
        if any(c != d for c, d in zip(calls, step.calls, strict=True))
        else step
    )


def spec_of(stream: saccade.Stream, name: str) -> ValueSpec:
    """A value's spec."""
    return stream.plan.values[name]
