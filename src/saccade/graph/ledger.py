"""What a converted layer of one method tells the ledger of another method that runs around it.

Rooms of methods do not know one another. A network that carries two is run by one of them, whose ledger listens; layers
of the other tell it what they spent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Spent:
    """What one call of a converted layer cost.

    Attributes:
        name: the layer, as in `named_modules`.
        pictures: how many entries of the first axis the layer takes together: T of a 2D layer for clips of T pictures,
            else 1.
        macs: of computing everything, for one clip of so many pictures.
        executed: what was computed, (N,) float64, one number per clip.
        gate_macs: of deciding, for one clip.
    """

    name: str
    pictures: int
    macs: int
    executed: Tensor
    gate_macs: int


_listener: ContextVar[Callable[[Spent], None] | None] = ContextVar("saccade_ledger", default=None)


@contextmanager
def listening(to: Callable[[Spent], None]) -> Iterator[None]:
    """Has `to` called with what converted layers inside the block spend; the innermost such block counts."""
    token = _listener.set(to)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(spent: Callable[[], Spent]) -> None:
    """Tells the ledger that listens, where one does; `spent` is called only then."""
    to = _listener.get()
    if to is not None:
        to(spent())
