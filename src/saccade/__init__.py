"""Saccade runs video through convolutional networks and pays only for what changed."""

from saccade.cost import Cost, StepCost
from saccade.errors import SaccadeError
from saccade.graph import Plan, make_plan
from saccade.preprocess import Preprocess
from saccade.stream import Audit, AuditReport, Calibration, Engine, Gate, Stream, StreamPool, StreamState
from saccade.video import Frame, read_video, write_video

__version__ = "0.1.0"

__all__ = [
    "Audit",
    "AuditReport",
    "Calibration",
    "Cost",
    "Engine",
    "Frame",
    "Gate",
    "Plan",
    "Preprocess",
    "SaccadeError",
    "StepCost",
    "Stream",
    "StreamPool",
    "StreamState",
    "__version__",
    "make_plan",
    "read_video",
    "write_video",
]
