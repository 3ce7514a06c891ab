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

    def arguments(self) -> list[str]:
        """Returns these options as they are given on the command line, without those left at their defaults."""
        given: list[str] = []
        for name in ("threshold", "tolerance", "record", "executor"):
            value = getattr(self, name)
            given += [] if value is None else [f"--{name}", str(value)]
        given += [] if self.precision == "float32" else ["--precision", self.precision]
        return given + ([] if self.threads == 1 else ["--threads", str(self.threads)])

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
        )
