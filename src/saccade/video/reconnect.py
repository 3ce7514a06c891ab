"""When to try again after a stream broke off."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reconnect:
    """How to get a lost network stream or camera back: wait, try, wait twice as long, try again.

    Args:
        retries: attempts per interruption, until a new frame arrives; 0 gives up at once.
        first_delay_seconds: wait before the first attempt; doubles each time.
        max_delay_seconds: longest wait.
        sleep: what waits; a test passes its own.

    Raises:
        ValueError: a number is negative or not finite.
    """

    retries: int = 5
    first_delay_seconds: float = 0.5
    max_delay_seconds: float = 30.0
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        """Check every field."""
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or self.retries < 0:
            raise ValueError(f"Reconnect.retries must be an int >= 0, got {self.retries!r}.")
        for name in ("first_delay_seconds", "max_delay_seconds"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ValueError(f"Reconnect.{name} must be a number >= 0, got {value!r}.")

    def delay_seconds(self, attempt: int) -> float:
        """Return the wait before attempt 0, 1, ..."""
        return min(self.first_delay_seconds * 2.0 ** min(attempt, 1000), self.max_delay_seconds)
