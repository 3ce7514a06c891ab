"""The native executor: one call into the engine runs a whole plan over a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from saccade.cost import Cost, StepCost
from saccade.errors import InputError
from saccade.graph.plan import Plan
from saccade.stream.checks import NOTHING, check_forced, refuse_not_finite
from saccade.stream.gate import GateSettings
from saccade.stream.moves import NO_MOVES, Move
from saccade.stream.native.bound import Bound
from saccade.stream.native.compile import PRECISIONS, shared_program
from saccade.stream.passes import Pass
from saccade.stream.picture import Picture
from saccade.stream.state import StreamState


class NativeExecutor:
    """Runs a plan by the change rule, computing active positions only.

    Weights are packed once and shared by every stream of the plan. A stream's values lie in memory that
    its `StreamState` owns, so it is saved, restored and measured like any other.

    Args:
        plan: the plan.
        precision: "float32", or "bfloat16": values and weights are stored in bfloat16, products are summed in float32.
        threads: how many share the work of a frame; results do not depend on it.
        profile: measure the time of every step.

    Raises:
        InputError: an unknown precision, or less than one thread.
    """

    name = "native"

    def __init__(self, plan: Plan, *, precision: str = "float32", threads: int = 1, profile: bool = False) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"unknown precision {precision!r}; expected one of {', '.join(PRECISIONS)}")
        if threads < 1:
            raise InputError(f"threads is {threads}; expected 1 or more")
        self.plan, self.precision, self.threads = plan, precision, threads
        self.profile = profile
        self.compiled = shared_program(plan, precision)
        self.isa = self.compiled.isa
        self._deciding = [row for row, step in enumerate(plan.steps) if step.name in plan.deciding]
        self._bound: WeakKeyDictionary[StreamState, Bound] = WeakKeyDictionary()

    @torch.inference_mode(mode=False)  # what is kept is written to by later frames, whatever mode those are run in
    @torch.no_grad()
    def run(
        self,
        state: StreamState,
        inputs: Sequence[Tensor],
        settings: GateSettings,
        picture: Picture | None = None,
        forced: Mapping[str, Tensor] = NOTHING,
        moves: Mapping[str, Move] = NO_MOVES,
    ) -> Pass:
        """Returns the pass over one frame, and moves the state on by it.

        Nothing moves where an input holds NaN or infinite values. Where a step that runs in torch raises, the state is
        reset: the next frame is computed whole.

        Args:
            state: the stream's memory.
            inputs: one tensor per input of the plan, of its shape.
            settings: the gates.
            picture: the frame's preprocessed rows and which of them may have changed, in place of the one input.
            forced: by value, positions to compute whatever changed; see `Executor.run`.
            moves: by value, how far what is stored moves before the frame; see `Executor.run`.

        Raises:
            InputError: an input holds NaN or infinite values, or `forced` does not fit the plan.
        """
        check_forced(self.plan, forced)
        bound = self._bound.get(state)
        if bound is None or not bound.holds(state) or bound.alone != settings.alone:
            bound = self._bound[state] = Bound(self.compiled, state, threads=self.threads, alone=settings.alone)
        first = settings.is_reference(state.frames)
        frames: list[Tensor | Picture] = [picture] if picture else [tensor.contiguous() for tensor in inputs]
        bound.engine.set_profiling(self.profile)
        if moves:
            for name, tensor in zip(self.plan.inputs, inputs, strict=False):  # none of them with a picture
                refuse_not_finite(name, tensor, state.frames)
        try:
            bound.move(moves)
            bad = bound.run(frames, first=first, forced=forced, moved=bool(moves))
            if first and bad < 0 and not settings.alone:
                bound.start_records(settings)
        except BaseException:
            state.reset()
            raise
        if bad >= 0:
            if state.frames == 0:
                state.reset()  # it holds memory nobody has written to
            refuse_not_finite(self.plan.inputs[bad], inputs[bad], state.frames)
        state.frames += 1
        outputs = tuple(bound.output(ref) for ref in self.plan.outputs)
        executed, gate = bound.engine.macs
        if self._deciding:
            spent = bound.engine.executed
            deciding = sum(spent[row] for row in self._deciding)
            executed, gate = executed - deciding, gate + deciding
        total = Cost(self.plan.dense_macs, executed, gate, 0.0)
        return Pass(
            outputs, total, lambda: self._costs(bound), lambda: self._active(bound), lambda: self._seconds(bound)
        )

    def _costs(self, bound: Bound) -> tuple[StepCost, ...]:
        engine = bound.engine
        spent = zip(engine.executed, engine.gate, strict=True)
        rows = zip(self.plan.steps, engine.active, engine.announced, spent, engine.forms, strict=True)
        costs = []
        for step, active, announced, (executed, gate), form in rows:
            positions = sum(self.plan.values[name].positions for name in step.outputs)
            cost = StepCost(
                name=step.name,
                dense_macs=step.macs,
                executed_macs=executed,
                gate_macs=gate,
                positions=positions,
                active=active,
                announced=announced,
                form=form,
            )
            costs.append(cost.as_deciding() if step.name in self.plan.deciding else cost)
        return tuple(costs)

    def _seconds(self, bound: Bound) -> tuple[float, ...]:
        return tuple(bound.engine.seconds) if self.profile else ()

    def _active(self, bound: Bound) -> Mapping[str, Tensor]:
        masks = {}
        for step in self.plan.steps:
            name = step.outputs[0]
            if not step.calls:
                masks[step.name] = self.plan.values[name].full_mask(True)
            else:
                kind = bound.memory.active if step.gated else bound.memory.announced
                masks[step.name] = kind[name].clone()
        return masks
