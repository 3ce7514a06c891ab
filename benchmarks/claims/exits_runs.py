"""The trainings behind the claims of FrameExit. `python -m benchmarks.claims.exits_runs NAME` does one."""

from __future__ import annotations

from typing import Any

from benchmarks.claims.runs import Run, answer

RECIPE, RIVALS_RECIPE = "recipes/exits.py", "recipes/exit_rivals.py"
SEEDS = (0, 1, 2)
ABLATED = 0  # the seed with every setting; the others have those that are ranked
BETA = {"films": 0.01, "pairs": 0.001, "actions": 0.01}  # of the network trained whole
BETAS = {  # of gates that are learned alone
    "films": (0.0003, 0.001, 0.003, 0.005, 0.03, 0.1),
    "pairs": (0.0001, 0.01),
    "actions": (),
}
ORDERS = ("sequential", "random")
POOLINGS = ("none", "average", "lstm", "attention")
RANKED = ("none", "average")  # of the poolings, with every seed
FRAMES = (4, 8, 16)  # beside 10
BACKBONES = ("mobilenetv3-small", "resnet50", "efficientnet-b3")
SELECTED = (2, 4, 6)  # frames that are selected at once
PRESSES = (0.3, 1.0)  # weight of the macs in the loss of resolution selection
# Minutes of one core, beside other work on a 2-core machine with AVX-512.
MINUTES = {
    "films": 12.0,
    "pairs": 12.0,
    "actions": 15.0,
    "gates": 4.0,
    "mobilenetv3-small": 60.0,
    "resnet50": 60.0,
    "efficientnet-b3": 330.0,  # by its first 150 steps
}


def runs() -> dict[str, Run]:
    """Returns every run by name, in the order to begin them."""
    found: dict[str, Run] = {}

    def add(data: str, name: str, seed: int, *, start: str = "", minutes: float = 0.0, **options: Any) -> None:
        options = {"data": data, "seed": seed, **options}
        minutes = minutes or MINUTES["gates" if start else data]
        run = Run(f"{data}/{name}/{seed}", RECIPE, options, ("plain", "left"), start, minutes)
        found[run.name] = run

    def add_rival(name: str, seed: int, **options: Any) -> None:
        options = {"data": "films", "seed": seed, **options}
        found[f"films/{name}/{seed}"] = Run(
            f"films/{name}/{seed}", RIVALS_RECIPE, options, ("plain",), "", MINUTES["films"]
        )

    for seed in SEEDS:
        whole = seed == ABLATED
        for data, beta in BETA.items():
            if data == "actions" and not whole:
                continue  # single pictures do not tell the surveillance clips: one run shows it
            pooling = {"pooling": "average"} if data == "pairs" else {}  # the paper's, of several labels
            add(data, "base", seed, beta=beta, **pooling)
            for other in BETAS[data]:
                add(data, f"gates-{other}", seed, start=f"{data}/base/{seed}", beta=other, **pooling)
        add("pairs", "max", seed, beta=BETA["pairs"], pooling="max")
        for order in ORDERS:
            add("films", order, seed, beta=BETA["films"], order=order)
        for pooling in POOLINGS:
            if whole or pooling in RANKED:
                add("films", f"pooling-{pooling}", seed, beta=BETA["films"], pooling=pooling)
        for frames in FRAMES:
            add("films", f"frames-{frames}", seed, beta=BETA["films"], frames=frames)
        add_rival("average", seed, method="average")
        for count in SELECTED:
            add_rival(f"one-shot-{count}", seed, method="one-shot", budget=count)
        for press in PRESSES:
            add_rival(f"resolution-{press}", seed, method="resolution", press=press)
    for backbone in BACKBONES:
        add("films", backbone, ABLATED, beta=BETA["films"], backbone=backbone, minutes=MINUTES[backbone])
    return found


def measure(_: Run, what: str, recipe: Any, model: Any) -> Any:
    """Returns a measure of a trained network, by name."""
    from benchmarks.claims.exits_measures import MEASURES

    return MEASURES[what](recipe, model)


if __name__ == "__main__":
    answer(runs(), measure)
