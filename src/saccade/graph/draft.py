"""The plan while it is being made: steps that passes may rewrite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from saccade.kernels.call import Call, Ref


@dataclass
class DraftStep:
    """A step before its form is known: one call and its epilogue."""

    name: str
    calls: list[Call]
    outputs: list[str]
    source: str = ""

    def values(self) -> list[str]:
        """Names of the values it reads, with repetitions."""
        return [name for call in self.calls for name in call.values()]


@dataclass
class Draft:
    """Steps in order, shapes and dtypes of their values, weights, and what the model returns."""

    steps: list[DraftStep] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    outputs: list[Ref] = field(default_factory=list)

    def uses(self) -> Counter[str]:
        """How often each value is read by a step or returned."""
        counts = Counter(name for step in self.steps for name in step.values())
        counts.update(ref.name for ref in self.outputs if ref.kind == "value")
        return counts

    def makers(self) -> dict[str, DraftStep]:
        """Which step makes each value."""
        return {name: step for step in self.steps for name in step.outputs}

    def add_weight(self, name: str, tensor: Tensor) -> Ref:
        """Stores a tensor under a name not yet taken and returns its reference."""
        base, count = name, 1
        while name in self.weights:
            count += 1
            name = f"{base}.{count}"
        self.weights[name] = tensor
        return Ref("weight", name)

    def rename(self, names: Mapping[str, str]) -> None:
        """Gives values other names, wherever they are made, read or returned."""
        refs = {Ref("value", old): Ref("value", new) for old, new in names.items()}
        for step in self.steps:
            step.outputs = [names.get(name, name) for name in step.outputs]
            step.calls = [call.substitute(refs) for call in step.calls]
        self.outputs = [refs.get(ref, ref) for ref in self.outputs]
        self.shapes = {names.get(name, name): shape for name, shape in self.shapes.items()}
        self.dtypes = {names.get(name, name): dtype for name, dtype in self.dtypes.items()}

    def drop_dead(self) -> None:
        """Removes steps whose values nobody reads (inputs stay) and weights no step reads."""
        alive = {ref.name for ref in self.outputs if ref.kind == "value"}
        kept = []
        for step in reversed(self.steps):
            if not step.calls or alive.intersection(step.outputs):
                kept.append(step)
                alive.update(step.values())
        self.steps = kept[::-1]
        made = self.makers()  # a name given later may be that of a value that is gone
        self.shapes = {name: shape for name, shape in self.shapes.items() if name in made}
        self.dtypes = {name: dtype for name, dtype in self.dtypes.items() if name in made}
        read = {ref.name for step in self.steps for call in step.calls for ref in call.refs() if ref.kind == "weight"}
        read.update(ref.name for ref in self.outputs if ref.kind == "weight")
        self.weights = {name: tensor for name, tensor in self.weights.items() if name in read}
