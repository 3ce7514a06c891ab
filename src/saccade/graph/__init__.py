"""Model -> graph -> plan: torch.export, folding, fusion, and what of it can run sparse."""

from saccade.graph.build import make_plan
from saccade.graph.plan import Plan, Step
from saccade.graph.program_file import load_program

__all__ = ["Plan", "Step", "load_program", "make_plan"]
