"""What a reduced network chose (VA-RED2, Fig. 3, 4 and 8 to 12): by layer and class, by clip, and in which clips.

Every function returns a matplotlib figure that belongs to no window, in the style of `plot_style`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from saccade.errors import InputError
from saccade.report.plot_style import COLOURS, INK, SEQUENTIAL, new_figure, style

NAMED = 48  # layers up to which each is named; more are numbered
FRAME_INCHES = 0.62


def policy_map(
    shares: ArrayLike, *, layers: Sequence[str], classes: Sequence[str], of: str = "computed", title: str = ""
) -> Any:
    """Returns a figure of the share that each layer computes for clips of each class (Fig. 3, 8 to 12).

    Args:
        shares: (layers, classes), 0..1.
        layers, classes: their names, in order.
        of: what the share is of; written at the colours.
        title: above it.

    Raises:
        InputError: shapes do not fit, or a share is not within 0..1.
    """
    values = np.asarray(shares, dtype=float)
    if values.shape != (len(layers), len(classes)) or 0 in values.shape:
        raise InputError(f"shares are {values.shape}; expected {len(layers)} layers x {len(classes)} classes, none 0")
    if not (values.min() >= 0 and values.max() <= 1):
        raise InputError(f"shares reach from {values.min():g} to {values.max():g}; expected 0 to 1")
    named = len(layers) <= NAMED
    with style():
        figure = new_figure(2.4 + 0.22 * min(len(layers), 60), 0.9 + 0.2 * len(classes) + (0.9 if named else 0.2))
        axes = figure.subplots()
        axes.grid(False)
        picture = axes.imshow(values.T, vmin=0, vmax=1, cmap=SEQUENTIAL, aspect="auto", interpolation="nearest")
        axes.set_yticks(range(len(classes)), list(classes))
        if named:
            axes.set_xticks(range(len(layers)), list(layers), rotation=90, fontsize=6.5)
        else:
            axes.set_xlabel("layer, in the order in which they run")
        axes.set_title(title)
        figure.colorbar(picture, ax=axes, label=of, fraction=0.05, pad=0.02)
    return figure


def cost_by_class(costs: Mapping[str, Sequence[float]], *, title: str = "") -> Any:
    """Returns a figure of what the clips of each class cost, cheapest class first: a dot per clip, a line at the mean.

    Args:
        costs: by class, of each of its clips the macs over the dense network's.
        title: above it.

    Raises:
        InputError: there is no class, or one without clips.
    """
    if not costs or not all(len(values) for values in costs.values()):
        raise InputError(f"got costs of {len(costs)} classes; expected at least one, each with at least one clip")
    means = {name: sum(values) / len(values) for name, values in costs.items()}
    order = sorted(costs, key=means.__getitem__)
    with style():
        figure = new_figure(5.2, 0.9 + 0.24 * len(order))
        axes = figure.subplots()
        for row, name in enumerate(order):
            values = 100 * np.sort(np.asarray(costs[name], dtype=float))
            apart = 0.5 * (np.arange(len(values)) * 0.618034 % 1 - 0.5)  # the same for every run, without a pattern
            axes.plot(values, row + apart, linestyle="none", marker=".", markersize=3, color=COLOURS[0], alpha=0.55)
            axes.plot([100 * means[name]] * 2, [row - 0.36, row + 0.36], color=INK, linewidth=1.6)
        axes.set_yticks(range(len(order)), order)
        axes.set(ylim=(len(order) - 0.4, -0.6), xlabel="macs of a clip, gates included (% of the dense network's)")
        axes.set_title(title)
    return figure


def cheapest_and_dearest(
    pairs: Mapping[str, tuple[tuple[ArrayLike, float], tuple[ArrayLike, float]]], *, frames: int = 5, title: str = ""
) -> Any:
    """Returns a figure of two clips of each class, the cheapest left and the dearest right (Fig. 4).

    Args:
        pairs: by class, the clips' frames (T, H, W, 3) uint8, and their macs over the dense network's.
        frames: how many of a clip to show, spread evenly over it.
        title: above it.

    Raises:
        InputError: there is no class, or frames are not pictures.
    """
    if not pairs:
        raise InputError("got no clips; expected at least one class")
    rows = []
    for name, pair in pairs.items():
        cells = []
        for clip, cost in pair:
            pictures = np.asarray(clip)
            if pictures.ndim != 4 or pictures.shape[-1] != 3 or pictures.dtype != np.uint8 or 0 in pictures.shape:
                raise InputError(
                    f"frames of {name} are {pictures.dtype} {pictures.shape}; expected uint8 (T, H, W, 3), not empty"
                )
            places = np.linspace(0, len(pictures) - 1, frames).round().astype(int)
            cells.append((np.concatenate(list(pictures[places]), axis=1), cost))
        rows.append((name, cells))
    with style():
        figure = new_figure(1.3 + 2 * frames * FRAME_INCHES + 0.2, 0.5 + len(rows) * (FRAME_INCHES + 0.2))
        axes = figure.subplots(len(rows), 2, squeeze=False, gridspec_kw={"wspace": 0.03, "hspace": 0.12})
        for row, (name, cells) in enumerate(rows):
            for column, (strip, cost) in enumerate(cells):
                panel = axes[row][column]
                panel.set(xticks=[], yticks=[])
                panel.grid(False)
                panel.spines[:].set_visible(False)
                panel.imshow(strip, interpolation="nearest")
                which = ("cheapest: ", "dearest: ")[column] if row == 0 else ""
                panel.set_title(f"{which}{cost:.0%}", fontsize=7, pad=2)
            axes[row][0].set_ylabel(name, rotation=0, ha="right", va="center")
        if title:
            figure.suptitle(title, fontsize=10)
    return figure
