"""The plan: the frozen list of steps a model was compiled to. Data only; history lives in a stream's state."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from saccade.graph import plan_file
from saccade.kernels.call import Call, Ref
from saccade.kernels.rule import Scope
from saccade.masks import ValueSpec
from saccade.preprocess import Preprocess


@dataclass(frozen=True)
class Step:
    """One step of a plan: an operator call, and the elementwise calls fused onto its result.

    Attributes:
        name: unique in the plan.
        op: what it does, as "conv2d+add+relu".
        form: "sparse" (computes active positions) or "dense" (computes everything when anything changed).
        reason: why it is dense; "" for a sparse step.
        calls: the call that makes the step, then its epilogue, each reading the result of the one before. Empty for
            an input of the plan.
        outputs: names of the values it makes; one, except for some dense steps.
        gated: whether its output is kept and compared; False for steps that only move data.
        macs: multiply-accumulates of computing every position.
        source: the module in the user's model it came from, as "layer1.0.conv1".
    """

    name: str
    op: str
    form: str
    reason: str
    calls: tuple[Call, ...]
    outputs: tuple[str, ...]
    gated: bool
    macs: int
    source: str

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the values it reads, each once."""
        return tuple(dict.fromkeys(name for call in self.calls for name in call.values()))


@dataclass(frozen=True, eq=False)
class Plan:
    """A model as steps, values and weights.

    Attributes:
        name: what the model is called.
        steps: in the order they run; inputs first.
        values: spec of every value by name.
        weights: every tensor the steps read that does not depend on the input, by name.
        outputs: what the model returns, flattened: values, or weights for outputs that never change.
        in_spec: the model's argument structure (torch pytree, serialised).
        out_spec: the model's result structure (torch pytree, serialised).
        preprocess: how a video frame becomes the model's input, where known.
    """

    name: str
    steps: tuple[Step, ...]
    values: Mapping[str, ValueSpec]
    weights: Mapping[str, Tensor]
    outputs: tuple[Ref, ...]
    in_spec: str
    out_spec: str
    preprocess: Preprocess | None = None

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the plan's input values, in the model's order."""
        return tuple(step.outputs[0] for step in self.steps if not step.calls)

    @cached_property
    def scope(self) -> Scope:
        """Specs and weight shapes by name, as the operator rules read them."""
        return Scope(self.values, {name: tuple(tensor.shape) for name, tensor in self.weights.items()})

    @cached_property
    def dense_macs(self) -> int:
        """Multiply-accumulates of one whole pass."""
        return sum(step.macs for step in self.steps)

    @cached_property
    def sparse_macs_share(self) -> float:
        """Share of `dense_macs` in sparse steps; 1 for a plan without macs."""
        if not self.dense_macs:
            return 1.0
        return sum(step.macs for step in self.steps if step.form == "sparse") / self.dense_macs

    @cached_property
    def consumed(self) -> frozenset[str]:
        """Names of the values some step reads; the others are only returned, and need no record."""
        return frozenset(name for step in self.steps for name in step.inputs)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over structure and weights; what ties a saved state to its plan."""
        digest = hashlib.sha256(json.dumps(plan_file.structure(self), sort_keys=True).encode())
        for name in sorted(self.weights):
            digest.update(name.encode())
            digest.update(plan_file.tensor_bytes(self.weights[name]))
        return digest.hexdigest()

    def step(self, name: str) -> Step:
        """Returns the step of that name; raises KeyError where there is none."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)

    def save(self, path: str | Path) -> None:
        """Writes the plan as one safetensors file: weights as tensors, structure as JSON."""
        plan_file.save(self, path)

    @staticmethod
    def load(path: str | Path) -> Plan:
        """Returns a plan read from a file written by `save`.

        Raises:
            FileFormatError: the file is missing, damaged, not a plan, or of a newer version.
        """
        return plan_file.load(path)

    def summary(self) -> list[dict[str, Any]]:
        """Returns a row per step: name, op, form, macs, reason."""
        return [{"name": s.name, "op": s.op, "form": s.form, "macs": s.macs, "reason": s.reason} for s in self.steps]

    def __str__(self) -> str:
        lines = [
            f"Plan {self.name}: {len(self.steps)} steps, {self.dense_macs / 1e9:.3f} G macs, "
            f"{100 * self.sparse_macs_share:.2f} % of them in sparse steps"
        ]
        for step in self.steps:
            shapes = " ".join("x".join(map(str, self.values[name].shape)) or "scalar" for name in step.outputs)
            made = f"{', '.join(step.outputs)} = {step.op}({', '.join(step.inputs)})"
            note = f"  dense: {step.reason}" if step.form == "dense" else ""
            lines.append(f"  {made}  [{shapes}]  {step.macs} macs  {step.source}{note}")
        return "\n".join(lines)

    __repr__ = __str__
