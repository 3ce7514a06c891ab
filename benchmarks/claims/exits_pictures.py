"""Pictures of FrameExit's rows: accuracy against macs (Fig. 6), who left when (Fig. 3 and 4), classes (Fig. 5)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.claims.drawn import curve_points, save_svg
from benchmarks.claims.exits_curves import (
    ALL,
    BUDGET,
    CONFIDENCE,
    ORACLE,
    ORDERS,
    OURS,
    POOLINGS,
    RANDOM,
    RESOLUTION,
    SELECTED,
    UNIFORM,
    UNITS,
    curves,
)
from benchmarks.claims.exits_runs import ABLATED, BETA, BETAS
from saccade.data.puppets_films import DIFFICULTIES, DIFFICULTY, FILM_CLASSES
from saccade.report.exit_plots import exit_matrix, precision_against_frames, watermelon
from saccade.report.plots import Curve, accuracy_against_macs

DRAWN = {
    "rivals": ("films", "top1", [OURS, SELECTED, RESOLUTION, UNIFORM, RANDOM]),
    "rules": ("films", "top1", [OURS, CONFIDENCE, BUDGET, ORACLE]),
    "ablations": (
        "films",
        "top1",
        [OURS, *ORDERS.values(), *(POOLINGS[f"pooling-{name}"] for name in ("none", "average"))],
    ),
    "films-map": ("films", "map", [OURS, CONFIDENCE, BUDGET]),
    "pairs": ("pairs", "map", [OURS, CONFIDENCE, BUDGET, POOLINGS["max"]]),
}


def draw(rows: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws all that there are rows for; returns the files."""
    return draw_curves(rows, folder) + draw_left(rows, folder)


def draw_curves(rows: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws accuracy against macs."""
    files = []
    for name, (data, accuracy, methods) in DRAWN.items():
        found = curves(rows, data, accuracy=accuracy)
        lines = [Curve(method, curve_points(found, method)) for method in methods if method in found]
        if OURS in found:
            dense = curve_points(found, ALL)[0]
            figure = accuracy_against_macs(lines, dense=dense, accuracy=UNITS[accuracy], unit=1e6, per="video")
            files.append(save_svg(figure, folder / f"exits-{name}"))
    return files


def draw_left(rows: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws who left when and was right: of films, one seed."""
    base = rows.get(f"films/base/{ABLATED}")
    if base is None:
        return []
    found = base["measures"]["left"]
    beta = f"β = {BETA['films']:g}"
    by_beta = {BETA["films"]: found}
    for other in (min(BETAS["films"]), max(BETAS["films"])):
        row = rows.get(f"films/gates-{other}/{ABLATED}")
        if row is not None:
            by_beta[other] = row["measures"]["left"]
    settings = {f"β = {b:g}": (by_beta[b]["frames"], by_beta[b]["right"]) for b in sorted(by_beta, reverse=True)}
    figures = {
        "watermelon": watermelon(settings),
        "matrix": exit_matrix(found["frames"], found["matrix"], title=beta),
        "classes": precision_against_frames(
            found["ap"],
            found["class_frames"],
            classes=FILM_CLASSES,
            groups=[DIFFICULTIES[number] for number in DIFFICULTY],
            title=beta,
        ),
    }
    return [save_svg(figure, folder / f"exits-{name}") for name, figure in figures.items()]
