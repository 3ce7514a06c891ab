"""From a model to its plan: capture, lower, fold, fuse, then decide each step's form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from saccade.errors import ModelError
from saccade.graph.capture import capture
from saccade.graph.draft import Draft, DraftStep
from saccade.graph.fuse import find_channel_shuffles, fold_batch_norms, fuse_epilogues
from saccade.graph.lower import lower
from saccade.graph.names import name_steps, op_name
from saccade.graph.plan import Plan, Step
from saccade.graph.program_file import load_program
from saccade.kernels.elementwise import ELEMENTWISE
from saccade.kernels.gated import GATED_CONVOLUTION
from saccade.kernels.movement import PERMUTE, RESHAPE
from saccade.kernels.rule import Scope
from saccade.kernels.table import dense_macs, find_rule, refusal
from saccade.kernels.window import CONVOLUTION, INTERPOLATION, POOLING, spatial_rank
from saccade.masks import ValueSpec
from saccade.preprocess import Preprocess


def make_plan(
    model: nn.Module | ExportedProgram | Plan | str | Path,
    example: Any = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    preprocess: Preprocess | None = None,
    name: str = "",
) -> Plan:
    """Returns the plan of a model.

    Args:
        model: a module, an exported program, the path of a `.pt2` file, or a plan (returned as it is).
        example: a tensor, or a tuple of positional arguments: what the model takes for one frame. The plan is made
            for these shapes. Not needed for a program that holds its own example.
        kwargs: keyword arguments of the model.
        preprocess: how a frame becomes the input; stored with the plan.
        name: what to call the model; its class, or the file's name, by default.

    Raises:
        ModelError: torch.export refuses the model, or it cannot run frame by frame; or its arguments or results are in
            a class that torch does not know how to write down, as a NamedTuple that is not registered.
        FileFormatError: the file is missing, damaged or no exported program.
    """
    if isinstance(model, Plan):
        return model
    if isinstance(model, (str, Path)):
        path = Path(model)
        model, stored = load_program(path)
        name, preprocess = name or path.stem, preprocess or stored
    program = capture(model, example, kwargs=kwargs)
    draft = lower(program)
    draft.drop_dead()
    fold_batch_norms(draft)
    find_channel_shuffles(draft)
    fuse_epilogues(draft)
    draft.drop_dead()
    name_steps(draft)
    specs: dict[str, ValueSpec] = {}
    scope = Scope(specs, {key: tuple(tensor.shape) for key, tensor in draft.weights.items()})
    steps = [_finish(step, draft, scope, specs) for step in draft.steps]
    name = name or type(model).__name__
    in_spec, out_spec = program.call_spec.in_spec, program.call_spec.out_spec
    if in_spec is None or out_spec is None:
        raise ModelError("the program does not say how its arguments and results are structured; export it again")
    return Plan(
        name=name,
        steps=tuple(steps),
        values=specs,
        weights={  # copies: what later happens to the model does not reach the plan
            key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in draft.weights.items()
        },
        outputs=tuple(draft.outputs),
        in_spec=_written(in_spec, f"{name} takes"),
        out_spec=_written(out_spec, f"{name} returns"),
        preprocess=preprocess,
    )


def _written(spec: pytree.TreeSpec, what: str) -> str:
    """Returns a structure of arguments or results as text; raises ModelError where torch cannot write it."""
    try:
        return pytree.treespec_dumps(spec)
    except (NotImplementedError, TypeError) as error:
        kinds = sorted({kind.__qualname__ for kind in _kinds(spec)} - {"dict", "list", "tuple"})
        raise ModelError(
            f"{what} tensors in {', '.join(kinds) or 'a dict whose keys are no strings or numbers'}, which torch "
            "cannot write down, as a plan does; expected tuples, lists, dicts or what is registered. Use one of these, "
            "or register the class where it is defined: a NamedTuple by torch.utils._pytree._register_namedtuple("
            "Class, serialized_type_name='package.Class'), others by torch.utils._pytree.register_pytree_node"
        ) from error


def _kinds(spec: pytree.TreeSpec) -> Iterator[type]:
    """Yields what holds tensors in a structure, from outside in; of a NamedTuple, its own class."""
    if not spec.is_leaf():
        yield spec.context if isinstance(spec.context, type) and issubclass(spec.context, tuple) else spec.type
    for child in spec.children():
        yield from _kinds(child)


def _finish(step: DraftStep, draft: Draft, scope: Scope, specs: dict[str, ValueSpec]) -> Step:
    """Returns the frozen step and adds its values to `specs`."""
    for name in step.outputs:
        axis = _channel_axis(step, draft, scope, draft.shapes[name])
        specs[name] = ValueSpec(draft.shapes[name], draft.dtypes[name], axis)
    if not step.calls:
        return Step(step.name, "input", "sparse", "", (), tuple(step.outputs), True, 0, step.source)
    head = step.calls[0]
    shape = draft.shapes[step.outputs[0]]
    rule, reason = find_rule(head), refusal(head, scope)
    macs = dense_macs(head, scope, shape) if reason or rule is None else rule.macs(head, scope, shape)
    macs += sum(ELEMENTWISE.macs(call, scope, shape) for call in step.calls[1:])
    return Step(
        name=step.name,
        op="+".join(op_name(call) for call in step.calls),
        form="dense" if reason else "sparse",
        reason=reason,
        calls=tuple(step.calls),
        outputs=tuple(step.outputs),
        gated=bool(reason) or rule is None or not rule.moves,
        macs=macs,
        source=step.source,
    )


def _channel_axis(step: DraftStep, draft: Draft, scope: Scope, shape: tuple[int, ...]) -> int | None:
    if not step.calls:
        axis = _axis_read(step.outputs[0], draft)
        return axis if axis is not None else 1 if len(shape) > 1 else None
    head = step.calls[0]
    if not refusal(head, scope):
        rule = find_rule(head)
        assert rule is not None
        return rule.axis(head, scope, shape)
    first = scope.specs[step.values()[0]]
    if len(first.shape) == len(shape):
        return first.channel_axis
    return 1 if len(shape) > 1 else None


def _axis_read(name: str, draft: Draft) -> int | None:
    """Returns the axis on which a convolution or pool reads a value's channels, through what only moves it.

    None where there is none such.
    """
    readers = [step for step in draft.steps if step.calls and name in step.calls[0].values()]
    rank = len(draft.shapes[name])
    for step in readers:
        if find_rule(step.calls[0]) in (CONVOLUTION, POOLING, INTERPOLATION, GATED_CONVOLUTION):
            return rank - spatial_rank(step.calls[0]) - 1
    for step in readers:
        rule, moved = find_rule(step.calls[0]), step.outputs[0]
        if rule not in (RESHAPE, PERMUTE) or len(set(step.calls[0].values())) > 1:
            continue
        behind = _axis_read(moved, draft)
        if behind is None:
            continue
        for axis in reversed(range(rank)):
            guess = Scope({name: ValueSpec(draft.shapes[name], draft.dtypes[name], axis)}, {})
            whole = draft.shapes[name][axis] == draft.shapes[moved][behind]
            if whole and rule.axis(step.calls[0], guess, draft.shapes[moved]) == behind:
                return axis
    return None
