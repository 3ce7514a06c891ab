"""`convert`: a network's convolutions become gated ones, its weights stay what they are."""

from __future__ import annotations

from torch import nn

from saccade.errors import InputError
from saccade.graph.conversion import Conversion, Converted, Where, kind_of, refuse_second_method, replace_layers
from saccade.skip.gates import Skip
from saccade.skip.layer import SkipConv2d, SkipConv3d, _SkipConv

_LAYERS: dict[int, type[_SkipConv]] = {2: SkipConv2d, 3: SkipConv3d}


def convert(model: nn.Module, what: Skip, where: Where | None = None) -> Conversion:
    """Replaces the convolutions of a model, in place, by Skip-Convolutions that share their weights.

    Run the model on clips through `ClipModel`, or export it (`saccade.make_plan`, `saccade.Stream`) to follow a video.
    Converting a converted model again changes its gates. What a model computes with functions (`F.conv2d`) is not seen.

    Args:
        model: any module that holds convolutions; not itself one.
        what: gate, block and form.
        where: called with each convolution's name and the module; only those it returns True for are converted.
            Layers that `saccade.reduce` converted are no layers for it to ask for (docs/reduce.md).

    Returns:
        Which layers were converted, and which not and why.

    Raises:
        InputError: the model is itself a convolution, or a layer is asked for that carries another method.
        ModelError: there was nothing to convert.
    """
    if kind_of(model) is not None or isinstance(model, Converted):
        raise InputError(
            f"the model is itself a {type(model).__name__}, which cannot be replaced in place; wrap it in a module, or "
            "make a SkipConv2d.from_convolution(...)"
        )
    refuse_second_method(model, where, mine=_SkipConv)
    return replace_layers(
        model,
        lambda name, child: _why_not(name, child, where),
        lambda child, name: _make(child, what, name),
        what=what,
        done="gated",
        verb="gate",
    )


def _why_not(name: str, module: nn.Module, where: Where | None) -> str | None:
    """Returns None for what is no layer of interest, else why it is left as it is; "" where it can be converted."""
    if not isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
        return None
    if isinstance(module, nn.Linear):
        return "a linear layer has no positions in space"
    if isinstance(module, Converted) and not isinstance(module, _SkipConv):
        return f"it carries {module.method}"
    if kind_of(module) is None and not isinstance(module, _SkipConv):
        return f"no gated form of {type(module).__module__}.{type(module).__qualname__}"
    if where is not None and not where(name, module):
        return "not asked for"
    return ""


def _make(module: nn.Module, what: Skip, name: str) -> nn.Module:
    if isinstance(module, _SkipConv):
        layer, same = type(module), module.same
    else:
        kind = kind_of(module)
        assert kind is not None
        layer, same = _LAYERS[kind[0]], kind[1]
    made: nn.Module = layer.from_convolution(module, what, name=name, same=same)
    return made
