"""Skip-Convolutions: gated convolutions over clips, and networks converted to them."""

from saccade.graph.conversion import Conversion
from saccade.skip.clip import ClipState, Firing, LayerFiring
from saccade.skip.convert import convert
from saccade.skip.gates import Gumbel, InputNorm, OutputNorm, Skip
from saccade.skip.layer import SkipConv2d, SkipConv3d
from saccade.skip.loss import equivariance_loss, gate_loss
from saccade.skip.run import ClipModel
from saccade.skip.warp import warp

__all__ = [
    "ClipModel",
    "ClipState",
    "Conversion",
    "Firing",
    "Gumbel",
    "InputNorm",
    "LayerFiring",
    "OutputNorm",
    "Skip",
    "SkipConv2d",
    "SkipConv3d",
    "convert",
    "equivariance_loss",
    "gate_loss",
    "warp",
]
