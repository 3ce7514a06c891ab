r"""What a video shows, looking at no more of its frames than that takes: FrameExit, trained in its two stages.

    saccade train recipes/exits.py --out out/films
    saccade evaluate recipes/exits.py --weights out/films
    saccade train recipes/exits.py --out out/films-early --set start=out/films --set beta=0.03
    saccade train recipes/exits.py --out out/pairs --set data=pairs --set pooling=average
    saccade train recipes/exits.py --out out/actions --set data=actions --set backbone=motion --set hidden=32 \
        --set frames=6 --set pooling=average

The first three quarters of the steps train backbone and classifiers, the rest the gates. With `start`, another
training's folder, its backbone and classifiers stay as they are and only gates are learned, anew: so a network is
trained once for all `beta`. Evaluation tells what every rule gives on the same network: the learned gates at several
thresholds, confidence, fixed budgets, the oracle; for films, the gates also by difficulty and by length. Pairs are two
films on end, with two labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from recipes.act_clips import CLASSES as ACTS
from recipes.act_clips import Acts, Moments
from recipes.film_clips import FilmPairs, Films
from recipes.pose_clips import light, pictures
from saccade.data.puppets_films import DIFFICULTIES, DIFFICULTY, FILM_CLASSES, LENGTHS
from saccade.errors import RecipeError
from saccade.evaluate.classify import mean_average_precision, top_k_accuracy
from saccade.exits import (
    Confidence,
    ExitMacs,
    ExitRule,
    Exits,
    FixedBudget,
    FrameExit,
    LearnedGate,
    Oracle,
    Order,
    Outputs,
    TwoStages,
    decide,
    exit_losses,
    exit_macs,
    frames_to_visit,
    visiting_order,
)
from saccade.exits.pooling import PoolingName
from saccade.train import Recipe, read_weights
from saccade.zoo.frame_exit import BACKBONES, frame_exit

DATA = {"films": Films, "pairs": FilmPairs, "actions": partial(Acts, "actions")}
CLASSES = {"films": len(FILM_CLASSES), "pairs": len(FILM_CLASSES), "actions": ACTS["actions"]}
STEPS = {"films": 1600, "pairs": 1600, "actions": 800}
GATES = 0.25  # of the steps are those of the gates
THRESHOLDS = (0.3, 0.7, 0.9)  # of the learned gates, beside 0.5
SURE = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)  # of the confidence


def recipe(
    *,
    data: Literal["films", "pairs", "actions"] = "films",
    backbone: str = "tiny",
    frames: int = 10,
    pooling: PoolingName = "max",
    order: Order = "coarse-to-fine",
    beta: float = 0.01,
    start: str = "",
    seed: int = 0,
    hidden: int = 256,
    steps: int = 0,
    rate: float = 3e-3,
    gate_rate: float = 3e-3,
    batch: int = 16,
) -> Recipe:
    """Return the recipe; `frames` is the paper's T, `beta` as in eq. 6, `hidden` as of `FrameExit`."""
    if not beta > 0:
        raise RecipeError(f"beta is {beta}; expected more than 0")
    steps = steps or (round(GATES * STEPS[data]) if start else STEPS[data])
    gates = steps if start else max(1, round(GATES * steps))
    stages = TwoStages(classifiers=steps - gates, gates=gates)
    clips: Callable[[str], Any] = DATA[data]
    size = BACKBONES[backbone].size
    if len(size) == 4:
        if data != "actions":
            raise RecipeError(f"{backbone} looks at clips, which {data} have none of; expected data=actions")
        clips = partial(Moments, clip=size[1], size=size[2])

    def build() -> nn.Module:
        model = frame_exit(
            backbone,
            classes=CLASSES[data],
            frames=frames,
            hidden=hidden,
            pooling=pooling,
            multi_label=data == "pairs",
            order=order,
            seed=seed,
        )
        if start:
            fresh = {name: value.clone() for name, value in model.gates.state_dict().items()}
            read_weights(Path(start)).load_into(model)
            model.gates.load_state_dict(fresh)
        return model

    def loss(model: FrameExit, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return exit_losses(model(inputs(batch["frames"])), batch["label"], beta=beta, stage=model.stage)

    return Recipe(
        name=data,
        build=build,
        data=lambda: clips("train"),
        loss=loss,  # type: ignore[arg-type]
        optimizer=partial(adam, rate=rate, gate_rate=gate_rate),
        schedule=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, stages.rate_factor),
        augment=partial(augment_visits, frames=frames, order=order),
        validate=(lambda model: measure(model, clips("validation"), rules={})) if data != "actions" else None,  # type: ignore[arg-type]
        evaluate=lambda model: {"beta": beta, **measure(model, clips("test"))},  # type: ignore[arg-type]
        steps=steps,
        batch=batch,
        seed=seed,
        before_step=stages,
        clip_norm=10.0,
        log_every=50,
        checkpoint_every=200,
    )


def adam(model: FrameExit, *, rate: float, gate_rate: float) -> torch.optim.Optimizer:
    """Return the paper's optimizer, Adam; gates learn at a rate of their own."""
    gates = list(model.gates.parameters())
    own = {id(value) for value in gates}
    others = [value for value in model.parameters() if id(value) not in own]
    return torch.optim.Adam([{"params": others, "lr": rate}, {"params": gates, "lr": gate_rate}], lr=rate)


