"""`saccade adapt`: gates trained on unlabelled footage."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from saccade.adapt.adapt import Adapted, Checked, adapt, check_budget
from saccade.calibrate.measures import find_measure
from saccade.cli.calibrate import footage_clips
from saccade.cli.console import check_targets, say, stages, write_results
from saccade.cli.loading import load_planned
from saccade.cli.stored import calibration_path, check_folder
from saccade.graph import Plan
from saccade.report.tables import adaptation_table
from saccade.stream import Calibration

OVER = 1.1  # macs of the held-out frames over the budget from which it is worth a word


def adapt_command(
    model: str,
    videos: list[str],
    *,
    budget: float,
    measure: str,
    start: Path | None,
    frames: int,
    minutes: float,
    steps: int | None,
    preprocess: Path | None,
    record: str,
    executor: str | None,
    threads: int,
    seed: int,
    out: Path | None,
    json: str | None,
) -> None:
    """Trains gates, stores them, and says what was checked.

    Raises:
        SaccadeError: the model, a video or an option cannot be used, or the result cannot be written.
    """
    check_budget(budget)
    path = out or calibration_path(model)
    check_targets(source="", json_target=json, out=out)
    check_folder(path)
    clips = footage_clips(videos)
    known = None if start is None else Calibration.load(start)
    loaded, plan = load_planned(model, preprocess=preprocess)
    if known is not None:
        known.check(plan)
    distance = find_measure(measure, plan, decode=loaded.decode)
    with stages("adapting", 60 * minutes) as stage:
        found = adapt(
            plan,
            clips,
            budget=budget,
            measure=distance,
            start=None if known is None else known.gates,
            frames=frames,
            minutes=minutes,
            steps=steps,
            record=record,
            executor=executor,
            threads=threads,
            seed=seed,
            progress=path.with_suffix(".adapting"),
            say=stage,
        )
    found.calibration.save(path)
    write_results(
        _as_json(found, plan, path), target=json, tables=lambda: [adaptation_table(found), f"stored in {path}"]
    )
    if found.chosen != "adapt":
        say(f"note: {found.steps} steps did not better what there was: {found.chosen} is stored. Give more --minutes.")
    if found.after.macs_ratio * budget * OVER < 1:
        say(
            f"note: held-out frames take {1 / found.after.macs_ratio:.3f} of the dense macs, more than the budget: "
            "more changes in them than in the frames trained on. Give more footage of the scene."
        )


def _as_json(found: Adapted, plan: Plan, path: Path) -> dict[str, Any]:
    """Returns what adapting gave as JSON data."""
    calibration = found.calibration
    return {
        "model": calibration.model,
        "clips": list(calibration.clips),
        "measure": calibration.measure,
        "budget": found.budget,
        **_checked(found.after),
        "before": {name: _checked(checked) for name, checked in found.before.items()},
        "chosen": found.chosen,
        "steps": found.steps,
        "seconds": found.seconds,
        "record": calibration.record,
        "thresholds": {name: gate.threshold for name, gate in calibration.gates.items()},
        "dense_macs": plan.dense_macs,
        "file": str(path),
    }


def _checked(checked: Checked) -> dict[str, Any]:
    return asdict(checked)
