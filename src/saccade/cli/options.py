"""What `demo`, `run` and `report` let the user say of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saccade.cli.console import DEFAULT_TOLERANCE, settle_gate
from saccade.cli.stored import stored_calibration
from saccade.errors import InputError
from saccade.graph import Plan
from saccade.stream import Audit, Calibration, Stream


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
    calibration: Path | None = None
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
        return Audit(every=self.audit_every, tolerance=self.audit_tolerance, action=self.audit_action or "warn")

    def arguments(self) -> list[str]:
        """Returns these options as they are given on the command line, without those left at their defaults."""
        given: list[str] = []
        for name in ("threshold", "tolerance", "calibration", "record", "executor"):
            value = getattr(self, name)
            given += [] if value is None else [f"--{name}", str(value)]
        for name, usual in (("precision", "float32"), ("camera", "still")):
            given += [] if getattr(self, name) == usual else [f"--{name}", getattr(self, name)]
        return given + ([] if self.threads == 1 else ["--threads", str(self.threads)])

    def open(self, plan: Plan, *, model: str | None = None, default_tolerance: float = DEFAULT_TOLERANCE) -> Stream:
        """Returns a stream of the plan.

        Where neither a threshold nor a tolerance was given, its thresholds are those of the calibration asked for, else
        of what was stored for the model, else they follow from the default tolerance.

        Raises:
            InputError: the options contradict one another, or an executor cannot run the plan.
            FileFormatError, StateError: the calibration is damaged, or of another plan.
        """
        calibration = self._calibration(plan, model)
        threshold, tolerance = settle_gate(self.threshold, self.tolerance, default=default_tolerance)
        return Stream(
            plan,
            threshold=threshold,
            tolerance=tolerance if calibration is None else None,
            calibration=calibration,
            record=self.record,
            executor=self.executor,
            precision=self.precision,
            threads=self.threads,
            profile=self.profile,
            camera=self.camera,
            audit=self.audit,
        )

    def _calibration(self, plan: Plan, model: str | None) -> Calibration | None:
        asked = self.threshold is not None or self.tolerance is not None
        if self.calibration is not None:
            if asked:
                raise InputError("got --calibration beside --threshold or --tolerance; give one of them")
            return Calibration.load(self.calibration)
        return None if asked or model is None else stored_calibration(model, plan)
