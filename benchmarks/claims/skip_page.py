"""The page of Skip-Convolutions' claims: Markdown, JSON and pictures, from what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.claims.claim import Claim, section, summary, write_json
from benchmarks.claims.curves import UNITS, curves
from benchmarks.claims.drawn import curve_points, save_svg, settings_table
from benchmarks.claims.judging import OURS, OURS_RESIDUAL, PAPERS, seeds_of
from benchmarks.claims.skip_claims import judge, stage_shares
from benchmarks.environment import ROOT
from saccade.report.plots import Curve, accuracy_against_macs, firing_by_stage

DOCS, RESULTS = ROOT / "docs", ROOT / "benchmarks" / "results"
TASKS = {
    "puppets": "Pose on rendered puppets (HRNet-tiny, 96x96, a reference frame every 8)",
    "street": "Detection on rendered streets (EfficientDet-tiny, 128x224, a reference frame every 4)",
    "openfield": "Pose on openfield, real (HRNet-tiny, 144x192, a reference frame every 8)",
}
DRAWN = {
    "fig5": (
        "puppets",
        [OURS, PAPERS, "CC-image", "spatial SVD", "weight SVD", "L0 pruning", "spatial SVD + Gumbel on |r|"],
    ),
    "fig4": ("street", [OURS, PAPERS, "key frames", "Deep Feature Flow"]),
    "fig7": ("street", [OURS, OURS_RESIDUAL, PAPERS, "output-norm, refresh", "input-norm, refresh"]),
    "fig7-pose": ("puppets", [OURS, OURS_RESIDUAL, PAPERS, "output-norm, refresh", "input-norm, refresh"]),
}


def write_page(rows: Mapping[str, Any]) -> list[Claim]:
    """Writes docs/claims-skip.md, its pictures and benchmarks/results/claims-skip.json; returns the claims."""
    claims = judge(rows)
    write_json(claims, RESULTS / "claims-skip.json")
    pictures = draw(rows, DOCS / "pictures")
    pictures += sorted((DOCS / "pictures").glob("skip-masks-*.png"))
    parts = [HEAD, summary(claims), "## Each claim"]
    parts += [section(claim) for claim in claims]
    for task, title in TASKS.items():
        if seeds_of(rows, task):
            parts += [f"## {title}", settings_table(curves(rows, task), UNITS[task])]
    parts += ["## Pictures", *[f"![{path.stem}](pictures/{path.name})" for path in pictures]]
    (DOCS / "claims-skip.md").write_text("\n\n".join(parts) + "\n")
    return claims


HEAD = """# The claims of Skip-Convolutions

Made by `python -m benchmarks.claims skip` (rules for "reproduced" in `benchmarks/claims/skip_claims.py`). Rendered
scenes unless said; networks two cores can train. Macs count convolutions and linear layers, and gates where something
under them changed. "Gumbel on r" is the paper's gate; "Gumbel on |r|" reads the size of a change, and "refresh"
recomputes a value where the gate fires, in place of adding to it ([why](skip.md))."""


def draw(rows: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws accuracy against macs, and firing by stage; returns the files."""
    files = []
    for name, (task, methods) in DRAWN.items():
        found = curves(rows, task)
        if "dense, tuned as long" not in found:
            continue
        lines = [Curve(method, curve_points(found, method)) for method in methods if method in found]
        if not lines:
            continue
        dense = curve_points(found, "dense, tuned as long")[0]
        figure = accuracy_against_macs(lines, dense=dense, accuracy=f"{UNITS[task]} (%)", unit=1e6, log=True)
        files.append(save_svg(figure, folder / f"skip-{name}"))
    shares = stage_shares(rows)
    if shares:
        files.append(save_svg(firing_by_stage(shares), folder / "skip-fig8"))
    return files
