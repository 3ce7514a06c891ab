r"""What is done in a clip: a small temporal segment network, dense or made cheaper by a method.

    saccade train recipes/classification.py --out out/acts-dense
    saccade train recipes/classification.py --out out/acts-gated --set start=out/acts-dense \
        --set method=magnitude --set form=refresh --set beta=0.3
    saccade evaluate recipes/classification.py --weights out/acts-gated --set start=out/acts-dense \
        --set method=magnitude --set form=refresh

As `recipes.pose`: the dense network learns from few frames of a clip, every method goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipes.act_clips import CLASSES, Acts, augment_acts
from recipes.following import Follow, by_gates
from recipes.methods import Method, Pressure, Ran, adam, one_cycle
from recipes.pose_clips import pictures
from saccade.evaluate.classify import top_k_accuracy
from saccade.skip import ClipModel
from saccade.train import Recipe, read_weights
from saccade.zoo.tsn import consensus, segment_frames, tsn

DENSE_FRAMES = 3  # of a clip, while the dense network learns


def recipe(
    *,
    data: Literal["puppets", "actions"] = "puppets",
    method: str = "dense",
    start: str = "",
    seed: int = 0,
    beta: float = 0.0,
    block: int = 1,
    form: str = "residual",
    bias: float | None = None,
    segments: int = 25,
    steps: int = 0,
    rate: float = 0.0,
    gate_rate: float = 0.01,
) -> Recipe:
    """Return the recipe; `start` is a dense network's folder, `segments` the frames of a clip (the paper: 25 and 6)."""
    how = Method(name=method, beta=beta, block=block, form=form, bias=bias)
    steps = steps or (300 if start else 1200)
    rate = rate or (5e-4 if start else 3e-3)
    pressure = Pressure(beta, steps)

    def build() -> nn.Module:
        run = ClipModel(tsn("tiny", classes=CLASSES[data], segments=segments, seed=seed))
        if start:
            read_weights(Path(start)).load_into(run)
        run.model = how.apply(run.model, torch.zeros(1, 3, 96, 96))
        return run

    def loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        ran = Ran.of(model(pictures(batch["frames"])))
        task = F.cross_entropy(consensus(ran.outputs), batch["label"], label_smoothing=0.1)
        return pressure.losses(task, how, model, ran)

    return Recipe(
        name=f"classification-{data}-{method}",
        build=build,
        data=lambda: Acts(data, "train"),
        loss=loss,
        optimizer=partial(adam, rate=rate, gate_rate=gate_rate, decay=0.01),
        schedule=partial(one_cycle, steps=steps),
        augment=partial(augment_acts, segments=segments if start else DENSE_FRAMES),
        evaluate=lambda model: measure(by_gates(model, reference_every=None), Acts(data, "test"), segments=segments),  # type: ignore[arg-type]
        steps=steps,
        batch=max(2, 50 // segments) if start else 16,
        seed=seed,
        before_step=pressure if start else None,
        clip_norm=10.0,
        log_every=50,
        checkpoint_every=300,
    )


@torch.no_grad()
def measure(follow: Follow, data: Any, *, segments: int) -> dict[str, float]:
    """Return top-1 accuracy (in percent) and macs per clip over the clips of a data set."""
    scores, labels = [], []
    executed = dense = 0.0
    for index in range(len(data)):
        sample = data[index]
        frames = sample["frames"][segment_frames(len(sample["frames"]), segments)]
        found, macs, whole = follow(pictures(torch.from_numpy(frames))[None])
        scores.append(consensus(found)[0])
        labels.append(int(sample["label"]))
        executed += float(macs.sum())
        dense += whole * len(macs)
    top = 100 * top_k_accuracy(torch.stack(scores), torch.tensor(labels))
    return {"top1": top, "macs": executed / len(data), "dense_macs": dense / len(data), "macs_ratio": dense / executed}
