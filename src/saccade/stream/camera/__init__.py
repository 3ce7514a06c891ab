"""Cameras that move: a stream's history moves along with the picture, and what stays the same is not computed again."""

from saccade.stream.camera.camera import Camera
from saccade.stream.camera.shift import STAYS, Geography, Shift, find_shift, shares_by_step, why_fixed

__all__ = ["STAYS", "Camera", "Geography", "Shift", "find_shift", "shares_by_step", "why_fixed"]
