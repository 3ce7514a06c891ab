"""Lowering: a captured torch graph becomes draft steps; whatever does not depend on the input is folded to a weight."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, TensorArgument

from saccade.errors import ModelError
from saccade.graph.aliasing import functional_name
from saccade.graph.capture import HIDDEN_WRITE
from saccade.graph.draft import Draft, DraftStep
from saccade.graph.rewrite import is_identity, is_idle_dropout, rewrite
from saccade.kernels.call import RESULT, Call, Ref, make_call

_WEIGHT_KINDS = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
_CHECKS = ("_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range", "_check")


def lower(program: ExportedProgram) -> Draft:
    """Returns the program as a draft.

    Raises:
        ModelError: a shape depends on the data, an operator is random, or control flow is captured as an operator.
    """
    return _Lowering(program).run()


class _Lowering:
    def __init__(self, program: ExportedProgram) -> None:
        self.program = program
        self.draft = Draft()
        self.same: dict[fx.Node, fx.Node] = {}  # nodes that are the very tensor of an earlier one
        self.known: dict[fx.Node, Any] = {}  # what each graph node became: Ref, constant, or sequence of them

    def run(self) -> Draft:
        signature = self.program.graph_signature
        kinds = {spec.arg.name: spec for spec in signature.input_specs if not isinstance(spec.arg, ConstantArgument)}
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self.placeholder(node, kinds.get(node.name))
            elif node.op == "call_function":
                self.function(node)
            elif node.op == "get_attr":
                raise ModelError(
                    f"the model holds control flow or a sub-graph ({node.target}) that a plan cannot run step by "
                    "step. Make the branch a torch.where, or unroll the loop."
                )
        returned = next(node for node in self.program.graph.nodes if node.op == "output").args[0]
        for spec, item in zip(signature.output_specs, returned, strict=True):
            if spec.kind != OutputKind.USER_OUTPUT:
                continue
            ref = self.resolve(item)
            if not isinstance(ref, Ref):
                raise ModelError(f"the model returns {ref!r}, expected tensors only; leave constants out of its result")
            self.draft.outputs.append(ref)
        return self.draft

    def placeholder(self, node: fx.Node, spec: Any) -> None:
        if spec is None:  # an argument that is no tensor, fixed at export
            self.known[node] = None
        elif spec.kind in _WEIGHT_KINDS:
            store = self.program.constants if spec.target in self.program.constants else self.program.state_dict
            tensor = store[spec.target].detach()
            self.known[node] = self.draft.add_weight(spec.target, tensor)
        elif spec.kind == InputKind.USER_INPUT and isinstance(spec.arg, TensorArgument):
            self.emit(DraftStep(node.name, [], [node.name], "input"), [node.meta["val"]])
            self.known[node] = Ref("value", node.name)
        else:
            raise ModelError(f"the model takes an input of kind {spec.kind.name}, expected tensors only")

    def function(self, node: fx.Node) -> None:
        if node.target is operator.getitem:
            if not node.users:  # a result nobody takes may not have been made
                return
            sequence = self.resolve(node.args[0])
            self.known[node] = sequence[node.args[1]]
            return
        if not isinstance(node.target, torch._ops.OpOverload):
            raise ModelError(
                f"the model calls {node.target} at {_where(node)}, which works on sizes or control flow, not on "
                "tensors; export it with fixed shapes"
            )
        if node.target._schema.name.split("::")[1] in _CHECKS:
            return
        arguments = [self.resolve(arg) for arg in node.args]
        keywords = {key: self.resolve(value) for key, value in node.kwargs.items()}
        written = functional_name(node.target) if node.target._schema.is_mutable else None
        call = make_call(written or str(node.target), *arguments, **keywords)
        refs = list(call.refs())
        if written:
            self.check_write(node)
        if is_idle_dropout(node):  # not a copy: what is written to one is read from the other
            self.same[node] = self.leader(node.args[0])
        elif is_identity(call, node):
            self.known[node] = refs[0]
        elif _is_random(call):
            raise ModelError(
                f"the model draws random numbers ({node.target} at {_where(node)}); a stream must give the same "
                "answer for the same frame. Draw them outside and pass them in, or turn the layer off."
            )
        elif all(ref.kind == "weight" for ref in refs):
            self.fold(node, call)
        else:
            self.known[node] = self.call(node, call)
        if written:  # nobody holds a view of what is written to, so its later readers read the result
            self.known[self.leader(node.args[0])] = self.known[node]
            self.same[node] = self.leader(node.args[0])

    def leader(self, node: Any) -> fx.Node:
        """Returns the first of the nodes that are one and the same tensor."""
        return self.same.get(node, node)

    def check_write(self, node: fx.Node) -> None:
        target, signature = self.resolve(node.args[0]), self.program.graph_signature
        kept = {*signature.buffers, *signature.parameters}
        if isinstance(target, Ref) and target.kind == "weight" and target.name in kept:
            raise ModelError(HIDDEN_WRITE.format(names=target.name))

    def resolve(self, arg: Any) -> Any:
        if isinstance(arg, fx.Node):
            return self.known[self.leader(arg)]
        if isinstance(arg, (list, tuple)):
            return [self.resolve(item) for item in arg]
        return arg

    def fold(self, node: fx.Node, call: Call) -> None:
        """Constant folding: computes now what no input can change."""
        with torch.no_grad():
            result = call.run(lambda ref: self.draft.weights[ref.name])

        def store(item: Any) -> Any:
            if isinstance(item, Tensor):
                return self.draft.add_weight(node.name, item.detach().clone())
            return [store(each) for each in item] if isinstance(item, (list, tuple)) else item

        self.known[node] = store(result)

    def call(self, node: fx.Node, call: Call) -> Any:
        changed = rewrite(self.draft, node, call)
        if changed is None:
            value = node.meta["val"]
            if isinstance(value, Tensor):
                return self.emit(DraftStep(node.name, [call], [node.name], _source(node)), [value])[0]
            names = [f"{node.name}.{i}" for i in range(len(value))]
            return self.emit(DraftStep(node.name, [call], names, _source(node)), value)
        refs = []
        for index, chain in enumerate(changed.chains):
            name = node.name if len(changed.chains) == 1 else f"{node.name}.{index}"
            refs.append(self.chain(name, chain, _source(node)))
        return refs if changed.several else refs[0]

    def chain(self, name: str, calls: Sequence[Call], source: str) -> Ref:
        """Emits calls as steps, each reading the one before; returns the last one's value."""
        previous = RESULT
        for depth, call in enumerate(calls):
            call = call.substitute({RESULT: previous})
            step_name = name if depth == len(calls) - 1 else f"{name}.part{depth}"
            step = DraftStep(step_name, [call], [step_name], source)
            previous = self.emit(step, [call.run(self.meta)])[0]
        return previous

    def meta(self, ref: Ref) -> Tensor:
        if ref.kind == "weight":
            return self.draft.weights[ref.name].to("meta")
        dtype = getattr(torch, self.draft.dtypes[ref.name])
        return torch.empty(self.draft.shapes[ref.name], dtype=dtype, device="meta")

    def emit(self, step: DraftStep, values: Sequence[Any]) -> list[Ref]:
        for name, value in zip(step.outputs, values, strict=True):
            if not isinstance(value, Tensor) or not all(isinstance(size, int) for size in value.shape):
                raise ModelError(
                    f"the size of what {step.name} ({step.source or 'the model'}) makes depends on the data: got "
                    f"{getattr(value, 'shape', value)}, expected fixed sizes. Move it (nonzero, masking, nms) out of "
                    "the model, behind the stream."
                )
            self.draft.shapes[name] = tuple(value.shape)
            self.draft.dtypes[name] = str(value.dtype).removeprefix("torch.")
        self.draft.steps.append(step)
        return [Ref("value", name) for name in step.outputs]


def _is_random(call: Call) -> bool:
    """Returns whether the operator draws random numbers; a dropout does in training, attention to drop weights."""
    idle = call.arguments.get("dropout_p") == 0.0 or call.arguments.get("train") is False
    return torch.Tag.nondeterministic_seeded in call.operator.tags and not idle


def _source(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return ""
    path = str(next(reversed(stack.values()))[0])
    return path.removeprefix("L['self'].").removeprefix("L['self']")


def _where(node: fx.Node) -> str:
    return _source(node) or node.name
