"""Channel gating: a part of the input channels is read everywhere, the rest only where that part's result is large.

Hua, Zhou, De Sa, Zhang and Suh 2019, "Channel gating neural networks" (CGNet), for 2D and 3D convolutions. In use:

    gate_channels(model, groups=4)
    loss = task_loss + weight * threshold_loss(model, target=1.0)     # train, in a `CountedModel`

The choice is made position by position and output channel by output channel. What it saves is counted (`counted`); no
engine here turns it into time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from saccade.errors import InputError, ModelError
from saccade.graph.conversion import Conversion, Where, kind_of, replace_layers
from saccade.kernels.convolving import convolve, pad
from saccade.rivals.counted import CountsItself, current_ledger

SHARPNESS = 2.0  # of the sigmoid whose gradient stands for that of the step
START = -2.0  # of the thresholds: of a normal distribution 98 % lies above


class ChannelGatedConv(CountsItself):
    """A convolution y = p + d * (conv(x) - p), d = 1 where norm(p) >= threshold, else 0.

    p, the base path, is what the output channel's own group of input channels gives (section 3.3 of the paper: each
    of the groups is the base of as many output channels). norm is a batch norm without weights, the threshold is
    learned, one per output channel, the gradient of the step is that of a sigmoid. An input that is not read where d
    is 0 costs nothing; norm and comparison are free, as norms and activations are everywhere.

    Args:
        conv: the convolution; its weights are this layer's.
        groups: of its input channels.
        start: of the thresholds.
    """

    base: Tensor

    def __init__(self, conv: nn.Conv2d | nn.Conv3d, *, groups: int = 4, start: float = START) -> None:
        super().__init__()
        rank = len(conv.kernel_size)
        if conv.groups != 1 or min(conv.in_channels, conv.out_channels) < groups or groups < 2:
            raise InputError(
                f"{conv.in_channels} to {conv.out_channels} channels in {conv.groups} groups cannot be gated in "
                f"{groups}; expected a convolution without groups and at least as many channels, and 2 groups or more"
            )
        self.conv = conv
        self.norm = (nn.BatchNorm2d if rank == 2 else nn.BatchNorm3d)(conv.out_channels, affine=False)
        self.thresholds = nn.Parameter(torch.full((conv.out_channels,), float(start)))
        of_outputs, of_inputs = (torch.arange(n) * groups // n for n in (conv.out_channels, conv.in_channels))
        base = (of_outputs[:, None] == of_inputs).to(conv.weight.dtype)
        self.register_buffer("base", base.reshape(*base.shape, *[1] * rank))
        self.to(conv.weight.device).train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the gated convolution of pictures (N, C, H, W) or clips (B, C, T, H, W)."""
        conv = self.conv
        padded, geometry = pad(x, conv, conv.padding_mode)
        part = convolve(padded, conv.weight * self.base, conv.bias, geometry)
        rest = convolve(padded, conv.weight * (1 - self.base), None, geometry)
        score = self.norm(part) - self.thresholds.reshape(-1, *[1] * (x.dim() - 2))
        fires = (score >= 0).to(part.dtype)
        if torch.is_grad_enabled():
            soft = torch.sigmoid(SHARPNESS * score)
            fires = fires + soft - soft.detach()
        self._account(fires.detach())
        return part + fires * rest

    def _account(self, fires: Tensor) -> None:
        ledger = current_ledger()
        if ledger is None:
            return
        taps = math.prod(self.conv.kernel_size)
        of_base = self.base.double().flatten(1).sum(1)  # input channels of each output channel's base path
        positions = fires[0, 0].numel()
        whole = positions * self.conv.weight.numel()
        always = positions * taps * of_base.sum()
        where = fires.flatten(2).double().sum(2) @ (taps * (self.conv.in_channels - of_base))
        ledger.enter(whole * len(fires) // ledger.batch, always + where)


def gate_channels(model: nn.Module, *, groups: int = 4, start: float = START, where: Where | None = None) -> Conversion:
    """Replaces the convolutions of a model, in place, by gated ones that share their weights.

    Args:
        model: any module that holds convolutions; not itself one.
        groups: of the input channels; one of them is always read.
        start: of the thresholds; the lower, the more is computed at first.
        where: called with each convolution's name and the module; only those it returns True for are gated.

    Returns:
        Which layers were gated, and which not and why.

    Raises:
        ModelError: there was nothing to gate, or the model has such gates.
    """

    def why_not(name: str, module: nn.Module) -> str | None:
        if not isinstance(module, nn.modules.conv._ConvNd):
            return None
        if kind_of(module) is None or kind_of(module) == (2, True):
            return f"no gated form of {type(module).__qualname__}"
        return "" if where is None or where(name, module) else "not asked for"

    def make(module: nn.Module, name: str) -> nn.Module:
        assert isinstance(module, nn.Conv2d | nn.Conv3d)
        return ChannelGatedConv(module, groups=groups, start=start)

    if _gated(model):
        raise ModelError("the model has channel gates already; gate the network without them")
    return replace_layers(model, why_not, make, what=f"{groups} groups", done="gated by channels", verb="gate")


def threshold_loss(model: nn.Module, *, target: float) -> Tensor:
    """Returns the mean of (target - threshold)^2 over all thresholds: the larger the target, the less is computed.

    Raises ModelError where no layer is gated.
    """
    layers = _gated(model)
    if not layers:
        raise ModelError("the model has no channel gates: call gate_channels first")
    return torch.cat([(target - layer.thresholds).square() for layer in layers]).mean()


def _gated(model: nn.Module) -> list[ChannelGatedConv]:
    return [module for module in model.modules() if isinstance(module, ChannelGatedConv)]
