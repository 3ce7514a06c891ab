"""VA-RED2: convolutions that compute only the channels and time steps a clip needs, and networks converted to them."""

from saccade.reduce.convert import Conversion, convert, spatial_only
from saccade.reduce.layer import ReducedConv2d, ReducedConv3d
from saccade.reduce.loss import efficiency_loss
from saccade.reduce.policies import LayerUse, Policies
from saccade.reduce.run import ReducedModel
from saccade.reduce.space import ALL, Policy, Reduce

__all__ = [
    "ALL",
    "Conversion",
    "LayerUse",
    "Policies",
    "Policy",
    "Reduce",
    "ReducedConv2d",
    "ReducedConv3d",
    "ReducedModel",
    "convert",
    "efficiency_loss",
    "spatial_only",
]
