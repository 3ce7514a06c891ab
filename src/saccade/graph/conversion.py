"""A network's layers exchanged for others, in place, with a report of which and why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from torch import nn

from saccade.errors import InputError, ModelError

Where = Callable[[str, nn.Module], bool]
WhyNot = Callable[[str, nn.Module], str | None]
Make = Callable[[nn.Module, str], nn.Module]

# By name, so that libraries need not be imported to be recognised.
_KINDS = {
    "torch.nn.modules.conv.Conv2d": (2, False),
    "torch.nn.modules.conv.Conv3d": (3, False),
    "timm.layers.conv2d_same.Conv2dSame": (2, True),
}


class Converted:
    """What every layer that a `convert` put in is besides; `method` is the name of the room it comes from."""

    method: ClassVar[str]


@dataclass(frozen=True)
class Conversion:
    """What a `convert` did.

    Attributes:
        what: what the layers were given.
        done: what was done to them, in a word or two.
        converted: names of the layers that are other ones now.
        left: names of the convolutions and linear layers that are as they were, and why.
    """

    what: Any
    done: str
    converted: tuple[str, ...]
    left: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"{len(self.converted)} convolutions {self.done}: {self.what}"]
        return "\n".join(lines + [f"  {name} left as it is: {why}" for name, why in self.left.items()])


def kind_of(module: nn.Module) -> tuple[int, bool] | None:
    """Returns the axes of space of a convolution, 2 or 3, and whether it pads to ceil(size / stride) outputs.

    None for what is no convolution, or a kind of its own.
    """
    return _KINDS.get(f"{type(module).__module__}.{type(module).__qualname__}")


def parts_of_converted(model: nn.Module) -> set[nn.Module]:
    """Returns the converted layers of a model, whatever their method, with all that is in them."""
    return {part for module in model.modules() if isinstance(module, Converted) for part in module.modules()}


def refuse_second_method(model: nn.Module, where: Where | None, *, mine: type[Converted]) -> None:
    """Checks that no layer is asked for which carries another method already; to be called before anything changes.

    Args:
        model: the model.
        where: the filter of a `convert`. Without one such layers are not asked for, and stay what they are.
        mine: what the layers of this method are.

    Raises:
        InputError: the filter asks for such a layer.
    """
    for name, module in model.named_modules():
        others = isinstance(module, Converted) and not isinstance(module, mine)
        if others and where is not None and where(name, module):
            raise InputError(
                f"{name} was converted by {module.method}, and a layer carries one method. Have `where` leave it out "
                f"(what `{module.method}.convert` returned names those layers); for {mine.method} there, make the "
                f"network anew and keep {module.method} away from that layer"
            )


def replace_layers(model: nn.Module, why_not: WhyNot, make: Make, *, what: Any, done: str, verb: str) -> Conversion:
    """Exchanges layers of a model; one that stands in several places stays one.

    Args:
        model: any module.
        why_not: called with a layer's name and the layer; returns None for what is no layer of interest, else why it is
            left as it is, "" where it is not.
        make: called with a layer and its name; returns the new one, or raises InputError where there can be none.
        what, done: for the report.
        verb: for the error: what was to be done.

    Raises:
        ModelError: there was nothing to convert.
    """
    converted: list[str] = []
    left: dict[str, str] = {}
    made: dict[nn.Module, nn.Module] = {}
    inside = parts_of_converted(model)  # the convolutions of gates are no layers of the network
    for parent_name, parent in list(model.named_modules()):
        if parent in inside:
            continue
        for child_name, child in list(parent._modules.items()):  # named_children leaves second names away
            if child is None:
                continue
            if child in made:
                setattr(parent, child_name, made[child])
                continue
            name = f"{parent_name}.{child_name}" if parent_name else child_name
            why = why_not(name, child)
            if why is None:
                continue
            if not why:
                try:
                    made[child] = make(child, name)
                except InputError as error:
                    why = str(error)
            if why:
                left[name] = why
                continue
            setattr(parent, child_name, made[child])
            converted.append(name)
    if not converted:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(left.items())[:5]) or "it holds no convolutions"
        raise ModelError(f"{type(model).__name__} has nothing to {verb}: {reasons}")
    return Conversion(what, done, tuple(converted), MappingProxyType(left))
