"""`convert`: a network's convolutions become dynamic ones, its weights stay what they are."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from saccade.errors import InputError
from saccade.graph.conversion import Conversion, Converted, Where, kind_of, refuse_second_method, replace_layers
from saccade.graph.evaluating import evaluating
from saccade.reduce.layer import ReducedConv2d, ReducedConv3d, _ReducedConv
from saccade.reduce.policies import Pass, working_on
from saccade.reduce.space import Reduce

_LAYERS: dict[int, type[_ReducedConv]] = {2: ReducedConv2d, 3: ReducedConv3d}


def spatial_only(name: str, module: nn.Module) -> bool:
    """Returns whether a convolution works within frames: a 2D one, or a 3D one of kernel (1, k, k); for `convert`.

    The layers the paper reduces in R(2+1)D, where they take most of the macs.
    """
    del name
    kernel: Any = getattr(module, "kernel_size", ())
    return len(kernel) == 2 or (len(kernel) == 3 and kernel[0] == 1 and max(kernel[1:]) > 1)


def convert(model: nn.Module, what: Reduce, where: Where | None = None, *, example: Tensor) -> Conversion:
    """Replaces the convolutions of a model, in place, by dynamic ones (VA-RED2, section 3) that share their weights.

    Run it through `ReducedModel` to see what it chose; called as it is it works too. In training mode all options are
    weighed, in evaluation mode only what is asked for is computed. Converting a converted model again begins with
    new gates. What a model computes with functions (`F.conv3d`) is not seen.

    Args:
        model: any module that holds convolutions; not itself one.
        what: the search space and the cheap operations.
        where: called with each convolution's name and the module; only those it returns True for are converted.
            Layers that `saccade.skip` converted are no layers for it to ask for (docs/reduce.md).
        example: clips as the model takes them, (1, C, T, H, W) or, of a 2D network, (1, T, C, H, W) or pictures (1, C,
            H, W). Their length is what the gates are made for.

    Returns:
        Which layers were converted, and which not and why.

    Raises:
        InputError: the model is itself a convolution, the example is not one clip, or a layer is asked for that carries
            another method.
        ModelError: there was nothing to convert.
    """
    if kind_of(model) is not None or isinstance(model, Converted):
        raise InputError(
            f"the model is itself a {type(model).__name__}, which cannot be replaced in place; wrap it in a module, or "
            "make a ReducedConv3d.from_convolution(...)"
        )
    if example.dim() < 4 or example.shape[0] != 1:
        raise InputError(f"got an example {tuple(example.shape)}; expected one clip: (1, C, T, H, W), (1, T, C, H, W)")
    refuse_second_method(model, where, mine=_ReducedConv)
    frames = _frames_seen(model, example)
    return replace_layers(
        model,
        lambda name, child: _why_not(name, child, where, frames),
        lambda child, name: _make(child, what, name, next(iter(frames[child]))),
        what=what,
        done="made dynamic",
        verb="reduce",
    )


def _frames_seen(model: nn.Module, example: Tensor) -> dict[nn.Module, set[int]]:
    """Returns how many frames of a clip each convolution is given."""
    seen: dict[nn.Module, set[int]] = {}

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0]
        seen.setdefault(module, set()).add(int(x.shape[2] if x.dim() == 5 else x.shape[0]))

    with ExitStack() as stack, torch.no_grad(), working_on(Pass(dense=True)), evaluating(model):
        for module in model.modules():
            if isinstance(module, nn.modules.conv._ConvNd):
                stack.callback(module.register_forward_pre_hook(note).remove)
        model(example)
    return seen


def _why_not(name: str, module: nn.Module, where: Where | None, frames: Mapping[nn.Module, set[int]]) -> str | None:
    """Returns None for what is no layer of interest, else why it is left as it is; "" where it can be converted."""
    if not isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
        return None
    if isinstance(module, nn.Linear):
        return "a linear layer has no maps"
    if isinstance(module, Converted) and not isinstance(module, _ReducedConv):
        return f"it carries {module.method}"
    if kind_of(module) is None and not isinstance(module, _ReducedConv):
        return f"no dynamic form of {type(module).__module__}.{type(module).__qualname__}"
    if where is not None and not where(name, module):
        return "not asked for"
    lengths = frames.get(module, set())
    if len(lengths) != 1:
        return f"it was given clips of {sorted(lengths)} frames; a gate is for one length" if lengths else "never run"
    return ""


def _make(module: nn.Module, what: Reduce, name: str, frames: int) -> nn.Module:
    if isinstance(module, _ReducedConv):
        layer, same = type(module), module.same
    else:
        kind = kind_of(module)
        assert kind is not None
        layer, same = _LAYERS[kind[0]], kind[1]
    made: nn.Module = layer.from_convolution(module, what, frames=frames, name=name, same=same)
    return made
