"""Pictures of what reduced networks chose (VA-RED2, Fig. 3, 4, 8 to 12), from the measured rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.claims.drawn import save_svg
from benchmarks.claims.reduce_runs import ABLATED
from recipes.moving_clips import FIRST_SEED, render
from saccade.data.puppets_clips import CLIP_ACTIONS
from saccade.report.plot_style import save_figure
from saccade.report.policy_plots import cheapest_and_dearest, cost_by_class, policy_map

MAPS = {"time": "frames computed", "channels": "channels computed", "macs": "macs computed"}


def draw_policies(rows: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws the policies of each network, at the setting whose clips' costs are furthest apart; returns the files."""
    files = []
    for network in ("r2plus1d", "x3d"):
        measured = {
            name: row["measures"]["policies"]
            for name, row in rows.items()
            if name.startswith(f"{network}/both-") and name.endswith(f"/{ABLATED}") and "policies" in row["measures"]
        }
        if not measured:
            continue
        name, found = max(measured.items(), key=lambda item: max(item[1]["costs"]) - min(item[1]["costs"]))
        title = f"{network}, {name.split('/')[1]}"
        for kind, of in MAPS.items():
            layers = [short(layer) for layer in found["layers"]]
            figure = policy_map(found[kind], layers=layers, classes=CLIP_ACTIONS, of=of, title=title)
            files.append(save_svg(figure, folder / f"reduce-policy-{network}-{kind}"))
        by_class = clips_by_class(found)
        costs = {action: [found["costs"][index] for index in clips] for action, clips in by_class.items()}
        files.append(save_svg(cost_by_class(costs, title=title), folder / f"reduce-costs-{network}"))
        pairs = {}
        for action, clips in by_class.items():
            ends = [pick(clips, key=found["costs"].__getitem__) for pick in (min, max)]
            pairs[action] = tuple((frames_of(index), found["costs"][index]) for index in ends)
        figure = cheapest_and_dearest(pairs, title=title)  # type: ignore[arg-type]
        files += save_figure(figure, folder / f"reduce-clips-{network}", formats=["png"])  # as SVG it is large
    return files


def clips_by_class(found: Mapping[str, Any]) -> dict[str, list[int]]:
    """Returns by action the numbers of its test clips."""
    clips: dict[str, list[int]] = {}
    for index, label in enumerate(found["labels"]):
        clips.setdefault(CLIP_ACTIONS[label], []).append(index)
    return {action: clips[action] for action in CLIP_ACTIONS if action in clips}


def frames_of(index: int) -> Any:
    """Returns the frames of a test clip, (T, H, W, 3) uint8, rendered anew."""
    return render(FIRST_SEED["test"] + index)["frames"].transpose(0, 2, 3, 1)


def short(layer: str) -> str:
    """Returns a layer's name without what all of them have in common, and without the numbers of first members."""
    return re.sub(r"(\.0)+$", "", layer.removeprefix("model.").removeprefix("body."))
