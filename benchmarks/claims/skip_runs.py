"""The trainings behind the claims of Skip-Convolutions. `python -m benchmarks.claims.skip_runs NAME` does one."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch

from benchmarks.claims.runs import Run

SEEDS = (0, 1, 2)
RECIPES = {"puppets": "recipes/pose.py", "openfield": "recipes/pose.py", "street": "recipes/detection.py"}
CLASSIFIED = {"acts": "puppets", "fights": "actions"}  # tasks of recipes/classification.py, and their data
CLASS_BETAS = (0.1, 0.5)
# Weight of the gates' loss, by task: what presses a little, enough, and hard.
BETAS = {"puppets": (0.03, 0.1, 0.3), "openfield": (0.01, 0.05), "street": (0.1, 0.5)}
GATED = (("magnitude", "refresh"), ("magnitude", "residual"), ("gumbel", "residual"))
FRAME_BETAS = (0.3, 1.0)  # of gates on raw frames, which less does not move
RATIOS = (0.5, 0.3)  # macs an SVD leaves
PRUNING = (0.3, 1.0)  # weights of the L0 penalty
BLOCKS, BLOCK_BETAS = (4, 8), (0.01, 0.03)  # a block fires as soon as any of its positions does, so less is enough
MIDDLE = 0.1  # of the ablations, on puppets
UNTRAINED = {  # what needs no training, measured on the dense network
    "puppets": ("norm_gates", "key_frames", "flow"),
    "openfield": ("norm_gates", "key_frames"),
    "street": ("norm_gates", "key_frames", "flow"),
}


def runs() -> dict[str, Run]:
    """Returns every run by name, in the order to begin them."""
    found: dict[str, Run] = {}

    def add(task: str, name: str, seed: int, measures: tuple[str, ...] = ("plain",), **options: Any) -> None:
        base = {"data": task} if RECIPES[task] == "recipes/pose.py" else {}
        start = "" if name == "dense" else f"{task}/dense/{seed}"
        run = Run(f"{task}/{name}/{seed}", RECIPES[task], {**base, "seed": seed, **options}, measures, start)
        found[run.name] = run

    for seed in SEEDS:
        for task in RECIPES:
            add(task, "dense", seed, ("plain", *UNTRAINED[task]))
            add(task, "tuned", seed, ("plain",) if task == "openfield" else ("plain", "long_videos"))
            for beta in BETAS[task]:
                measures = ("plain", "references", "shares") + (("long_videos",) if task != "openfield" else ())
                for method, form in GATED if task != "openfield" or seed == 0 else GATED[:1]:
                    drawn = seed == 0 and (method, form, beta) == ("magnitude", "refresh", BETAS[task][-1])
                    more = (*measures, "mask_picture") if drawn else measures
                    add(task, f"{method}-{form}-{beta}", seed, more, method=method, form=form, beta=beta)
        for task in ("puppets", "street"):
            for beta in FRAME_BETAS:
                add(task, f"frames-{beta}", seed, method="frames", beta=beta)
        gated = {"method": "magnitude", "form": "refresh", "beta": MIDDLE}
        for block in BLOCKS:
            for beta in BLOCK_BETAS:
                measures = ("plain", "mask_picture") if seed == 0 and beta == BLOCK_BETAS[0] else ("plain",)
                add("puppets", f"block-{block}-{beta}", seed, measures, **{**gated, "block": block, "beta": beta})
        for clip in (4, 16):
            add("puppets", f"clip-{clip}", seed, ("references", "long_videos"), clip=clip, **gated)
        for ratio in RATIOS:
            for kind in ("spatial-svd", "weight-svd"):
                add("puppets", f"{kind}-{ratio}", seed, method=kind, ratio=ratio)
        for press in PRUNING:
            add("puppets", f"l0-{press}", seed, method="l0", beta=press)
        for beta in BETAS["puppets"][1:]:
            options = {"method": "spatial-svd+magnitude", "form": "refresh", "ratio": 0.5, "beta": beta}
            add("puppets", f"svd+magnitude-{beta}", seed, **options)
        for task, data in CLASSIFIED.items():
            base = {"data": data, "seed": seed}
            file, start = "recipes/classification.py", f"{task}/dense/{seed}"
            found[start] = Run(start, file, base, ("classes_25", "classes_6"))
            for segments in (25, 6):
                options, measures = {**base, "segments": segments}, (f"classes_{segments}",)
                name = f"{task}/tuned-{segments}/{seed}"
                found[name] = Run(name, file, options, measures, start)
                for beta in CLASS_BETAS:
                    name = f"{task}/magnitude-{segments}-{beta}/{seed}"
                    gated = {**options, "method": "magnitude", "form": "refresh", "beta": beta}
                    found[name] = Run(name, file, gated, measures, start)
    return found


def carry_out(name: str) -> dict[str, Any]:
    """Trains one run (or goes on with it), measures it, and returns its row."""
    from benchmarks.claims.measures import MEASURES, TASKS
    from saccade.skip import ClipModel
    from saccade.train import load_recipe, train

    torch.set_num_threads(1)
    every = runs()
    run = every[name]
    recipe = load_recipe(run.recipe, run.all_options(every))
    began = time.monotonic()
    trained = train(recipe, run.folder, accelerator="cpu", tensorboard=False)
    if trained.stopped:
        raise SystemExit(f"{name} was stopped by {trained.stopped} at step {trained.step} of {trained.steps}")
    model = trained.model.eval()
    assert isinstance(model, ClipModel)
    row: dict[str, Any] = {"train_seconds": round(time.monotonic() - began), "steps": trained.steps, "measures": {}}
    for measure in run.measures:
        row["measures"][measure] = MEASURES[measure](TASKS[name.split("/")[0]], model)
    row["seconds"] = round(time.monotonic() - began)
    return row


if __name__ == "__main__":
    print(json.dumps(carry_out(sys.argv[1])))
