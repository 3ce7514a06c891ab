"""What `demo` and `run` let the user say of a stream."""

from __future__ import annotations

from dataclasses import dataclass

from saccade.cli.console import DEFAULT_TOLERANCE, settle_gate
from saccade.graph import Plan
from saccade.stream import Stream


@dataclass(frozen=True)
class StreamOptions:
    """The options of a stream, as given on the command line; see `Stream`."""

    threshold: float | None
    tolerance: float | None
    record: str | None
    executor: str | None
    precision: str
    threads: int
    profile: bool = False
    camera: str = "still"

    def open(self, plan: Plan, *, default_tolerance: float = DEFAULT_TOLERANCE) -> Stream:
        """Returns a stream of the plan.

        Raises:
            InputError: the options contradict one another, or an executor cannot run the plan.
        """
        threshold, tolerance = settle_gate(self.threshold, self.tolerance, default=default_tolerance)
        return Stream(
            plan,
            threshold=threshold,
            tolerance=tolerance,
            record=self.record,
            executor=self.executor,
            precision=self.precision,
            threads=self.threads,
            profile=self.profile,
            camera=self.camera,
        )
