"""VA-RED2: convolutions that compute only the channels and time steps a clip needs, and networks converted to them."""

from saccade.graph.conversion import Conversion
from saccade.reduce.convert import convert, spatial_only
from saccade.reduce.layer import ReducedConv2d, ReducedConv3d
from saccade.reduce.loss import efficiency_loss
from saccade.reduce.policies import LayerUse, Policies
from saccade.reduce.redundancy import LayerRedundancy, Redundancy, Spread, measure_redundancy
from saccade.reduce.run import ReducedModel
from saccade.reduce.similarity import DIMENSIONS, MapRedundancy, Rebuilt, Similarity, Thresholds, map_redundancy
from saccade.reduce.space import ALL, Policy, Reduce

__all__ = [
    "ALL",
    "DIMENSIONS",
    "Conversion",
    "LayerRedundancy",
    "LayerUse",
    "MapRedundancy",
    "Policies",
    "Policy",
    "Rebuilt",
    "Reduce",
    "ReducedConv2d",
    "ReducedConv3d",
    "ReducedModel",
    "Redundancy",
    "Similarity",
    "Spread",
    "Thresholds",
    "convert",
    "efficiency_loss",
    "map_redundancy",
    "measure_redundancy",
    "spatial_only",
]
