"""The shipped detector on unseen rendered streets: average precision and macs, dense and streamed.

    python -m benchmarks.street          # writes benchmarks/results/street.json and prints its table

The scenes are rendered (static camera, sensor noise, H.264), with seeds that training never used. All settings see the
same frames in one run. "every 2nd frame" runs the dense network on every second frame and repeats its result, the
plainest way to halve the cost.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

import saccade
from benchmarks.environment import ROOT, environment
from saccade.data.street import StreetConfig, StreetLabels, encode_and_decode, render_street
from saccade.evaluate.detection import Detections, average_precision, matched_f1
from saccade.zoo import load_model
from saccade.zoo.street_detector import decode

FIRST_SEED = 500_000  # the recipe trains, validates and tests below this
HIDDEN = 0.25  # vehicles of which less is visible need not be found
SETTINGS: dict[str, dict[str, float]] = {
    "threshold 0": {"threshold": 0.0},
    "tolerance 0.01": {"tolerance": 0.01},
    "tolerance 0.03": {"tolerance": 0.03},
    "tolerance 0.05": {"tolerance": 0.05},
    "tolerance 0.1": {"tolerance": 0.1},
}


def truth(labels: StreetLabels) -> tuple[Detections, torch.Tensor]:
    """Returns a frame's boxes, and which of them need not be found."""
    boxes = torch.from_numpy(labels.boxes)
    found = Detections(boxes, torch.ones(len(boxes)), torch.from_numpy(labels.classes))
    return found, torch.from_numpy(labels.visible < HIDDEN)


def run(scenes: int, frames: int) -> dict[str, Any]:
    """Returns a row per setting."""
    loaded = load_model("street-detector")
    network = loaded.as_callable()
    plan = saccade.make_plan(loaded.model, loaded.example, preprocess=loaded.preprocess, name=loaded.name)
    names = ["dense", "every 2nd frame", *SETTINGS]
    found: dict[str, list[Detections]] = {name: [] for name in names}
    macs = {name: 0 for name in names}
    wanted: list[Detections] = []
    ignored: list[torch.Tensor] = []
    dense_macs = 0
    for seed in range(FIRST_SEED, FIRST_SEED + scenes):
        video = encode_and_decode(render_street(StreetConfig(seed=seed, frames=frames)))
        streams = {name: saccade.Stream(plan, **setting) for name, setting in SETTINGS.items()}
        held = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
        for index, picture in enumerate(video.frames):
            boxes, hidden = truth(video.labels[index])
            wanted.append(boxes)
            ignored.append(hidden)
            x = streams["threshold 0"].preprocess(picture)  # type: ignore[misc]
            with torch.no_grad():
                dense = decode(network(x), score_threshold=0.05)[0]
            found["dense"].append(dense)
            held = dense if index % 2 == 0 else held
            found["every 2nd frame"].append(held)
            dense_macs += plan.dense_macs
            macs["dense"] += plan.dense_macs
            macs["every 2nd frame"] += plan.dense_macs * (index % 2 == 0)
            for name, stream in streams.items():
                found[name].append(decode(stream(x), score_threshold=0.05)[0])
                macs[name] += stream.cost.executed_macs + stream.cost.gate_macs
    rows = []
    for name in names:
        scores = average_precision(found[name], wanted, ignored=ignored)
        sure = [[_sure(item) for item in found[which]] for which in (name, "dense")]
        rows.append(
            {
                "setting": name,
                "ap": scores.ap,
                "ap50": scores.ap50,
                "f1_with_dense": matched_f1(*sure),
                "macs_ratio": dense_macs / macs[name],
            }
        )
    return {"scenes": scenes, "frames": scenes * frames, "dense_macs_per_frame": plan.dense_macs, "rows": rows}


def _sure(found: Detections, *, score: float = 0.3) -> Detections:
    keep = found.scores >= score
    return Detections(found.boxes[keep], found.scores[keep], found.labels[keep])


def table(result: dict[str, Any]) -> str:
    """Returns the result as a Markdown table."""
    lines = ["| | AP | AP50 | F1 with dense | macs / |", "|---|---|---|---|---|"]
    for row in result["rows"]:
        lines.append(
            f"| {row['setting']} | {row['ap']:.3f} | {row['ap50']:.3f} | {row['f1_with_dense']:.4f} "
            f"| {row['macs_ratio']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Runs, writes the JSON and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--frames", type=int, default=50, help="frames of every scene")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "street.json")
    arguments = parser.parse_args()
    started = time.time()
    result = run(arguments.scenes, arguments.frames)
    result = {"environment": environment(), "minutes": round((time.time() - started) / 60, 1), **result}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