def augment_visits(sample: Mapping[str, Any], rng: np.random.Generator, *, frames: int, order: Order) -> dict[str, Any]:
    """Return a video's frames as they are visited, mirrored and lit at random.

    They lie one in each of `frames` equal parts, in all at the same place; so ten of them have one moment of a film.
    """
    places = np.array(visiting_order(frames, order, seed=int(rng.integers(2**31))))
    numbers = ((places + rng.random()) * (len(sample["frames"]) / frames)).astype(int)
    chosen = sample["frames"][numbers]
    if rng.random() < 0.5:
        chosen = np.ascontiguousarray(chosen[..., ::-1])
    return light({"frames": chosen, "label": sample["label"]}, rng)


def inputs(frames: Tensor) -> Tensor:
    """Return uint8 frames (B, T, 3, H, W) as a backbone takes them, or clips (B, T, t, 3, H, W)."""
    shown = pictures(frames)
    return shown if shown.dim() == 5 else shown.transpose(2, 3)


def rules_to_try(frames: int, labels: Tensor) -> dict[str, ExitRule]:
    """Return what evaluation compares, by name, beside the learned gate at 0.5."""
    return {
        **{f"gate-{threshold}": LearnedGate(threshold) for threshold in THRESHOLDS},
        **{f"confidence-{threshold}": Confidence(threshold) for threshold in SURE},
        **{f"budget-{count}": FixedBudget(count) for count in range(1, frames + 1)},
        **({"oracle": Oracle(labels)} if labels.dim() == 1 else {}),
    }


class Watched(NamedTuple):
    """What a model says of every frame of every video: `outputs`, with (N,) or (N, K) labels and lengths (N,)."""

    outputs: Outputs
    labels: Tensor
    lengths: Tensor
    macs: ExitMacs


@torch.no_grad()
def watch(model: FrameExit, data: Any, *, batch: int = 12) -> Watched:
    """Return what a model in evaluation mode says of all samples; lengths are none where samples have no `length`."""
    said, labels, lengths = [], [], []
    for first in range(0, len(data), batch):
        samples = [(index, data[index]) for index in range(first, min(first + batch, len(data)))]
        videos = [visited(model, torch.from_numpy(sample["frames"]), seed=index) for index, sample in samples]
        shown = inputs(torch.stack(videos).to(next(model.parameters()).device))
        said.append(Outputs(*(part.cpu() for part in model(shown))))
        labels += [torch.as_tensor(sample["label"]) for _, sample in samples]
        lengths += [int(sample["length"]) for _, sample in samples if "length" in sample]
    outputs = Outputs(*(torch.cat(parts) for parts in zip(*said, strict=True)))
    return Watched(outputs, torch.stack(labels), torch.tensor(lengths), exit_macs(model, shown[:1, 0]))


@torch.no_grad()
def measure(model: FrameExit, data: Any, *, rules: Mapping[str, ExitRule] | None = None) -> dict[str, float]:
    """Return accuracy (mAP and, of one label, top-1 in percent), frames and macs per video, of the gate and of `rules`.

    The gate's have no prefix, those of another rule its name; None takes all of `rules_to_try`. Where the samples have
    a `length`, as films do, there are top-1 and frames of the gate for each difficulty and length, too.
    """
    outputs, truth, lengths, macs = watch(model, data)
    tried = rules_to_try(model.frames, truth) if rules is None else rules
    gate = decide(model, outputs, LearnedGate(), macs=macs)
    found = summary(gate, truth) | {"dense_macs": float(macs.dense)}
    found["macs_ratio"] = found["dense_macs"] / found["macs"]
    if len(lengths):
        hard = torch.tensor(DIFFICULTY)[truth]
        for number, name in enumerate(DIFFICULTIES):
            found |= part_of(gate, truth, hard == number, name)
        for length in LENGTHS:
            found |= part_of(gate, truth, lengths == length, f"{length}-frames")
    for name, rule in tried.items():
        of_rule = summary(decide(model, outputs, rule, macs=macs), truth)
        found |= {f"{name}_{key}": value for key, value in of_rule.items()}
    return found


def visited(model: FrameExit, frames: Tensor, *, seed: int) -> Tensor:
    """Return the frames (T, ...) of a video (n, ...) that the model visits, in its order."""
    return frames[list(frames_to_visit(len(frames), model.frames, model.order, seed=seed))]


def summary(exits: Exits, labels: Tensor) -> dict[str, float]:
    """Return accuracy in percent, and what a video took."""
    top = {"top1": 100 * top_k_accuracy(exits.scores, labels)} if labels.dim() == 1 else {}
    return {
        **top,
        "map": 100 * mean_average_precision(exits.scores, labels),
        "frames": float(exits.frames.double().mean()),
        "macs": float(exits.macs.double().mean()),
    }


def part_of(exits: Exits, labels: Tensor, which: Tensor, name: str) -> dict[str, float]:
    """Return top-1 (percent) and frames of some of the videos; nothing where there are none."""
    if not which.any():
        return {}
    top = 100 * top_k_accuracy(exits.scores[which], labels[which])
    return {f"top1_{name}": top, f"frames_{name}": float(exits.frames[which].double().mean())}
