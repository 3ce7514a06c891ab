"""Gated channels that are shut become channels that are not computed."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from saccade.errors import ModelError
from saccade.graph.evaluating import evaluating
from saccade.graph.mac_counter import count_macs
from saccade.rivals.ledger import replace
from saccade.rivals.prune import GatedChannels

_aten = torch.ops.aten


@dataclass(frozen=True)
class LayerChannels:
    """What became of one convolution: channels it wrote and read, and those it still computes and reads."""

    name: str
    outputs: int
    kept_outputs: int
    inputs: int
    kept_inputs: int


@dataclass(frozen=True)
class PruneReport:
    """What `harden` did.

    Attributes:
        dense_macs: macs of the network over the example with every channel.
        macs: and now.
        layers: the convolutions that have fewer channels.
    """

    dense_macs: int
    macs: int
    layers: list[LayerChannels]

    @property
    def macs_fraction(self) -> float:
        """Macs now over macs before."""
        return self.macs / self.dense_macs if self.dense_macs else 1.0

    def __str__(self) -> str:
        rows = [
            f"{layer.name}: writes {layer.kept_outputs} of {layer.outputs}, reads {layer.kept_inputs} of {layer.inputs}"
            for layer in self.layers
        ]
        head = f"L0 pruning: macs x {self.macs_fraction:.3f} ({self.dense_macs} -> {self.macs})"
        return "\n".join([head, *rows])


class NarrowConv2d(nn.Module):
    """A convolution that reads and computes some of its channels; the others are 0.

    Args:
        conv: the whole convolution.
        outputs: channels to compute, (K,) int64, at least one.
        inputs: channels to read, (L,) int64, at least one; of a depthwise convolution the outputs.
    """

    outputs: Tensor
    inputs: Tensor

    def __init__(self, conv: nn.Conv2d, outputs: Tensor, inputs: Tensor) -> None:
        super().__init__()
        depthwise = conv.groups > 1
        self.inner = copy.deepcopy(conv)  # whatever it is a subclass of
        weight = conv.weight.detach()[outputs]
        self.inner.weight = nn.Parameter(weight if depthwise else weight[:, inputs])
        if conv.bias is not None:
            self.inner.bias = nn.Parameter(conv.bias.detach()[outputs])
        self.inner.out_channels, self.inner.in_channels = len(outputs), len(inputs)
        self.inner.groups = len(outputs) if depthwise else 1
        self._channels, self._all_inputs = conv.out_channels, len(inputs) == conv.in_channels
        self.register_buffer("outputs", outputs)
        self.register_buffer("inputs", inputs)
        self.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the convolution (N, C, H, W) of x, zeros where it does not compute."""
        y = self.inner(x if self._all_inputs else x.index_select(1, self.inputs))
        if len(self.outputs) == self._channels:
            return y
        whole = y.new_zeros(y.shape[0], self._channels, *y.shape[2:])
        return whole.index_copy(1, self.outputs, y)


