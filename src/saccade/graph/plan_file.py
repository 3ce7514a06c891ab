"""A plan as a file: safetensors for the weights, JSON in its header for the structure. Nothing is unpickled."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from saccade.errors import FileFormatError
from saccade.kernels.call import Call, Ref, find_operator
from saccade.masks import ValueSpec
from saccade.preprocess import Preprocess

if TYPE_CHECKING:
    from saccade.graph.plan import Plan

FORMAT = "saccade-plan"
VERSION = 1
_TORCH_TYPES = {"dtype": torch.dtype, "layout": torch.layout, "memory_format": torch.memory_format}


def encode(tree: Any) -> Any:
    """Returns a call's argument tree as JSON data."""
    if isinstance(tree, Ref):
        return {"ref": tree.kind, "name": tree.name}
    if isinstance(tree, (list, tuple)):
        return [encode(item) for item in tree]
    if isinstance(tree, float) and not math.isfinite(tree):
        return {"float": str(tree)}
    for kind, cls in _TORCH_TYPES.items():
        if isinstance(tree, cls):
            return {kind: str(tree).removeprefix("torch.")}
    if isinstance(tree, torch.device):
        return {"device": str(tree)}
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    raise TypeError(f"a plan cannot hold an argument of type {type(tree).__name__}: {tree!r}")


def decode(data: Any) -> Any:
    """Returns the argument tree that `encode` made the data from."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if isinstance(data, dict):
        if "ref" in data:
            return Ref(data["ref"], data["name"])
        ((kind, value),) = data.items()
        if kind == "float":
            return float(value)
        if kind == "device":
            return torch.device(value)
        decoded = getattr(torch, value)
        if not isinstance(decoded, _TORCH_TYPES[kind]):
            raise ValueError(f"{value!r} is not a torch {kind}")
        return decoded
    return data


def structure(plan: Plan) -> dict[str, Any]:
    """Returns everything of a plan but its weights, as JSON data."""
    return {
        "name": plan.name,
        "steps": [
            {
                "name": step.name,
                "op": step.op,
                "form": step.form,
                "reason": step.reason,
                "calls": [
                    {"target": call.target, "arguments": {k: encode(v) for k, v in call.arguments.items()}}
                    for call in step.calls
                ],
                "outputs": list(step.outputs),
                "gated": step.gated,
                "macs": step.macs,
                "source": step.source,
            }
            for step in plan.steps
        ],
        "values": {
            name: {"shape": list(spec.shape), "dtype": spec.dtype, "channel_axis": spec.channel_axis}
            for name, spec in plan.values.items()
        },
        "outputs": [encode(ref) for ref in plan.outputs],
        "in_spec": plan.in_spec,
        "out_spec": plan.out_spec,
        "preprocess": None if plan.preprocess is None else json.loads(plan.preprocess.to_json()),
    }


def tensor_bytes(tensor: Tensor) -> bytes:
    """Returns dtype, shape and the raw contents of a tensor."""
    flat = tensor.detach().contiguous().reshape(-1)
    return f"{tensor.dtype}{tuple(tensor.shape)}".encode() + flat.view(torch.uint8).numpy().tobytes()


def save(plan: Plan, path: str | Path) -> None:
    """Writes a plan; raises FileFormatError where the path cannot be written."""
    header = {"format": FORMAT, "version": str(VERSION), "plan": json.dumps(structure(plan))}
    write_tensors({name: t.detach().clone().contiguous() for name, t in plan.weights.items()}, path, header)


def write_tensors(tensors: dict[str, Tensor], path: str | Path, header: dict[str, str]) -> None:
    """Writes tensors and a header of strings as one safetensors file."""
    try:
        save_file(tensors, str(path), metadata=header)
    except (OSError, SafetensorError) as error:
        raise FileFormatError(
            f"cannot write {path}: {error}. Name a file in an existing folder you may write to."
        ) from error


def read_tensors(path: str | Path, *, kind: str, version: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns tensors and header of a safetensors file written with format `kind`.

    Raises:
        FileFormatError: the file is missing, damaged, of another format, or of a newer version.
    """
    if not Path(path).is_file():
        raise FileFormatError(f"there is no file {path}; expected a {kind} file")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != kind:
                got = header.get("format", "a safetensors file of another program")
                raise FileFormatError(f"{path} is not a {kind} file but {got}; give one that Saccade saved")
            if header.get("version") != str(version):
                raise FileFormatError(
                    f"{path} is a {kind} file of version {header.get('version')}, this Saccade reads version "
                    f"{version}; save it again with this release"
                )
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise FileFormatError(f"{path} is damaged or not a {kind} file ({error}); save it again") from error


def load(path: str | Path) -> Plan:
    """Returns the plan in a file; raises FileFormatError as `read_tensors` does, or for a damaged structure."""
    from saccade.graph.plan import Plan, Step

    weights, header = read_tensors(path, kind=FORMAT, version=VERSION)
    try:
        data = json.loads(header["plan"])
        steps = []
        for row in data["steps"]:
            calls = []
            for item in row["calls"]:
                find_operator(item["target"])
                calls.append(Call(item["target"], {k: decode(v) for k, v in item["arguments"].items()}))
            steps.append(Step(**{**row, "calls": tuple(calls), "outputs": tuple(row["outputs"])}))
        preprocess = data["preprocess"]
        return Plan(
            name=data["name"],
            steps=tuple(steps),
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
