"""The plan: the frozen list of steps a model was compiled to. Data only; history lives in a stream's state."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from saccade.errors import FileFormatError
from saccade.graph.arguments import decode, encode
from saccade.graph.tensor_file import read_tensors, tensor_bytes, write_tensors
from saccade.kernels.call import Call, Ref, find_operator
from saccade.kernels.dynamic import values_computed_with
from saccade.kernels.gated import GATED
from saccade.kernels.rule import Scope
from saccade.masks import ValueSpec
from saccade.preprocess import Preprocess

FORMAT, VERSION = "saccade-plan", 1


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

    def structure(self) -> dict[str, Any]:
        """Returns the step as JSON data."""
        calls = [
            {"target": call.target, "arguments": {key: encode(item) for key, item in call.arguments.items()}}
            for call in self.calls
        ]
        return {
            "name": self.name,
            "op": self.op,
            "form": self.form,
            "reason": self.reason,
            "calls": calls,
            "outputs": list(self.outputs),
            "gated": self.gated,
            "macs": self.macs,
            "source": self.source,
        }

    @classmethod
    def from_structure(cls, data: dict[str, Any]) -> Step:
        """Returns the step `structure` described; raises AttributeError for an operator torch does not have."""
        calls = []
        for item in data["calls"]:
            find_operator(item["target"])
            calls.append(Call(item["target"], {key: decode(value) for key, value in item["arguments"].items()}))
        return cls(**{**data, "calls": tuple(calls), "outputs": tuple(data["outputs"])})


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
    def deciding(self) -> frozenset[str]:
        """Names of the steps of VA-RED2's gates: their results choose what dynamic convolutions compute, and no more.

        What they cost is gate macs.
        """
        needed = {ref.name for ref in self.outputs if ref.kind == "value"}
        found = set()
        for step in reversed(self.steps):
            if step.calls and needed.isdisjoint(step.outputs):
                found.add(step.name)
            else:
                needed.update(name for call in step.calls for name in values_computed_with(call))
        return frozenset(found)

    @cached_property
    def dense_macs(self) -> int:
        """Multiply-accumulates of one whole pass, without deciding."""
        return sum(step.macs for step in self.steps if step.name not in self.deciding)

    @cached_property
    def sparse_macs_share(self) -> float:
        """Share of `dense_macs` in sparse steps; 1 for a plan without macs."""
        if not self.dense_macs:
            return 1.0
        sparse = (step for step in self.steps if step.form == "sparse" and step.name not in self.deciding)
        return sum(step.macs for step in sparse) / self.dense_macs

    @cached_property
    def consumed(self) -> frozenset[str]:
        """Names of the values some step reads; the others are only returned, and need no record."""
        return frozenset(name for step in self.steps for name in step.inputs)

    @cached_property
    def kept(self) -> frozenset[str]:
        """Names of the values a stream keeps between frames; data that only moves is not kept."""
        return frozenset(name for step in self.steps if step.gated for name in step.outputs)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over structure and weights; what ties a saved state to its plan."""
        digest = hashlib.sha256(json.dumps(self.structure(), sort_keys=True).encode())
        for name in sorted(self.weights):
            digest.update(name.encode())
            digest.update(tensor_bytes(self.weights[name]))
        return digest.hexdigest()

    def structured(self, outputs: Sequence[Any]) -> Any:
        """Returns flattened results in the model's own structure."""
        return pytree.tree_unflatten(list(outputs), pytree.treespec_loads(self.out_spec))

    def structure(self) -> dict[str, Any]:
        """Returns everything but the weights, as JSON data."""
        return {
            "name": self.name,
            "steps": [step.structure() for step in self.steps],
            "values": {
                name: {"shape": list(spec.shape), "dtype": spec.dtype, "channel_axis": spec.channel_axis}
                for name, spec in self.values.items()
            },
            "outputs": [encode(ref) for ref in self.outputs],
            "in_spec": self.in_spec,
            "out_spec": self.out_spec,
            "preprocess": None if self.preprocess is None else json.loads(self.preprocess.to_json()),
        }

    def save(self, path: str | Path) -> None:
        """Writes weights and structure as one file; raises FileFormatError where the path cannot be written."""
        header = {"format": FORMAT, "version": str(VERSION), "plan": json.dumps(self.structure())}
        write_tensors({name: t.detach().clone().contiguous() for name, t in self.weights.items()}, path, header)

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Returns the plan in a file written by `save`.

        Raises:
            FileFormatError: the file is missing, damaged, not a plan, or of another version.
        """
        weights, header = read_tensors(path, kind=FORMAT, version=VERSION)
        try:
            data = json.loads(header["plan"])
            preprocess = data["preprocess"]
            return cls(
                name=data["name"],
                steps=tuple(Step.from_structure(row) for row in data["steps"]),
                values={
                    name: ValueSpec(tuple(spec["shape"]), spec["dtype"], spec["channel_axis"])
                    for name, spec in data["values"].items()
                },
                weights=weights,
                outputs=tuple(decode(ref) for ref in data["outputs"]),
                in_spec=data["in_spec"],
                out_spec=data["out_spec"],
                preprocess=None if preprocess is None else Preprocess.from_json(json.dumps(preprocess)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(f"the plan in {path} is damaged ({error!r}); make it again from the model") from error

    def __str__(self) -> str:
        lines = [
            f"Plan {self.name}: {len(self.steps)} steps, {self.dense_macs / 1e9:.3f} G macs, "
            f"{100 * self.sparse_macs_share:.2f} % of them in sparse steps"
        ]
        for step in self.steps:
            shapes = " ".join("x".join(map(str, self.values[name].shape)) or "scalar" for name in step.outputs)
            made = f"{', '.join(step.outputs)} = {step.op}({', '.join(step.inputs)})"
            note = f"  dense: {step.reason}" if step.form == "dense" else _gate_of(step)
            note += "  decides" if step.name in self.deciding else ""
            lines.append(f"  {made}  [{shapes}]  {step.macs} macs  {step.source}{note}")
        return "\n".join(lines)

    __repr__ = __str__


def _gate_of(step: Step) -> str:
    """Returns what decides where a gated convolution is computed; "" for another step."""
    if not step.calls or step.calls[0].target != GATED:
        return ""
    given = step.calls[0].arguments
    what = "the size of the change" if given["norm"] else "a convolution of the change"
    squares = f", {given['block']}x{given['block']}" if given["block"] > 1 else ""
    return f"  {given['form']} where {what} says so{squares}"
