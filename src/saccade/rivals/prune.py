"""L0 channel pruning: hard-concrete gates on the output channels of convolutions, learned with the network.

Louizos, Welling and Kingma 2018, "Learning sparse neural networks through L0 regularization". A channel's gate z is in
[0, 1] and exactly 0 with a probability that has a gradient. In use:

    insert_gates(model, example=pictures)       # gates stand behind the batch norms
    loss = task_loss + strength * l0_loss(model)    # train
    report = harden(model, example=pictures)    # harden.py: channels that are shut are removed
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from saccade.errors import InputError, ModelError
from saccade.graph.evaluating import evaluating
from saccade.graph.mac_counter import count_macs
from saccade.rivals.ledger import replace

# The paper's constants (section 4): temperature, and the ends the concrete distribution is stretched to.
BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1


class HardConcrete(nn.Module):
    """One gate per channel; in training each call draws them anew (eq. 10), in evaluation they are fixed (eq. 13).

    Args:
        channels: C.
        keep: sigmoid(log alpha) at the start, between 0 and 1.
        share: macs of the convolution over the network's, for `l0_loss`.
    """

    def __init__(self, channels: int, *, keep: float, share: float) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.full((channels,), math.log(keep) - math.log1p(-keep)))
        self.share = share

    def forward(self) -> Tensor:
        """Returns z, (C,), within 0..1."""
        if self.training:
            u = torch.rand_like(self.log_alpha).clamp(1e-6, 1 - 1e-6)
            s = torch.sigmoid((u.log() - torch.log1p(-u) + self.log_alpha) / BETA)
        else:
            s = torch.sigmoid(self.log_alpha)
        return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)

    def active(self) -> Tensor:
        """Returns the probability that z is not 0, (C,) (eq. 12)."""
        return torch.sigmoid(self.log_alpha - BETA * math.log(-GAMMA / ZETA))


class GatedChannels(nn.Module):
    """A layer whose output channels are multiplied by gates.

    Args:
        inner: a batch norm, or a convolution no batch norm follows.
        gate: its channels' gates; batch norms behind one shared convolution share them.
        conv_name: where the convolution stands in the model, gates inserted.
    """

    def __init__(self, inner: nn.Module, gate: HardConcrete, conv_name: str) -> None:
        super().__init__()
        self.inner, self.gate, self.conv_name = inner, gate, conv_name
        self.train(inner.training)

    def forward(self, x: Tensor) -> Tensor:
        """Returns inner(x) * z, (N, C, H, W)."""
        out: Tensor = self.inner(x)
        return out * self.gate().to(out.dtype)[:, None, None]


@dataclass(frozen=True)
class Gated:
    """What `insert_gates` did: names of the convolutions whose outputs are gated, and of the others with the reason."""

    gated: list[str]
    left: dict[str, str]


def insert_gates(
    model: nn.Module,
    *,
    example: Tensor | tuple[Any, ...],
    keep: float = 0.9,
    where: Callable[[str, nn.Conv2d], bool] = lambda name, conv: True,
) -> Gated:
    """Puts gates behind the convolutions of a trained network, in place.

    A gate stands behind the batch norm that reads the convolution, so that a shut channel is exactly 0; behind the
    convolution itself where no batch norm does. Left without: convolutions with groups (depthwise ones have gates),
    whose output something else reads too, or whose output is the network's.

    Args:
        model: the network.
        example: what it takes, (N, C, H, W) or the tuple of its arguments.
        keep: how far open the gates are at first, between 0 and 1.
        where: takes a convolution's name and itself and says whether it may be gated.

    Raises:
        InputError: `keep` is not between 0 and 1.
        ModelError: no convolution can be gated, or the model has gates already.
    """
    if not 0 < keep < 1:
        raise InputError(f"keep={keep}: expected a number between 0 and 1, such as 0.9")
    if any(isinstance(module, GatedChannels) for module in model.modules()):
        raise ModelError("the model has channel gates already. Harden it first, or gate the ungated network")
    arguments = example if isinstance(example, tuple) else (example,)
    seen = _follow(model, arguments)
    total = count_macs(model, *arguments)
    convs = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    left = {name: _why_left(name, conv, seen, where) for name, conv in convs}
    gated = [(name, conv) for name, conv in convs if not left[name]]
    if not gated:
        raise ModelError(f"no convolution of this model can be gated: {left or 'it has no 2d convolution'}")
    for name, conv in gated:
        share = seen.macs[conv] / total
        gate = HardConcrete(conv.out_channels, keep=keep, share=share).to(conv.weight.device)
        norms = seen.norms(conv)
        for inner in norms or [conv]:
            replace(model, inner, GatedChannels(inner, gate, name if norms else f"{name}.inner").train(inner.training))
    return Gated([name for name, _ in gated], {name: reason for name, reason in left.items() if reason})


def l0_loss(model: nn.Module) -> Tensor:
    """Returns the expected share of the network's macs that gated convolutions compute, a differentiable scalar.

    The sum over them of (macs over the network's) x (mean probability that a channel is not 0). What is saved on the
    reading side, where a later convolution need not read a channel that is shut, is counted by `harden`, not here.
    Raises ModelError where there are no gates.
    """
    gates = [module for module in model.modules() if isinstance(module, HardConcrete)]
    if not gates:
        raise ModelError("the model has no channel gates: call insert_gates first")
    return torch.stack([gate.share * gate.active().mean() for gate in gates]).sum()


def reestimate_norms(model: nn.Module, batches: Iterator[Tensor] | list[Tensor]) -> None:
    """Sets the statistics of every batch norm to those of these pictures, all else in evaluation mode.

    The Skip-Convolutions paper does so for pruned networks, with one batch of 48 pictures. Do it before `harden`.

    Args:
        model: the network, with gates or without.
        batches: pictures (N, C, H, W) each; every batch counts the same.

    Raises:
        InputError: there was no batch; the statistics are then as they were.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    count = 0
    with torch.no_grad(), evaluating(model):
        for pictures in batches:
            if count == 0:
                for norm in norms:
                    norm.reset_running_stats()
                    norm.momentum, norm.training = None, True  # None: the mean over all batches
            count += 1
            model(pictures)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    if not count:
        raise InputError("no pictures were given: expected at least one batch (N, C, H, W)")


class _Seen:
    """What one run of the network showed: who reads a convolution's output."""

    def __init__(self) -> None:
        self.outputs: dict[nn.Module, list[Tensor]] = {}
        self.macs: Counter[nn.Module] = Counter()
        self.readers: dict[int, list[nn.Module]] = {}  # batch norms by the tensor they read
        self.reads: Counter[int] = Counter()  # operators that read a tensor
        self.returned: set[int] = set()
        self.alive: list[Any] = []  # an id is of one tensor as long as it lives

    def norms(self, conv: nn.Module) -> list[nn.Module]:
        """Returns the batch norms that read the convolution's output, each once."""
        found = [norm for out in self.outputs[conv] for norm in self.readers.get(id(out), [])]
        return list(dict.fromkeys(found))


def _follow(model: nn.Module, arguments: tuple[Any, ...]) -> _Seen:
    seen = _Seen()

    class Reads(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            inputs = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            seen.reads.update({id(leaf) for leaf in inputs})
            out = func(*args, **(kwargs or {}))
            seen.alive.append((inputs, out))
            return out

    def wrote(conv: nn.Module, inputs: Any, output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        seen.outputs.setdefault(conv, []).append(output)
        seen.macs[conv] += output.numel() * conv.weight[0].numel()

    def read(norm: nn.Module, inputs: Any) -> None:
        seen.readers.setdefault(id(inputs[0]), []).append(norm)

    hooks = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(wrote))
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            hooks.append(module.register_forward_pre_hook(read))
    try:
        with torch.no_grad(), evaluating(model), Reads():
            outputs = model(*arguments)
    finally:
        for hook in hooks:
            hook.remove()
    seen.returned = {id(leaf) for leaf in pytree.tree_leaves(outputs)}
    return seen


def _why_left(name: str, conv: nn.Conv2d, seen: _Seen, where: Callable[[str, nn.Conv2d], bool]) -> str:
    """Returns why a convolution gets no gate; empty where it gets one."""
    if conv.groups not in (1, conv.in_channels) or (conv.groups > 1 and conv.out_channels != conv.in_channels):
        return f"{conv.groups} groups"
    if conv not in seen.outputs:
        return "the example does not reach it as a module"
    outputs, norms = seen.outputs[conv], seen.norms(conv)
    if any(id(out) in seen.returned for out in outputs):
        return "its output is the network's"
    if norms:
        own = {id(out) for out in outputs}
        if any(seen.reads[id(out)] != 1 or len(seen.readers.get(id(out), [])) != 1 for out in outputs):
            return "something beside its batch norm reads its output"
        if any(norm in readers for x, readers in seen.readers.items() if x not in own for norm in norms):
            return "its batch norm reads other layers too"
    return "" if where(name, conv) else "left out by where"
