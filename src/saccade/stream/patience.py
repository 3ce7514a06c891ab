"""When a stream stops looking for what changed: where everything did, frame after frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from saccade.cost import Cost
from saccade.graph.plan import Plan
from saccade.stream.backoff import Backoff
from saccade.stream.gate import Gate, GateSettings
from saccade.stream.gated import is_gated

VAIN = 0.97  # of the dense macs, gates included: a frame that takes as many was followed in vain
LONGEST_REST = 32  # frames


class Patience:
    """Lets a stream rest from following where there is nothing to gain.

    Comparing every value with what was announced takes time, most of all where every position changed. After a frame
    that was followed in vain the next are computed whole, as reference frames are: 1, 2, 4 ... 32 of them, then one is
    followed again. One that gained something begins that anew. Results of whole frames are exact.

    Args:
        plan: the stream's. With gates that were trained (`saccade.skip`) there is no rest: when they are asked is
            part of what the network computes.
    """

    def __init__(self, plan: Plan) -> None:
        self._never = any(is_gated(step) for step in plan.steps)
        self.reset()

    def reset(self) -> None:
        """Forgets what was in vain."""
        self._tries = Backoff(LONGEST_REST)

    def settings(self, settings: GateSettings, gates: Mapping[str, Gate]) -> GateSettings:
        """Returns the settings for the next frame: the stream's, or those of a reference frame that keeps its gates.

        Args:
            settings: the stream's.
            gates: by value, those it has come to from them.
        """
        return replace(settings, threshold=gates, tolerance=None, reference_every=1) if self._tries.rest else settings

    def learn(self, cost: Cost, *, whole: bool) -> None:
        """Takes what the last frame cost, and whether it was computed whole."""
        if self._tries.rest:
            self._tries.rest -= 1
        elif not whole and not self._never:
            if cost.macs_fraction >= VAIN:
                self._tries.vain()
            else:
                self._tries.paid()
