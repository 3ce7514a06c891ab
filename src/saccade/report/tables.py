"""Reports as tables for a terminal."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from saccade.reduce import DIMENSIONS
from saccade.stream.camera import Geography, find_shift, why_fixed

if TYPE_CHECKING:
    from saccade.adapt.adapt import Adapted
    from saccade.calibrate.calibrate import Calibrated
    from saccade.evaluate.clip_run import ClassSeen, ClipRunReport
    from saccade.evaluate.demo import DemoReport
    from saccade.evaluate.video_run import RunReport
    from saccade.graph import Plan
    from saccade.reduce import Redundancy, Spread
    from saccade.stream import AuditReport
    from saccade.stream.native import NativeForms

REFERENCE_NOTE = (
    "The reference executor computes every frame densely and selects what the rule would compute: its macs are "
    "what is needed, its milliseconds are not faster than dense."
)

CLIPS_SHOWN = 20

SIMILARITY_WORDS = {
    "cc": "CC, mean over pairs",
    "cc_absolute": "abs(CC), mean over pairs",
    "cc_nearest": "CC with the nearest, mean over maps",
    "rmse": "RMSE in ranges of the layer, mean over pairs",
    "correlated_pairs": "pairs with CC > {cc:g}",
    "redundant_pairs": "RP: pairs with CC > {cc:g} and RMSE < {rmse:g}",
    "redundant_maps": "RP: maps in such a pair",
}
REBUILT_WORDS = {
    "r2": "second half of the channels from one of the first: R^2",
    "channels": "second half of the channels: abs(CC) > {cc:g} with one of the first",
}


def explain_table(plan: Plan, engine: NativeForms) -> Table:
    """Returns every step of a plan with its macs, its form, and how the native engine runs it, with reasons."""
    table = _table(f"{plan.name}: {len(plan.steps)} steps, {macs(plan.dense_macs)} macs")
    for column in ("step", "op", "output"):
        table.add_column(column, overflow="fold")
    table.add_column("macs", justify="right")
    table.add_column("share", justify="right")
    table.add_column("form", overflow="fold")
    table.add_column("native engine", overflow="fold")
    for step in plan.steps:
        shape = " ".join("x".join(map(str, plan.values[name].shape)) or "scalar" for name in step.outputs)
        share = f"{step.macs / plan.dense_macs:.1%}" if plan.dense_macs else "-"
        form = Text("sparse") if step.form == "sparse" else Text(f"{step.form}: {step.reason}", style="yellow")
        native = engine.of(step.name)
        runs = Text(native, style="" if native in ("positions", "moved") else "yellow")
        table.add_row(Text(step.name), Text(step.op), shape, macs(step.macs), share, form, runs)
    dense = sum(step.form != "sparse" for step in plan.steps)
    table.caption = f"{plan.sparse_macs_share:.2%} of the macs are in sparse steps" + (
        f"; {dense} of {len(plan.steps)} steps are dense" if dense else ""
    )
    table.caption += f"\nnative engine: {engine.summary()}\n{_camera(plan)}"
    return table


def _camera(plan: Plan) -> str:
    """Returns what of a plan moves along with a camera that moves, in a sentence."""
    if problem := why_fixed(plan):
        return f"moving camera: not followed: {problem}"
    geography = Geography(plan)
    shares = {by: find_shift(geography, (by, by)) for by in (1, 8, 32)}
    told = ", ".join(f"{by} px {shift.moved_macs:.0%}" for by, shift in shares.items())
    whole = [f"{name} ({why})" for name, why in shares[32].reasons.items()]
    names = ", ".join(whole[:4]) + (f" and {len(whole) - 4} more" if len(whole) > 4 else "")
    return f"moving camera: of the macs move along, by {told}" + (f"; computed whole: {names}" if whole else "")


def run_table(report: RunReport) -> Table:
    """Returns what a run took, and how near it stayed to the dense network where that was compared."""
    table = _table("")
    table.add_column("model", overflow="fold")
    table.add_column(Text(report.model), overflow="fold")
    table.add_row("video", Text(report.source))
    ended = "interrupted" if report.interrupted else "the video is damaged" if report.damage else ""
    table.add_row("frames", f"{report.frames}" + (f" ({ended})" if ended else ""))
    table.add_row("gate", gate_words(report))
    table.add_row("weights", Text(report.weights))
    dense, spent = macs(report.dense_macs), macs(report.executed_macs + report.gate_macs)
    table.add_row("macs, dense", dense)
    table.add_row("macs, executed and gate", f"{spent} ({macs(report.gate_macs)} of them gate)")
    table.add_row("macs ratio", number(report.macs_ratio, ".2f", " times fewer"))
    if report.camera == "moving":
        table.add_row("camera", f"moving: the history moved along before {report.moved_frames} frames")
    table.add_row("ms per frame", _timing(report.ms_per_frame.median, report.ms_per_frame.p90))
    table.add_row("state", f"{report.state_bytes / 2**20:.1f} MiB")
    if report.verify is not None:
        checked = report.verify
        dense_ms = checked.dense_ms_per_frame
        table.add_row("ms per frame, dense torch", _timing(dense_ms.median, dense_ms.p90))
        table.add_row("largest difference to a full pass", number(checked.max_abs_diff_self, ".3g"))
        for name, course, form in (
            ("relative error to dense", checked.relative_error, ".3g"),
            ("argmax agreement with dense", checked.argmax_agreement, ".5f"),
        ):
            if course is not None and course.mean is not None:
                last = number(course.last_tenth, form)
                table.add_row(name, f"{number(course.mean, form)} (last tenth of the frames: {last})")
    if report.audit is not None:
        for name, told in _audits(report.audit):
            table.add_row(name, told)
    where = f"torch {report.torch_version} with {report.threads} threads, {report.machine}"
    table.caption = f"{engine_words(report)}, {where}"
    return table


def clips_seen_table(report: ClipRunReport) -> Table:
    """Returns the classes that a network saw, clip by clip and over the video, the likeliest first."""
    table = _table("")
    table.add_column("frames", overflow="fold")
    table.add_column("classes, and their probabilities", overflow="fold")
    for seen in report.clips[:CLIPS_SHOWN]:
        looked = "" if seen.visited is None else f", {len(seen.visited)} looked at"
        table.add_row(f"{seen.first_frame} to {seen.last_frame}{looked}", _classes(seen.classes))
    if len(report.clips) > CLIPS_SHOWN:
        table.add_row("...", f"{len(report.clips) - CLIPS_SHOWN} clips more; --json has them all")
    if report.clips:
        table.add_row("the video", _classes(report.classes))
    return table


def clip_run_table(report: ClipRunReport) -> Table:
    """Returns what running a network of clips took."""
    table = _table("")
    table.add_column("model", overflow="fold")
    table.add_column(Text(report.model), overflow="fold")
    table.add_row("video", Text(report.source))
    ended = " (interrupted)" if report.interrupted else " (the video is damaged)" if report.damage else ""
    left = f", the last {report.frames_left} of them in no clip" if report.frames_left else ""
    table.add_row("frames", f"{report.frames}{ended}{left}")
    every = "" if report.clip_stride == 1 else f", one in {report.clip_stride}"
    table.add_row("clips", f"{len(report.clips)} of {report.clip_frames} frames{every}")
    table.add_row("weights", Text(report.weights))
    table.add_row("macs, dense", macs(report.dense_macs))
    table.add_row("macs, executed and gate", macs(report.executed_macs + report.gate_macs))
    table.add_row("macs ratio", number(report.macs_ratio, ".2f", " times fewer"))
    table.add_row("ms per clip", _timing(report.ms_per_clip.median, report.ms_per_clip.p90))
    where = f"torch {report.torch_version} with {report.threads} threads, {report.machine}"
    table.caption = f"{engine_words(report)}, {where}"
    return table


def _classes(classes: list[ClassSeen]) -> Text:
    return Text(", ".join(f"{each.name or each.label} {each.probability:.3f}" for each in classes))


def calibration_table(found: Calibrated) -> Table:
    """Returns what calibrating saved, and on what it was checked."""
    calibration, checked = found.calibration, found.calibration.holdout
    table = _table("")
    table.add_column("model", overflow="fold")
    table.add_column(Text(calibration.model), overflow="fold")
    table.add_row("clips", Text(", ".join(calibration.clips)))
    table.add_row("tolerance", f"{calibration.tolerance:g} ({calibration.measure})")
    table.add_row("macs ratio", number(calibration.macs_ratio, ".2f", " times fewer, on held-out frames"))
    table.add_row("held-out frames", f"{checked.frames}, {checked.within_tolerance:.1%} within the tolerance")
    table.add_row("mean", number(checked.mean, ".4g"))
    table.add_row("worst", f"{number(checked.worst, '.4g')} at {checked.worst_frame}")
    table.add_row("search", f"{len(found.sweeps) - 1} sweeps, cost / {found.guess / max(1e-9, found.found):.2f}")
    table.caption = f"{found.seconds:.0f} s; thresholds of {len(calibration.gates)} values"
    return table


def _audits(audit: AuditReport) -> list[tuple[str, str]]:
    """Returns what audits found and what they cost, as names and words."""
    part = "whole frames" if audit.cells == 1 else f"one of {audit.cells} cells of a frame each"
    rows = [("audits", f"{audit.audits}, of {part} ({audit.macs_share:.1%} of the dense macs)")]
    if audit.mean is not None:
        high = "?" if audit.high is None or math.isinf(audit.high) else f"{audit.high:.3g}"
        name = audit.measure.replace("_", " ")
        rows.append((f"{name}, last audits", f"{audit.mean:.3g} (between {number(audit.low, '.3g')} and {high})"))
    if audit.tolerance is not None:
        often = f"over {audit.tolerance:g} {audit.alarms} time{'' if audit.alarms == 1 else 's'}"
        rows.append(("scene", f"{'outside' if audit.outside else 'inside'}, {often}"))
    return rows


def adaptation_table(found: Adapted) -> Table:
    """Returns what adapting gave beside other gates at the same budget, on held-out frames."""
    table = _table("")
    for title in (found.calibration.model, "macs ratio", "mean", "worst"):
        table.add_column(Text(title), overflow="fold")
    for name, checked in {**found.before, "stored: " + found.chosen: found.after}.items():
        near = checked.holdout
        table.add_row(name, number(checked.macs_ratio, ".2f"), number(near.mean, ".4g"), number(near.worst, ".4g"))
    table.caption = (
        f"all scaled to {found.budget:g} of the dense macs on the frames trained on, checked on "
        f"{found.after.holdout.frames} others; {found.calibration.measure}; {found.steps} steps, {found.seconds:.0f} s"
    )
    return table


def profile_table(report: RunReport) -> Table:
    """Returns where the time of a run went, by kind of step."""
    table = _table("time per frame, by kind of step")
    table.add_column("kind", overflow="fold")
    for column in ("steps", "ms", "share", "macs", "G macs/s", "ns per output"):
        table.add_column(column, justify="right")
    rows = report.profile or []
    total = sum(row.ms for row in rows) or 1.0
    for row in rows:
        speed = row.macs / row.ms / 1e6 if row.ms and row.macs else None
        each = 1e6 * row.ms / row.outputs if row.outputs else None
        table.add_row(
            Text(row.kind),
            f"{row.steps}",
            f"{row.ms:.3f}",
            f"{row.ms / total:.1%}",
            macs(row.macs),
            number(speed, ".1f"),
            number(each, ".2f"),
        )
    return table


def demo_table(report: DemoReport) -> Table:
    """Returns the shipped detector dense and as a stream, side by side."""
    run, checked = report.run, report.run.verify
    table = _table("")
    table.add_column(f"{run.frames} frames of a {run.source}")
    table.add_column("dense", justify="right")
    table.add_column("stream", justify="right")
    frames = max(run.frames, 1)
    spent = (run.executed_macs + run.gate_macs) / frames
    table.add_row("macs per frame", macs(run.dense_macs / frames), f"{macs(spent)} (/ {number(run.macs_ratio, '.2f')})")
    dense_ms = checked.dense_ms_per_frame.median if checked else None
    table.add_row("ms per frame, median", number(dense_ms, ".1f"), number(run.ms_per_frame.median, ".1f"))
    table.add_row("average precision", number(report.ap_dense, ".4f"), number(report.ap_stream, ".4f"))
    table.add_row("boxes agreeing with dense (F1)", "1", number(report.f1, ".4f"))
    table.add_row("F1 of repeating every second result", "", number(report.f1_repeat, ".4f"))
    table.add_row("pixels changed from frame to frame", number(report.pixels_changed, ".2%"), "")
    table.add_row("state kept between frames", "0", f"{run.state_bytes / 2**20:.1f} MiB")
    table.caption = f"{gate_words(run)}, {engine_words(run)}, dense: torch with {run.threads} threads, {run.machine}"
    return table


def redundancy_table(found: Redundancy, *, title: str) -> Table:
    """Returns how redundant a network is along time and channels: means over its layers (the paper's Table 12)."""
    table = _table(title)
    table.add_column("mean over convolutions and clips (lowest to highest clip)", overflow="fold")
    for dimension in DIMENSIONS:
        table.add_column(dimension, justify="right")
    known = asdict(found.thresholds)
    for quantity, words in SIMILARITY_WORDS.items():
        over = [found.spread(dimension, quantity) for dimension in DIMENSIONS]
        table.add_row(words.format(**known), *map(_spread, over))
    for quantity, words in REBUILT_WORDS.items():
        table.add_row(words.format(**known), "", _spread(found.rebuilt(quantity)))
    have = [sum(layer.reason(dimension) is None for layer in found.layers) for dimension in DIMENSIONS]
    clips = f"{found.clips} clip{'' if found.clips == 1 else 's'}"
    table.caption = f"{clips}; of {len(found.layers)} convolutions {have[0]} have time and {have[1]} have channels"
    return table


def redundancy_layers_table(found: Redundancy) -> Table:
    """Returns how redundant each convolution's maps are: means over the clips."""
    table = _table("")
    table.add_column("convolution", overflow="fold")
    table.add_column("C x T x H x W", overflow="fold")
    shown = {"cc": "CC", "cc_nearest": "nearest", "rmse": "RMSE", "redundant_maps": "RP, maps"}
    for dimension in DIMENSIONS:
        for words in shown.values():
            table.add_column(f"{dimension}\n{words}", justify="right")
    table.add_column("2nd half\nR^2", justify="right")
    for layer in found.layers:
        over = [layer.spread(dimension, quantity) for dimension in DIMENSIONS for quantity in shown]
        means = ["-" if each is None else f"{each.mean:.3f}" for each in (*over, layer.rebuilt("r2"))]
        table.add_row(Text(layer.name), "x".join(map(str, layer.shape)), *means)
    reasons = sorted({reason for layer in found.layers for reason in layer.clips[0].reasons.values()})
    if reasons:
        table.caption = f"-: does not apply ({'; '.join(reasons)})"
    return table


def _spread(over: Spread | None) -> str:
    return "-" if over is None else f"{over.mean:.3f} ({over.low:.3f} to {over.high:.3f})"


def macs(count: float) -> str:
    """Returns a number of macs in words: "1.23 G"."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:g}"


def number(value: float | None, form: str, unit: str = "") -> str:
    """Returns the number in that format with its unit, or a dash for None."""
    return "-" if value is None else f"{value:{form}}{unit}"


def gate_words(report: RunReport) -> str:
    """Returns what decides in a run, in words."""
    if report.calibration is not None:
        known = report.calibration
        return f"calibrated: {known.measure} within {known.tolerance:g}, {report.record} record"
    if isinstance(report.threshold, dict):
        return f"thresholds of {len(report.threshold)} steps, {report.record} record"
    if report.threshold is not None:
        return f"threshold {report.threshold}, {report.record} record"
    if report.tolerance is not None:
        return f"tolerance {report.tolerance:g}, {report.record} record"
    return f"exact, {report.record} record"


def engine_words(report: RunReport | ClipRunReport) -> str:
    """Returns what ran it, in words."""
    if report.executor != "native":
        return f"{report.executor} executor"
    plural = "" if report.stream_threads == 1 else "s"
    return f"native executor ({report.isa}, {report.precision}, {report.stream_threads} thread{plural})"


def _timing(median: float | None, p90: float | None) -> str:
    return "-" if median is None else f"{median:.1f} median, {number(p90, '.1f')} 90th percentile"


def _table(title: str) -> Table:
    return Table(
        title=Text(title) if title else None,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        pad_edge=False,
    )
