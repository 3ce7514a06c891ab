"""What `demo` and `run` let the user say of a stream."""

from __future__ import annotations

from dataclasses import dataclass

from saccade.cli.console import DEFAULT_TOLERANCE, settle_gate
from saccade.errors import InputError
from saccade.graph import Plan
from saccade.stream import Audit, Stream


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
    audit_every: int | None = None
    audit_tolerance: float | None = None
    audit_action: str | None = None

    @property
    def audit(self) -> Audit | None:
        """How the stream is audited; None for not at all.

        Raises:
            InputError: a tolerance or an action without audits, or settings that make no sense.
        """
        if self.audit_every is None:
            if self.audit_tolerance is not None or self.audit_action is not None:
                raise InputError("--audit-tolerance and --audit-action need --audit-every N: audit one frame in N")
            return None
        action = self.audit_action or "warn"
        if self.audit_tolerance is None and action == "refresh":
            raise InputError("--audit-action refresh needs --audit-tolerance X: the error from which on to refresh")
        return Audit(every=self.audit_every, tolerance=self.audit_tolerance, action=action)

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
            audit=self.audit,
        )
