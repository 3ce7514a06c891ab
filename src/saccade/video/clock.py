"""Times of pictures: from their time stamps where these are usable, by counting where not."""

from __future__ import annotations

import math
from fractions import Fraction

from av.video.frame import VideoFrame


class Clock:
    """Gives each picture its time in seconds since the first, always later than the one before.

    A picture without a usable time stamp comes 1 / fps after the one before, and so does the first picture
    after a reconnection, whose time stamps start anew.
    """

    def __init__(self, fps: float) -> None:
        """Start before the first picture."""
        self._fps = fps
        self._origin: Fraction | None = None
        self._anchor = (0, 0.0)  # index and time of the last picture with a usable time stamp
        self.last = -math.inf

    def restart(self) -> None:
        """Let the next picture set the relation to its time stamps anew."""
        self._origin = None

    def seconds(self, index: int, picture: VideoFrame) -> float:
        """Return the time of the picture that has this index."""
        expected = self._anchor[1] + (index - self._anchor[0]) / self._fps
        if picture.pts is not None and picture.time_base:
            stamp = picture.pts * picture.time_base
            if self._origin is None:
                self._origin = stamp - Fraction(expected)
            stamped = float(stamp - self._origin)
            if stamped > self.last:
                self._anchor = (index, stamped)
                expected = stamped
        self.last = expected
        return expected
