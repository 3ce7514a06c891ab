r"""Detection on clips: a small EfficientDet on the rendered street, dense or made cheaper by a method.

    saccade train recipes/detection.py --out out/street-dense
    saccade train recipes/detection.py --out out/street-gated --set start=out/street-dense \
        --set method=magnitude --set form=refresh --set beta=0.3
    saccade evaluate recipes/detection.py --weights out/street-gated --set start=out/street-dense \
        --set method=magnitude --set form=refresh

As `recipes.pose`: a dense network learns from single frames, every method goes on from there with clips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recipes.following import Follow, by_gates
from recipes.methods import EXAMPLES, Method, Pressure, Ran, adam, one_cycle
from recipes.pose_clips import first_pictures, pictures
from recipes.street_clips import Street, augment_street
from saccade.data.street import CLASSES
from saccade.evaluate.detection import Detections, average_precision
from saccade.skip import ClipModel
from saccade.train import Recipe, read_weights
from saccade.train.detection_loss import detection_loss
from saccade.zoo.efficientdet import efficientdet

SCORE = 0.05  # least score of a box that average precision looks at


@dataclass(frozen=True)
class Truth:
    """One picture's vehicles."""

    boxes: Tensor
    labels: Tensor
    ignored: Tensor


def truths(batch: Mapping[str, Tensor]) -> list[Truth]:
    """Return the truths of a batch of clips, picture by picture."""
    flat = (batch[key].flatten(0, -2 if key != "boxes" else -3) for key in ("boxes", "labels", "ignored"))
    found = []
    for boxes, labels, ignored in zip(*flat, strict=True):
        there = labels >= 0
        found.append(Truth(boxes[there], labels[there], ignored[there]))
    return found


def recipe(
    *,
    method: str = "dense",
    start: str = "",
    seed: int = 0,
    beta: float = 0.0,
    block: int = 1,
    form: str = "residual",
    bias: float | None = None,
    ratio: float = 0.5,
    clip: int = 4,
    steps: int = 0,
    rate: float = 0.0,
    gate_rate: float = 0.01,
) -> Recipe:
    """Return the recipe; `start` is a dense network's folder. `steps` and `rate` follow from it where 0."""
    how = Method(name=method, beta=beta, block=block, form=form, bias=bias, ratio=ratio)
    steps = steps or (400 if start else 2400)
    rate = rate or (5e-4 if start else 4e-3)
    pressure = Pressure(beta, steps)
    clips = clip if start else 1
    batch = 6 if start else 16
    anchors = efficientdet("tiny").anchors

    def build() -> nn.Module:
        run = ClipModel(efficientdet("tiny", seed=seed))
        if start:
            read_weights(Path(start)).load_into(run)
        if how.name != "dense":
            run.model = how.apply(run.model, first_pictures(Street("train"), EXAMPLES))
        return run

    def loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        ran = Ran.of(model(pictures(batch["frames"])))
        found = detection_loss(ran.outputs, truths(batch), anchors=anchors, classes=len(CLASSES))
        return {**pressure.losses(found.total, how, model, ran), "boxes": found.boxes}

    return Recipe(
        name=f"detection-{method}",
        build=build,
        data=lambda: Street("train"),
        loss=loss,
        optimizer=partial(adam, rate=rate, gate_rate=gate_rate),
        schedule=partial(one_cycle, steps=steps),
        augment=partial(augment_street, clip=clips),
        evaluate=lambda model: measure(by_gates(model, reference_every=clip), Street("test")),  # type: ignore[arg-type]
        steps=steps,
        batch=batch,
        seed=seed,
        before_step=pressure if start else None,
        clip_norm=10.0,
        log_every=50,
        checkpoint_every=400,
    )


@torch.no_grad()
def measure(follow: Follow, data: Any, *, part: slice = slice(None)) -> dict[str, float]:
    """Return average precision (in percent) and macs per frame over a part of each clip of a data set."""
    network = efficientdet("tiny")  # for its anchors
    found: list[Detections] = []
    wanted: list[Truth] = []
    executed = dense = frames = 0.0
    for index in range(len(data)):
        sample = data[index]
        outputs, macs, whole = follow(pictures(torch.from_numpy(sample["frames"]))[None])
        logits, offsets = ([level[0, part] for level in levels] for levels in outputs)
        found += network.decode((logits, offsets), score_threshold=SCORE)
        wanted += truths({key: torch.from_numpy(sample[key])[part] for key in ("boxes", "labels", "ignored")})
        executed += float(macs[part].sum())
        dense += whole * len(macs[part])
        frames += len(macs[part])
    scores = score(found, wanted)
    return {**scores, "macs": executed / frames, "dense_macs": dense / frames, "macs_ratio": dense / executed}


def score(found: list[Detections], wanted: list[Truth]) -> dict[str, float]:
    """Return AP[.5:.95] and AP50 in percent."""
    targets = [Detections(truth.boxes, torch.ones(len(truth.boxes)), truth.labels) for truth in wanted]
    scores = average_precision(found, targets, ignored=[truth.ignored for truth in wanted])
    return {"ap": 100 * scores.ap, "ap50": 100 * scores.ap50}
