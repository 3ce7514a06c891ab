"""Encoders that make the thread that opens them a real-time one, and putting it back."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def same_scheduling() -> Iterator[None]:
    """Gives the calling thread back the scheduling policy it had, whatever is done inside.

    SVT-AV1, run by root, opens an encoder and leaves the caller at the highest real-time priority: it and the threads
    it starts from then on keep their cores from everything else, and spin for ever where they wait for one another.
    Systems that have no such policies are left alone.
    """
    if sys.platform != "linux":
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, parameters)
