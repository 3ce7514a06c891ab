"""Passes over a draft: batch norm into convolutions, channel shuffles recognised, elementwise epilogues fused."""

from __future__ import annotations

import torch

from saccade.graph.draft import Draft, DraftStep
from saccade.kernels.call import RESULT, Call, Ref, make_call
from saccade.kernels.elementwise import is_elementwise
from saccade.kernels.rule import Scope
from saccade.kernels.table import find_rule
from saccade.kernels.window import CONVOLUTIONS, is_transposed


def fold_batch_norms(draft: Draft) -> None:
    """Multiplies a batch norm's scale into the weights of the convolution or linear layer it follows."""
    uses, makers = draft.uses(), draft.makers()
    for step in list(draft.steps):
        if not step.calls or step.calls[0].target != "aten.addcmul.default":
            continue
        norm = step.calls[0].arguments
        source = norm["tensor1"]
        if source.kind != "value" or norm["self"].kind != "weight" or norm["tensor2"].kind != "weight":
            continue
        maker = makers[source.name]
        if uses[source.name] != 1 or not maker.calls or not _has_fixed_weights(maker.calls[0]):
            continue
        folded = _fold(draft, maker.calls[0], norm["tensor2"], norm["self"], step.name)
        if folded is None:
            continue
        step.calls = [folded]
        step.source = maker.source
        draft.steps.remove(maker)
        makers[step.outputs[0]] = step


def _has_fixed_weights(call: Call) -> bool:
    if call.base not in CONVOLUTIONS and call.base not in ("linear", "gated_convolution"):
        return False
    return all(ref.kind == "weight" for ref in (call.arguments["weight"], call.arguments["bias"]) if ref is not None)


def _fold(draft: Draft, call: Call, scale_ref: Ref, shift_ref: Ref, name: str) -> Call | None:
    weight = draft.weights[call.arguments["weight"].name]
    scale, shift = (draft.weights[ref.name].double().reshape(-1) for ref in (scale_ref, shift_ref))
    transposed = is_transposed(call)
    groups = call.arguments.get("groups", 1)
    channels = weight.shape[1] * groups if transposed else weight.shape[0]
    if scale.numel() != channels or (call.base == "linear" and draft.weights[scale_ref.name].dim() != 2):
        return None
    if transposed:  # (in, out / groups, kernel...): one scale per group and output channel of it
        per_group = scale.reshape(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1)
        factor = per_group.reshape(weight.shape[0], weight.shape[1])
    else:
        factor = scale.reshape(-1, 1)
    factor = factor.reshape(factor.shape + (1,) * (weight.dim() - factor.dim()))
    bias = shift
    if call.arguments["bias"] is not None:
        bias = bias + scale * draft.weights[call.arguments["bias"].name].double()
    return call.replace(
        weight=draft.add_weight(f"{name}.weight", (weight.double() * factor).to(weight.dtype)),
        bias=draft.add_weight(f"{name}.bias", bias.to(weight.dtype)),
    )


def find_channel_shuffles(draft: Draft) -> None:
    """Replaces view - swap of the two channel axes - view by one channel shuffle."""
    uses, makers = draft.uses(), draft.makers()
    for step in list(draft.steps):
        chain = _shuffle_chain(draft, step, makers)
        if chain is None:
            continue
        split, swap = chain
        if uses[split.outputs[0]] != 1 or uses[swap.outputs[0]] != 1:
            continue
        groups = draft.shapes[split.outputs[0]][1]
        step.calls = [make_call("aten.channel_shuffle.default", split.calls[0].arguments["self"], groups)]
        draft.steps = [other for other in draft.steps if other is not split and other is not swap]


def _shuffle_chain(draft: Draft, step: DraftStep, makers: dict[str, DraftStep]) -> tuple[DraftStep, DraftStep] | None:
    swap = _maker_if(step, makers, "reshape")
    split = _maker_if(swap, makers, "transpose", "permute") if swap else None
    if swap is None or split is None or not split.calls or split.calls[0].base != "reshape":
        return None
    before = draft.shapes[split.values()[0]]
    between, swapped = draft.shapes[split.outputs[0]], draft.shapes[swap.outputs[0]]
    order = _order(swap.calls[0], len(between))
    fits = (
        len(before) > 2
        and between[:1] + between[3:] == before[:1] + before[2:]
        and order == [0, 2, 1, *range(3, len(between))]
        and draft.shapes[step.outputs[0]] == before
        and swapped[1] * swapped[2] == before[1]
    )
    return (split, swap) if fits else None


def _maker_if(step: DraftStep, makers: dict[str, DraftStep], *bases: str) -> DraftStep | None:
    """Returns the maker of what a step reads, where the step is one call of those operators."""
    if len(step.calls) != 1 or step.calls[0].base not in bases or len(step.values()) != 1:
        return None
    return makers[step.values()[0]]


def _order(call: Call, rank: int) -> list[int]:
    if call.base == "permute":
        return [dim % rank for dim in call.arguments["dims"]]
    order = list(range(rank))
    first, second = call.arguments["dim0"] % rank, call.arguments["dim1"] % rank
    order[first], order[second] = order[second], order[first]
    return order


def fuse_epilogues(draft: Draft) -> None:
    """Appends elementwise steps (activations, residual adds, scales) to the step whose only reader they are."""
    uses, makers = draft.uses(), draft.makers()
    weights = {name: tuple(tensor.shape) for name, tensor in draft.weights.items()}
    for step in list(draft.steps):
        if len(step.calls) != 1 or len(step.outputs) != 1 or not is_elementwise(step.calls[0]):
            continue
        out = step.outputs[0]
        if any(draft.shapes[name] != draft.shapes[out] for name in step.values()):
            continue
        heads = [
            name
            for name in step.values()
            if uses[name] == 1 and draft.dtypes[name] == draft.dtypes[out] and _takes_epilogue(makers[name])
        ]
        if not heads:
            continue
        chosen = max(heads, key=lambda name: (_weight_of(makers[name], weights), draft.steps.index(makers[name])))
        head = makers[chosen]
        step.calls = [*head.calls, *(call.substitute({Ref("value", chosen): RESULT}) for call in step.calls)]
        step.source = head.source
        draft.steps.remove(head)


def _takes_epilogue(step: DraftStep) -> bool:
    if not step.calls or len(step.outputs) != 1:
        return False
    rule = find_rule(step.calls[0])
    return rule is not None and not rule.moves and not rule.refuses(step.calls[0], Scope({}, {}))


def _weight_of(step: DraftStep, weights: dict[str, tuple[int, ...]]) -> int:
    """Returns the size of the weights a step reads: the dearer of two candidates takes the epilogue."""
    total = 0
    for ref in step.calls[0].refs():
        if ref.kind == "weight":
            total += int(torch.Size(weights[ref.name]).numel())
    return total
