"""The reference executor: the change rule in plain torch. It computes densely and selects, so it is the definition
of what every other executor must give, not the speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from saccade.cost import Cost, StepCost
from saccade.graph.plan import Plan, Step
from saccade.kernels.call import Ref
from saccade.kernels.dynamic import DYNAMIC, convolution_macs, executed_macs
from saccade.kernels.table import find_rule
from saccade.masks import broadcast
from saccade.stream.checks import NOTHING, check_forced, refuse_not_finite
from saccade.stream.gate import GateSettings
from saccade.stream.gated import GatedMemory, gated_macs, is_gated, last_name, sum_name
from saccade.stream.moves import NO_MOVES, Move, moved
from saccade.stream.passes import Pass
from saccade.stream.record import start_record
from saccade.stream.state import StreamState


class ReferenceExecutor:
    """Runs a plan by the change rule.

    For every step: active = positions whose support holds an announced input position; there the output is taken
    fresh from a dense computation; announced = active positions that moved more than the threshold from what was
    last announced. On the first frame, and on later reference frames, everything is active. Gated convolutions have a
    rule of their own (`saccade.stream.gated`).
    """

    name, precision, threads, isa, profile = "reference", "float32", 1, "", False

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def run(
        self,
        state: StreamState,
        inputs: Sequence[Tensor],
        settings: GateSettings,
        *,
        forced: Mapping[str, Tensor] = NOTHING,
        moves: Mapping[str, Move] = NO_MOVES,
    ) -> Pass:
        """Returns the pass over one frame, and moves the state on by it; nothing moves where it raises.

        See `saccade.stream.executors.Executor.run`.
        """
        check_forced(self.plan, forced)
        for name, tensor in zip(self.plan.inputs, inputs, strict=True):
            refuse_not_finite(name, tensor, state.frames)
        with torch.no_grad():
            frame = _Frame(self.plan, state, settings, forced, moves)
            for step in self.plan.steps:
                if is_gated(step):
                    frame.gated(step)
                else:
                    frame.step(step, inputs)
            outputs = tuple(frame.lookup(ref).clone() for ref in self.plan.outputs)
        return frame.commit(outputs)


class _Frame:
    """One frame on its way through the plan; the state is replaced only by `commit`."""

    def __init__(
        self,
        plan: Plan,
        state: StreamState,
        settings: GateSettings,
        forced: Mapping[str, Tensor],
        moves: Mapping[str, Move],
    ) -> None:
        self.plan, self.state, self.settings, self.forced = plan, state, settings, forced
        self.first = settings.is_reference(state.frames)
        self.values: dict[str, Tensor] = {}
        self.movers: dict[str, Step] = {}
        self.announced: dict[str, Tensor] = {}
        self.active: dict[str, Tensor] = {}
        self.costs: list[StepCost] = []
        self.gates = dict(state.gates)
        self.records, self.before, private = dict(state.records), dict(state.values), dict(state.private)
        for name, move in moves.items():
            self.before[name] = moved(self.before[name], move)
            if name in self.records:
                self.records[name] = self.records[name].holding(moved(self.records[name].tensor(), move))
            for own in (last_name(name), sum_name(name)):
                if own in private:
                    private[own] = moved(private[own], move)
        self.memory = GatedMemory(plan, private, first=self.first)

    def lookup(self, ref: Ref) -> Tensor:
        if ref.kind == "weight":
            return self.plan.weights[ref.name]
        if ref.name not in self.values:  # data that only moves is not kept, and is moved when somebody reads it
            (self.values[ref.name],) = run_step(self.movers[ref.name], self.lookup)
        return self.values[ref.name]

    def step(self, step: Step, inputs: Sequence[Tensor]) -> None:
        told = any(bool(self.announced[name].any()) for name in step.inputs)
        active = find_active(self.plan, step, self.announced, told=told, first=self.first, forced=self.forced)
        count = [int(mask.sum()) for mask in active]
        gate_macs = 0
        if step.calls and told and not self.first:
            gate_macs += sum(self.plan.values[name].positions for name in step.outputs)  # deriving the mask
        if not step.gated:
            self.movers[step.outputs[0]] = step
            self.announced[step.outputs[0]] = active[0]
        elif any(count):
            results = self.compute(step, inputs)
            for name, result, mask in zip(step.outputs, results, active, strict=True):
                gate_macs += self.keep(name, result, mask)
        else:
            for name, mask in zip(step.outputs, active, strict=True):
                self.values[name] = self.before[name]
                self.announced[name] = mask
        positions = sum(self.plan.values[name].positions for name in step.outputs)
        self.active[step.name] = active[0]
        cost = StepCost(
            name=step.name,
            dense_macs=step.macs,
            executed_macs=step_macs(self.plan, step, self.lookup, active=sum(count)),
            gate_macs=gate_macs,
            positions=positions,
            active=sum(count),
            announced=sum(int(self.announced[name].sum()) for name in step.outputs),
        )
        self.costs.append(cost.as_deciding() if step.name in self.plan.deciding else cost)

    def gated(self, step: Step) -> None:
        """A gated convolution: its own rule says what is active (`saccade.stream.gated`)."""
        (name,) = step.outputs
        spec = self.plan.values[name]
        told = any(bool(self.announced[source].any()) for source in step.inputs)
        forced = self.forced.get(name)
        done = self.memory.advance(step, self.before.get(name), self.announced, self.lookup, forced)
        gate_macs = done.gate_macs + (spec.positions if told and not self.first else 0)
        gate_macs += self.keep(name, done.result, done.active)
        active = int(done.active.sum())
        self.active[step.name] = done.active
        self.costs.append(
            StepCost(
                name=step.name,
                dense_macs=step.macs,
                executed_macs=gated_macs(self.plan, step, fired=done.fired, active=active),
                gate_macs=gate_macs,
                positions=spec.positions,
                active=active,
                announced=int(self.announced[name].sum()),
            )
        )

    def compute(self, step: Step, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        if not step.calls:
            return [inputs[self.plan.inputs.index(step.outputs[0])]]
        return run_step(step, self.lookup)

    def keep(self, name: str, result: Tensor, active: Tensor) -> int:
        """Stores fresh values where active, announces, and returns the macs of the comparison."""
        spec = self.plan.values[name]
        if self.first:
            value = result.clone(memory_format=torch.contiguous_format)
            self.announced[name] = active
            if name in self.plan.consumed:
                self.gates[name] = self.settings.gate(name, spec, value)
                self.records[name] = start_record(self.state.record, value, spec)
            self.values[name] = value
            return 0
        old = self.before[name]
        value = torch.where(active, result, old).contiguous()
        self.values[name] = value
        if name not in self.plan.consumed:
            self.announced[name] = active
            return 0
        told, self.records[name] = self.records[name].update(old, value, active, self.gates[name], spec)
        self.announced[name] = told
        return int(active.sum()) * spec.channels

    def commit(self, outputs: tuple[Tensor, ...]) -> Pass:
        state = self.state
        state.values = {name: self.values[name] for name in self.plan.kept}
        state.records, state.gates, state.private = self.records, self.gates, self.memory.held
        state.extra = []
        state.frames += 1
        costs = tuple(self.costs)
        return Pass(outputs, Cost.total(costs, ms=0.0), lambda: costs, lambda: self.active)


def step_macs(plan: Plan, step: Step, lookup: Callable[[Ref], Tensor], *, active: int) -> int:
    """Returns the macs of computing so many of a step's positions; gated convolutions count their own."""
    if not active:
        return 0
    if step.calls and step.calls[0].target == DYNAMIC:  # all of them or none
        shape = plan.values[step.outputs[0]].shape
        whole = convolution_macs(step.calls[0], plan.scope, shape)
        return step.macs - whole + executed_macs(step.calls[0], lookup, plan.scope, shape)
    return step.macs * active // sum(plan.values[name].positions for name in step.outputs)


