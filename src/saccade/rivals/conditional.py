"""CC-image: Skip-Convolutions' learned gates on the picture itself instead of on what changed.

The Skip-Convolutions paper's conditional-computation baseline (its section 4.2), after Verelst and Tuytelaars 2020,
"Dynamic convolutions: exploiting spatial sparsity for faster inference". Nothing is remembered from frame to frame:

    z_t = g(x_t) . (w * x_t + b)

A position that is not computed is 0. There are no reference frames: the first frame is gated like any other.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from saccade.errors import InputError
from saccade.graph.conversion import Where
from saccade.kernels.convolving import convolve
from saccade.rivals.ledger import replace
from saccade.skip import Conversion, Gumbel, Skip, SkipConv2d, convert
from saccade.skip.clip import Clip, LayerFiring, current_clip


class ConditionalConv2d(SkipConv2d):
    """A 2D convolution computed where a learned gate on its own input fires, 0 elsewhere.

    Made by `convert_conditional`. Takes pictures (N, C, H, W), or a clip (B, T, C, H, W); inside a `ClipModel` its macs
    and firing are in the ledger.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Returns the gated convolution, before any non-linearity, of pictures or of a clip."""
        if x.dim() == 5:
            return self._gated(x.flatten(0, 1), None).unflatten(0, x.shape[:2])
        if x.dim() != 4:
            raise InputError(f"ConditionalConv2d {self.name} got {tuple(x.shape)}; expected (N, C, H, W) or a clip")
        return self._gated(x, current_clip())

    def _gated(self, x: Tensor, clip: Clip | None) -> Tensor:
        padded, geometry = self._padded(x)
        fired = self._fire(padded, self.kernel(), geometry)
        z = fired * convolve(padded, self.weight, self.bias, geometry, self.groups)
        if clip is not None:
            self._enter(clip, fired, z)
        return z

    def _enter(self, clip: Clip, fired: Tensor, z: Tensor) -> None:
        """Enters a call into the clip's ledger: every position of every frame is decided on."""
        over_time = (clip.batch, clip.frames)
        if len(fired) != clip.batch * clip.frames:
            raise InputError(
                f"ConditionalConv2d {self.name} got {len(fired)} pictures in a clip of {clip.batch} x {clip.frames}; "
                "a converted network must keep its pictures apart, one per frame"
            )
        share = fired.flatten(1).mean(1).unflatten(0, over_time)
        decided = torch.ones(over_time, dtype=torch.float64, device=z.device)
        mask = (fired.detach()[:, 0] > 0.5).unflatten(0, over_time) if clip.with_masks else None
        positions = math.prod(z.shape[2:])
        macs, gate_macs = positions * self.weight.numel(), positions * self.kernel().weight.numel()
        clip.calls.append(LayerFiring(self.name, macs, gate_macs, share, decided, gated=True, mask=mask))


def convert_conditional(
    model: nn.Module, gate: Gumbel | None = None, *, block: int = 1, where: Where | None = None
) -> Conversion:
    """Replaces the 2D convolutions of a model, in place, by gated ones without memory that share their weights.

    Train and run it as a converted network: over clips through `ClipModel`, whose ledger and whose `gate_loss` then
    count the firing. `gate_loss` leaves out the frame that would be a reference frame, which is as gated as the others.

    Args:
        model: any module that holds convolutions; not itself one.
        gate: the learned gate; None: `Gumbel()`.
        block: side of the square of positions that fire together.
        where: called with each convolution's name and the module; only those it returns True for are converted.

    Returns:
        Which layers were converted, and which not and why (`Conversion.what` has no form: nothing is remembered).

    Raises:
        InputError: the gate is not learned, or the model is itself a convolution.
        ModelError: there was nothing to convert.
    """
    gate = Gumbel() if gate is None else gate
    if not isinstance(gate, Gumbel):
        raise InputError(f"got the gate {gate!r}; a gate on the picture itself has to be learned: Gumbel(...)")

    def two_dimensional(name: str, conv: nn.Module) -> bool:
        return isinstance(conv, nn.Conv2d) and (where is None or where(name, conv))

    what = Skip(gate, block, "refresh")  # what fires is the whole value; the form is never asked for here
    report = convert(model, what, two_dimensional)
    for name in report.converted:
        layer = model.get_submodule(name)
        assert isinstance(layer, SkipConv2d)
        replace(model, layer, ConditionalConv2d.from_convolution(layer, what, name=name, same=layer.same))
    return report
