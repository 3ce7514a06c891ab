"""VA-RED2: what of a network's features is redundant in a clip."""

from saccade.reduce.redundancy import LayerRedundancy, Redundancy, Spread, measure_redundancy
from saccade.reduce.similarity import DIMENSIONS, MapRedundancy, Rebuilt, Similarity, Thresholds, map_redundancy

__all__ = [
    "DIMENSIONS",
    "LayerRedundancy",
    "MapRedundancy",
    "Rebuilt",
    "Redundancy",
    "Similarity",
    "Spread",
    "Thresholds",
    "map_redundancy",
    "measure_redundancy",
]