def find_active(
    plan: Plan,
    step: Step,
    announced: Mapping[str, Tensor],
    *,
    told: bool,
    first: bool,
    forced: Mapping[str, Tensor] = NOTHING,
) -> list[Tensor]:
    """Returns the active positions of each output of a step.

    Args:
        plan: the plan.
        step: one of its steps.
        announced: masks of the values computed before it.
        told: whether any value it reads has an announced position.
        first: whether this is the first frame, which computes everything.
        forced: by value, positions to compute besides.
    """
    masks = _supported(plan, step, announced, told=told, first=first)
    return [mask | forced[name] if name in forced else mask for name, mask in zip(step.outputs, masks, strict=True)]


def _supported(plan: Plan, step: Step, announced: Mapping[str, Tensor], *, told: bool, first: bool) -> list[Tensor]:
    specs = [plan.values[name] for name in step.outputs]
    if first or not step.calls:
        return [spec.full_mask(True) for spec in specs]
    if not told or step.form == "dense":
        return [spec.full_mask(told) for spec in specs]
    out = specs[0]
    rule = find_rule(step.calls[0])
    assert rule is not None
    active = rule.support(step.calls[0], announced, plan.scope, out)
    for call in step.calls[1:]:
        for name in call.values():
            active = active | broadcast(announced[name], plan.values[name], out)
    return [active]


def run_step(step: Step, lookup: Callable[[Ref], Tensor]) -> Sequence[Tensor]:
    """Returns what a step's calls compute, every position of it, one tensor per output."""
    result: Any = None
    for call in step.calls:
        result = call.run(lambda ref: result if ref.kind == "result" else lookup(ref))  # noqa: B023
    return [result] if isinstance(result, Tensor) else result
