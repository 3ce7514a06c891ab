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
dense network itself. Calibrating keeps every frame searched on within it, so the mean over frames is far below; *at
floor* is the macs ratio where the mean distance of held-out frames is the floor. *argmax* is the share of positions
whose largest channel is another one, *relative* the L2 norm of the difference over the norm of the dense output.
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


def gain(row: dict[str, Any], over: str = "global", *, of: str | None = None) -> float | None:
    """Returns how many times fewer macs calibrated thresholds take than another curve, at their own mean distance.

    With `of="calibrated"` the other way round: how many times fewer another curve takes than they do.
    """
    other = at_distance(row["curves"].get(over, []), row["holdout"]["mean"])
    if not other:
        return None
    return other / row["macs_ratio"] if of == "calibrated" else row["macs_ratio"] / other


def as_near_as_motion(row: dict[str, Any]) -> dict[str, float] | None:
    """Returns the fastest timed stream that was as near the dense network as the motion detector, or None."""
    engines = row["times"]["engines"]
    near = [
        found
        for name, found in engines.items()
        if name.startswith("calibrated") and found["mean"] <= engines["motion"]["mean"]
    ]
    return min(near, key=lambda found: found["mean_ms"], default=None)


def markdown(result: dict[str, Any]) -> str:
    """Returns the page."""
    where = result["environment"]
    floors = [row for row in result["rows"] if row.get("asked") is None]
    asked = [row for row in result["rows"] if row.get("asked") is not None]
    lines = [_HEAD]
    lines.append(
        f"Measured on {where['machine']}, commit {where['commit']}: {result['frames']} frames and at most "
        f"{result['minutes']:g} minutes per network and clip to calibrate in, half of them more to adapt.\n"
    )
    lines += ["## In short\n", *_summary(floors), ""]
    lines += ["## At the natural floor\n", *_floor_table(floors), ""]
    if asked:
        lines += ["## At a tolerance asked for\n", _ASKED, *_asked_table(asked), ""]
    timed = [row for row in floors if "times" in row]
    if timed:
        lines += ["## Milliseconds per frame\n", _TIMES, *_time_table(timed), ""]
    lines += ["## Curves\n", _CURVES, *_curve_table(floors), ""]
    return "\n".join(lines)


_ASKED = """On the left what `calibrate` gives, with every frame searched on within the distance asked for; on the right
the largest macs ratio at which the *mean* over held-out frames is that. *rms* is the root mean square over pixels of
[0, 1]: 0.00316 is 50 dB.
"""
_TIMES = """Mean over consecutive held-out frames, decoding and preprocessing included, engines in turn on each frame:
the calibrated stream, the dense engine on every frame, and the same behind a motion detector, which repeats its last
result while little moves (*ran*: on which share of the frames it ran). *as near*: the fastest of the streams with
calibrated thresholds times 0.25, 1, 4 and 16 whose mean distance is at most the motion detector's. Distances are to the
original torch program.
"""
_CURVES = """Macs ratio and mean distance on held-out frames: one tolerance for all steps; the first guess, made without
a search; calibrated thresholds; those adapted from them at their macs; the latter three times a factor.
"""
MOVING = ("bedroom.mp4", "dashcam-highway.mp4")  # clips whose camera moves


