"""The page of FrameExit's claims: Markdown, JSON and pictures, from what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.claims.claim import Claim, section, summary, table, write_json
from benchmarks.claims.curves import Curves, by_setting, mean, spread
from benchmarks.claims.exits_claims import judge
from benchmarks.claims.exits_curves import ACCURACY, OURS, UNITS, curves
from benchmarks.claims.exits_pictures import draw
from benchmarks.claims.exits_runs import BACKBONES
from benchmarks.environment import ROOT

DOCS, RESULTS = ROOT / "docs", ROOT / "benchmarks" / "results"
# Tables: data, the run whose network it is, and the title.
TABLES = (
    ("films", "base", "Rendered films: 1440 to train, 540 to test, 64x64, a tiny ResNet"),
    *(("films", backbone, f"Rendered films with {backbone}, one seed") for backbone in BACKBONES),
    ("pairs", "base", "Two films on end, several labels: a tiny ResNet, average pooling"),
    (
        "actions",
        "base",
        "Surveillance clips, real: fight or no fight, 180 to train and 60 to test, 112x112, a tiny ResNet",
    ),
)
HEAD = """# The claims of FrameExit

Made by `python -m benchmarks.claims exits` (rules for "reproduced" in `benchmarks/claims/exits_claims.py`). Rendered
films unless said; networks two cores can train. Macs are of one video, of the frames that were looked at, the answer
and all deciding; "macs /" is all T frames of the same network, without deciding, over those; for another T or pooling
and for rivals, ten frames of the network of FrameExit. "All frames" is that network without exits, not one that was
trained for it. What the method is and what the paper leaves open: [exits.md](exits.md)."""


def write_page(rows: Mapping[str, Any]) -> list[Claim]:
    """Writes docs/claims-exits.md, its pictures and benchmarks/results/claims-exits.json; returns the claims."""
    claims = judge(rows)
    write_json(claims, RESULTS / "claims-exits.json")
    pictures = draw(rows, DOCS / "pictures")
    parts = [HEAD, summary(claims), "## Each claim", *map(section, claims)]
    for data, base, title in TABLES:
        found = curves(rows, data, base=base)
        if OURS in found:
            parts += [f"## {title}", frames_table(found, UNITS[ACCURACY[data]])]
    parts += ["## Pictures", *[f"![{path.stem}](pictures/{path.name})" for path in pictures]]
    (DOCS / "claims-exits.md").write_text("\n\n".join(parts) + "\n")
    return claims


def frames_table(found: Curves, unit: str) -> str:
    """Returns every method's settings: accuracy, frames and macs, means over seeds."""
    lines = []
    for method in found:
        for setting in by_setting(found, method).values():
            frames = [item.frames for item in setting if item.frames is not None]
            ratio = mean(item.ratio for item in setting)
            accuracy = spread([item.accuracy for item in setting])
            lines.append(
                [method, setting[0].setting, accuracy, f"{mean(frames):.2f}" if frames else "", f"{ratio:.2f}"]
            )
    return table(["method", "setting", unit, "frames", "macs /"], lines)
