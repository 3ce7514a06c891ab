"""Macs of the networks of the Skip-Convolutions paper, ours beside the paper's.

    python -m benchmarks.paper_macs        # writes benchmarks/results/paper_macs.json and prints its tables

Convolutions and linear layers, one per multiply-add, as the ledger of a clip counts them. Weights and pictures are on
torch's meta device: nothing is computed, and the biggest network takes seconds.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.environment import ROOT, environment
from saccade.skip import ClipModel
from saccade.zoo.efficientdet import PAPER, efficientdet
from saccade.zoo.hrnet_pose import hrnet_pose
from saccade.zoo.tsn import tsn

DETECTION = (
    "the paper gives neither the number of classes nor which layers it counts. One class is the least there is, and "
    "ours is above the paper's by 2.2 % for D2 and 1.7 % for D3. Without the stem and the two prediction layers (which "
    "makes the number of classes irrelevant) the difference is below 0.1 % for both; that this is what was counted is "
    "a guess. With COCO's 90 classes D0 to D3 have the 2.5, 6.1, 11 and 25 G of EfficientDet's own paper"
)
EDGES = ("conv_stem", ".predict.")


@dataclass(frozen=True)
class Case:
    """One network, its input, what the paper says in G macs and where, why we may differ, and layers left uncounted."""

    name: str
    model: nn.Module
    size: tuple[int, int]
    frames: int = 1
    paper: float | None = None
    source: str = ""
    why: str = ""
    uncounted: tuple[str, ...] = ()


def cases() -> list[Case]:
    """Returns the paper's networks, then the small ones made for two cores."""
    published = {"d2": (9.52, "section 4.1, Fig. 7"), "d3": (22.06, "section 4.1, Fig. 4")}
    found = [Case("hrnet-pose:w32", hrnet_pose("w32"), (256, 256), paper=10.19, source="Table 1", why="equal")]
    for name in PAPER:
        for classes in (1, 4, 90):
            model = efficientdet(name, classes=classes)
            paper, source = published.get(name, (None, "only in Fig. 4, without figures"))
            label = f"efficientdet:{name}, {classes} class{'es' if classes > 1 else ''}"
            found.append(Case(label, model, model.size, paper=paper, source=source, why=DETECTION if paper else ""))
        if paper:
            label = f"efficientdet:{name}, no stem, no prediction"
            found.append(Case(label, model, model.size, paper=paper, source=source, uncounted=EDGES))
    resnet = tsn("resnet101")
    for frames, paper in ((25, 194.98), (6, 46.80)):
        found.append(Case("tsn:resnet101", resnet, (224, 224), frames, paper, "Table 5", "equal"))
    small = efficientdet("tiny")
    found += [Case(f"hrnet-pose:{width}", hrnet_pose(width), (128, 128)) for width in ("tiny", "small")]
    return [*found, Case("efficientdet:tiny", small, small.size), Case("tsn:tiny", tsn("tiny"), (112, 112))]


def group(name: str) -> str:
    """Returns the part of the network a layer belongs to."""
    parts = [part for part in name.split(".") if part not in ("body", "net")]
    if parts[0] == "backbone" and len(parts) > 1:
        return "backbone" if parts[1] == "blocks" else f"backbone.{parts[1]}"
    return parts[0].rstrip("0123456789") if parts[0].startswith(("conv", "transition")) else parts[0]


def row(case: Case) -> dict[str, Any]:
    """Returns one network's figures."""
    _, firing = ClipModel(case.model.to("meta"))(torch.zeros(1, 1, 3, *case.size, device="meta"))
    groups: Counter[str] = Counter()
    for call in firing.calls:
        if not any(part in call.name for part in case.uncounted):
            groups[group(call.name)] += call.macs
    macs = groups.total() * case.frames
    return {
        "network": case.name,
        "input": [case.frames, 3, *case.size],
        "macs": macs,
        "paper_macs": None if case.paper is None else case.paper * 1e9,
        "paper_source": case.source,
        "ratio": None if case.paper is None else macs / (case.paper * 1e9),
        "why": case.why,
        "groups": {name: count * case.frames for name, count in groups.items()},
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the rows as Markdown: ours beside the paper's, then where ours are."""
    lines = ["| network | input | G macs | paper | ours / paper |", "|---|---|---|---|---|"]
    for each in rows:
        frames, _, height, width = each["input"]
        size = f"{height}x{width}" + (f", {frames} frames" if frames > 1 else "")
        paper = "" if each["paper_macs"] is None else f"{each['paper_macs'] / 1e9:.2f} ({each['paper_source']})"
        ratio = "" if each["ratio"] is None else f"{each['ratio']:.4f}"
        lines.append(f"| {each['network']} | {size} | {each['macs'] / 1e9:.3f} | {paper} | {ratio} |")
    lines += ["", "| network | G macs by part |", "|---|---|"]
    for each in rows:
        parts = ", ".join(f"{name} {count / 1e9:.3f}" for name, count in each["groups"].items())
        lines.append(f"| {each['network']} | {parts} |")
    notes = dict.fromkeys(f"{each['network'].partition(':')[0]}: {each['why']}." for each in rows if each["why"])
    return "\n".join([*lines, "", *notes])


def main() -> None:
    """Runs, writes the JSON and prints the tables."""
    with torch.no_grad():
        rows = [row(case) for case in cases()]
    path = ROOT / "benchmarks" / "results" / "paper_macs.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
