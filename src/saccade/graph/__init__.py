"""Model -> graph -> plan: torch.export, folding, fusion, and what of it can run sparse."""

from saccade.graph.build import make_plan
from saccade.graph.capture import load_program
from saccade.graph.plan import Plan, Step

__all__ = ["Plan", "Step", "load_program", "make_plan"]
