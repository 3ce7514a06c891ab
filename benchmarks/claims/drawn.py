"""What the pages of claims draw and list of measured curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.claims.claim import table
from benchmarks.claims.curves import Curves, by_setting, mean, spread
from saccade.report.plot_style import save_figure
from saccade.report.plots import CurvePoint


def settings_table(found: Curves, unit: str) -> str:
    """Returns every method's settings: mean accuracy and macs over seeds, and how many where that differs."""
    lines, counts = [], []
    for method in found:
        for setting in by_setting(found, method).values():
            ratio = mean(item.ratio for item in setting)
            lines.append([method, setting[0].setting, spread([item.accuracy for item in setting]), f"{ratio:.2f}"])
            counts.append(len(setting))
    heads = ["method", "setting", unit, "macs /"]
    if len(set(counts)) > 1:
        heads, lines = [*heads, "seeds"], [[*line, str(count)] for line, count in zip(lines, counts, strict=True)]
    return table(heads, lines)


def curve_points(found: Curves, method: str) -> list[CurvePoint]:
    """Returns a method's settings as points to draw, the seeds of each together."""
    settings = by_setting(found, method).values()
    return [CurvePoint([item.macs for item in setting], [item.accuracy for item in setting]) for setting in settings]


def save_svg(figure: Any, stem: Path) -> Path:
    """Writes the figure as SVG only: what documentation shows."""
    return save_figure(figure, stem, formats=["svg"])[0]
