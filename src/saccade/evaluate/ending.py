"""How a run over a video ends: Ctrl-C and damage end the run, not its report."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from saccade.errors import DamagedVideoError, VideoError


class Ending:
    """Goes around what reads a video, and holds what cut it short; a video that gave nothing at all raises.

    Args:
        read: returns how many frames were read so far.

    Attributes:
        interrupted: whether it was Ctrl-C.
        damage: what is wrong with the video, if that was it.
    """

    def __init__(self, read: Callable[[], int]) -> None:
        self.interrupted = False
        self.damage: str | None = None
        self._read = read

    def __enter__(self) -> Ending:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Take note of what ended the run; return whether that is told in the report."""
        if isinstance(error, KeyboardInterrupt):
            self.interrupted = True
            return True
        if isinstance(error, VideoError) and (self._read() or isinstance(error, DamagedVideoError)):
            self.damage = str(error)
            return True
        return False
