"""Numbers of a report in words."""

from __future__ import annotations

import math

from saccade.evaluate.video_report import FrameRow, Nearness, Point
from saccade.report.charts import percent

DASH = "-"
TIMES = "\u00d7"


def agreement(share: float | None) -> str:
    """Returns an agreement in percent, rounded down: it reads 100 % where all agrees, and only there."""
    if share is None or not math.isfinite(share):
        return DASH if share is None else str(share)
    return f"{math.floor(1e4 * share + 1e-7) / 100:g} %"


def error(value: float | None) -> str:
    """Returns a relative error, three digits."""
    return DASH if value is None else f"{value:.3g}"


def share(value: float | None) -> str:
    """Returns a share in percent, or a dash."""
    return DASH if value is None else percent(value)


def milliseconds(value: float | None) -> str:
    """Returns milliseconds, three digits."""
    if value is None:
        return DASH
    return f"{times(value)} ms"


def ratio(fraction: float | None) -> str:
    """Returns how many times fewer macs a share of the dense ones is."""
    return f"{times(1 / fraction)}{TIMES}" if fraction else DASH


def times(factor: float) -> str:
    """Returns a factor, three digits or more."""
    return f"{factor:,.0f}" if 100 <= factor < 1e15 else f"{factor:.3g}"


def point_name(point: Point) -> str:
    """Returns what a way to run the video is called."""
    if point.name == "floor":
        return "dense result of the frame before"
    if point.name == "repeat":
        return f"every {ordinal(int(point.value))} dense result repeated"
    if point.value == 1:
        return "operating point"
    return "thresholds 0 (exact)" if point.value == 0 else f"thresholds {TIMES} {point.value:g}"


def point_label(point: Point) -> str:
    """Returns the name of a way to run the video, short enough to stand beside its mark."""
    if point.name == "repeat":
        return f"every {ordinal(int(point.value))}"
    if point.value in (0, 1):
        return "exact" if point.value == 0 else "operating point"
    return f"{TIMES}{point.value:g}"


def point_says(point: Point) -> str:
    """Returns a point in one sentence."""
    worst = f" (worst frame {error(point.relative_error_worst)})"
    parts = [f"macs {share(point.macs_fraction)} of dense", f"relative error {error(point.relative_error_mean)}{worst}"]
    if point.argmax_agreement_mean is not None:
        parts.append(f"argmax agreement {agreement(point.argmax_agreement_mean)}")
    if point.f1 is not None:
        parts.append(f"matched boxes F1 {agreement(point.f1)}")
    return f"{point_name(point)}: {', '.join(parts)}"


def frame_name(row: FrameRow) -> str:
    """Returns a frame's number and time."""
    return f"frame {row.index}" + ("" if row.seconds is None else f" at {row.seconds:.2f} s")


def near_words(near: Nearness) -> list[str]:
    """Returns how near a frame's results are, one measure each."""
    found = [f"relative error {error(near.relative_error)}"]
    if near.argmax_agreement is not None:
        found.append(f"argmax agreement {agreement(near.argmax_agreement)}")
    if near.f1 is not None:
        found.append(f"matched boxes F1 {agreement(near.f1)}")
    return found


def ordinal(number: int) -> str:
    """Returns 2nd, 3rd, 4th, 11th, 21st..."""
    last = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{last}"
