"""The measured rows of VA-RED2 as curves: accuracy and macs per clip by method and seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.claims.curves import Curves, Point, by_setting, mean, of_same_seeds
from benchmarks.claims.judging import STRICT

OURS, FREE = "VA-RED2", "VA-RED2 without the efficiency loss"
TIME, CHANNELS = "time only", "channels only"
# Methods by the part of a run's name before its setting.
TITLES = {
    "dense": "dense",
    "tuned": "dense, tuned as long",
    "both": OURS,
    "free": FREE,
    "time": TIME,
    "channels": CHANNELS,
    "narrow": "three quarters of the width",
    "half": "half the width",
    "half-rate": "half the frames",
    "weights": "weights pruned",
    "filters": "filters pruned",
    "gating": "channel gating (CGNet)",
    "resolution": "resolution by clip (AR-Net)",
    "space": "search space 3",
    "time-copied": "frames copied",
    "channels-scaled": "channels scaled",
    "magnitude-refresh": "positions (skip)",
    "reduce": "channels (reduce)",
    "skip+reduce": "positions and channels (skip and reduce)",
}
TUNED = TITLES["tuned"]
POSITIONS, OF_CHANNELS, TOGETHER = (TITLES[name] for name in ("magnitude-refresh", "reduce", "skip+reduce"))
RIVALS = tuple(TITLES[name] for name in ("narrow", "half", "half-rate", "weights", "filters", "gating", "resolution"))
ABLATED = tuple(TITLES[name] for name in ("space", "time-copied", "channels-scaled"))
# What methods are ranked by; top-1 accuracy where nothing is said.
ACCURACY = {"puppets": STRICT["puppets"], "yowo": "map50", "pspnet": "miou"}
SETTINGS = {"both": "lambda", "time": "lambda", "channels": "lambda", "weights": "pruned", "filters": "pruned",
            "gating": "threshold", "resolution": "weight", "magnitude-refresh": "beta", "reduce": "beta",
            "skip+reduce": "beta"}  # fmt: skip


def method_of(name: str) -> tuple[str, str]:
    """Returns the title and the setting of a run's name, such as "both-0.8"."""
    if name in TITLES:
        return TITLES[name], ""
    method, _, number = name.rpartition("-")
    return TITLES[method], f"{SETTINGS[method]} {number}" if method in SETTINGS else ""


def curves(rows: Mapping[str, Any], network: str) -> Curves:
    """Returns every method's points over the test clips, by network; macs as a share of the dense network's.

    Points are top-1 accuracy and macs per clip; of "puppets", a network of poses, PCK@0.1 and macs per frame, of
    "pspnet" mean IoU and macs per picture, of "yowo" mAP of frames and macs per clip.
    """
    found: Curves = {}
    for name, row in rows.items():
        kind, method, seed = name.split("/")
        dense = rows.get(f"{network}/dense/{seed}")
        if kind != network or dense is None:
            continue
        plain = row["measures"]["plain"]
        dense_macs = dense["measures"]["plain"]["dense_macs"]
        title, setting = method_of(method)
        here = Point(plain[ACCURACY.get(network, "top1")], plain["macs"], dense_macs / plain["macs"], setting)
        found.setdefault(title, {}).setdefault(int(seed), []).append(here)
    return found


def beside_dense(rows: Mapping[str, Any], network: str, method: str = OURS) -> Curves:
    """Returns the points of a method and of both dense networks, of the seeds that all of them have."""
    return of_same_seeds(curves(rows, network), [TITLES["dense"], TUNED, method])


def setting_of(found: Curves, method: str, setting: str) -> tuple[float, float] | None:
    """Returns mean accuracy and mean macs ratio over the seeds of one setting; None where it was not run."""
    points = by_setting(found, method).get(setting)
    return None if points is None else (mean(p.accuracy for p in points), mean(p.ratio for p in points))


def cut(ratio: float | None) -> str:
    """Returns a ratio of macs as the share that is saved, in words."""
    return "none" if ratio is None else f"{round(100 * (1 - 1 / ratio))} %"
