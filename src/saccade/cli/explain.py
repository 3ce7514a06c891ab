"""`saccade explain`: the plan of a model."""

from __future__ import annotations

from typing import Any

from saccade.cli.console import check_targets, progress, say, write_results
from saccade.graph import Plan, make_plan
from saccade.report.tables import explain_table
from saccade.stream.camera import shares_by_step, why_fixed
from saccade.stream.native import NativeForms, native_forms
from saccade.zoo import load_model


def explain_command(model: str, *, json: str | None) -> None:
    """Prints every step of the model's plan.

    Raises:
        SaccadeError: the model cannot be loaded or planned, or the JSON cannot be written.
    """
    check_targets(source="", json_target=json, out=None)
    with progress(f"planning {model}", None):
        loaded = load_model(model)
        plan = make_plan(loaded.model, loaded.example, preprocess=loaded.preprocess, name=loaded.name)
    if loaded.weights.startswith("random"):
        say(f"note: {loaded.name} has random weights; its macs are right, its results mean nothing")
    engine = native_forms(plan)
    write_results(explanation(plan, engine, name=model), target=json, tables=lambda: [explain_table(plan, engine)])


def explanation(plan: Plan, engine: NativeForms, *, name: str) -> dict[str, Any]:
    """Returns a plan as JSON data: one entry per step, and the totals."""
    problem = why_fixed(plan)
    camera: dict[str, Any] = {"reason": problem, "moved_macs": {} if problem else shares_by_step(plan)}
    return {
        "model": name,
        "native": {"reason": engine.reason, "isa": engine.isa},
        "dense_macs": plan.dense_macs,
        "sparse_macs_share": plan.sparse_macs_share,
        "camera": camera,
        "steps": [
            {
                "name": step.name,
                "op": step.op,
                "form": step.form,
                "macs": step.macs,
                "reason": step.reason,
                "native": engine.of(step.name),
                "source": step.source,
                "inputs": list(step.inputs),
                "outputs": {name: list(plan.values[name].shape) for name in step.outputs},
            }
            for step in plan.steps
        ],
    }
