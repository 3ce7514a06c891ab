"""The Skip-Convolution (eq. 3): a convolution that computes an output position only where its gate fires."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saccade.errors import InputError
from saccade.graph.conversion import Converted
from saccade.kernels.convolving import Geometry, convolve, pad, sharing_weights
from saccade.kernels.gated import gated_convolution, in_blocks
from saccade.skip.clip import Clip, LayerFiring, current_clip
from saccade.skip.gates import (
    Gumbel,
    InputNorm,
    Kernel,
    OutputNorm,
    Skip,
    decide,
    initial_phi,
    norm_kernel,
    sample,
    scores,
)
from saccade.skip.warp import warp, warp_macs


class GumbelGate(nn.Module):
    """Parameters phi of a learned gate: `weight` (1, C, kernel...) and `bias` (1,)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)


@dataclass(frozen=True, eq=False)
class _Before:
    """Input, not padded, and output of the frame before a clip's first, (B, C, ...) each."""

    x: Tensor
    z: Tensor


class _SkipConv(Converted, nn.Module):
    """What SkipConv2d and SkipConv3d share; mixed in before the convolution, whose attributes these are."""

    method = "skip"

    weight: Tensor
    bias: Tensor | None
    in_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    _reversed_padding_repeated_twice: list[int]

    def __init__(self, *args: Any, what: Skip, name: str = "", same: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._begin(what, name, same)

    def _begin(self, what: Skip, name: str, same: bool) -> None:
        self.what, self.name, self.same = what, name, same
        self._mode: str = self.padding_mode  # type: ignore[assignment]
        self.gate: GumbelGate | None = None
        if isinstance(what.gate, Gumbel):
            self.gate = GumbelGate(*initial_phi(self.in_channels, self.kernel_size, what.gate, self.weight))

    @classmethod
    def from_convolution(cls, conv: Any, what: Skip, *, name: str = "", same: bool = False) -> Any:
        """Returns the gated form of a convolution; it shares the weights.

        Args:
            conv: the convolution.
            what: gate, block and form.
            name: what the ledger calls it.
            same: the convolution pads to ceil(size / stride) outputs, as TensorFlow's "same" does.
        """
        layer = sharing_weights(cls, conv, what=Skip(InputNorm()))  # the gate asked for is made where the weights are
        layer._begin(what, name, same)
        return layer.train(conv.training)

    def kernel(self) -> Kernel:
        """Returns the gate as a convolution with one output channel."""
        if self.gate is not None:
            assert isinstance(self.what.gate, Gumbel)
            return Kernel(self.gate.weight, self.gate.bias, self.what.gate.magnitude)
        assert not isinstance(self.what.gate, Gumbel)
        return norm_kernel(self.what.gate, self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the gated convolution of a clip.

        Args:
            x: a clip (B, T, C, H, W), whose first frame is a reference frame; or, inside a `ClipModel`, the pictures
                (B * T, C, H, W) of its clip. Pictures outside of a clip are computed whole. (SkipConv3d: one more axis
                before H.)

        Returns:
            The same with the layer's channels and size, before any non-linearity.
        """
        rank, clip = len(self.kernel_size), current_clip()
        if x.dim() == rank + 3:
            alone = Clip(x.shape[0], x.shape[1], torch.arange(x.shape[1]) == 0)
            return self._over_time(x, alone)
        if x.dim() != rank + 2:
            raise InputError(
                f"{type(self).__name__} {self.name} got {x.dim()} axes {tuple(x.shape)}; expected a clip with "
                f"{rank + 3}, (B, T, C, ...), or pictures with {rank + 2}"
            )
        if torch.compiler.is_exporting():
            return self._as_operator(x)
        if clip is None:
            padded, geometry = self._padded(x)
            return convolve(padded, self.weight, self.bias, geometry, self.groups)
        if x.shape[0] != clip.batch * clip.frames:
            raise InputError(
                f"{type(self).__name__} {self.name} got {x.shape[0]} pictures in a clip of {clip.batch} x "
                f"{clip.frames}; a converted network must keep its pictures apart, one per frame"
            )
        return self._over_time(x.unflatten(0, (clip.batch, clip.frames)), clip).flatten(0, 1)

    def _over_time(self, x: Tensor, clip: Clip) -> Tensor:
        if clip.frames == 0:
            raise InputError(f"{type(self).__name__} {self.name} got a clip without frames, {tuple(x.shape)}")
        raw = x
        flat, geometry = self._padded(x.flatten(0, 1))
        x = flat.unflatten(0, (clip.batch, clip.frames))
        key = clip.next_key(self.name)
        before = self._before(key, clip)
        steps = (~clip.reference).nonzero().flatten().tolist()
        kernel = self.kernel()
        equivariance: Tensor | None = None
        if steps:
            last = torch.stack([before.x if t == 0 and before is not None else raw[:, t - 1] for t in steps], 1)
            moved = last.flatten(0, 1) if clip.flow is None else self._warp(last.flatten(0, 1), clip, steps)
            residual = x[:, steps] - self._padded(moved)[0].unflatten(0, (clip.batch, len(steps)))
            if clip.flow is not None and clip.with_equivariance:
                equivariance = self._equivariance(last.flatten(0, 1), moved, clip, steps)
            fired = self._fire(residual.flatten(0, 1), kernel, geometry).unflatten(0, (clip.batch, len(steps)))
        else:
            residual, fired = x[:, :0], x.new_zeros(clip.batch, 0, 1, *[1] * len(self.kernel_size))
        run = self._residual_form if self.what.form == "residual" else self._refresh_form
        z = run(x, residual, fired, clip, before, geometry)
        warps = 0 if clip.flow is None else warp_macs(raw[:, 0]) + warp_macs(z[:, 0])
        decided = self._decided(residual, geometry)
        self._account(clip, x, z, fired, decided, kernel, warps=warps, equivariance=equivariance)
        if clip.state is not None:
            clip.state.last[key] = (raw[:, -1].detach(), z[:, -1].detach())
        return z

    def _warp(self, maps: Tensor, clip: Clip, steps: list[int]) -> Tensor:
        """Returns maps of the frames before `steps`, (B * t, C, h, w), moved to where things are in those frames."""
        if len(self.kernel_size) != 2:
            raise InputError(f"{type(self).__name__} {self.name} was given a flow; only maps (C, H, W) can be warped")
        assert clip.flow is not None
        return warp(maps, clip.flow[:, steps].flatten(0, 1).to(maps.device))

    def _equivariance(self, last: Tensor, moved: Tensor, clip: Clip, steps: list[int]) -> Tensor:
        """Returns the mean square of w * T(x) - T~(w * x) (section 3.3)."""
        padded, geometry = self._padded(torch.cat([last, moved]))
        z = convolve(padded, self.weight, None, geometry, self.groups)
        return (z[len(last) :] - self._warp(z[: len(last)], clip, steps)).square().mean()

    def _fire(self, residual: Tensor, kernel: Kernel, geometry: Geometry) -> Tensor:
        score = scores(residual, kernel, geometry)
        gate = self.what.gate
        if isinstance(gate, Gumbel) and self.training:
            return in_blocks(sample(score, temperature=gate.temperature), self.what.block)
        return in_blocks(decide(score), self.what.block)

    def _residual_form(
        self, x: Tensor, residual: Tensor, fired: Tensor, clip: Clip, before: _Before | None, geometry: Geometry
    ) -> Tensor:
        """Eq. 3: what whole frames give starts a sum, gated convolutions of residuals are added to it."""
        whole = clip.reference.tolist()
        dense = [t for t, is_whole in enumerate(whole) if is_whole]
        source = torch.cat([x[:, dense], residual], 1)
        change = convolve(source.flatten(0, 1), self.weight, None, geometry, self.groups)
        change = change.unflatten(0, (x.shape[0], x.shape[1]))
        fresh, added = change[:, : len(dense)], change[:, len(dense) :] * fired
        if self.bias is not None:
            fresh = fresh + self.bias.reshape(-1, *[1] * len(self.kernel_size))
        z, frames, i, j = before.z if before is not None else None, [], 0, 0
        for t, is_whole in enumerate(whole):
            if is_whole:
                z, i = fresh[:, i], i + 1
            else:
                assert z is not None
                z, j = self._moved(z, clip, t) + added[:, j], j + 1
            frames.append(z)
        return torch.stack(frames, 1)

    def _refresh_form(
        self, x: Tensor, residual: Tensor, fired: Tensor, clip: Clip, before: _Before | None, geometry: Geometry
    ) -> Tensor:
        """Where the gate fires, the value the convolution has now; elsewhere the one it last had."""
        fresh = convolve(x.flatten(0, 1), self.weight, self.bias, geometry, self.groups)
        fresh = fresh.unflatten(0, (x.shape[0], x.shape[1]))
        z, frames, j = before.z if before is not None else None, [], 0
        for t, is_whole in enumerate(clip.reference.tolist()):
            if is_whole:
                z = fresh[:, t]
            else:
                assert z is not None
                z, j = fired[:, j] * fresh[:, t] + (1 - fired[:, j]) * self._moved(z, clip, t), j + 1
            frames.append(z)
        return torch.stack(frames, 1)

    def _moved(self, z: Tensor, clip: Clip, t: int) -> Tensor:
        return z if clip.flow is None else self._warp(z, clip, [t])

    def _before(self, key: tuple[str, int], clip: Clip) -> _Before | None:
        if bool(clip.reference[0]):
            return None
        if clip.state is None or key not in clip.state.last:
            raise InputError(
                f"{type(self).__name__} {self.name} has no frame before this clip; a video must begin with a "
                "reference frame, and go on with the same layers"
            )
        return _Before(*clip.state.last[key])

    @torch.no_grad()
    def _decided(self, residual: Tensor, geometry: Geometry) -> Tensor:
        """Returns which share of the positions a gate has to look at, (B, t): those that read some change."""
        if self.training or not residual.shape[1]:
            return torch.ones(residual.shape[:2], dtype=torch.float64, device=residual.device)
        changed = (residual != 0).any(2, keepdim=True).to(residual.dtype).flatten(0, 1)
        ones = torch.ones(1, 1, *self.kernel_size, dtype=residual.dtype, device=residual.device)
        touched = convolve(changed, ones, None, geometry) > 0.5
        return touched.flatten(1).double().mean(1).unflatten(0, residual.shape[:2])

    def _account(
        self,
        clip: Clip,
        x: Tensor,
        z: Tensor,
        fired: Tensor,
        decided: Tensor,
        kernel: Kernel,
        *,
        warps: int,
        equivariance: Tensor | None,
    ) -> None:
        positions = math.prod(z.shape[3:])
        share = torch.ones(z.shape[:2], dtype=z.dtype, device=z.device)
        looked = torch.zeros(z.shape[:2], dtype=torch.float64, device=z.device)
        mask = torch.ones(*z.shape[:2], *z.shape[3:], dtype=torch.bool, device=z.device) if clip.with_masks else None
        steps = (~clip.reference).nonzero().flatten().to(z.device)
        if len(steps):
            share = share.index_copy(1, steps, fired.flatten(2).mean(2))
            looked = looked.index_copy(1, steps, decided)
            if mask is not None:
                mask[:, steps] = fired.detach()[:, :, 0] > 0.5
        deciding = positions * kernel.weight.numel()
        if isinstance(self.what.gate, InputNorm | OutputNorm):  # summed over the channels once per input position
            deciding += math.prod(x.shape[2:])
        macs = positions * self.weight.numel()
        clip.calls.append(
            LayerFiring(
                self.name,
                macs,
                deciding,
                share,
                looked,
                gated=True,
                mask=mask,
                warp_macs=warps,
                equivariance=equivariance,
            )
        )

    def _padded(self, x: Tensor) -> tuple[Tensor, Geometry]:
        """Returns the pictures padded where a convolution cannot do that itself, and the geometry on them."""
        return pad(x, self, self._mode, same=self.same)

    def _as_operator(self, x: Tensor) -> Tensor:
        padded, geometry = self._padded(x)
        kernel = self.kernel()
        return gated_convolution(
            padded,
            self.weight,
            self.bias,
            geometry.stride,
            geometry.padding,
            geometry.dilation,
            self.groups,
            kernel.weight,
            kernel.bias,
            kernel.magnitude,
            self.what.block,
            self.what.form,
        )

    def extra_repr(self) -> str:
        """The convolution's own, and the gate."""
        return f"{super().extra_repr()}, {self.what}"


class SkipConv2d(_SkipConv, nn.Conv2d):
    """A gated 2D convolution (eq. 3): as `nn.Conv2d`, with `what`: gate, block and form.

    Over a clip (B, T, C, H, W) the first frame is computed whole; of every later one the gate sees r_t = x_t - x_{t-1}
    and decides which output positions are computed. It keeps nothing from one call to the next.

    Args:
        args, kwargs: as of `nn.Conv2d`.
        what: gate, block and form.
        name: what the ledger calls the layer.
        same: pad to ceil(size / stride) outputs, as TensorFlow's "same" does.
    """


class SkipConv3d(_SkipConv, nn.Conv3d):
    """A gated 3D convolution, over clips (B, T, C, D, H, W); see `SkipConv2d`."""
