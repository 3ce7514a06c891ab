r"""Pose on clips: HRNet on rendered puppets or on the openfield recordings, dense or made cheaper by a method.

    saccade train recipes/pose.py --out out/pose-dense
    saccade train recipes/pose.py --out out/pose-gated --set start=out/pose-dense \
        --set method=magnitude --set form=refresh --set beta=0.2
    saccade evaluate recipes/pose.py --weights out/pose-gated --set start=out/pose-dense \
        --set method=magnitude --set form=refresh

A dense network learns from single frames; every method starts from a dense network's weights and learns from clips, as
in the paper. Only what decides about positions differs: data, loss, steps and rates are the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recipes.following import Follow, by_gates
from recipes.methods import EXAMPLES, Method, Pressure, Ran, adam, one_cycle
from recipes.openfield_clips import JOINTS as MOUSE
from recipes.openfield_clips import Openfield, augment_openfield
from recipes.pose_clips import Puppets, augment_puppets, first_pictures, pictures
from saccade.data.joints import JOINTS as PERSON
from saccade.evaluate.pose import heatmap_joints, pck
from saccade.skip import ClipModel
from saccade.train import Recipe, read_weights
from saccade.train.pose_loss import pose_loss
from saccade.zoo.hrnet_pose import STRIDE, hrnet_pose

SIGMA = 1.5  # of a joint's peak, in cells of the heatmap
DATA: dict[str, Any] = {"puppets": Puppets, "openfield": Openfield}
AUGMENT: dict[str, Any] = {"puppets": augment_puppets, "openfield": augment_openfield}
JOINTS = {"puppets": len(PERSON), "openfield": len(MOUSE)}
ALPHAS = (0.2, 0.1, 0.05)  # the paper's, and two that a good network does not reach everywhere
DENSE_STEPS = {"puppets": 2400, "openfield": 1200}


def recipe(
    *,
    data: Literal["puppets", "openfield"] = "puppets",
    method: str = "dense",
    start: str = "",
    seed: int = 0,
    beta: float = 0.0,
    block: int = 1,
    form: str = "residual",
    bias: float | None = None,
    ratio: float = 0.5,
    clip: int = 8,
    steps: int = 0,
    rate: float = 0.0,
    gate_rate: float = 0.01,
) -> Recipe:
    """Return the recipe; `start` is a dense network's folder. `steps` and `rate` follow from it where 0."""
    how = Method(name=method, beta=beta, block=block, form=form, bias=bias, ratio=ratio)
    steps = steps or (400 if start else DENSE_STEPS[data])
    rate = rate or (5e-4 if start else 4e-3)
    pressure = Pressure(beta, steps)
    clips = clip if start else 1
    batch = 4 if start else 32

    def build() -> nn.Module:
        run = ClipModel(hrnet_pose("tiny", joints=JOINTS[data], seed=seed))
        if start:
            read_weights(Path(start)).load_into(run)
        if how.name != "dense":
            run.model = how.apply(run.model, first_pictures(DATA[data]("train"), EXAMPLES))
        return run

    def loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        ran = Ran.of(model(pictures(batch["frames"])))
        task = 100 * pose_loss(ran.outputs, batch["joints"], batch["visible"], stride=STRIDE, sigma=SIGMA)
        return pressure.losses(task, how, model, ran)

    return Recipe(
        name=f"pose-{data}-{method}",
        build=build,
        data=lambda: DATA[data]("train"),
        loss=loss,
        optimizer=partial(adam, rate=rate, gate_rate=gate_rate),
        schedule=partial(one_cycle, steps=steps),
        augment=partial(AUGMENT[data], clip=clips),
        evaluate=lambda model: measure(by_gates(model, reference_every=clip), DATA[data]("test")),  # type: ignore[arg-type]
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
    """Return PCK at ALPHAS (in percent) and macs per frame over a part of each clip of a data set."""
    found, truth, seen, boxes = [], [], [], []
    executed = dense = 0.0
    for index in range(len(data)):
        sample = data[index]
        maps, macs, whole = follow(pictures(torch.from_numpy(sample["frames"]))[None])
        found.append(heatmap_joints(maps[0], stride=STRIDE)[0][part])
        for kept, key in ((truth, "joints"), (seen, "visible"), (boxes, "box")):
            kept.append(torch.from_numpy(sample[key])[part])
        executed += float(macs[part].sum())
        dense += whole * len(macs[part])
    places = [torch.cat(parts) for parts in (found, truth, seen, boxes)]
    shares = {f"pck@{alpha}": 100 * pck(*places, alpha=alpha).pck for alpha in ALPHAS}
    frames = sum(len(part) for part in found)
    return {**shares, "macs": executed / frames, "dense_macs": dense / frames, "macs_ratio": dense / executed}
