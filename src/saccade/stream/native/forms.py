"""How the native engine would run a plan, step by step, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from saccade.graph.plan import Plan
from saccade.kernels.cpu import native_module, why_missing
from saccade.stream.native.compile import compile_plan, why_unfit


@dataclass(frozen=True)
class NativeForms:
    """How the native engine runs each step of a plan.

    Attributes:
        reason: why it does not run the plan at all; "" where it does.
        isa: the instruction set it would use.
        forms: by step, "positions", "moved" (data only moves), or "torch: " and why the engine has no form for it.
    """

    reason: str
    isa: str
    forms: Mapping[str, str]

    def of(self, step: str) -> str:
        """Returns how a step runs."""
        return self.forms.get(step, "-")

    def summary(self) -> str:
        """Returns the whole plan's lot in a sentence."""
        if self.reason:
            return f"not used: {self.reason}"
        outside = sum(form.startswith("torch") for form in self.forms.values())
        rest = f"{outside} of {len(self.forms)} steps run in torch" if outside else "every step"
        return f"{rest}, {self.isa}"


def native_forms(plan: Plan) -> NativeForms:
    """Returns how the native engine of this machine would run a plan."""
    reason = why_missing() if native_module() is None else why_unfit(plan)
    if reason:
        return NativeForms(reason, "", {})
    compiled = compile_plan(plan)
    forms = {step.name: "positions" if step.gated else "moved" for step in plan.steps}
    forms |= {name: f"torch: {why}" for name, why in compiled.callbacks.items()}
    return NativeForms("", compiled.isa, forms)
