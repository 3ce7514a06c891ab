"""Dynamic convolutions on the native engine."""

from __future__ import annotations

from saccade.graph.plan import Step
from saccade.kernels.call import Ref
from saccade.kernels.dynamic import convolution_macs, frames_of
from saccade.stream.native.builder import Builder, Support, UnfitError
from saccade.stream.native.epilogue import Rows
from saccade.stream.native.windows import make_window

MOST_OPTIONS, MOST_TAPS = 8, 64  # as the engine's


def add_dynamic(builder: Builder, step: Step, row: int) -> None:
    """Adds a dynamic convolution with its epilogue."""
    call, name = step.calls[0], step.outputs[0]
    given, out = call.arguments, builder.spec(step.outputs[0])
    source = builder.spec(given["x"].name)
    weight = builder.weight(given["weight"].name)
    cheap = {kind: [builder.weight(ref.name) for ref in given[kind]] for kind in ("before", "after", "filters")}
    kernel = cheap["filters"][0].shape[-2:] if cheap["filters"] else (1, 1)
    if kernel[0] * kernel[1] > MOST_TAPS or max(len(cheap["before"]), len(cheap["filters"])) >= MOST_OPTIONS:
        raise UnfitError(f"it has filters {tuple(kernel)} or more than {MOST_OPTIONS} options")
    window = make_window(
        source, out, weight.dim() - 2, list(weight.shape[2:]), given["stride"], given["padding"], given["dilation"]
    )
    rows = Rows(builder, out)
    for later in step.calls[1:]:
        rows.add(later)
    own = [(Support.SAME, builder.ids[value], 0, 0, 1) for value in call.values()]
    inputs = builder.inputs(step)
    inputs.sort(key=lambda value: value != builder.ids[given["x"].name])  # the engine reads its first input
    bias = given["bias"]
    builder.program.dynamic(
        row,
        inputs,
        builder.add_value(name, kept=True),
        [*own, *rows.supports],
        rows.ops,
        window,
        given["groups"],
        builder.numbers(weight),
        0 if bias is None else builder.numbers(builder.weight(bias.name)),
        _weights(builder, given["time"], 1 + len(cheap["before"])),
        _weights(builder, given["channels"], 1 + len(cheap["filters"])),
        frames_of(source.shape, out.shape),
        [builder.numbers(numbers) if len(numbers) else 0 for numbers in cheap["before"]],
        [builder.numbers(numbers) if len(numbers) else 0 for numbers in cheap["after"]],
        [out.channels, *(out.channels - len(numbers) for numbers in cheap["filters"])],
        [builder.numbers(numbers) for numbers in cheap["filters"]],
        tuple(kernel),
        convolution_macs(call, builder.plan.scope, out.shape),
    )


def _weights(builder: Builder, ref: Ref, options: int) -> int:
    """Returns the number of the value that holds the weights of a dimension's options; -1 where there is no choice."""
    if options == 1:
        return -1
    spec = builder.spec(ref.name)
    if spec.positions != 1 or spec.channels != options:
        raise UnfitError(f"the weights of its options are {spec}")
    return builder.ids[ref.name]
