"""How the pipelines of benchmarks.classify compare: goals from rows, and both as tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

GOALS = {"share": 0.95, "over_one_by_one": 1.5}  # the latter where the backbone gains as much from batches


def goal_of(rows: Sequence[dict[str, Any]], *, ms: tuple[float, float], key_frames: Sequence[int]) -> dict[str, Any]:
    """Returns how the pipelines of one collection, network and number of workers compare.

    Args:
        rows: of all its pipelines.
        ms: of a frame alone and in a batch.
        key_frames: of each file.
    """
    by = {row["pipeline"]: row for row in rows}
    ours, seeking = by["batched"], by["fixed-seeking"]

    def over(name: str) -> float:
        return float(ours["videos_per_s"] / by[name]["videos_per_s"])

    cut = seeking["frames"] / ours["frames"]
    gain = ms[0] / ms[1]
    found = {
        **{name: ours[name] for name in ("collection", "backbone", "size", "workers")},
        "cut_frames": cut,
        "cut_macs": seeking["macs"] / ours["macs"],
        "cut_decoded": seeking["decoded"] / ours["decoded"],
        "over_fixed_seeking": over("fixed-seeking"),
        "share": over("fixed-seeking") / cut,
        "over_fixed_full": over("fixed-full"),
        "over_one_by_one": over("one-by-one"),
        "over_batch_1": over("batch-1"),
        "over_all_frames": over("all-frames"),
        "frame_ms": ms[0],
        "frame_in_batch_ms": ms[1],
        "backbone_gain": gain,
        "key_frames": {"least": min(key_frames), "mean": statistics.fmean(key_frames), "most": max(key_frames)},
        "reached": {
            "share": over("fixed-seeking") / cut >= GOALS["share"],
            "more_over_full": over("fixed-full") > over("fixed-seeking"),
            "over_one_by_one": over("one-by-one") >= GOALS["over_one_by_one"]
            if gain >= GOALS["over_one_by_one"]
            else None,
        },
        "keyframe": None,
    }
    if "keyframe" in by:
        snapped = by["keyframe"]
        found["keyframe"] = {
            "over_batched": snapped["videos_per_s"] / ours["videos_per_s"],
            "top1": snapped["top1"],
            "top1_exact": ours["top1"],
            "frames": snapped["frames"],
            "decoded": snapped["decoded"],
            "same_labels": snapped["labels_as_gate"],
        }
    return found


def table(result: Mapping[str, Any]) -> str:
    """Returns rows and goals as Markdown."""

    def line(*cells: object) -> str:
        return f"| {' | '.join(map(str, cells))} |"

    def number(value: float | None, digits: int = 2) -> str:
        return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"

    head = "files, network, workers|pipeline|videos/s|frames|M macs|decoded|reading ms|top-1|different".split("|")
    lines = [line(*head), "|" + "---|" * len(head)]
    for row in result["rows"]:
        what = f"{row['collection']}, {row['backbone']} {row['size']}, {row['workers']}"
        figures = (row["videos_per_s"], 1), (row["frames"], 2), (row["macs"] / 1e6, 1), (row["decoded"], 1)
        rest = (row["reading_ms"], 1), (row["top1"], 1), (row["different"], 0)
        lines.append(line(what, row["pipeline"], *(number(*figure) for figure in figures + rest)))
    columns = ("cut_frames", "cut_macs", "cut_decoded", "over_fixed_seeking", "share", "over_fixed_full")
    columns += ("over_one_by_one", "over_batch_1", "backbone_gain")
    head = ["files, network, workers", *columns, "keyframe over batched", "top-1 by key frames, exact"]
    lines += ["", line(*head), "|" + "---|" * len(head)]
    for goal in result["goals"]:
        what = f"{goal['collection']}, {goal['backbone']} {goal['size']}, {goal['workers']}"
        snapped = goal["keyframe"] or dict.fromkeys(("over_batched", "top1", "top1_exact"))
        accuracy = f"{number(snapped['top1'], 1)}, {number(snapped['top1_exact'], 1)}"
        figures_of = (number(goal[name]) for name in columns)
        lines.append(line(what, *figures_of, number(snapped["over_batched"]), accuracy))
    return "\n".join(lines)
