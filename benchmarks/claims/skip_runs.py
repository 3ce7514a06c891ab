"""The trainings behind the claims of Skip-Convolutions. `python -m benchmarks.claims.skip_runs NAME` does one."""

from __future__ import annotations

from typing import Any

from benchmarks.claims.runs import Run, answer

SEEDS = (0, 1, 2)
ABLATED = 0  # the seed with every setting; the others have those that are ranked
RECIPES = {"puppets": "recipes/pose.py", "openfield": "recipes/pose.py", "street": "recipes/detection.py"}
CLASSIFIED = {"acts": "puppets", "fights": "actions"}  # tasks of recipes/classification.py, and their data
CLASS_BETAS = (0.1, 0.5)
# Weight of the gates' loss, by task: what presses a little, enough, and hard.
BETAS = {"puppets": (0.03, 0.1, 0.3), "openfield": (0.01, 0.05), "street": (0.02, 0.1, 0.5)}
RANKED = {"puppets": (0.1, 0.3), "street": (0.02, 0.1, 0.5)}  # of those, with the other seeds
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

    def add_gates(task: str, seed: int) -> None:
        whole = seed == ABLATED
        add(task, "dense", seed, ("plain", *UNTRAINED[task]))
        more = whole and task == "puppets"  # where clip lengths and depth are looked at
        add(task, "tuned", seed, ("plain", "long_videos") if more else ("plain",))
        for method, form, beta in gated_settings(task, whole):
            measures = ("plain", "references", "shares", "long_videos") if more else ("plain",)
            if whole and (method, form, beta) == ("magnitude", "refresh", BETAS[task][-1]):
                measures += ("mask_picture",)
            add(task, f"{method}-{form}-{beta}", seed, measures, method=method, form=form, beta=beta)

    for seed in SEEDS:
        whole = seed == ABLATED
        for task in ("street", "puppets", "openfield") if whole else ("street", "puppets"):  # of the last one seed
            add_gates(task, seed)
        for task in ("street", "puppets"):
            for beta in FRAME_BETAS if whole else FRAME_BETAS[:1]:
                add(task, f"frames-{beta}", seed, method="frames", beta=beta)
        gated = {"method": "magnitude", "form": "refresh", "beta": MIDDLE}
        for block in BLOCKS:
            for beta in BLOCK_BETAS if whole else BLOCK_BETAS[:1]:
                measures = ("plain", "mask_picture") if whole and beta == BLOCK_BETAS[0] else ("plain",)
                add("puppets", f"block-{block}-{beta}", seed, measures, **{**gated, "block": block, "beta": beta})
        for ratio in RATIOS:
            for kind in ("spatial-svd", "weight-svd"):
                add("puppets", f"{kind}-{ratio}", seed, method=kind, ratio=ratio)
        for press in PRUNING if whole else PRUNING[-1:]:
            add("puppets", f"l0-{press}", seed, method="l0", beta=press)
        for beta in BETAS["puppets"][1:]:
            options = {"method": "spatial-svd+magnitude", "form": "refresh", "ratio": 0.5, "beta": beta}
            add("puppets", f"svd+magnitude-{beta}", seed, **options)
        for clip in (4, 16) if whole else ():
            add("puppets", f"clip-{clip}", seed, ("references", "long_videos"), clip=clip, **gated)
    for task, data in CLASSIFIED.items():
        add_classification(found, task, data, ABLATED)
    return found


def gated_settings(task: str, whole: bool) -> list[tuple[str, str, float]]:
    """Returns method, form and beta of the gates to train for a task: with one seed all, with the others a few."""
    if whole:
        forms = GATED if task != "street" else (GATED[0], GATED[-1])
        return [(*gate, beta) for gate in forms for beta in BETAS[task]]
    return [(*GATED[0], beta) for beta in RANKED[task]] + [(*GATED[-1], BETAS[task][-1])]


def add_classification(found: dict[str, Run], task: str, data: str, seed: int) -> None:
    """Adds the runs of TSN to those found."""
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


def measure(run: Run, what: str, _: Any, model: Any) -> Any:
    """Returns a measure of a trained network, by name."""
    from benchmarks.claims.measures import MEASURES, TASKS

    return MEASURES[what](TASKS[run.name.split("/")[0]], model)


if __name__ == "__main__":
    answer(runs(), measure)
