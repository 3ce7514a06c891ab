"""A step the engine has no form for: computed in torch by the reference's rules, on the engine's memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from saccade.graph.plan import Plan, Step
from saccade.kernels.call import Ref
from saccade.stream.gate import Gate
from saccade.stream.record import Record
from saccade.stream.reference import find_active, run_step, step_macs


@dataclass(frozen=True, eq=False)
class Memory:
    """What a stream's values are in the engine's memory.

    Attributes:
        values: tensors of the values' shapes, views of the engine's memory; written in place.
        active: masks of what was computed, of the values' mask shapes; written in place.
        announced: masks of what was announced; written in place.
    """

    values: dict[str, Tensor]
    active: dict[str, Tensor]
    announced: dict[str, Tensor]


def run_fallback(
    plan: Plan,
    step: Step,
    memory: Memory,
    inputs: Sequence[Tensor],
    records: dict[str, Record],
    gates: dict[str, Gate],
    *,
    first: bool,
    forced: Mapping[str, Tensor],
    count: Callable[[str, int, int], None],
    spend: Callable[[int], None],
) -> None:
    """Computes a step, replaces the records it changes, and tells the engine how many positions it touched.

    Args:
        plan: the plan.
        step: which of its steps.
        memory: the stream's values and masks.
        inputs: what the caller gave for the plan's inputs.
        records: what was announced; entries are replaced.
        gates: thresholds, once the first frame is through.
        first: whether everything is computed.
        forced: by value, positions to compute besides.
        count: called with (value, active, announced) for each output.
        spend: called with the macs that were executed.
    """
    told = any(bool(memory.announced[name].any()) for name in step.inputs)
    masks = find_active(plan, step, memory.announced, told=told, first=first, forced=forced)
    stale = not step.gated and any(bool(memory.active[name].any()) for name in step.inputs)
    if not stale and not any(bool(mask.any()) for mask in masks):
        for name in step.outputs:
            memory.active[name].zero_()
            memory.announced[name].zero_()
            count(name, 0, 0)
        spend(0)
        return

    def lookup(ref: Ref) -> Tensor:
        if ref.kind == "weight":
            return plan.weights[ref.name]
        value = memory.values[ref.name]
        return value.to(plan.values[ref.name].torch_dtype)

    with torch.no_grad():
        results = [inputs[plan.inputs.index(step.outputs[0])]] if not step.calls else run_step(step, lookup)
    for name, result, active in zip(step.outputs, results, masks, strict=True):
        spec, value = plan.values[name], memory.values[name]
        fresh = result.to(value.dtype)
        announced = active
        if not step.gated:  # data that only moves is always as fresh as what it was moved from
            value.copy_(fresh)
            active = torch.ones_like(active)
        elif not first and name in records:
            old = value.clone()
            value.copy_(torch.where(active, fresh, old))
            announced, records[name] = records[name].update(old, value, active, gates[name], spec)
        else:
            value.copy_(fresh if first else torch.where(active, fresh, value))
        memory.active[name].copy_(active)
        memory.announced[name].copy_(announced)
        count(name, int(active.sum()), int(announced.sum()))
    spend(step_macs(plan, step, lookup, active=sum(int(memory.active[name].sum()) for name in step.outputs)))
