"""Training: losses, and one loop over Lightning Fabric."""

from saccade.train.checkpoint import Weights, read_weights
from saccade.train.evaluation import Evaluated, evaluate
from saccade.train.loop import Progress, Trained, train
from saccade.train.recipe import Recipe, Samples, stack
from saccade.train.recipe_file import load_recipe, recipe_options

__all__ = [
    "Evaluated",
    "Progress",
    "Recipe",
    "Samples",
    "Trained",
    "Weights",
    "evaluate",
    "load_recipe",
    "read_weights",
    "recipe_options",
    "stack",
    "train",
]
