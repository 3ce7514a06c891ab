"""Training: losses, and one loop over Lightning Fabric."""

from saccade.train.checkpoint import Weights, read_weights
from saccade.train.loop import Progress, Trained, train
from saccade.train.recipe import Recipe, Samples, stack

__all__ = ["Progress", "Recipe", "Samples", "Trained", "Weights", "read_weights", "stack", "train"]
