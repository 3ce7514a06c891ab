"""`docs/label-free.md` from the result of `benchmarks.label_free`: `python -m benchmarks.label_free_tables`."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

from benchmarks.environment import ROOT

RESULT = ROOT / "benchmarks" / "results" / "label_free.json"
PAGE = ROOT / "docs" / "label-free.md"

_HEAD = """# Accuracy without labels: real clips, trained networks

Made by `python -m benchmarks.label_free` from `benchmarks/results/label_free.json`; do not edit. How it works:
[calibration.md](calibration.md).

For every network and clip, thresholds were calibrated on earlier blocks of frames and everything below is of later
ones that were held out. The tolerance is the clip's *floor*: the mean distance between two consecutive frames of the
dense network itself. *argmax* is the share of positions whose largest channel is another one, *relative* the L2 norm of
the difference over the norm of the dense output.
"""


def at_distance(points: list[dict[str, float]], distance: float) -> float | None:
    """Returns the macs ratio a curve has at a mean distance, between its points by logarithms; None beyond its ends.

    The largest over all crossings; a setting that is both nearer and cheaper counts for every distance above its own.
    """
    ordered = sorted(points, key=lambda item: item["mean"])
    found = [item["macs_ratio"] for item in ordered if item["mean"] <= distance and math.isfinite(item["macs_ratio"])]
    for low, high in itertools.pairwise(ordered):
        if 0 < low["mean"] <= distance < high["mean"] and math.isfinite(high["macs_ratio"]):
            share = math.log(distance / low["mean"]) / math.log(high["mean"] / low["mean"])
            found.append(low["macs_ratio"] * (high["macs_ratio"] / low["macs_ratio"]) ** share)
    return max(found, default=None)


def gain(row: dict[str, Any], over: str = "global") -> float | None:
    """Returns how many times fewer macs calibrated thresholds take than another curve, at their own mean distance."""
    other = at_distance(row["curves"][over], row["holdout"]["mean"])
    return row["macs_ratio"] / other if other else None


def markdown(result: dict[str, Any]) -> str:
    """Returns the page."""
    where = result["environment"]
    lines = [_HEAD]
    lines.append(
        f"Measured on {where['machine']}, commit {where['commit']}: {result['frames']} frames and at most "
        f"{result['minutes']:g} minutes of search per network and clip.\n"
    )
    lines += ["## At the natural floor\n", *_floor_table(result["rows"]), ""]
    lines += ["## Milliseconds per frame\n", _TIMES, *_time_table(result["rows"]), ""]
    lines += ["## Curves\n", _CURVES, *_curve_table(result["rows"]), ""]
    return "\n".join(lines)


_TIMES = """Mean over consecutive held-out frames, decoding and preprocessing included, engines in turn on each frame:
the calibrated stream, the dense engine on every frame, and the same behind a motion detector, which repeats its last
result while little moves (*ran*: on which share of the frames it ran). Distances are to the original torch program.
"""
_CURVES = """Macs ratio and mean distance on held-out frames: one tolerance for all steps; the first guess, made without
a search; calibrated thresholds; the latter two times a factor.
"""


def _floor_table(rows: list[dict[str, Any]]) -> list[str]:
    head = ["network", "clip", "measure", "tolerance", "macs /", "over global", "over guess"]
    head += ["mean", "worst", "within", "s"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        checked = row["holdout"]
        cells = [row["network"], row["clip"], row["measure"], _short(row["tolerance"]), f"{row['macs_ratio']:.2f}"]
        cells += [_times(gain(row)), _times(gain(row, "guess")), _short(checked["mean"]), _short(checked["worst"])]
        cells += [f"{100 * checked['within_tolerance']:.0f} %", f"{row['seconds']:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _time_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| network | clip | calibrated ms | dense ms | motion ms | ran | calibrated mean | motion mean |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in rows:
        times = row["times"]
        cells = [row["network"], row["clip"]]
        cells += [f"{times[each]['mean_ms']:.1f}" for each in ("calibrated", "dense", "motion")]
        cells += [f"{times['motion_share']:.2f}", _short(times["calibrated"]["mean"]), _short(times["motion"]["mean"])]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _curve_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| network | clip | thresholds | setting: macs / at mean distance |", "|---|---|---|---|"]
    for row in rows:
        for name, points in row["curves"].items():
            cells = [f"{p['setting']:g}: {p['macs_ratio']:.2f} at {_short(p['mean'])}" for p in points]
            lines.append(f"| {row['network']} | {row['clip']} | {name} | {'; '.join(cells)} |")
    return lines


def _short(number: float) -> str:
    return f"{number:.2g}" if number else "0"


def _times(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}"


def main() -> None:
    """Writes the page anew."""
    PAGE.write_text(markdown(json.loads(RESULT.read_text())))


if __name__ == "__main__":
    main()
