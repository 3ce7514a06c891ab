"""Gated convolutions on the native engine: the step, and the memory its gate and its sum need."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from saccade.graph.plan import Plan, Step
from saccade.kernels.call import Call
from saccade.kernels.gated import RESIDUAL, keeps_sum, sums_channels
from saccade.masks import ValueSpec
from saccade.stream.gate import Gate
from saccade.stream.gated import convolution_macs, input_of, last_name, sum_name
from saccade.stream.native import pages
from saccade.stream.native.builder import Builder, UnfitError
from saccade.stream.native.epilogue import Rows
from saccade.stream.native.layout import view_as_value
from saccade.stream.native.windows import Window, make_window

SLACK = 64  # bytes


def why_gate_unfit(plan: Plan, step: Step) -> str:
    """Returns why the engine has no form for a gated convolution, "" where it has one.

    Other steps run in torch then; a gated one has memory of its own, so the whole plan runs on the reference.
    """
    if any(0 in plan.values[name].shape for name in (*step.inputs, *step.outputs)):
        return "it is empty"
    try:
        _window(plan, step.calls[0], plan.values[step.outputs[0]])
    except UnfitError as reason:
        return str(reason)
    return ""


def _window(plan: Plan, call: Call, out: ValueSpec) -> Window:
    given = call.arguments
    kernel = plan.weights[given["weight"].name].shape[2:]
    source = plan.values[given["x"].name]
    return make_window(source, out, len(kernel), list(kernel), given["stride"], given["padding"], given["dilation"])


def add_gated(builder: Builder, step: Step, row: int) -> None:
    """Adds a gated convolution with its epilogue."""
    call, name = step.calls[0], step.outputs[0]
    given = call.arguments
    out, source = builder.spec(name), builder.ids[input_of(step)]
    rows = Rows(builder, out)
    for later in step.calls[1:]:
        rows.add(later)
    inputs = builder.inputs(step)
    inputs.sort(key=lambda value: value != source)  # the engine reads its first input
    bias, gate_weight = given["bias"], builder.weight(given["gate_weight"].name)
    norm = sums_channels(call, gate_weight.shape)
    builder.program.gated(
        row,
        inputs,
        builder.add_value(name, kept=True),
        rows.supports,
        rows.ops,
        _window(builder.plan, call, out),
        given["groups"],
        builder.numbers(builder.weight(given["weight"].name)),
        0 if bias is None else builder.numbers(builder.weight(bias.name)),
        builder.numbers(gate_weight),
        float(builder.weight(given["gate_bias"].name)),
        norm,
        given["norm"] and not norm,
        given["block"],
        given["form"] == RESIDUAL,
        keeps_sum(step.calls),
        convolution_macs(builder.plan, step),
    )


class GatedRows:
    """What one stream keeps for gated convolutions, in the engine's layout.

    A value at threshold 0 was last announced as it now is: the value is its own copy, and r is found while it is
    written. Other values (and narrow or moved ones) are copied, and r is found in a pass of its own.

    Args:
        compiled: the compiled plan.
        engine: the stream's engine.
        values: the stream's values in the engine's memory.

    Attributes:
        private: what belongs to the stream's state, by name, as tensors of the values' shapes.
    """

    def __init__(self, compiled: Any, engine: Any, values: dict[str, Tensor]) -> None:
        self.compiled, self.plan, self.engine = compiled, compiled.plan, engine
        self.values, self.private = values, {}
        names = {number: name for name, number in compiled.ids.items()}
        # Of what is 0 between frames; vectors may be read beyond the last.
        slots = [torch.zeros(size + SLACK, dtype=torch.uint8) for size in compiled.program.change_slots]
        self._changing: list[tuple[str, Tensor | None, Tensor | None]] = []
        for number, with_norms, slot in compiled.program.changing:
            norms = torch.zeros(self.plan.values[names[number]].positions + SLACK // 4) if with_norms else None
            self._changing.append((names[number], slots[slot] if slot >= 0 else None, norms))
        for index, number in enumerate(compiled.program.sums):
            spec = self.plan.values[names[number]]
            flat = pages.empty(spec.numel)
            self.private[sum_name(names[number])] = view_as_value(flat, spec)
            engine.set_sum(index, flat.data_ptr())

    @property
    def extra(self) -> list[Tensor]:
        """What can be made again: r and its norms."""
        return [tensor for _, *both in self._changing for tensor in both if tensor is not None]

    def start(self, gates: dict[str, Gate]) -> None:
        """Takes every value as announced, after a reference frame, or when what was announced is copied afterwards."""
        for index, (name, *both) in enumerate(self._changing):
            spec, value = self.plan.values[name], self.values[name]
            last = 0
            if self._is_its_own_copy(name, gates):
                self.private[last_name(name)] = value
            else:
                flat = pages.empty(spec.numel, value.dtype)
                self.private[last_name(name)] = view_as_value(flat, spec).copy_(value)
                last = flat.data_ptr()
            addresses = [0 if tensor is None else tensor.data_ptr() for tensor in both]
            self.engine.set_change(index, *addresses, last)

    def restore(self, held: dict[str, Tensor], gates: dict[str, Gate]) -> None:
        """Takes over what a state from a file or from another executor keeps; the values are restored already."""
        self.start(gates)
        for name, tensor in self.private.items():
            if tensor.data_ptr() != held[name].data_ptr() and not self._shares(name):
                tensor.copy_(held[name])

    def _shares(self, name: str) -> bool:
        return any(
            name == last_name(value) and self.private[name] is self.values[value] for value, *_ in self._changing
        )

    def _is_its_own_copy(self, name: str, gates: dict[str, Gate]) -> bool:
        gate = gates.get(name)
        maker = next(step for step in self.plan.steps if name in step.outputs)
        wide = self.plan.values[name].channels >= self.compiled.program.lanes
        return gate is not None and gate.threshold == 0 and wide and maker.name not in self.compiled.callbacks
