"""`docs/numbers.md` from the result of `benchmarks.real`: `python -m benchmarks.real_tables`."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.environment import ROOT

RESULT = ROOT / "benchmarks" / "results" / "real.json"
PAGE = ROOT / "docs" / "numbers.md"

_HEAD = """# Numbers: real clips, trained networks

Made by `python -m benchmarks.real` from `benchmarks/results/real.json`; do not edit.

Every network follows every clip for a stated number of consecutive frames from the clip's middle. *macs /* is dense
macs over executed and gate macs, without the first frame, which every stream computes whole. *error* is the L2 norm
of the difference to the original torch program over the norm of its output; *agreement* the share of positions whose
largest channel is the same. *first* and *last* are the first and last tenth of the frames: a last tenth that is much
worse would be drift. *floor* compares two consecutive frames of the dense network itself: an error below it is below
what changes from frame to frame anyway. One tolerance serves all steps (threshold = tolerance x RMS of the step's
output on the first frame); [calibrated](calibration.md) ones are not in here. *bit-exact* means that on every tenth
frame and the last the outputs at threshold 0 equal a full pass of the same executor bit for bit. Clips with a moving
camera (bedroom, dashcam-highway) change everywhere.

*ms* is the median time of a frame and *mean ms* the mean, decoding and preprocessing included in all alike. *dense* is
the dense engine named on every frame. *motion detector* is the same dense engine on the frames in which enough moved
(the share in brackets), its last result repeated on the others: what is done today; compare it by its mean.
"""
_REFERENCE = """The reference executor computes densely and selects: its macs are the method's, its times are not.
"""


def markdown(result: dict[str, Any]) -> str:
    """Returns the page."""
    where = result["environment"]
    lines = [_HEAD]
    if result.get("executor", "reference") == "reference":
        lines.append(_REFERENCE)
    lines.append(f"Measured on {where['machine']}, {result.get('threads', where['threads'])} threads, ")
    lines[-1] += f"{_how(result)}torch {where['torch']}, commit {where['commit']}; {result['minutes']} minutes.\n"
    for name in dict.fromkeys(row["network"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["network"] == name]
        lines += [f"## {name}\n", _heading(rows), *_body(rows), ""]
    if spans := result.get("spans"):
        lines += ["## Single spans\n", *_spans(spans), ""]
    return "\n".join(lines)


def _how(result: dict[str, Any]) -> str:
    if "executor" not in result:
        return ""
    isa = f" ({result['environment']['isa']})" if result["environment"].get("isa") else ""
    return f"{result['executor']} executor{isa}, {result['precision']}, {result['record'] or 'default'} records, "


def _heading(rows: list[dict[str, Any]]) -> str:
    columns = ["clip", "frames", "setting", "macs /", "ms", "mean ms"]
    columns += ["error", "first", "last", "agreement", "first", "last"]
    if _has_psnr(rows):
        columns.append("PSNR dB")
    return "| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|"


def _body(rows: list[dict[str, Any]]) -> list[str]:
    lines = []
    for row in rows:
        error, agreement = row["relative_error"], row["argmax_agreement"]
        cells = [row["clip"], str(row["frames"]), _setting(row), _number(row.get("macs_ratio"), ".2f")]
        cells += [_number(row.get(key), ".1f") for key in ("ms", "mean_ms")]
        cells += [_number(error[part], ".2e") for part in ("mean", "first_tenth", "last_tenth")]
        cells += [_number(agreement[part], ".5f") for part in ("mean", "first_tenth", "last_tenth")]
        if _has_psnr(rows):
            cells.append(_number(row["psnr_db"]["mean"], ".1f"))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _spans(rows: list[dict[str, Any]]) -> list[str]:
    columns = ["network", "clip", "frames", "setting", "macs /", "ms", "mean ms", "error", "PSNR dB"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in rows:
        cells = [row["network"], row["clip"], f"{row['first']}-{row['last']}", _setting(row)]
        cells += [_number(row.get("macs_ratio"), ".2f"), _number(row["ms"], ".1f"), _number(row["mean_ms"], ".1f")]
        cells += [_number(row["relative_error"]["mean"], ".2e"), _number(row["psnr_db"]["mean"], ".1f")]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _has_psnr(rows: list[dict[str, Any]]) -> bool:
    return any(row["psnr_db"]["mean"] is not None for row in rows)


def _setting(row: dict[str, Any]) -> str:
    if row.get("two_dense_frames"):
        return "floor"
    if row.get("motion_detector"):
        return f"motion detector ({_number(row['motion_share'], '.2f')})"
    if "dense_engine" in row:
        return f"dense ({row['dense_engine']})"
    if "threshold" in row:
        exact = "bit-exact" if row.get("equals_full_pass") else "NOT EXACT"
        return f"threshold 0, {exact}"
    return f"tolerance {row['tolerance']:g}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


if __name__ == "__main__":
    PAGE.write_text(markdown(json.loads(RESULT.read_text())))
