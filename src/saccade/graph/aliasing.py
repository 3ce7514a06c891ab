"""Which captured graphs can be read as they are, and which torch must first make functional.

`ExportedProgram.run_decompositions` is right for every graph and takes most of the time of making a plan. Most graphs
do not need it: their in-place operators write to tensors nobody holds a view of, so writing can be read as renaming.
"""

from __future__ import annotations

import operator

import torch
from torch import fx

from saccade.graph.rewrite import HANDLED, is_idle_dropout
from saccade.kernels.call import Call
from saccade.kernels.table import find_rule

_MAY_RETURN_INPUT = frozenset("contiguous to type_as expand_as reshape flatten".split())


def can_be_read(graph: fx.Graph) -> bool:
    """Returns whether every operator is known or basic, and every write hits a tensor without views."""
    roots: dict[fx.Node, fx.Node] = {}  # which node made the storage a node's value lies in
    viewed: set[fx.Node] = set()  # roots some other node is a view of
    written: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "get_attr":
            return False
        if node.op != "call_function":
            continue
        first = next((arg for arg in node.args if isinstance(arg, fx.Node)), None)
        if node.target is operator.getitem:
            roots[node] = roots.get(node.args[0], node.args[0])
            continue
        if not isinstance(node.target, torch._ops.OpOverload) or not _is_known(node.target):
            return False
        schema = node.target._schema
        aliased = any(item.alias_info is not None for item in schema.returns)
        if first is None or not (aliased or is_idle_dropout(node) or _base(node.target) in _MAY_RETURN_INPUT):
            continue
        roots[node] = roots.get(first, first)
        if schema.is_mutable:
            if functional_name(node.target) is None or first is not node.args[0] or _mixes_dtypes(node):
                return False
            written.add(roots[node])
        elif not is_idle_dropout(node):
            viewed.add(roots[node])
    return not (viewed & written)


def functional_name(target: torch._ops.OpOverload) -> str | None:
    """Returns the name of the operator that returns what an in-place one writes; None where torch has none."""
    namespace, name = target._schema.name.split("::")
    packet = getattr(getattr(torch.ops, namespace), name.removesuffix("_"), None)
    if not name.endswith("_") or packet is None or target._overloadname not in packet.overloads():
        return None
    return f"{namespace}.{name.removesuffix('_')}.{target._overloadname}"


def _mixes_dtypes(node: fx.Node) -> bool:
    """Returns whether an in-place operator casts its result to what it writes to, as the functional one would not."""
    values = [arg.meta.get("val") for arg in node.all_input_nodes]
    return len({value.dtype for value in values if isinstance(value, torch.Tensor)}) > 1


def _base(target: torch._ops.OpOverload) -> str:
    return target._schema.name.split("::")[1]


def _is_known(target: torch._ops.OpOverload) -> bool:
    """Returns whether a plan can hold the operator; composite ones without a rule are better decomposed first."""
    name = functional_name(target) or str(target)
    if find_rule(Call(name, {})) is not None or name.split(".")[1] in HANDLED:
        return True
    return not torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), "CompositeImplicitAutograd")
