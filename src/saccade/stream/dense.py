"""A plan run whole in torch, every value at hand and, on request, differentiable."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor

from saccade.graph.plan import Plan
from saccade.kernels.call import Ref
from saccade.stream.reference import run_step


def dense_values(
    plan: Plan, inputs: Sequence[Tensor], *, gradients_of: Collection[str] = ()
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Returns every value of a plan by name, and the outputs, for one frame.

    Args:
        plan: the plan.
        inputs: one tensor per input of the plan.
        gradients_of: values that require gradients, with everything that follows from them.
    """
    values: dict[str, Tensor] = {}

    def lookup(ref: Ref) -> Tensor:
        return plan.weights[ref.name] if ref.kind == "weight" else values[ref.name]

    for step in plan.steps:
        made = run_step(step, lookup) if step.calls else [inputs[plan.inputs.index(step.outputs[0])]]
        for name, value in zip(step.outputs, made, strict=True):
            fresh = name in gradients_of and not value.requires_grad
            values[name] = value.detach().requires_grad_() if fresh else value
    return values, [lookup(ref) for ref in plan.outputs]
