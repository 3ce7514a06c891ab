"""A stream's state bound to the engine: the memory its values, records and masks lie in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from saccade.kernels.call import Ref
from saccade.kernels.cpu import native_module
from saccade.stream.gate import GateSettings
from saccade.stream.gated import last_name, sum_name
from saccade.stream.moves import Move
from saccade.stream.native import pages
from saccade.stream.native.compile import Compiled
from saccade.stream.native.fallback import Memory, run_fallback
from saccade.stream.native.gates import GatedRows
from saccade.stream.native.layout import view_as_value
from saccade.stream.native.moving import move_in_place
from saccade.stream.native.placing import lives, places
from saccade.stream.picture import Picture
from saccade.stream.record import AccumulatedRecord, Record, start_record
from saccade.stream.reference import run_step
from saccade.stream.state import StreamState

EXACT, REFERENCE, ACCUMULATED = 1, 2, 3  # the engine's forms of record


class Bound:
    """The engine's side of one StreamState.

    Args:
        compiled: the compiled plan.
        state: the state; its values are moved into the engine's memory and are views of it from now on.
        threads: how many share the work.
        alone: every pass computes everything, so that values share memory; nothing can be read of them afterwards but
            the plan's outputs.
    """

    def __init__(self, compiled: Compiled, state: StreamState, *, threads: int = 1, alone: bool = False) -> None:
        module = native_module()
        assert module is not None
        self.compiled, self.plan, self.alone = compiled, compiled.plan, alone
        self.record = state.record
        self.records, self.gates = (
            state.records,
            state.gates,
        )  # the state itself is not held: it decides how long we live
        self.engine: Any = module.State(compiled.program, threads)
        self._dtype = torch.bfloat16 if compiled.precision == "bfloat16" else torch.float32
        self._by_row = dict(enumerate(self.plan.steps))
        self._inputs: list[Tensor] = []
        self._forced: Mapping[str, Tensor] = {}
        self._results: dict[str, Tensor] = {}  # what was returned last
        self._weights: dict[str, Tensor] = {}  # of the gates, as the engine reads them
        self._allocate()
        self.gated = GatedRows(compiled, self.engine, self.memory.values)
        if state.frames:
            self._restore(state.values)
            self.gated.restore(state.private, self.gates)
        self._values = state.values = {name: self.memory.values[name] for name in self.plan.kept}
        held = {name: tensor for name, tensor in self.memory.values.items() if name not in self.plan.kept}
        state.private = self.gated.private
        state.extra = [*held.values(), *self._masks, *self._last.values(), *self.gated.extra]

    def holds(self, state: StreamState) -> bool:
        """Returns whether a state's values are those in the engine's memory, and nobody has replaced them since."""
        return state.values is self._values

    def move(self, moves: Mapping[str, Move]) -> None:
        """Moves what is stored of values, and makes anew what only moves data."""
        if not moves:
            return
        for name, move in moves.items():
            tensors = [self.memory.values[name]]
            if name in self.records:
                tensors.append(self.records[name].tensor())
            tensors += [
                self.gated.private[own] for own in (last_name(name), sum_name(name)) if own in self.gated.private
            ]
            for tensor in {tensor.data_ptr(): tensor for tensor in tensors}.values():
                move_in_place(tensor, move)
        self._remake()
        self._compare_everything()
        self._results.clear()

    def run(
        self, frames: list[Tensor | Picture], *, first: bool, forced: Mapping[str, Tensor], moved: bool = False
    ) -> int:
        """Runs one frame; returns -1, or which input is not finite. After a move a picture is compared everywhere."""
        self._forced = {name: mask.contiguous() for name, mask in forced.items()}
        self._inputs = [frame for frame in frames if isinstance(frame, Tensor)]
        changed = [
            frame if isinstance(frame, Tensor) else torch.ones_like(frame.mask) if moved else frame.mask
            for frame in frames
        ]
        given = [
            (frame.data_ptr(), 0, 0) if isinstance(frame, Tensor) else (0, frame.rows.data_ptr(), mask.data_ptr())
            for frame, mask in zip(frames, changed, strict=True)
        ]
        masks = [(self.compiled.ids[name], mask.data_ptr()) for name, mask in self._forced.items()]
        bad: int = self.engine.run(given, first, masks, self._run_outside)
        self._inputs, self._forced = [], {}
        return bad

    def output(self, ref: Ref) -> Tensor:
        """Returns a result as the caller's own, laid out as the engine holds it (channels last).

        What did not change since the last frame is copied when somebody writes to it, and not before.
        """
        if ref.kind == "weight":
            return self.plan.weights[ref.name].clone()
        result = self._results.get(ref.name)
        if result is None or self.changed(ref.name):
            value, dtype = self.memory.values[ref.name], self.plan.values[ref.name].torch_dtype
            result = self._results[ref.name] = value.clone() if value.dtype == dtype else value.to(dtype)
        return torch._lazy_clone(result)

    def changed(self, name: str) -> bool:
        """Returns whether the last frame wrote to a value."""
        return bool(self.engine.active_count(self.compiled.ids[name]))

    def start_records(self, settings: GateSettings) -> None:
        """Sets gates and records from the values of a reference frame, all of them announced."""
        for name in sorted(self.plan.kept & self.plan.consumed):
            spec, value = self.plan.values[name], self.memory.values[name]
            self.gates[name] = settings.gate(name, spec, value)
            self._set_record(name, start_record(self.record, value, spec))
        self.gated.start(self.gates)

    def _allocate(self) -> None:
        program = self.compiled.program
        buffers = self._buffers()
        for index, buffer in enumerate(buffers):
            self.engine.set_buffer(index, buffer.data_ptr())
        self._masks = [torch.zeros(size, dtype=torch.bool) for size in program.mask_positions]
        for index, mask in enumerate(self._masks):
            self.engine.set_mask(index, mask.data_ptr())
        values, active, announced = {}, {}, {}
        for name, number in self.compiled.ids.items():
            spec = self.plan.values[name]
            buffer, offset, stride, own, told = program.describe(number)
            if spec.dtype == "float32":
                values[name] = view_as_value(buffers[buffer], spec, offset=offset, stride=stride)
            else:
                values[name] = torch.empty(spec.shape, dtype=spec.torch_dtype)
            active[name] = self._masks[own].view(spec.mask_shape)
            announced[name] = self._masks[told].view(spec.mask_shape)
        self.memory = Memory(values, active, announced)
        specs = [(slot, self.plan.values[name]) for slot, name in enumerate(self.plan.inputs)]
        compared = [] if self.alone else specs
        self._last = {slot: torch.empty(spec.shape) for slot, spec in compared if spec.dtype == "float32"}
        self._compare_everything()

    def _buffers(self) -> list[Tensor]:
        program, wide = self.compiled.program, self._dtype.itemsize
        if not self.alone:
            return pages.empties([size // wide for size in program.buffer_bytes], self._dtype)
        numbers = {name: program.describe(number)[0] for name, number in self.compiled.ids.items()}
        begins, size = places(program.buffer_bytes, lives(self.plan, numbers))
        whole = pages.empty(size // wide, self._dtype)
        return [
            whole[begin // wide :][: bytes_ // wide] for begin, bytes_ in zip(begins, program.buffer_bytes, strict=True)
        ]

    def _restore(self, values: dict[str, Tensor]) -> None:
        """Takes over the values and records of a state that comes from a file or from another executor."""
        for name, value in values.items():
            self.memory.values[name].copy_(value)
        for name, record in list(self.records.items()):
            self._set_record(name, record)
        self._remake()

    def _remake(self) -> None:
        """Makes anew what only moves data, from the values."""
        for step in self.plan.steps:
            if not step.gated and step.name in self.compiled.callbacks:
                self.engine.rebuild()  # what it reads may be moved by the engine, and the other way round
                self.memory.values[step.outputs[0]].copy_(run_step(step, self._lookup)[0])
        self.engine.rebuild()

    def _compare_everything(self) -> None:
        """Forgets the last input: the next is compared with the values at every position."""
        for slot, last in self._last.items():
            self.engine.set_last(slot, last.data_ptr())

    def _lookup(self, ref: Ref) -> Tensor:
        if ref.kind == "weight":
            return self.plan.weights[ref.name]
        return self.memory.values[ref.name].to(self.plan.values[ref.name].torch_dtype)

    def _set_record(self, name: str, record: Record) -> None:
        """Gives the engine a record, in rows as it reads them, and the state a view of it."""
        spec, gate, number = self.plan.values[name], self.gates[name], self.compiled.ids[name]
        maker = next(step for step in self.plan.steps if name in step.outputs)
        if maker.name in self.compiled.callbacks:
            held = record.tensor()
            shared = held.data_ptr() == self.memory.values[name].data_ptr()
            self.records[name] = record.holding(held.clone()) if shared else record
            return
        weights = 0
        if gate.weights is not None:
            self._weights[name] = gate.weights.to(torch.float32).contiguous()
            weights = self._weights[name].data_ptr()
        if gate.threshold == 0:  # what was announced is what is there: the value is its own record
            if not isinstance(record, AccumulatedRecord):
                record = record.holding(self.memory.values[name])
            self.records[name] = record
            self.engine.set_record(number, EXACT, 0, 0, False, 0.0, 0)
            return
        tensor = record.tensor()
        form = ACCUMULATED if isinstance(record, AccumulatedRecord) else REFERENCE
        if form == REFERENCE:
            rows = view_as_value(pages.empty(spec.numel, tensor.dtype), spec)
            tensor = rows.copy_(tensor)
        self.records[name] = record.holding(tensor)
        bf16 = tensor.dtype == torch.bfloat16
        self.engine.set_record(number, form, tensor.data_ptr(), spec.channels, bf16, gate.threshold, weights)

    def _run_outside(self, row: int, first: bool) -> None:
        run_fallback(
            self.plan,
            self._by_row[row],
            self.memory,
            self._inputs,
            self.records,
            self.gates,
            first=first,
            forced=self._forced,
            count=lambda name, active, announced: self.engine.set_counts(self.compiled.ids[name], active, announced),
            spend=self.engine.set_executed,
        )
