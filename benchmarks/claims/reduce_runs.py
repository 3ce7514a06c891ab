"""The trainings behind the claims of VA-RED2. `python -m benchmarks.claims.reduce_runs NAME` does one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.claims.runs import Run, answer
from recipes.reduction import STEPS
from recipes.reduction_methods import RAMP

RECIPE = "recipes/reduction.py"
SEEDS = (0, 1, 2)
ABLATED = 0  # the seed with every setting; the others have what a goal is set for
PAPERS = 0.8  # the paper's lambda_e
WEIGHTS = (0.2, PAPERS, 2.0)  # lambda_e of what is ranked
FROM_SCRATCH = {"steps": STEPS["dense"] + STEPS["reduced"]}  # of networks that are smaller: as long as both stages
# Rivals by name: the options of the recipe, and whether they start from the dense network.
RIVALS: dict[str, tuple[dict[str, Any], bool]] = {
    "narrow": ({"width": "narrow", **FROM_SCRATCH}, False),
    "half": ({"width": "half", **FROM_SCRATCH}, False),
    "half-rate": ({"stride": 2, **FROM_SCRATCH}, False),
    "weights-0.5": ({"method": "weights", "press": 0.5}, True),
    "filters-0.5": ({"method": "filters", "press": 0.5}, True),
    "gating-1": ({"method": "gating", "press": 1.0}, True),
    "resolution-1": ({"method": "resolution", "press": 1.0}, True),
}
# Search space and cheap operations, all with method both and the larger lambda_e.
ABLATIONS: dict[str, dict[str, Any]] = {
    "space-3": {"space": 3},
    "time-copied": {"cheap_time": "copy"},
    "channels-scaled": {"cheap_channels": "scale"},
}
# Twice the steps, in which layers close as soon as in the others: what goes out of use has longer to be made up for.
LONGER: dict[str, Any] = {"steps": 2 * STEPS["reduced"], "ramp": RAMP / 2}
# What R(2+1)D is trained for besides, under a name of its own: the options of the recipe.
ALSO: dict[str, dict[str, Any]] = {"actions": {"data": "actions"}, "longer": {}}
# Of poses in rendered videos, which network carries both methods: their options, and how hard each presses. Names and
# options of what `skip` trains too are those it has there, so that it is trained once.
POSES: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "magnitude-refresh": ({"method": "magnitude", "form": "refresh"}, (0.3, 1.0, 3.0)),
    "reduce": ({"method": "reduce"}, (0.3, 1.0)),
    "skip+reduce": ({"method": "magnitude+reduce", "form": "refresh"}, (0.3, 1.0)),
}
POSE_MINUTES = {"dense": 8.0, "tuned": 1.5, "gates": 3.0}
# Dense and reduced, one seed; and their lambda_e.
OTHERS = {"i3d": WEIGHTS[-1:], "tpn": WEIGHTS[1:], "corrnet": WEIGHTS[-1:]}
ON_TRUNK = ("tpn", "corrnet")  # dense ones begin with the body of the dense R(2+1)D, and learn for fewer steps
TRUNK_STEPS = 1000
# Other tasks, dense and reduced, one seed: the recipe, what VA-RED2 may leave out, and lambda_e.
TASKS: dict[str, tuple[str, str, tuple[float, ...]]] = {
    "yowo": ("recipes/localisation.py", "both", WEIGHTS[-1:]),
    "pspnet": ("recipes/segmentation.py", "channels", WEIGHTS),
}
TASK_MINUTES = {
    "yowo": {"dense": 19.0, "tuned": 4.3, "both": 8.0},
    "pspnet": {"dense": 2.5, "tuned": 1.5, "channels": 2.5},
}
# Seconds per training step of 16 clips, one thread beside another training on a 2-core machine with AVX-512; what has
# not been run in this way is estimated from these.
SECONDS: dict[str, dict[str, float]] = {
    "r2plus1d": {"dense": 0.16, "tuned": 0.2, "both": 0.3, "time": 0.28, "channels": 0.28, "weights": 0.22,
                 "filters": 0.22, "gating": 0.3, "resolution": 0.35, "narrow": 0.13, "half": 0.09, "half-rate": 0.09,
                 "space-3": 0.5},
    "x3d": {"dense": 0.2, "tuned": 0.23, "both": 0.4},
    "i3d": {"dense": 0.09, "both": 0.22},
    "tpn": {"dense": 0.2, "both": 0.42},
    "corrnet": {"dense": 0.4, "both": 0.55},
    "actions": {"dense": 0.16, "both": 0.28},
    "longer": {"dense": 0.16, "tuned": 0.2, "both": 0.3},
}  # fmt: skip
MEASURING = 0.5  # minutes: accuracy and macs over 600 test clips


def runs() -> dict[str, Run]:
    """Returns every run by name, in the order to begin them."""
    found: dict[str, Run] = {}

    def add(
        network: str, name: str, seed: int, more: tuple[str, ...] = (), *, goes_on: bool = True, **options: Any
    ) -> None:
        task, given_as = network, "start"
        if network in ALSO:
            network, options = "r2plus1d", {**ALSO[network], **options}
        start = f"{task}/dense/{seed}" if goes_on and name != "dense" else ""
        if start:
            steps = STEPS["reduced"]
        elif network in ON_TRUNK:
            start, given_as, steps = f"r2plus1d/dense/{seed}", "trunk", TRUNK_STEPS
        else:
            steps = STEPS["dense"]
        steps = options.get("steps") or steps
        known = SECONDS[task]
        kind = name if name in known else options.get("method", "dense")
        minutes = steps * known[kind] / 60 + MEASURING + (0.5 if more else 0)
        options = {"network": network, "seed": seed, "steps": steps, **options}
        run = Run(f"{task}/{name}/{seed}", RECIPE, options, ("plain", *more), start, minutes, given_as)
        found[run.name] = run

    def add_reduced(network: str, seed: int, weights: Sequence[float], *, whole: bool) -> None:
        add(network, "dense", seed, ("redundancy",) if whole else ())
        add(network, "tuned", seed)
        for weight in weights:
            more = ("policies",) if whole else ()
            add(network, f"both-{weight}", seed, more, method="both", efficiency=weight)

    def add_other(recipe: str, task: str, name: str, seed: int, minutes: float, **options: Any) -> None:
        start = f"{task}/dense/{seed}" if name != "dense" else ""
        run = Run(f"{task}/{name}/{seed}", recipe, {"seed": seed, **options}, ("plain",), start, minutes)
        found[run.name] = run

    for seed in SEEDS:
        whole = seed == ABLATED
        add_reduced("r2plus1d", seed, WEIGHTS[::-1], whole=whole)
        for method in ("time", "channels") if whole else ():
            add("r2plus1d", f"{method}-{WEIGHTS[-1]}", seed, method=method, efficiency=WEIGHTS[-1])
        if whole:
            add("r2plus1d", "free", seed, method="both", efficiency=0.0)
        for name, (options, goes_on) in RIVALS.items() if whole else ():
            add("r2plus1d", name, seed, goes_on=goes_on, **options)
        add_reduced("x3d", seed, WEIGHTS[::-1] if whole else (PAPERS,), whole=whole)
        for name, options in ABLATIONS.items() if whole else ():
            add("r2plus1d", name, seed, method="both", efficiency=WEIGHTS[-1], **options)
        for network, weights in OTHERS.items() if whole else ():
            add_reduced(network, seed, weights[::-1], whole=False)
        if whole:
            add("actions", "dense", seed, steps=600)
            add("actions", "tuned", seed, steps=300)
            add("actions", f"both-{WEIGHTS[-1]}", seed, method="both", efficiency=WEIGHTS[-1], steps=300)
    for seed in SEEDS:
        add("longer", "dense", seed)
    for seed in SEEDS:
        add("longer", f"both-{WEIGHTS[-1]}", seed, method="both", efficiency=WEIGHTS[-1], **LONGER)
    for seed in SEEDS:
        add("longer", "tuned", seed, steps=LONGER["steps"])
    for task, (recipe, method, weights) in TASKS.items():
        minutes = TASK_MINUTES[task]
        for name in ("dense", "tuned"):
            add_other(recipe, task, name, ABLATED, minutes[name])
        for weight in weights[::-1]:
            press = {"method": method, "efficiency": weight}
            add_other(recipe, task, f"{method}-{weight}", ABLATED, minutes[method], **press)
    add_pose = partial(add_other, "recipes/pose.py", "puppets", data="puppets")
    for seed in SEEDS:
        add_pose("dense", seed, POSE_MINUTES["dense"])
        add_pose("tuned", seed, POSE_MINUTES["tuned"])
        for name, (options, betas) in POSES.items():
            for beta in betas:
                add_pose(f"{name}-{beta}", seed, POSE_MINUTES["gates"], **options, beta=beta)
    return found


def measure(_: Run, what: str, recipe: Any, model: Any) -> Any:
    """Returns a measure of a trained network, by name."""
    from benchmarks.claims.reduce_measures import MEASURES

    return MEASURES[what](recipe, model)


if __name__ == "__main__":
    answer(runs(), measure)
