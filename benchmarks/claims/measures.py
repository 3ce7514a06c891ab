"""What is measured of a trained network: accuracy and macs, as it is and with gates that need no training."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.claims.mask_picture import draw_masks
from recipes import classification, detection, pose
from recipes.act_clips import Acts
from recipes.following import by_flow, by_gates, by_key_frames, once
from recipes.openfield_clips import Openfield
from recipes.pose_clips import Puppets, first_pictures
from recipes.street_clips import Street
from saccade.rivals.harden import harden
from saccade.rivals.prune import HardConcrete, reestimate_norms
from saccade.skip import ClipModel, InputNorm, OutputNorm, Skip, convert

Measured = dict[str, Any]
INPUT_NORMS = (0.3, 1.0, 3.0, 6.0, 10.0, 20.0, 40.0)
OUTPUT_NORMS = (0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.8)
KEY_FRAMES = (2, 3, 4, 8)


class Task:
    """A kind of data with its way to measure: name, number of frames between reference frames, data by split."""

    def __init__(self, name: str, every: int, data: Callable[[str], Any], measure: Callable[..., Measured]) -> None:
        self.name, self.every, self.data, self.measure = name, every, data, measure


TASKS = {
    task.name: task
    for task in (
        Task("puppets", 8, Puppets, pose.measure),
        Task("openfield", 8, Openfield, pose.measure),
        Task("street", 4, Street, detection.measure),
        Task("acts", 0, partial(Acts, "puppets"), classification.measure),
        Task("fights", 0, partial(Acts, "actions"), classification.measure),
    )
}


def plain(task: Task, model: ClipModel) -> Measured:
    """Returns accuracy and macs over the test set, with reference frames as often as in training."""
    return task.measure(by_gates(_finished(task, model), reference_every=task.every), task.data("test"))


def references(task: Task, model: ClipModel) -> Measured:
    """Returns the same by how often there are reference frames; "inf" is the first of each video only."""
    model = _finished(task, model)
    every = {"4": 4, "8": 8, "16": 16, "inf": None}
    data = task.data("test")
    return {name: task.measure(by_gates(model, reference_every=k), data) for name, k in every.items()}


def long_videos(task: Task, model: ClipModel) -> Measured:
    """Returns accuracy over the first and last tenth of long videos with one reference frame each."""
    data = task.data("long")
    follow = once(by_gates(model, reference_every=None), len(data))
    tenth = math.ceil(len(data[0]["frames"]) / 10)
    whole = task.measure(follow, data)
    parts = {
        name: task.measure(follow, data, part=part)
        for name, part in (("first", slice(0, tenth)), ("last", slice(-tenth, None)))
    }
    return {"frames": len(data[0]["frames"]), "whole": whole, **parts}


def norm_gates(task: Task, model: ClipModel) -> Measured:
    """Returns a row for each norm gate, form and threshold, on the network as it is: nothing is trained."""
    rows = []
    data = task.data("test")
    for kind, thresholds in ((InputNorm, INPUT_NORMS), (OutputNorm, OUTPUT_NORMS)):
        for form in ("residual", "refresh") if task.name != "street" else ("refresh",):
            for threshold in thresholds:
                gated = copy.deepcopy(model)
                convert(gated.model, Skip(kind(threshold), form=form))
                found = task.measure(by_gates(gated, reference_every=task.every), data)
                rows.append({"gate": kind.__name__, "form": form, "threshold": threshold, **found})
    return {"rows": rows}


def key_frames(task: Task, model: ClipModel) -> Measured:
    """Returns a row for each distance of key frames, results repeated between them."""
    data = task.data("test")
    return {"rows": [{"every": k, **task.measure(by_key_frames(model, every=k), data)} for k in KEY_FRAMES]}


def flow(task: Task, model: ClipModel) -> Measured:
    """Returns a row for each distance of key frames, features moved along the optical flow between them."""
    data = task.data("test")
    return {"rows": [{"every": k, **task.measure(by_flow(model, every=k), data)} for k in KEY_FRAMES]}


def shares(task: Task, model: ClipModel) -> Measured:
    """Returns by layer which share of positions its gate lets through, reference frames left out."""
    model.eval()
    run = ClipModel(model.model, reference_every=task.every)
    data = task.data("test")
    totals: dict[str, float] = {}
    with torch.no_grad():
        for index in range(len(data)):
            _, firing = run(pose.pictures(torch.from_numpy(data[index]["frames"]))[None])
            for name, share in firing.shares().items():
                totals[name] = totals.get(name, 0.0) + share / len(data)
    return {"layers": totals}


def _finished(task: Task, model: ClipModel) -> ClipModel:
    """Returns the network as it is used: channels that were pruned are really gone."""
    if not any(isinstance(module, HardConcrete) for module in model.modules()):
        return model
    done = copy.deepcopy(model).eval()
    pictures = first_pictures(task.data("train"), 48)
    reestimate_norms(done.model, [pictures])
    harden(done.model, example=pictures[:2])
    return done


def classes_25(task: Task, model: ClipModel) -> Measured:
    """Returns accuracy and macs per clip of 25 frames, of which the first is a reference frame."""
    return task.measure(by_gates(model, reference_every=None), task.data("test"), segments=25)


def classes_6(task: Task, model: ClipModel) -> Measured:
    """Returns accuracy and macs per clip of 6 frames, of which the first is a reference frame."""
    return task.measure(by_gates(model, reference_every=None), task.data("test"), segments=6)


def mask_picture(task: Task, model: ClipModel) -> Measured:
    """Draws where the gates of a few layers fired; returns the picture's name and its layers."""
    return draw_masks(task.name, task.data("test"), task.every, model)


_ALL = (classes_25, classes_6, plain, references, long_videos, norm_gates, key_frames, flow, shares, mask_picture)
MEASURES = {measure.__name__: measure for measure in _ALL}
