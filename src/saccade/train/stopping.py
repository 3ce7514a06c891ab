"""When a training stops before its end: a signal, or the time it was given."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any, Self


class Stop:
    """Notices SIGINT, SIGTERM and the end of a time; the loop asks for `reason` once per step.

    A second SIGINT raises KeyboardInterrupt at once.

    Args:
        minutes: how long training may go on; None for as long as it takes.
    """

    def __init__(self, minutes: float | None) -> None:
        self._until = None if minutes is None else time.monotonic() + 60 * minutes
        self._signal: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def reason(self) -> str | None:
        """What asks training to stop: "SIGINT", "SIGTERM", "time", or None."""
        if self._signal is not None:
            return signal.Signals(self._signal).name
        return "time" if self._until is not None and time.monotonic() >= self._until else None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number
