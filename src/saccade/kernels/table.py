"""The one list of operators with a sparse form; it drives plans, executors, tests and documentation."""

from __future__ import annotations

import math

from saccade.kernels.call import Call, Ref
from saccade.kernels.dynamic import DYNAMIC, DYNAMIC_CONVOLUTION
from saccade.kernels.elementwise import ELEMENTWISE, is_elementwise
from saccade.kernels.gated import GATED, GATED_CONVOLUTION
from saccade.kernels.lines import LINEAR, NORMALISATION, REDUCTION
from saccade.kernels.movement import MOVE, PERMUTE, RESHAPE
from saccade.kernels.rule import Rule, Scope
from saccade.kernels.window import CONVOLUTION, INTERPOLATION, POOLING

RULES: tuple[Rule, ...] = (
    CONVOLUTION,
    POOLING,
    INTERPOLATION,
    LINEAR,
    NORMALISATION,
    REDUCTION,
    RESHAPE,
    PERMUTE,
    MOVE,
    ELEMENTWISE,
)
# Not among them are GATED_CONVOLUTION and DYNAMIC_CONVOLUTION: what they compute depends on more than positions.
_BY_NAME = {name: rule for rule in RULES for name in rule.operators}


def find_rule(call: Call) -> Rule | None:
    """Returns the rule of a call's operator, or None where it has no sparse form."""
    if call.target == GATED:
        return GATED_CONVOLUTION
    if call.target == DYNAMIC:
        return DYNAMIC_CONVOLUTION
    if not call.target.startswith("aten."):
        return None
    rule = _BY_NAME.get(call.base)
    return rule if rule is not None else (ELEMENTWISE if is_elementwise(call) else None)


def refusal(call: Call, scope: Scope) -> str:
    """Returns why a call cannot run at chosen positions, or "" where it can."""
    rule = find_rule(call)
    if rule is None:
        return f"no sparse form for {call.target}"
    return rule.refuses(call, scope)


def dense_macs(call: Call, scope: Scope, shape: tuple[int, ...]) -> int:
    """Returns the macs of a call without a sparse form: matrix products exactly, else one per output element."""
    if call.base in ("mm", "bmm", "matmul", "addmm", "baddbmm"):
        first = call.arguments.get("mat1") or call.arguments.get("batch1") or call.arguments["self"]
        return math.prod(shape) * _shape(first, scope)[-1]
    if call.base == "scaled_dot_product_attention":
        query, key = (_shape(call.arguments[name], scope) for name in ("query", "key"))
        return 2 * math.prod(query) * key[-2]
    return math.prod(shape)


def _shape(ref: Ref, scope: Scope) -> tuple[int, ...]:
    return scope.specs[ref.name].shape if ref.kind == "value" else scope.weights[ref.name]
