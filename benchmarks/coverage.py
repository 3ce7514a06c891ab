"""Share of the macs in steps with a sparse form, for networks people use.

    python -m benchmarks.coverage        # writes benchmarks/results/coverage.json and prints its table

timm and effdet networks have random weights: the plan, its forms and its macs do not depend on them.
"""

from __future__ import annotations

import json
import time
from typing import Any

import saccade
from benchmarks.assets import ASSETS, NETWORKS, network
from benchmarks.environment import ROOT, environment
from saccade.zoo import load_model

NAMED = (
    "timm:hrnet_w32",
    "timm:resnet101",
    "timm:tf_efficientnet_b3",
    "timm:mobilenetv2_100",
    "effdet:tf_efficientdet_d0",
    "street-detector",
)


def row(name: str, model: str) -> dict[str, Any]:
    """Returns one network's figures."""
    loaded = load_model(model)
    began = time.perf_counter()
    plan = saccade.make_plan(loaded.model, loaded.example, name=name)
    seconds = time.perf_counter() - began
    return {
        "model": name,
        "input": [list(tensor.shape) for tensor in loaded.example],
        "steps": len(plan.steps),
        "dense_macs": plan.dense_macs,
        "sparse_macs_share": plan.sparse_macs_share,
        "dense_steps": [[step.name, step.reason] for step in plan.steps if step.form == "dense"],
        "seconds_to_plan": round(seconds, 1),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the rows as a Markdown table."""
    lines = ["| network | input | steps | G macs | in sparse steps |", "|---|---|---|---|---|"]
    for each in rows:
        size = "x".join(map(str, each["input"][0][2:]))
        share = f"{100 * each['sparse_macs_share']:.2f} %"
        lines.append(f"| {each['model']} | {size} | {each['steps']} | {each['dense_macs'] / 1e9:.2f} | {share} |")
    return "\n".join(lines)


def main() -> None:
    """Runs, writes the JSON and prints the table."""
    wanted = {name: name for name in NAMED}
    if ASSETS.is_dir():
        wanted |= {name: str(network(name)) for name in NETWORKS}
    rows = [row(name, model) for name, model in wanted.items()]
    path = ROOT / "benchmarks" / "results" / "coverage.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