class ScaledChannels(nn.Module):
    """A layer whose output channels are multiplied by constants, where they cannot be folded into it."""

    scale: Tensor

    def __init__(self, inner: nn.Module, scale: Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("scale", scale)
        self.train(inner.training)

    def forward(self, x: Tensor) -> Tensor:
        """Returns inner(x) * scale, (N, C, H, W)."""
        out: Tensor = self.inner(x)
        return out * self.scale.to(out.dtype)[:, None, None]


def harden(model: nn.Module, *, example: Tensor | tuple[Any, ...]) -> PruneReport:
    """Takes the gates out of a network, in place: what they shut is no longer computed, the rest is scaled by them.

    A convolution leaves out the output channels its gate shuts, and the input channels that are 0 whatever the picture,
    because gates shut them and nothing but poolings, activations, sums of equally shut channels and the like lies
    between. The network computes what the gated one does in evaluation mode. One channel at least is always kept.

    Args:
        model: a network with gates (`insert_gates`).
        example: what it takes, (N, C, H, W) or the tuple of its arguments.

    Raises:
        ModelError: the model has no gates; or the hardened network computes something else over the example, which
            would be an error here: the model is then as it was.
    """
    arguments = example if isinstance(example, tuple) else (example,)
    wrappers = [module for module in model.modules() if isinstance(module, GatedChannels)]
    if not wrappers:
        raise ModelError("the model has no channel gates: call insert_gates and train first")
    dense_macs = count_macs(model, *arguments)
    with torch.no_grad(), evaluating(model):
        before = model(*arguments)
        shut_inputs = _shut_inputs(model, arguments)
        gates = {id(wrapper.gate): wrapper.gate().detach() for wrapper in wrappers}
        shut = {model.get_submodule(w.conv_name): gates[id(w.gate)] == 0 for w in wrappers}
    narrow: dict[nn.Module, nn.Module] = {}
    layers = []
    for name, conv in list(model.named_modules()):
        if not isinstance(conv, nn.Conv2d):
            continue
        outputs = _kept(shut.get(conv), conv.out_channels, conv.weight.device)
        inputs = outputs if conv.groups > 1 else _kept(shut_inputs.get(conv), conv.in_channels, conv.weight.device)
        if len(outputs) < conv.out_channels or (conv.groups == 1 and len(inputs) < conv.in_channels):
            narrow[conv] = NarrowConv2d(conv, outputs, inputs)
            name = name.removesuffix(".inner") if shut.get(conv) is not None else name
            layers.append(LayerChannels(name, conv.out_channels, len(outputs), conv.in_channels, len(inputs)))
    own = {wrapper.inner for wrapper in wrappers}  # convolutions with the gate right behind them go with their wrapper
    swaps = [(conv, new) for conv, new in narrow.items() if conv not in own]
    for wrapper in wrappers:
        inner = narrow.get(wrapper.inner, wrapper.inner)
        swaps.append((wrapper, _scaled(inner, gates[id(wrapper.gate)])))
    for old, new in swaps:
        replace(model, old, new)
    report = PruneReport(dense_macs, count_macs(model, *arguments), layers)
    with torch.no_grad(), evaluating(model):
        error = _difference(model(*arguments), before)
    if not error < 1e-3:
        for old, new in reversed(swaps):
            replace(model, new, old)
        raise ModelError(
            f"the hardened network differs from the gated one by {error:.3g} of its outputs, so the gates were "
            "left in. Please report the network: something in it makes 0 into something else unseen"
        )
    return report


def _kept(shut: Tensor | None, channels: int, device: torch.device) -> Tensor:
    if shut is None:
        return torch.arange(channels, device=device)
    kept = (~shut).nonzero().flatten()
    return kept if len(kept) else torch.zeros(1, dtype=torch.int64, device=device)


def _scaled(inner: nn.Module, z: Tensor) -> nn.Module:
    """Returns the layer with its output channels scaled by z: in its weights, if it is a plain batch norm."""
    if type(inner) in (nn.BatchNorm2d, nn.SyncBatchNorm):
        folded = copy.deepcopy(inner)
        assert isinstance(folded, nn.modules.batchnorm._BatchNorm)
        if folded.affine:
            with torch.no_grad():
                folded.weight.mul_(z)
                folded.bias.mul_(z)
            return folded
    return ScaledChannels(inner, z)


def _difference(a: Any, b: Any) -> float:
    """Returns the largest |a - b| / |b| over the tensors of two outputs; inf where they are not of one form."""
    worst = 0.0
    for x, y in zip(pytree.tree_leaves(a), pytree.tree_leaves(b), strict=True):
        if isinstance(x, Tensor) and x.is_floating_point():
            scale = y.double().norm().clamp(min=1e-12)
            worst = max(worst, ((x.double() - y.double()).norm() / scale).item())
    return worst


# Operators that leave a channel of zeros a channel of zeros.
_KEEP_ZERO = {
    getattr(_aten, name)
    for name in (
        *("relu", "relu_", "leaky_relu", "leaky_relu_", "elu", "elu_", "gelu", "tanh", "tanh_", "silu", "silu_"),
        *("mish", "mish_", "hardswish", "hardswish_", "neg", "abs", "clone", "detach", "alias", "_to_copy"),
        *("max_pool2d", "max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_avg_pool2d"),
        *("upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d"),
    )
}


class _ZeroChannels(TorchDispatchMode):
    """Follows through operators which channels (axis 1) of a tensor are 0 whatever the input."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[int, Tensor] = {}
        self._alive: list[Tensor] = []  # an id is of one tensor as long as it lives

    def of(self, x: Any) -> Tensor | None:
        """Returns the channels known to be 0, (C,) bool, or None."""
        return self._known.get(id(x)) if isinstance(x, Tensor) else None

    def note(self, x: Tensor, zero: Tensor | None) -> None:
        """Remembers what is known of x."""
        self._alive.append(x)
        self._known.pop(id(x), None)
        if zero is not None and bool(zero.any()):
            self._known[id(x)] = zero

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operator and notes what is known of its first result."""
        zero = self._result(func.overloadpacket, args, kwargs or {})
        out = func(*args, **(kwargs or {}))
        first = out[0] if isinstance(out, tuple) else out
        if isinstance(first, Tensor):
            fits = zero is not None and first.ndim >= 2 and first.shape[1] == len(zero)
            self.note(first, zero if fits else None)
        return out

    def _result(self, operator: Any, args: Any, kwargs: Any) -> Tensor | None:
        x = self.of(args[0]) if args else None
        if operator in _KEEP_ZERO:
            return x
        if operator in (_aten.hardtanh, _aten.hardtanh_, _aten.clamp, _aten.clamp_):
            low, high = [*args[1:], None, None][:2]
            keeps = (low is None or low <= 0) and (high is None or high >= 0) and not kwargs
            return x if keeps else None
        if operator in (_aten.mul, _aten.mul_, _aten.add, _aten.add_, _aten.sub, _aten.sub_) and len(args) > 1:
            y = self.of(args[1])
            axes = [side.ndim for side in args[:2] if isinstance(side, Tensor)]
            x, y = (known if ndim == max(axes) else None for known, ndim in zip((x, y), [*axes, 0][:2], strict=True))
            if operator in (_aten.mul, _aten.mul_):
                return y if x is None else x if y is None else x | y
            return None if x is None or y is None or len(x) != len(y) else x & y
        if operator is _aten.cat and len(args) > 1 and args[1] == 1:
            parts = [self.of(part) for part in args[0]]
            filled = [
                torch.zeros(whole.shape[1], dtype=torch.bool, device=whole.device) if part is None else part
                for part, whole in zip(parts, args[0], strict=True)
            ]
            return torch.cat(filled)
        if operator is _aten.mean and len(args) > 1 and args[0].ndim == 4:
            return x if all(axis % 4 in (2, 3) for axis in args[1]) else None
        if operator is _aten.constant_pad_nd and args[0].ndim == 4:
            value = args[2] if len(args) > 2 else 0
            return x if len(args[1]) <= 4 and value == 0 else None
        return None


def _shut_inputs(model: nn.Module, arguments: tuple[Any, ...]) -> dict[nn.Module, Tensor]:
    """Returns for each 2d convolution the input channels that are 0 at every call, (C_in,) bool."""
    zeros = _ZeroChannels()
    found: dict[nn.Module, Tensor] = {}

    def reads(conv: nn.Module, inputs: Any) -> None:
        channels = inputs[0].shape[1]
        known = zeros.of(inputs[0])
        known = torch.zeros(channels, dtype=torch.bool, device=inputs[0].device) if known is None else known
        found[conv] = found[conv] & known if conv in found else known

    def writes(wrapper: nn.Module, inputs: Any, output: Tensor) -> None:
        assert isinstance(wrapper, GatedChannels)
        zeros.note(output, wrapper.gate() == 0)

    hooks = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_pre_hook(reads))
        elif isinstance(module, GatedChannels):
            hooks.append(module.register_forward_hook(writes))
    try:
        with torch.no_grad(), evaluating(model), zeros:
            model(*arguments)
    finally:
        for hook in hooks:
            hook.remove()
    return found
