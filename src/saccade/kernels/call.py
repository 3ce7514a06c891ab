"""A call of one torch operator as data: the target's name and its arguments, tensors replaced by references."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ref:
    """A tensor a call reads: a value of the plan, a weight, or (in an epilogue) the result of the call before."""

    kind: Literal["value", "weight", "result"]
    name: str = ""


RESULT = Ref("result")


@dataclass(frozen=True)
class Call:
    """One operator call.

    Attributes:
        target: full operator name, as "aten.conv2d.default".
        arguments: every argument by its schema name, defaults filled in; tensors are `Ref`s.
    """

    target: str
    arguments: Mapping[str, Any]

    @cached_property
    def operator(self) -> torch._ops.OpOverload:
        """The torch operator behind `target`."""
        return find_operator(self.target)

    @property
    def base(self) -> str:
        """The operator's name without namespace and overload, as "conv2d"."""
        return self.target.split(".")[1]

    def refs(self) -> Iterator[Ref]:
        """Yields every reference among the arguments, in schema order."""
        yield from _refs(self.arguments.values())

    def values(self) -> tuple[str, ...]:
        """Returns the names of the plan's values it reads."""
        return tuple(ref.name for ref in self.refs() if ref.kind == "value")

    def replace(self, **changes: Any) -> Call:
        """Returns the call with some arguments changed."""
        return Call(self.target, {**self.arguments, **changes})

    def substitute(self, mapping: Mapping[Ref, Ref]) -> Call:
        """Returns the call with references exchanged."""
        return Call(self.target, map_refs(dict(self.arguments), lambda ref: mapping.get(ref, ref)))

    def run(self, lookup: Callable[[Ref], Tensor]) -> Any:
        """Calls the operator with the tensors `lookup` returns for the references."""
        filled = map_refs(dict(self.arguments), lookup)
        positional, keywords = [], {}
        for argument in self.operator._schema.arguments:
            if argument.kwarg_only:
                keywords[argument.name] = filled[argument.name]
            else:
                positional.append(filled[argument.name])
        return self.operator(*positional, **keywords)


def find_operator(target: str) -> torch._ops.OpOverload:
    """Returns the torch operator of that full name; raises AttributeError where torch has none."""
    namespace, name, overload = target.split(".", 2)
    operator: torch._ops.OpOverload = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    return operator


def make_call(target: str, /, *args: Any, **kwargs: Any) -> Call:
    """Returns a call with positional and keyword arguments named, and defaults filled in, by the schema."""
    schema = find_operator(target)._schema
    arguments: dict[str, Any] = {}
    for index, argument in enumerate(schema.arguments):
        if argument.name in kwargs:
            arguments[argument.name] = kwargs[argument.name]
        elif index < len(args):
            arguments[argument.name] = args[index]
        elif argument.has_default_value():
            arguments[argument.name] = argument.default_value
        else:
            raise TypeError(f"{target} needs the argument {argument.name!r}")
    return Call(target, arguments)


def map_refs(tree: Any, change: Callable[[Ref], Any]) -> Any:
    """Returns a tree of dicts, lists and tuples with every `Ref` changed."""
    if isinstance(tree, Ref):
        return change(tree)
    if isinstance(tree, dict):
        return {key: map_refs(item, change) for key, item in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [map_refs(item, change) for item in tree]
    return tree


def _refs(tree: Any) -> Iterator[Ref]:
    if isinstance(tree, Ref):
        yield tree
    elif isinstance(tree, dict):
        yield from _refs(tree.values())
    elif not isinstance(tree, str) and hasattr(tree, "__iter__"):
        for item in tree:
            yield from _refs(item)
