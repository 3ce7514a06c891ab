"""What was measured as curves: accuracy and macs by method and seed, and what a method gives at one cost."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ACCURACY = {"puppets": "pck@0.2", "openfield": "pck@0.2", "street": "ap"}
UNITS = {"puppets": "PCK@0.2", "openfield": "PCK@0.2", "street": "AP"}
# Runs of a task by the beginning of their names, and what the method is called.
TRAINED = {
    "magnitude-refresh-": "Gumbel on |r|, refresh",
    "magnitude-residual-": "Gumbel on |r|, residual",
    "gumbel-residual-": "Gumbel on r, residual",
    "frames-": "CC-image",
    "spatial-svd-": "spatial SVD",
    "weight-svd-": "weight SVD",
    "l0-": "L0 pruning",
    "block-4-": "blocks of 4",
    "block-8-": "blocks of 8",
    "svd+magnitude-": "spatial SVD + Gumbel on |r|",
}
GATES = {
    ("InputNorm", "residual"): "input-norm, residual",
    ("InputNorm", "refresh"): "input-norm, refresh",
    ("OutputNorm", "residual"): "output-norm, residual",
    ("OutputNorm", "refresh"): "output-norm, refresh",
}


@dataclass(frozen=True)
class Point:
    """One operating point of one seed: accuracy in percent, macs per frame, dense macs over those, and its setting.

    Of whole videos macs are per video, and `frames` says how many a video took on average.
    """

    accuracy: float
    macs: float
    ratio: float
    setting: str = ""
    frames: float | None = None


Curves = dict[str, dict[int, list[Point]]]  # method, seed, points in the order of their setting


def point(
    found: Mapping[str, Any], task: str, *, accuracy: str = "", dense_macs: float = 0.0, setting: str = ""
) -> Point:
    """Returns the point of a measured row; `dense_macs` where the row's own network is already a smaller one."""
    whole = dense_macs or found["dense_macs"]
    return Point(found[accuracy or ACCURACY[task]], found["macs"], whole / found["macs"], setting)


def curves(rows: Mapping[str, Any], task: str, *, accuracy: str = "") -> Curves:
    """Returns every method's points over the test set of a task, with reference frames as often as in training."""
    found: Curves = {}
    for name, row in rows.items():
        kind, method, seed = name.split("/")
        if kind != task:
            continue
        measures = row["measures"]
        dense_macs = rows[f"{task}/dense/{seed}"]["measures"]["plain"]["dense_macs"]
        title = {"dense": "dense", "tuned": "dense, tuned as long"}.get(method)
        title = title or next((text for start, text in TRAINED.items() if method.startswith(start)), None)
        if title and "plain" in measures:
            options = row["options"]
            setting = " ".join(f"{name} {options[name]:g}" for name in ("ratio", "beta") if name in options)
            here = point(measures["plain"], task, accuracy=accuracy, dense_macs=dense_macs, setting=setting)
            found.setdefault(title, {}).setdefault(int(seed), []).append(here)
        for part, key in (("norm_gates", None), ("key_frames", "key frames"), ("flow", "Deep Feature Flow")):
            for item in measures.get(part, {"rows": []})["rows"]:
                title = key or GATES[item["gate"], item["form"]]
                number = "threshold" if key is None else "every"
                here = point(item, task, accuracy=accuracy, setting=f"{number} {item[number]:g}")
                found.setdefault(title, {}).setdefault(int(seed), []).append(here)
    return found


def at_ratio(points: Iterable[Point], ratio: float) -> float | None:
    """Returns the best accuracy a method has at a cost of the dense macs over `ratio`, None where it is out of reach.

    The largest over points that cost no more, and over neighbours on either side joined by a straight line over the
    logarithm of the cost.
    """
    ordered = sorted(points, key=lambda item: item.ratio)
    best = [item.accuracy for item in ordered if item.ratio >= ratio]
    for left, right in itertools.pairwise(ordered):
        if left.ratio <= ratio <= right.ratio and left.ratio < right.ratio:
            share = math.log(ratio / left.ratio) / math.log(right.ratio / left.ratio)
            best.append(left.accuracy + share * (right.accuracy - left.accuracy))
    return max(best, default=None)


def seeds_at(found: Curves, method: str, ratio: float) -> list[float]:
    """Returns a method's accuracy at a cost, by seed, from the settings every seed has.

    Empty where a seed does not reach it, or it was not run.
    """
    values = [at_ratio(points, ratio) for points in zip(*by_setting(found, method).values(), strict=True)]
    return [value for value in values if value is not None] if None not in values else []


def by_setting(found: Curves, method: str) -> dict[str, list[Point]]:
    """Returns a method's points by setting, one per seed, of the settings that every seed has."""
    by_seed = [{item.setting: item for item in points} for _, points in sorted(found.get(method, {}).items())]
    common = [name for name in by_seed[0] if all(name in seed for seed in by_seed)] if by_seed else []
    return {name: [seed[name] for seed in by_seed] for name in common}


def of_same_seeds(found: Curves, methods: Iterable[str]) -> Curves:
    """Returns the points of those of the methods that were run, of the seeds that all of them have."""
    there = [method for method in methods if method in found]
    seeds = sorted(set.intersection(*(set(found[method]) for method in there))) if there else []
    return {method: {seed: found[method][seed] for seed in seeds} for method in there}


def largest_ratio(points: Iterable[Point], accuracy: float) -> float | None:
    """Returns by how much a method divides the macs while its accuracy is at least this; None where it never is."""
    return max((item.ratio for item in points if item.accuracy >= accuracy), default=None)


def mean(values: Iterable[float]) -> float:
    """Returns the mean."""
    items = list(values)
    return sum(items) / len(items)


def spread(values: Iterable[float], digits: int = 1) -> str:
    """Returns mean and range over seeds in words: "94.5 (94.1 to 94.9)"."""
    items = list(values)
    if not items:
        return "not reached"
    middle = f"{mean(items):.{digits}f}"
    return middle if len(items) == 1 else f"{middle} ({min(items):.{digits}f} to {max(items):.{digits}f})"
