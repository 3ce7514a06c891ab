"""The dynamic convolution of VA-RED2: of its frames and channels it computes as many as its gate asks for."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from saccade.errors import InputError
from saccade.graph.conversion import Converted
from saccade.graph.ledger import Spent, tell
from saccade.kernels.convolving import convolve, output_size, pad, sharing_weights
from saccade.kernels.dynamic import compute_largest, compute_part, dynamic_convolution
from saccade.kernels.mixing import mix
from saccade.reduce.cheap import CheapOperations
from saccade.reduce.gate import ModulationGate
from saccade.reduce.policies import LayerUse, Pass, current_pass, one_hot
from saccade.reduce.space import Reduce, Space


class _ReducedConv(Converted, nn.Module):
    """What ReducedConv2d and ReducedConv3d share; mixed in before the convolution, whose attributes these are."""

    method = "reduce"

    weight: Tensor
    bias: Tensor | None
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    groups: int
    training: bool

    def _begin(self, what: Reduce, name: str, same: bool, inputs: int) -> None:
        self.what, self.name, self.same = what, name, same
        self._mode: str = self.padding_mode  # type: ignore[assignment]
        rank = len(self.kernel_size)
        frames = output_size([inputs, *self.kernel_size[1:]], self, same=same)[0] if rank == 3 else inputs
        self.space = space = Space.of(
            what,
            frames=frames,
            inputs=inputs,
            out_channels=self.out_channels,
            groups=self.groups,
        )
        if space.time == space.channels == 1:
            raise InputError(f"nothing to leave out with {what}: of {frames} frames and {self.out_channels} channels")
        options = [n for n in (space.time, space.channels) if n > 1]
        self.gate = ModulationGate(self.in_channels, inputs, hidden=what.hidden, options=options)
        size = tuple(max(3, side | 1) for side in self.kernel_size[-2:])
        self.cheap = CheapOperations(space, *what.affordable(self.weight[0].numel(), math.prod(size)), size)  # type: ignore[arg-type]
        self.gate.to(self.weight), self.cheap.to(self.weight)

    @classmethod
    def from_convolution(cls, conv: Any, what: Reduce, *, frames: int, name: str = "", same: bool = False) -> Any:
        """Returns the dynamic form of a convolution; it shares the weights.

        Args:
            conv: the convolution.
            what: the search space and what rebuilds what is left out.
            frames: input frames of a clip, T; 1 for pictures.
            name: what the ledger calls it.
            same: the convolution pads to ceil(size / stride) outputs, as TensorFlow's "same" does.

        Raises:
            InputError: the layer has nothing to leave out: one output channel or frame, or no more options asked for.
        """
        layer = sharing_weights(cls, conv)
        layer._begin(what, name, same, frames)
        return layer.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the layer's output, of the shape the convolution gives.

        While training, everything is computed once and the options are taken from it (eq. 5, 7); in evaluation mode
        only the largest options with a weight over 0 are computed (eq. 8), clips with the same ones together.

        Args:
            x: clips (B, C, T, H, W); of a 2D layer their pictures (B * T, C, H, W).
        """
        work = current_pass() or Pass()
        if work.dense:
            padded, geometry = pad(x, self, self._mode, same=self.same)
            return convolve(padded, self.weight, self.bias, geometry, self.groups)
        clips = self._clips(x)
        time, channels = self._weights(clips, work)
        if torch.compiler.is_exporting():
            return self._as_operator(x, time, channels)
        if self.training:
            run = self._all_options
            keeps = not (work.recompute and torch.is_grad_enabled())
            maps = run(clips, time, channels) if keeps else checkpoint(run, clips, time, channels, use_reentrant=False)
        else:
            maps = self._largest_only(clips, time, channels)
        self._account(clips, maps, time, channels, work)
        return maps if len(self.kernel_size) == 3 else maps.transpose(1, 2).flatten(0, 1)

    def _clips(self, x: Tensor) -> Tensor:
        """Returns the input as clips (B, C, T, H, W)."""
        rank, frames = len(self.kernel_size), self.space.inputs
        if x.dim() != rank + 2:
            raise InputError(
                f"{type(self).__name__} {self.name} got {x.dim()} axes {tuple(x.shape)}; expected {rank + 2}"
            )
        if rank == 3:
            if x.shape[2] != frames:
                raise InputError(
                    f"{type(self).__name__} {self.name} got {x.shape[2]} frames {tuple(x.shape)}; it was made for "
                    f"{frames}: its gate reads each frame by itself. Convert the network with clips of that length"
                )
            return x
        if x.shape[0] % frames:
            raise InputError(
                f"{type(self).__name__} {self.name} got {x.shape[0]} pictures; expected whole clips of {frames}. "
                "Convert the network with clips of the length it is to see"
            )
        return x.unflatten(0, (-1, frames)).transpose(1, 2)

    def _weights(self, clips: Tensor, work: Pass) -> tuple[Tensor, Tensor]:
        space, batch = self.space, clips.shape[0]
        forced = work.forced(self.name)
        if forced is not None:
            return one_hot(forced, space, batch, clips)
        found = self.gate(clips.mean((-2, -1)))
        whole = torch.ones(batch, 1, dtype=clips.dtype, device=clips.device)  # a constant where it is exported
        split = space.time if space.time > 1 else 0
        return found[:, :split] if split else whole, found[:, split:] if space.channels > 1 else whole

    def _all_options(self, clips: Tensor, time: Tensor, channels: Tensor) -> Tensor:
        y, space = self._compute(clips, 0, 0), self.space
        return mix(y, time, channels, self.cheap.tensors(), frames=space.frames, out=space.out_channels)

    def _largest_only(self, clips: Tensor, time: Tensor, channels: Tensor) -> Tensor:
        height, width = output_size(clips.shape[-len(self.kernel_size) :], self, same=self.same)[-2:]
        shape = (self.out_channels, self.space.frames, height, width)
        return compute_largest(clips, time, channels, self.cheap.tensors(), self._compute, shape=shape)

    def _compute(self, clips: Tensor, time: int, channels: int) -> Tensor:
        """Returns the frames and channels that two options compute, (B, K, n, H, W), of clips (B, C, T, H, W)."""
        stride, kept = self.space.stride(time), self.space.kept_channels(channels)
        if len(self.kernel_size) == 3:
            padded, geometry = pad(clips, self, self._mode, same=self.same)
        else:  # frame by frame
            flat, geometry = pad(clips.transpose(1, 2).flatten(0, 1), self, self._mode, same=self.same)
            padded = flat.unflatten(0, (len(clips), -1)).transpose(1, 2)
        return compute_part(padded, self.weight, self.bias, geometry, self.groups, stride=stride, kept=kept)

    def _as_operator(self, x: Tensor, time: Tensor, channels: Tensor) -> Tensor:
        if len(time) != 1:
            raise InputError(f"{type(self).__name__} {self.name} got {len(time)} clips; one is exported at a time")
        padded, geometry = pad(x, self, self._mode, same=self.same)
        found: Tensor = dynamic_convolution(
            padded, self.weight, self.bias, *geometry, self.groups, time, channels, *self.cheap.tensors()
        )
        return found

    def _account(self, clips: Tensor, maps: Tensor, time: Tensor, channels: Tensor, work: Pass) -> None:
        plane = math.prod(maps.shape[-2:])
        macs = self.space.frames * plane * self.weight.numel()
        deciding = 0 if work.forced(self.name) is not None else self.gate.macs(math.prod(clips.shape[1:]))
        cheap = self.cheap.macs(plane, (time.detach() > 0).cpu(), (channels.detach() > 0).cpu())
        use = LayerUse(self.name, macs, deciding, time, channels, cheap, self.space)
        work.uses.append(use)
        together = 1 if len(self.kernel_size) == 3 else self.space.inputs
        tell(lambda: Spent(self.name, together, macs, macs * use.share().detach().cpu() + cheap, deciding))

    def extra_repr(self) -> str:
        """The convolution's own, and the options."""
        return f"{super().extra_repr()}, {self.what}"


class ReducedConv2d(_ReducedConv, nn.Conv2d):
    """A 2D convolution over the pictures of clips, (B * T, C, H, W), of which it may leave out frames and channels."""


class ReducedConv3d(_ReducedConv, nn.Conv3d):
    """A 3D convolution over clips, (B, C, T, H, W), of which it may leave out output frames and channels."""
