"""The page of VA-RED2's claims: Markdown, JSON and pictures, from what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.claims.claim import Claim, section, summary, write_json
from benchmarks.claims.curves import of_same_seeds
from benchmarks.claims.drawn import curve_points, save_svg, settings_table
from benchmarks.claims.reduce_claims import judge
from benchmarks.claims.reduce_curves import CHANNELS, OURS, RIVALS, TIME, TUNED, curves
from benchmarks.claims.reduce_pictures import draw_policies
from benchmarks.environment import ROOT
from saccade.report.plots import Curve, accuracy_against_macs

DOCS, RESULTS = ROOT / "docs", ROOT / "benchmarks" / "results"
NETWORKS = {
    "r2plus1d": "R(2+1)D-tiny on rendered actions, 16 frames of 48x48",
    "longer": "R(2+1)D-tiny as above, going on for 4000 steps in place of 2000, from dense networks of their own",
    "x3d": "X3D-tiny on rendered actions, 8 frames of 48x48",
    "i3d": "I3D-tiny on rendered actions, 8 frames of 48x48, one seed",
    "tpn": "TPN on R(2+1)D-tiny, one seed",
    "corrnet": "CorrNet on R(2+1)D-tiny, 8 frames, one seed",
    "actions": "R(2+1)D-tiny on surveillance clips: fight or no fight, 180 to train and 60 to test, one seed",
    "yowo": "Localisation: YOWO on I3D-tiny, rendered actions, 8 frames of 64x64, one seed",
    "pspnet": "Segmentation: PSPNet-tiny, the parts of rendered people, pictures of 64x64, channels only",
    "puppets": "HRNet-tiny on rendered people, frame by frame: together with `skip`",
}
UNITS = {"puppets": "PCK@0.1 (%)", "yowo": "mAP of frames at IoU 0.5 (%)", "pspnet": "mean IoU (%)"}
DRAWN = {"rivals": ("r2plus1d", [OURS, *RIVALS[2:], RIVALS[0]]), "dimensions": ("r2plus1d", [OURS, TIME, CHANNELS])}
HEAD = """# The claims of VA-RED2

Made by `python -m benchmarks.claims reduce` (rules for "reproduced" in `benchmarks/claims/reduce_claims.py`). Rendered
clips unless said; networks two cores can train. Macs are of one clip: convolutions, linear layers, gates and cheap
operations; "macs /" is the dense network's over those. What the method is and where it departs from the paper:
[reduce.md](reduce.md)."""


def write_page(rows: Mapping[str, Any]) -> list[Claim]:
    """Writes docs/claims-reduce.md, its pictures and benchmarks/results/claims-reduce.json; returns the claims."""
    claims = judge(rows)
    write_json(claims, RESULTS / "claims-reduce.json")
    pictures = draw(rows, DOCS / "pictures") + draw_policies(rows, DOCS / "pictures")
    parts = [HEAD, summary(claims), "## Each claim", *map(section, claims)]
    for network, title in NETWORKS.items():
        found = curves(rows, network)
        if found:
            parts += [f"## {title}", settings_table(found, UNITS.get(network, "top-1 (%)"))]
    parts += ["## Pictures", *[f"![{path.stem}](pictures/{path.name})" for path in pictures]]
    (DOCS / "claims-reduce.md").write_text("\n\n".join(parts) + "\n")
    return claims


def draw(rows: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws accuracy against macs; returns the files."""
    files = []
    for name, (network, methods) in DRAWN.items():
        found = of_same_seeds(curves(rows, network), [TUNED, *methods])
        lines = [Curve(method, curve_points(found, method)) for method in methods if found.get(method)]
        if not found.get(TUNED) or len(lines) < 2:
            continue
        dense = curve_points(found, TUNED)[0]
        figure = accuracy_against_macs(lines, dense=dense, accuracy="top-1 (%)", unit=1e6, per="clip")
        files.append(save_svg(figure, folder / f"reduce-{name}"))
    return files
