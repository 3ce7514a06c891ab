"""Names a user recognises: a step is called after the module it came from."""

from __future__ import annotations

from saccade.graph.draft import Draft
from saccade.kernels.call import Call
from saccade.kernels.gated import GATED_CONVOLUTION
from saccade.kernels.table import find_rule
from saccade.kernels.window import CONVOLUTION

_OP_NAMES = {
    "addcmul": "affine",
    "_to_copy": "cast",
    "constant_pad_nd": "pad",
    "convolution": "conv",
    "gated_convolution": "gated_conv",
    "_softmax": "softmax",
    "_log_softmax": "log_softmax",
}


def op_name(call: Call) -> str:
    """Returns the operator's name as the field says it, as "conv2d" or "relu"."""
    return _OP_NAMES.get(call.base, call.base)


def name_steps(draft: Draft) -> None:
    """Names every step but the inputs: the module's path, its operator behind it where it is no layer of its own."""
    taken = {name for step in draft.steps if not step.calls for name in step.outputs}
    renamed: dict[str, str] = {}
    for step in draft.steps:
        if not step.calls:
            continue
        head = step.calls[0]
        rule = find_rule(head)
        layer = rule in (CONVOLUTION, GATED_CONVOLUTION) or head.base in ("linear", "addcmul")
        base = step.source if layer and step.source else ".".join(filter(None, (step.source, op_name(head))))
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        several = len(step.outputs) > 1
        for index, output in enumerate(step.outputs):
            renamed[output] = f"{name}.{index}" if several else name
        taken.update([name, *(renamed[output] for output in step.outputs)])
        step.name = name
    draft.rename(renamed)
