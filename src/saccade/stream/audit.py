"""Audits: now and then a part of a frame is computed whole, and what the stream gave there is held against it."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.graph.plan import Plan
from saccade.stream.calibration import Calibration
from saccade.stream.cones import shared_cells
from saccade.stream.confidence import Alarm, lower_end, upper_end
from saccade.stream.deviation import argmax_change, relative_square
from saccade.stream.gate import GateSettings
from saccade.stream.passes import Pass, join

Measure = Callable[[Any, Any], float]
MEASURES = ("relative_error", "argmax")
ACTIONS = ("warn", "refresh")
_CALIBRATED = {"relative": "relative_error", "argmax": "argmax"}  # what calibrations call what audits measure


@dataclass(frozen=True)
class Audit:
    """How a stream is audited.

    One frame in `every`, drawn at random from each run of that many, is run as always and then once more with a part
    of it computed whole: a cell of the outputs with all it depends on (`saccade.stream.cones`). What the two runs
    differ by there is the error.

    Attributes:
        every: frames per audit.
        tolerance: the error asked for, in the measure's units; None: audits only report. Not the stream's tolerance,
            which is a threshold on changes within the network.
        measure: "relative_error", the L2 norm of the error of all outputs over the norm of the outputs (its mean over
            audits is a root mean square); "argmax", the share of positions with another largest channel, mean over the
            outputs that have more than one; or a function of (outputs given, outputs computed whole), as the model
            structures them, that returns an error of at least 0: it sees whole frames only.
        share: about which share of the output positions a cell holds. Where computing a cell takes more than half of a
            frame's macs (global pooling, wide windows, small maps), frames are audited whole.
        window: how many audits back `mean`, `low` and `high` of a report look.
        confidence: of an interval's ends; at most a share 1 - confidence of audits raises a false alarm.
        action: when the error is over the tolerance: "warn" with a `SceneWarning`, or "refresh": warn, and compute the
            next frame whole, as a reference frame: thresholds from a stream's tolerance are set anew.
        seed: decides which frames and cells are drawn.

    Raises:
        InputError: a setting makes no sense.
    """

    every: int = 100
    tolerance: float | None = None
    measure: str | Measure = "relative_error"
    share: float = 1 / 16
    window: int = 16
    confidence: float = 0.99
    action: str = "warn"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("every", "window"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"Audit: {name} is {value!r}; expected a whole number of at least 1")
        if self.tolerance is not None and not (self.tolerance >= 0 and math.isfinite(self.tolerance)):
            raise InputError(f"Audit: tolerance is {self.tolerance!r}; expected a number of at least 0, or None")
        if not callable(self.measure) and self.measure not in MEASURES:
            raise InputError(f"Audit: measure is {self.measure!r}; expected {' or '.join(MEASURES)}, or a function")
        if not 0 < self.share <= 1:
            raise InputError(f"Audit: share is {self.share!r}; expected over 0, and 1 for whole frames")
        if not 0 < self.confidence < 1:
            raise InputError(f"Audit: confidence is {self.confidence!r}; expected between 0 and 1, as 0.99")
        if self.action not in ACTIONS:
            raise InputError(f"Audit: action is {self.action!r}; expected {' or '.join(ACTIONS)}")


def settle_audit(every: int | None, audit: Audit | None, calibration: Calibration | None = None) -> Audit | None:
    """Returns how to audit, from the short form, the long, and what the stream was calibrated for; None for not at all.

    Raises:
        InputError: what is found too large an error is to be refreshed, and nothing says from which error on.
    """
    if every is not None:
        audit = replace(audit or Audit(), every=every)
    if audit is not None and audit.tolerance is None and audit.measure == "relative_error" and calibration is not None:
        measure = _CALIBRATED.get(calibration.measure)
        audit = audit if measure is None else replace(audit, tolerance=calibration.tolerance, measure=measure)
    if audit is not None and audit.tolerance is None and audit.action == "refresh":
        raise InputError(
            "the audit's action is refresh, but it has no tolerance: give the error from which on to refresh "
            "(Audit(tolerance=X), --audit-tolerance X), or calibrate the stream first"
        )
    return audit


@dataclass(frozen=True)
class AuditReport:
    """What a stream's audits have found since it began, or was reset.

    Attributes:
        audits: how many.
        frames: frames followed.
        mean: mean error over the last audits (at most `window`); of the relative error the root of the mean square.
            None before the first audit, and after a refresh until the next.
        low: what the mean error is over, at the audit's confidence: right for any distribution.
        high: what it is under, at about that confidence (a bootstrap, too low now and then where errors are very
            skewed); infinite where the audits do not tell.
        worst: the largest error of one audit; where cells are audited, an estimate from one cell.
        outside: whether the error was found over the tolerance, and is not back: as many audits as the window holds,
            all after that, have a mean within the tolerance (after a refresh: at once).
        alarms: how often it was found over the tolerance.
        macs: spent on audits.
        macs_share: the same over the dense macs of all frames.
        cells: of how many cells one is audited at a time; 1 for whole frames.
        every, tolerance, measure: as in the `Audit`; a function by its name.
    """

    audits: int
    frames: int
    mean: float | None
    low: float | None
    high: float | None
    worst: float | None
    outside: bool
    alarms: int
    macs: int
    macs_share: float
    cells: int
    every: int
    tolerance: float | None
    measure: str


class Auditor:
    """Audits one stream.

    Args:
        plan: the stream's plan.
        audit: how.

    Raises:
        InputError: the measure is "argmax", and no output has channels to choose from.
    """

    def __init__(self, plan: Plan, audit: Audit) -> None:
        self.plan, self.audit = plan, audit
        self.cells = shared_cells(plan, 1.0 if callable(audit.measure) else audit.share)
        specs = [plan.values[ref.name] if ref.kind == "value" else None for ref in plan.outputs]
        self._axes = [spec.channel_axis if spec is not None and spec.channels > 1 else None for spec in specs]
        if audit.measure == "argmax" and all(axis is None for axis in self._axes):
            raise InputError(f'Audit: measure is "argmax", but no output of {plan.name} has more than one channel')
        self.reset()

    def reset(self) -> None:
        """Forgets all audits, and draws the same frames and cells again."""
        self._random = random.Random(self.audit.seed)
        self._frames = self._audits = self._alarms = self._macs = self._due = 0
        self._worst = 0.0
        self._last: deque[float] = deque(maxlen=self.audit.window)  # squares where the measure is the relative error
        self._since: int | None = None  # audits since the error was found over the tolerance
        self._refresh, self._news = False, ""
        self._alarm = self._new_alarm()

    def settings(self, given: GateSettings) -> GateSettings:
        """Returns the settings the next frame is run with: of a reference frame where one is due."""
        return replace(given, reference_every=1) if self._refresh else given

    def follow(self, done: Pass, again: Callable[[Mapping[str, Tensor]], Pass], *, whole: bool) -> Pass:
        """Returns what a frame comes to, audited where it is drawn.

        Args:
            done: the frame as it was run.
            again: runs the same frame once more with these positions forced.
            whole: whether the frame was computed whole: its error is 0 without another run.
        """
        self._refresh = False
        if self._frames % self.audit.every == 0:
            self._due = self._frames + self._random.randrange(self.audit.every)
        self._frames += 1
        if self._frames - 1 != self._due:
            return done
        if whole:
            self._note(0.0)
            return done
        cell = self._random.randrange(self.cells.count)
        before = done.settled()
        fresh = again(self.cells.cone(cell))
        self._macs += fresh.total.executed_macs + fresh.total.gate_macs
        self._note(self._error(done.outputs, fresh.outputs, cell))
        return join(before, fresh)

    def take_news(self) -> str:
        """Returns what there is to warn of since it was asked last, or ""."""
        news, self._news = self._news, ""
        return news

    def report(self) -> AuditReport:
        """Returns what the audits have found."""
        known = list(self._last)
        dense = self._frames * self.plan.dense_macs
        measure = self.audit.measure
        return AuditReport(
            audits=self._audits,
            frames=self._frames,
            mean=self._unit(sum(known) / len(known)) if known else None,
            low=self._unit(lower_end(known, self.audit.confidence)) if known else None,
            high=self._unit(upper_end(known, self.audit.confidence)) if known else None,
            worst=self._unit(self._worst) if self._audits else None,
            outside=self._since is not None,
            alarms=self._alarms,
            macs=self._macs,
            macs_share=self._macs / dense if dense else 0.0,
            cells=self.cells.count,
            every=self.audit.every,
            tolerance=self.audit.tolerance,
            measure=measure if isinstance(measure, str) else getattr(measure, "__name__", type(measure).__name__),
        )

    def _error(self, got: tuple[Tensor, ...], fresh: tuple[Tensor, ...], cell: int) -> float:
        measure = self.audit.measure
        if callable(measure):
            pair = (self.plan.structured(outputs) for outputs in (got, fresh))
            error = float(measure(*pair))
            if not error >= 0:
                raise InputError(f"the audit's measure gave {error} for a frame; expected an error of at least 0")
            return error
        inside = [
            self.cells.labels[ref.name] == cell if ref.kind == "value" else torch.tensor(False)
            for ref in self.plan.outputs
        ]
        if measure == "argmax":
            return argmax_change(got, fresh, inside, self._axes, cells=self.cells.count)
        return relative_square(got, fresh, inside, cells=self.cells.count)

    def _note(self, sample: float) -> None:
        self._audits += 1
        self._last.append(sample)
        self._worst = max(self._worst, sample)
        if self._alarm is None:
            return
        raised = self._alarm.add(sample)
        if self._since is not None:
            self._since += 1
            full = self._since >= self.audit.window
            if full and sum(self._last) / len(self._last) <= self._alarm.bound:
                self._since, self._alarm = None, self._new_alarm()
        elif raised:
            self._since = 0
            self._alarms += 1
            self._news = self._message()
            if self.audit.action == "refresh":
                self._refresh, self._since = True, None
                self._last.clear()

    def _message(self) -> str:
        report = self.report()
        name = {"relative_error": "relative error", "argmax": "share of positions with another argmax"}
        advice = "the next frame is computed whole, and what the stream goes by is set anew"
        if self.audit.action == "warn":
            advice = "reset the stream, lower its tolerance, or audit with action='refresh'"
        return (
            f"{self.plan.name} has left what it was set for: audits up to frame {self._frames - 1} show a "
            f"{name.get(report.measure, report.measure)} over {self.audit.tolerance:g} (mean of the last "
            f"{len(self._last)}: {report.mean:.3g}); {advice}"
        )

    def _unit(self, sample: float) -> float:
        return math.sqrt(sample) if self.audit.measure == "relative_error" else sample

    def _new_alarm(self) -> Alarm | None:
        bound = self.audit.tolerance
        if bound is None:
            return None
        return Alarm(bound**2 if self.audit.measure == "relative_error" else bound, self.audit.confidence)
