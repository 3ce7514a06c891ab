"""Trying again ever more rarely what was in vain."""

from __future__ import annotations


class Backoff:
    """How many frames to rest: after a vain try 1, then 2, 4 ... `longest`; a try that pays begins that anew.

    Args:
        longest: frames of the longest rest.

    Attributes:
        rest: frames still to rest.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self.rest, self._next = 0, 1

    def paid(self) -> None:
        """The last try paid."""
        self._next = 1

    def vain(self) -> None:
        """The last try was in vain."""
        self.rest, self._next = self._next, min(2 * self._next, self._longest)