def _summary(rows: list[dict[str, Any]]) -> list[str]:
    lines = []
    for title, chosen in (
        ("static cameras", [row for row in rows if row["clip"] not in MOVING]),
        ("moving cameras", [row for row in rows if row["clip"] in MOVING]),
    ):
        gains = [found for row in chosen if (found := gain(row)) is not None]
        more = [found for row in chosen if (found := gain(row, "adapted", of="calibrated")) is not None]
        if not gains:
            continue
        lines.append(
            f"- {title}, {len(chosen)} network and clip pairs: calibrated against the best single tolerance macs / "
            f"{_average(gains):.2f} on average (geometric; {min(gains):.2f} to {max(gains):.2f}; worse in "
            f"{sum(found < 1 for found in gains)} of {len(gains)})"
            + (
                f"; adapted against calibrated {_average(more):.2f} ({min(more):.2f} to {max(more):.2f})"
                if more
                else ""
            )
            + "."
        )
    kept = sum(row["holdout"]["within_tolerance"] >= 0.99 for row in rows)
    frames = sum(row["holdout"]["frames"] for row in rows)
    inside = sum(row["holdout"]["frames"] * row["holdout"]["within_tolerance"] for row in rows)
    lines.append(
        f"- the tolerance was kept on at least 99 % of the held-out frames in {kept} of {len(rows)} pairs, and on "
        f"{100 * inside / frames:.1f} % of all {frames} held-out frames."
    )
    timed = [row for row in rows if "times" in row and row["clip"] not in MOVING]
    if timed:
        found = [(row, as_near_as_motion(row)) for row in timed]
        won = sum(near is not None and near["mean_ms"] < _motion(row)["mean_ms"] for row, near in found)
        lines.append(
            f"- against a motion detector in front of the dense engine, on static cameras: in {won} of {len(timed)} "
            "pairs a timed stream was as near and took fewer ms per frame."
        )
    return lines


def _average(numbers: list[float]) -> float:
    return math.exp(sum(math.log(number) for number in numbers) / len(numbers))


def _motion(row: dict[str, Any]) -> dict[str, float]:
    return row["times"]["engines"]["motion"]  # type: ignore[no-any-return]


def _floor_table(rows: list[dict[str, Any]]) -> list[str]:
    head = [
        "network",
        "clip",
        "measure",
        "tolerance",
        "macs /",
        "over global",
        "over guess",
        "adapted, over calibrated",
    ]
    head += ["mean", "worst", "within", "checks", "s", "at floor: macs /", "over global"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        checked = row["holdout"]
        cells = [row["network"], row["clip"], row["measure"], _short(row["tolerance"]), f"{row['macs_ratio']:.2f}"]
        cells += [_times(gain(row)), _times(gain(row, "guess")), _times(gain(row, "adapted", of="calibrated"))]
        cells += [_short(checked["mean"]), _short(checked["worst"])]
        cells += [f"{100 * checked['within_tolerance']:.0f} %", str(row["attempts"]), f"{row['seconds']:.0f}"]
        ours, plain = (at_distance(row["curves"][name], row["tolerance"]) for name in ("calibrated", "global"))
        cells += [_times(ours), _times(ours / plain if ours and plain else None)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _asked_table(rows: list[dict[str, Any]]) -> list[str]:
    names = ("calibrated", "guess", "global")
    lines = ["| network | clip | measure | asked | calibrate: macs / | its mean, worst | " + " | ".join(names) + " |"]
    lines.append("|---" * (6 + len(names)) + "|")
    for row in rows:
        checked = row["holdout"]
        cells = [row["network"], row["clip"], row["measure"], _short(row["asked"]), f"{row['macs_ratio']:.2f}"]
        cells.append(f"{_short(checked['mean'])}, {_short(checked['worst'])}")
        cells += [_times(at_distance(row["curves"][name], row["asked"])) for name in names]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _time_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| network | clip | calibrated ms | dense ms | motion ms | ran | calibrated mean | motion mean | as near, ms |"
    ]
    lines.append("|---" * 9 + "|")
    for row in rows:
        engines, near = row["times"]["engines"], as_near_as_motion(row)
        calibrated = engines["calibrated x 1"]
        cells = [row["network"], row["clip"]]
        cells += [f"{found['mean_ms']:.1f}" for found in (calibrated, engines["dense"], engines["motion"])]
        cells += [f"{row['times']['motion_share']:.2f}", _short(calibrated["mean"]), _short(engines["motion"]["mean"])]
        cells.append("-" if near is None else f"{near['mean_ms']:.1f}")
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
