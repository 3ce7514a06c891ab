"""All memory of one stream, kept beside the model and never in it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from saccade.errors import FileFormatError, StateError
from saccade.graph.plan import Plan
from saccade.graph.tensor_file import read_tensors, write_tensors
from saccade.masks import ValueSpec
from saccade.stream.gate import Gate
from saccade.stream.gated import memory_specs
from saccade.stream.record import Record, check_record, restore_record

FORMAT = "saccade-state"
VERSION = 1


class StreamState:
    """The history of one stream: what every step last put out, what it announced, its gates, the frame count.

    Args:
        plan: the plan it belongs to; any number of states share one plan.
        record: "reference", "coarse" or "accumulated", how announcements are remembered.
        precision: "float32" or "bfloat16", what float32 values are stored in.

    Attributes:
        values: what every kept value last was.
        records: what was announced of them.
        gates: their thresholds.
        private: what gated convolutions keep (`saccade.stream.gated`), by name.
        frames: frames followed.
        extra: what else an executor holds for this stream and can make again: masks, moved data, the last input.
        generation: counts how often the history was replaced; tells an executor that its own side is out of date.
    """

    def __init__(self, plan: Plan, *, record: str = "reference", precision: str = "float32") -> None:
        self.plan, self.precision = plan, precision
        self.record = check_record(record)
        self.values: dict[str, Tensor] = {}
        self.records: dict[str, Record] = {}
        self.gates: dict[str, Gate] = {}
        self.private: dict[str, Tensor] = {}
        self.frames = 0
        self.extra: list[Tensor] = []
        self.generation = 0

    def reset(self) -> None:
        """Forgets everything; the next frame is a first frame."""
        self._replace({}, {}, {}, {}, 0)

    @property
    def nbytes(self) -> int:
        """Bytes held: the kept outputs, the records, and what an executor adds; a tensor held twice counts once."""
        records = [record.tensor() for record in self.records.values()]
        tensors = [*self.values.values(), *records, *self.private.values(), *self.extra]
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        return sum(storages.values())

    def save(self, path: str | Path) -> None:
        """Writes the state as one safetensors file; raises FileFormatError where the path cannot be written."""
        tensors = {f"value/{name}": value for name, value in self.values.items()}
        tensors |= {f"record/{name}": record.tensor() for name, record in self.records.items()}
        tensors |= {f"private/{name}": tensor for name, tensor in self.private.items()}
        weighted = {name: gate for name, gate in self.gates.items() if gate.weights is not None}
        tensors |= {f"weights/{name}": gate.weights for name, gate in weighted.items() if gate.weights is not None}
        header = {
            "format": FORMAT,
            "version": str(VERSION),
            "plan": self.plan.digest,
            "model": self.plan.name,
            "record": self.record,
            "precision": self.precision,
            "frames": str(self.frames),
            "thresholds": json.dumps({name: gate.threshold for name, gate in self.gates.items()}),
        }
        write_tensors({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path, header)

    def load(self, path: str | Path) -> None:
        """Takes over the state in a file; this state is unchanged where it fails.

        Raises:
            FileFormatError: the file is missing, damaged or no state.
            StateError: the state belongs to another plan, or was made with another form of record or precision.
        """
        tensors, header = read_tensors(path, kind=FORMAT, version=VERSION)
        if header.get("plan") != self.plan.digest:
            raise StateError(
                f"{path} is a state of another plan (of {header.get('model', 'an unknown model')}); this stream runs "
                f"{self.plan.name}. Load it into a stream of the same model, weights and input size."
            )
        if header.get("record") != self.record:
            raise StateError(
                f"{path} holds {header.get('record')} records, this stream keeps {self.record} ones; "
                f"open the stream with record={header.get('record')!r}"
            )
        precision = header.get("precision", "float32")
        if precision != self.precision:
            raise StateError(
                f"{path} holds values in {precision}, this stream keeps {self.precision}; "
                f"open the stream with precision={precision!r}"
            )
        try:
            frames = int(header["frames"])
            gates = {
                name: Gate(float(threshold), tensors.get(f"weights/{name}"))
                for name, threshold in json.loads(header["thresholds"]).items()
            }
            values = {n.removeprefix("value/"): t for n, t in tensors.items() if n.startswith("value/")}
            records = {
                n.removeprefix("record/"): restore_record(self.record, t)
                for n, t in tensors.items()
                if n.startswith("record/")
            }
            private = {n.removeprefix("private/"): t for n, t in tensors.items() if n.startswith("private/")}
            self._check(values, records, gates, private)
        except (KeyError, ValueError, TypeError) as error:
            raise FileFormatError(f"the state in {path} is damaged ({error}); start the stream anew") from error
        self._replace(values, records, gates, private, frames)

    def _replace(
        self,
        values: dict[str, Tensor],
        records: dict[str, Record],
        gates: dict[str, Gate],
        private: dict[str, Tensor],
        frames: int,
    ) -> None:
        self.values, self.records, self.gates, self.frames = values, records, gates, frames
        self.private = private
        self.extra = []
        self.generation += 1

    def _check(
        self,
        values: dict[str, Tensor],
        records: dict[str, Record],
        gates: dict[str, Gate],
        private: dict[str, Tensor],
    ) -> None:
        specs = memory_specs(self.plan) if values else {}
        if set(private) != set(specs):
            raise ValueError(f"it keeps {len(private)} tensors for gated convolutions where the plan has {len(specs)}")
        for name, tensor in private.items():
            if tuple(tensor.shape) != specs[name].shape or tensor.dtype != self._dtype(specs[name], name):
                raise ValueError(f"{name} is {tuple(tensor.shape)} {tensor.dtype}, the plan has {specs[name]}")
        if values:
            kept = self.plan.kept
            if set(values) != kept:
                raise ValueError(f"it holds {len(values)} values where the plan keeps {len(kept)}")
            if set(records) != kept & self.plan.consumed or set(gates) != set(records):
                raise ValueError("records, thresholds and values do not belong together")
        for name, value in values.items():
            spec = self.plan.values[name]
            if tuple(value.shape) != spec.shape or value.dtype != self._dtype(spec, name):
                raise ValueError(f"{name} is {tuple(value.shape)} {value.dtype}, the plan has {spec}")

    def _dtype(self, spec: ValueSpec, name: str) -> torch.dtype:
        """Returns the type something is kept in; what adds up (z of gated convolutions) is never rounded."""
        rounds = (self.precision, spec.dtype) == ("bfloat16", "float32") and not name.endswith("/z")
        return torch.bfloat16 if rounds else spec.torch_dtype

    def __repr__(self) -> str:
        return f"StreamState({self.plan.name}, record={self.record!r}, frames={self.frames}, nbytes={self.nbytes})"
