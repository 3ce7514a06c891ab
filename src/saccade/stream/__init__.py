"""A stream follows one video: the change rule, its state, its gates and the executors that run a plan."""

from saccade.stream.audit import Audit, AuditReport
from saccade.stream.calibration import Calibration
from saccade.stream.engine import Engine
from saccade.stream.gate import Gate
from saccade.stream.pool import StreamPool
from saccade.stream.state import StreamState
from saccade.stream.stream import Stream

__all__ = ["Audit", "AuditReport", "Calibration", "Engine", "Gate", "Stream", "StreamPool", "StreamState"]
