"""Which videos are with which worker, and what becomes of those whose worker dies."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

DEATHS = 3  # of workers that had a video, until it is given up; all but the first had no other


class Shares:
    """Hands every video to workers until it is answered once, or given up.

    A worker is topped up as it answers, so that it always has the next videos at hand and that all come to their end
    together. The videos of a worker that dies are done again when no others are left, each with a worker of its own: so
    one that kills its workers takes no other along twice, and holds none up.

    Args:
        paths: the videos, each once.
        workers: how many there will be.
        reserve: videos a worker has at most, those it looks at included.
    """

    def __init__(self, paths: Iterable[str], *, workers: int, reserve: int) -> None:
        self._fresh, self._suspects = deque(paths), deque[str]()
        self._workers, self._reserve = workers, reserve
        self._held: dict[int, set[str]] = {}
        self._deaths = Counter[str]()

    @property
    def waiting(self) -> bool:
        """Whether there are videos that no worker has."""
        return bool(self._fresh or self._suspects)

    @property
    def unfinished(self) -> bool:
        """Whether there are videos neither answered nor given up."""
        return self.waiting or any(self._held.values())

    def held(self, worker: int) -> int:
        """Returns how many videos a worker has."""
        return len(self._held.get(worker, ()))

    def take(self, worker: int) -> list[str]:
        """Returns the videos that a worker is to have in addition; it is known by a number of its own."""
        held = self._held.setdefault(worker, set())
        taken: list[str] = []
        if self._fresh:
            fair = -(-len(self._fresh) // self._workers)
            taken = [self._fresh.popleft() for _ in range(min(self._reserve, fair) - len(held))]
        elif self._suspects and not held:
            taken = [self._suspects.popleft()]
        held.update(taken)
        return taken

    def answered(self, worker: int, path: str) -> None:
        """Notes a worker's answer about one of its videos. Raises KeyError where it has no such video."""
        self._held[worker].remove(path)

    def died(self, worker: int) -> list[str]:
        """Notes that a worker is no more. Returns those of its videos that are given up for it."""
        given_up = []
        for path in sorted(self._held.pop(worker, ())):
            self._deaths[path] += 1
            if self._deaths[path] < DEATHS:
                self._suspects.append(path)
            else:
                given_up.append(path)
        return given_up
