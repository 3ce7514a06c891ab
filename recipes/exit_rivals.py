r"""What a video shows, by the rivals of FrameExit that learn for themselves, on the videos of recipes/exits.py.

    saccade train recipes/exit_rivals.py --out out/films-average
    saccade train recipes/exit_rivals.py --out out/films-three --set method=one-shot --set budget=3
    saccade train recipes/exit_rivals.py --out out/films-sizes --set method=resolution --set press=1.0
    saccade evaluate recipes/exit_rivals.py --weights out/films-sizes --set method=resolution

"average" is the mean over frames, evaluated on frames spread evenly and on frames at random, 1 to T of them;
"one-shot" is `OneShot`, evaluated with every budget; "resolution" is `FrameResolution`. All have the backbone and the
layer behind it that FrameExit has there, and as many steps. Policies choose at random in the first steps. With `start`,
the folder of a training of "average", the network begins with that one's weights.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipes.act_clips import SIZE as ACTS_SIZE
from recipes.act_clips import Acts
from recipes.exits import CLASSES, STEPS, augment_visits
from recipes.film_clips import SIZE as FILMS_SIZE
from recipes.film_clips import Films
from recipes.pose_clips import pictures
from saccade.errors import RecipeError
from saccade.evaluate.classify import top_k_accuracy
from saccade.exits import frames_to_visit
from saccade.rivals.frame_average import FrameAverage
from saccade.rivals.frame_resolution import FrameResolution
from saccade.rivals.one_shot import OneShot
from saccade.train import Recipe, read_weights
from saccade.zoo.frame_exit import BACKBONES, frame_backbone

SIDE = {"films": FILMS_SIZE, "actions": ACTS_SIZE["actions"]}
SIZES = (1, 3 / 4, 1 / 2)  # sides of the frames that resolution selection chooses from, over the whole side
EVEN = 0.3  # weight of the loss for using all sizes, and skipping, alike
WARM_UP = 0.25  # of the steps have random choices
DROPS = (0.6, 0.85)  # of the steps go by before the rate drops to a tenth


def recipe(
    *,
    data: Literal["films", "actions"] = "films",
    method: Literal["average", "one-shot", "resolution"] = "average",
    budget: int = 4,
    press: float = 0.5,
    frames: int = 10,
    backbone: str = "tiny",
    hidden: int = 256,
    seed: int = 0,
    steps: int = 0,
    rate: float = 1e-3,
    batch: int = 16,
    start: str = "",
) -> Recipe:
    """Return the recipe; `frames` is T, `budget` k of "one-shot", `press` the weight of the macs of "resolution"."""
    if not 1 <= budget <= frames:
        raise RecipeError(f"budget is {budget}; expected 1 to {frames}, the number of frames")
    steps = steps or STEPS[data]
    clips = {"films": Films, "actions": partial(Acts, "actions")}[data]
    tell: Callable[[Any, Any], dict[str, float]] = {
        "average": partial(measure_average, frames=frames),
        "one-shot": measure_one_shot,
        "resolution": measure_resolution,
    }[method]

    def build() -> nn.Module:
        network = FrameAverage(
            frame_backbone(backbone, seed=seed),
            features=BACKBONES[backbone].features,
            classes=CLASSES[data],
            hidden=hidden,
        )
        if start:
            read_weights(Path(start)).load_into(network)
        example = torch.zeros(1, frames, 3, SIDE[data], SIDE[data])
        if method == "one-shot":
            return OneShot(network, budget=budget, example=example)
        if method == "resolution":
            return FrameResolution(network, [round(SIDE[data] * size) for size in SIZES], example=example)
        return network

    def loss(model: Any, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        found = model(pictures(batch["frames"]))
        if method == "average":
            return {"loss": F.cross_entropy(found, batch["label"])}
        logits, cost = found
        task = F.cross_entropy(logits, batch["label"])
        share = (cost.macs.mean() / cost.dense_macs).float()
        if method == "one-shot" or model.exploring:
            return {"loss": task, "task": task, "macs": share}
        return {"loss": task + press * cost.expected() + EVEN * cost.unevenness(), "task": task, "macs": share}

    def warm_up(model: Any, step: int) -> None:
        model.exploring = method != "average" and step <= WARM_UP * steps

    return Recipe(
        name=f"{data}-{method}",
        build=build,
        data=lambda: clips("train"),
        loss=loss,
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=rate),
        schedule=lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, [round(d * steps) for d in DROPS]),
        augment=partial(augment_visits, frames=frames, order="sequential"),
        validate=(lambda model: tell(model, clips("validation"))) if data == "films" else None,
        evaluate=lambda model: tell(model, clips("test")),
        steps=steps,
        batch=batch,
        seed=seed,
        before_step=warm_up,
        clip_norm=10.0,
        log_every=50,
        checkpoint_every=200,
    )


def evenly(count: int) -> Callable[[int, int], Sequence[int]]:
    """Return which frames of a video, given its number and its length: the middles of `count` equal parts."""
    return lambda index, length: frames_to_visit(length, count, "sequential")


def at_random(count: int) -> Callable[[int, int], Sequence[int]]:
    """Return the same for `count` frames at random, always the same ones; those of a smaller count are among them."""
    return lambda index, length: random.Random(index).sample(range(length), length)[:count]


def run(
    model: nn.Module, data: Any, pick: Callable[[int, int], Sequence[int]], *, batch: int = 12
) -> tuple[float, list[Any]]:
    """Return top-1 in percent on those frames of each video that `pick` says, and the costs of the batches."""
    device = next(model.parameters()).device
    said, labels, costs = [], [], []
    for first in range(0, len(data), batch):
        samples = [(index, data[index]) for index in range(first, min(first + batch, len(data)))]
        videos = [torch.from_numpy(one["frames"])[list(pick(index, len(one["frames"])))] for index, one in samples]
        found = model(pictures(torch.stack(videos).to(device)))
        logits, cost = found if isinstance(found, tuple) else (found, None)
        said.append(logits.cpu())
        labels += [int(one["label"]) for _, one in samples]
        costs.append(cost)
    return 100 * top_k_accuracy(torch.cat(said), torch.tensor(labels)), costs


@torch.no_grad()
def measure_average(model: FrameAverage, data: Any, *, frames: int) -> dict[str, float]:
    """Return accuracy and macs of 1 to T frames, `uniform-K` and `random-K`, and the macs of T, `dense_macs`."""
    macs = model.macs(torch.zeros(1, *data[0]["frames"].shape[1:], device=next(model.parameters()).device))
    found = {"dense_macs": float(macs.executed(frames))}
    for count in range(1, frames + 1):
        for name, pick in {"uniform": evenly(count), "random": at_random(count)}.items():
            found[f"{name}-{count}_top1"] = run(model, data, pick)[0]
            found[f"{name}-{count}_macs"] = float(macs.executed(count))
    return found


@torch.no_grad()
def measure_one_shot(model: OneShot, data: Any) -> dict[str, float]:
    """Return accuracy, frames and macs of the budget that was trained, accuracy and macs of each, `budget-K`."""
    trained, found = model.budget, {}
    try:
        for count in range(1, model.frames + 1):
            model.budget = count
            found[f"budget-{count}_top1"], costs = run(model, data, evenly(model.frames))
            found[f"budget-{count}_macs"] = float(torch.cat([cost.macs for cost in costs]).mean())
    finally:
        model.budget = trained
    own = {name: found[f"budget-{trained}_{name}"] for name in ("top1", "macs")}
    return {**own, "frames": float(trained), "dense_macs": float(costs[0].dense_macs), **found}


@torch.no_grad()
def measure_resolution(model: FrameResolution, data: Any) -> dict[str, float]:
    """Return accuracy, macs, frames that are not skipped, and the share of all frames run at each size, `at-SIZE`."""
    accuracy, costs = run(model, data, evenly(model.frames))
    use = torch.cat([cost.choices.cpu() for cost in costs]).double().mean(0).tolist()
    return {
        "top1": accuracy,
        "macs": float(torch.cat([cost.macs for cost in costs]).mean()),
        "dense_macs": float(costs[0].dense_macs),
        "frames": model.frames * (1 - use[-1]),
        **{f"at-{size}": share for size, share in zip(model.sizes, use[:-1], strict=True)},
    }
