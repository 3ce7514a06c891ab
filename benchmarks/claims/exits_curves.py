"""The measured rows of FrameExit as curves: accuracy, macs and frames per video, by method, setting and seed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from benchmarks.claims.curves import Curves, Point, at_ratio, by_setting, mean, spread
from benchmarks.claims.exits_runs import BACKBONES, FRAMES

ACCURACY = {"films": "top1", "pairs": "map", "actions": "top1"}
UNITS = {"top1": "top-1 (%)", "map": "mAP (%)"}
OURS, THRESHOLDS, ALL = "FrameExit", "FrameExit, other thresholds", "all frames"
CONFIDENCE, BUDGET, ORACLE = "confidence", "fixed budget", "oracle"
UNIFORM, RANDOM = "uniform frames averaged", "random frames averaged"
SELECTED, RESELECTED = "selected at once (OCSampler)", "selected at once, another budget"
RESOLUTION = "resolution by frame (AR-Net)"
RIVALS = (CONFIDENCE, UNIFORM, RANDOM, SELECTED, RESELECTED, RESOLUTION)
# Runs that differ from the base run in one thing.
ORDERS = {"sequential": "sequential order", "random": "random order"}
POOLINGS = {
    "pooling-none": "predictions averaged",
    "pooling-average": "average pooling",
    "pooling-lstm": "LSTM",
    "pooling-attention": "attention",
    "max": "max pooling",
}
COUNTS = {f"frames-{count}": f"T = {count}" for count in FRAMES}
VARIANTS = {**ORDERS, **POOLINGS, **COUNTS}
METHODS = (
    *(OURS, THRESHOLDS, ALL, CONFIDENCE, BUDGET, ORACLE, UNIFORM, RANDOM, SELECTED, RESELECTED, RESOLUTION),
    *itertools.chain(*((title, f"{title}, {ALL}") for title in VARIANTS.values())),
)
RULES = {"gate": (THRESHOLDS, "threshold {}"), "confidence": (CONFIDENCE, "probability {}"),
         "budget": (BUDGET, "{} frames")}  # fmt: skip


def curves(rows: Mapping[str, Any], data: str, *, accuracy: str = "", base: str = "base") -> Curves:
    """Returns every method's points over the test videos; methods in the order of METHODS.

    Args:
        rows: of all runs.
        data: "films", "pairs" or "actions".
        accuracy: "top1" or "map"; methods that were not measured by it are left out.
        base: the run whose rules are tried; of another than "base", a backbone, the rules on it alone.

    Returns:
        Points whose `ratio` is the macs of all frames of the base run of that seed over the point's.
    """
    accuracy = accuracy or ACCURACY[data]
    found: Curves = {}
    for name, row in rows.items():
        kind, run, seed = name.split("/")
        whole = rows.get(f"{data}/{base}/{seed}")
        if kind != data or whole is None or (run != base and (base != "base" or run in BACKBONES)):
            continue
        plain = row["measures"]["plain"]
        dense_macs = whole["measures"]["plain"]["dense_macs"]
        every = _of_network if run == base else _of_other
        for title, prefix, setting, frames in every(run, row["options"], plain):
            if prefix + accuracy in plain:
                macs = plain[f"{prefix}macs"]
                here = Point(plain[prefix + accuracy], macs, dense_macs / macs, setting, frames)
                found.setdefault(title, {}).setdefault(int(seed), []).append(here)
    for by_seed in found.values():
        for points in by_seed.values():
            points.sort(key=lambda item: [float(number) for number in re.findall(r"[\d.]+", item.setting)])
    return {title: found[title] for title in METHODS if title in found}


_Found = Iterator[tuple[str, str, str, float | None]]  # method, prefix of its keys, setting, mean frames


def _of_network(_: str, options: Mapping[str, Any], plain: Mapping[str, float]) -> _Found:
    """Yields every rule on the network that all are tried on."""
    yield OURS, "", f"beta {options['beta']:g}", plain["frames"]
    yield ALL, _last_budget(plain), "", plain[f"{_last_budget(plain)}frames"]
    if "oracle_macs" in plain:
        yield ORACLE, "oracle_", "", plain["oracle_frames"]
    for prefix, rule, number in _prefixes(plain):
        if rule in RULES:
            title, setting = RULES[rule]
            yield title, prefix, setting.format(number), plain[f"{prefix}frames"]


def _of_other(run: str, options: Mapping[str, Any], plain: Mapping[str, float]) -> _Found:
    """Yields what is held against it: other gates, other orders, poolings and T, and the rivals of another recipe."""
    if run in VARIANTS:
        yield VARIANTS[run], "", "", plain["frames"]
        last = _last_budget(plain)
        yield f"{VARIANTS[run]}, {ALL}", last, "", plain[f"{last}frames"]
    elif run.startswith("gates-"):
        yield OURS, "", f"beta {options['beta']:g}", plain["frames"]
    elif run == "average":
        for prefix, rule, number in _prefixes(plain):
            title = {"uniform": UNIFORM, "random": RANDOM}[rule]
            yield title, prefix, f"{number} frames", float(number)
    elif run.startswith("one-shot-"):
        yield SELECTED, "", f"{options['budget']} frames", plain["frames"]
        for prefix, _, number in _prefixes(plain):
            yield RESELECTED, prefix, f"learned with {options['budget']}, {number} frames", float(number)
    elif run.startswith("resolution-"):
        yield RESOLUTION, "", f"weight {options['press']:g}", plain["frames"]
    else:
        raise KeyError(f"no method has a run called {run}")


def _prefixes(plain: Mapping[str, float]) -> Iterator[tuple[str, str, str]]:
    """Yields prefix, name and number of each rule: "gate-0.7_", "gate", "0.7"."""
    for key in plain:
        match = re.fullmatch(r"(([a-z]+)-([\d.]+)_)macs", key)
        if match:
            yield match[1], match[2], match[3]


def _last_budget(plain: Mapping[str, float]) -> str:
    """Returns the prefix of the largest fixed budget, which is all T frames."""
    return f"budget-{max(int(number) for _, rule, number in _prefixes(plain) if rule == 'budget')}_"


def all_frames(found: Curves) -> list[float]:
    """Returns by seed the accuracy of the same networks that look at all frames."""
    return [points[0].accuracy for _, points in sorted(found[ALL].items())]


def saved(found: Curves, slack: float, *, method: str = OURS) -> float | None:
    """Returns the largest mean ratio of a setting whose mean accuracy is at most `slack` points below all frames'.

    None where there is no such setting.
    """
    enough = mean(all_frames(found)) - slack - 1e-9
    good = [p for p in by_setting(found, method).values() if mean(item.accuracy for item in p) >= enough]
    return max((mean(item.ratio for item in points) for points in good), default=None)


def at_frames(points: Iterable[Point], frames: float) -> float | None:
    """Returns a method's accuracy at so many frames on average, on the straight line between the nearest settings.

    None outside of what was measured. Of settings that take equally many frames the best counts.
    """
    best: dict[float, float] = {}
    for item in points:
        if item.frames is not None:
            best[item.frames] = max(item.accuracy, best.get(item.frames, item.accuracy))
    if frames in best:
        return best[frames]
    for (low, left), (high, right) in itertools.pairwise(sorted(best.items())):
        if low < frames < high:
            return left + (right - left) * (frames - low) / (high - low)
    return None


def at_cost_of(found: Curves, better: str, other: str) -> list[tuple[float | None, float]]:
    """Returns, seed by seed, a method's accuracy at the macs of each setting of another, and that one's own.

    None where the method is not as cheap. Seeds that only one of them has are left out.
    """
    left, right = found.get(better, {}), found.get(other, {})
    return [
        (at_ratio(left[seed], item.ratio), item.accuracy) for seed in sorted(left) if seed in right
        for item in right[seed]
    ]  # fmt: skip


def ahead(found: Curves, better: str, other: str) -> bool | None:
    """Returns whether a method is more accurate on average at the other's macs; None where either is missing.

    A method that is not as cheap is not ahead.
    """
    pairs = at_cost_of(found, better, other)
    if not pairs:
        return None
    ours = [own for own, _ in pairs if own is not None]
    return len(ours) == len(pairs) and mean(ours) > mean(theirs for _, theirs in pairs)


def over_fixed(found: Curves) -> dict[str, list[float]]:
    """Returns by setting of the gates, seed by seed, the points by which they beat a fixed budget of as many frames."""
    gains: dict[str, list[float]] = {}
    for seed, points in sorted(found.get(OURS, {}).items()):
        for item in points:
            fixed = at_frames(found[BUDGET].get(seed, []), item.frames or 0.0)
            if fixed is not None:
                gains.setdefault(item.setting, []).append(item.accuracy - fixed)
    return gains


def seeds_at_frames(found: Curves, method: str, frames: float) -> list[float]:
    """Returns a method's accuracy at so many frames, by seed; empty where a seed does not have it."""
    values = [at_frames(points, frames) for points in zip(*by_setting(found, method).values(), strict=True)]
    return [value for value in values if value is not None] if None not in values else []


def in_words(points: list[Point]) -> str:
    """Returns one setting of a method over its seeds: "95.0 (94.1 to 95.6) at macs / 1.60, 6.1 frames"."""
    ratio, frames = mean(item.ratio for item in points), [item.frames for item in points if item.frames is not None]
    counted = f", {mean(frames):.1f} frames" if frames else ""
    return f"{spread([item.accuracy for item in points])} at macs / {ratio:.2f}{counted}"


def every_setting(found: Curves, method: str) -> str:
    """Returns all settings of a method in words."""
    parts = [f"{name or method} {in_words(points)}" for name, points in by_setting(found, method).items()]
    return "; ".join(parts)
