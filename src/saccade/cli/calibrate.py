"""`saccade calibrate`: thresholds from unlabelled footage."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from saccade.calibrate.calibrate import Calibrated, calibrate
from saccade.calibrate.footage import Clip
from saccade.calibrate.measures import find_measure
from saccade.cli.console import check_targets, say, stages, write_results
from saccade.cli.loading import load_planned
from saccade.cli.stored import calibration_path, check_folder
from saccade.errors import InputError
from saccade.graph import Plan
from saccade.report.tables import calibration_table
from saccade.video import read_video


def calibrate_command(
    model: str,
    videos: list[str],
    *,
    tolerance: float,
    measure: str,
    minimise: str,
    frames: int,
    minutes: float,
    preprocess: Path | None,
    record: str,
    executor: str | None,
    threads: int,
    seed: int,
    out: Path | None,
    json: str | None,
) -> None:
    """Calibrates, stores what was found, and says what was checked.

    Raises:
        SaccadeError: the model, a video or an option cannot be used, or the result cannot be written.
    """
    if minimise not in ("macs", "ms"):
        raise InputError(f"--minimise is {minimise!r}; expected macs or ms")
    path = out or calibration_path(model)
    check_targets(source="", json_target=json, out=out)
    check_folder(path)
    clips = footage_clips(videos)
    loaded, plan = load_planned(model, preprocess=preprocess)
    distance = find_measure(measure, plan, decode=loaded.decode)
    with stages("calibrating", 60 * minutes) as stage:
        found = calibrate(
            plan,
            clips,
            tolerance=tolerance,
            measure=distance,
            minimise=cast(Literal["macs", "ms"], minimise),
            frames=frames,
            minutes=minutes,
            record=record,
            executor=executor,
            threads=threads,
            seed=seed,
            progress=path.with_suffix(".calibrating"),
            say=stage,
        )
    found.calibration.save(path)
    write_results(
        _as_json(found, plan, path), target=json, tables=lambda: [calibration_table(found), f"stored in {path}"]
    )
    if not found.kept:
        say(
            f"note: only {found.calibration.holdout.within_tolerance:.1%} of the held-out frames were within the "
            "tolerance: they differ from those searched on. Give more footage of the scene."
        )


def footage_clips(videos: Sequence[str]) -> list[Clip]:
    """Returns video files as footage; raises InputError where one is not there, or given twice."""
    for video in videos:
        if not Path(video).is_file():
            raise InputError(f"there is no video {video}; its footage is read several times, so it has to be a file")
    clips = [Clip(Path(video).name, partial(read_video, video)) for video in videos]
    if len({clip.name for clip in clips}) < len(clips):
        raise InputError(f"a video is given twice: {', '.join(videos)}; give each once")
    return clips


def _as_json(found: Calibrated, plan: Plan, path: Path) -> dict[str, Any]:
    """Returns what calibrating gave as JSON data."""
    calibration, checked = found.calibration, found.calibration.holdout
    return {
        "model": calibration.model,
        "clips": list(calibration.clips),
        "measure": calibration.measure,
        "tolerance": calibration.tolerance,
        "macs_ratio": calibration.macs_ratio,
        "holdout": {
            "frames": checked.frames,
            "mean": checked.mean,
            "worst": checked.worst,
            "worst_frame": checked.worst_frame,
            "within_tolerance": checked.within_tolerance,
        },
        "attempts": found.attempts,
        "seconds": found.seconds,
        "search": {"unit": found.unit, "guess": found.guess, "found": found.found, "after_sweeps": found.sweeps},
        "record": calibration.record,
        "thresholds": {name: gate.threshold for name, gate in calibration.gates.items()},
        "dense_macs": plan.dense_macs,
        "file": str(path),
    }
