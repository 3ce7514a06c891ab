"""Plots: where gates fired, how often, and accuracy against macs; all in one style.

Every function returns a matplotlib figure that belongs to no window; `plot_style.save_figure` writes it. matplotlib is
the extra ``report`` and is imported when something is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saccade.errors import InputError
from saccade.report.plot_labels import place_labels, spread
from saccade.report.plot_style import COLOURS, INK, MARKERS, PAPER, SEQUENTIAL, TINT, new_figure, style

TINT_OPACITY = 0.6
PANEL_INCHES = 1.25


def gate_masks(frames: ArrayLike, masks_by_layer: Mapping[str, ArrayLike], *, title: str = "") -> Any:
    """Returns a figure of where gates fired: one row per layer, one column per frame (the paper's Fig. 2 and 3).

    The first row is the frames themselves; below, the positions a layer computed are tinted over the faded frame, and
    the share of them is written in the corner.

    Args:
        frames: (T, H, W, 3), uint8 or 0..1.
        masks_by_layer: by the name to show, (T, h, w): nonzero where the layer fired. Any size: a position covers its
            share of the frame.
        title: above it all.

    Raises:
        InputError: shapes do not fit, or there is nothing to draw.
    """
    pictures = _pictures(frames)
    masks = {name: np.asarray(mask) != 0 for name, mask in masks_by_layer.items()}
    for name, mask in masks.items():
        if mask.ndim != 3 or len(mask) != len(pictures) or 0 in mask.shape:
            raise InputError(f"masks of {name} are {mask.shape}; expected (T, h, w) with T = {len(pictures)} frames")
    if not masks:
        raise InputError("no masks were given: expected at least one layer")
    rows, columns = len(masks) + 1, len(pictures)
    height = PANEL_INCHES * pictures.shape[1] / pictures.shape[2]
    faded = 0.45 * pictures.mean(-1, keepdims=True).repeat(3, -1) + 0.55
    with style():
        figure = new_figure(
            1.1 + columns * (PANEL_INCHES + 0.06), 0.3 + (0.25 if title else 0) + rows * (height + 0.06)
        )
        axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"wspace": 0.03, "hspace": 0.05})
        for row, (name, mask) in enumerate([("frame", None), *masks.items()]):
            for t in range(columns):
                panel = axes[row][t]
                panel.set(xticks=[], yticks=[])
                panel.grid(False)
                panel.spines[:].set_visible(False)
                panel.imshow(pictures[t] if mask is None else tinted(faded[t], mask[t]), interpolation="nearest")
                if row == 0:
                    panel.set_title(f"t = {t + 1}")
                if mask is not None:
                    corner = {"ha": "right", "va": "bottom", "fontsize": 7, "transform": panel.transAxes}
                    box = {"boxstyle": "square,pad=0.15", "fc": PAPER, "ec": "none", "alpha": 0.8}
                    panel.text(0.98, 0.03, _share(float(mask[t].mean())), bbox=box, **corner)
            axes[row][0].set_ylabel(name, rotation=0, ha="right", va="center")
        if title:
            figure.suptitle(title, fontsize=10)
    return figure


def tinted(picture: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns the picture (H, W, 3), 0..1, tinted where the mask (h, w), enlarged to it, is true."""
    rows = np.arange(picture.shape[0]) * mask.shape[0] // picture.shape[0]
    columns = np.arange(picture.shape[1]) * mask.shape[1] // picture.shape[1]
    opacity = TINT_OPACITY * mask[rows][:, columns, None]
    return picture * (1 - opacity) + np.array(TINT) * opacity


def firing_by_stage(shares: Mapping[float, Mapping[str, float]], *, title: str = "") -> Any:
    """Returns a figure of how often gates fired, by stage and by the weight beta of the gate loss (Fig. 8).

    Args:
        shares: by beta, then by stage in the network's order: the mean share of positions that fired, 0..1. Every beta
            has the same stages.
        title: above it.

    Raises:
        InputError: nothing was given, stages differ, or a share is not within 0..1.
    """
    stages = list(next(iter(shares.values()), {}))
    if not stages:
        raise InputError("no shares were given: expected at least one beta with at least one stage")
    for beta, by_stage in shares.items():
        if set(by_stage) != set(stages):
            raise InputError(f"beta {beta:g} has stages {list(by_stage)}; expected {stages} as for the first")
        if not all(0 <= share <= 1 for share in by_stage.values()):
            raise InputError(f"beta {beta:g} has shares {dict(by_stage)}; expected 0 to 1")
    betas = sorted(shares)
    with style():
        import matplotlib

        figure = new_figure(1.6 + 0.75 * len(stages) + 0.9, 2.8)
        axes = figure.subplots()
        ramp = matplotlib.colormaps[SEQUENTIAL]
        colours = [ramp(0.85 * i / max(len(betas) - 1, 1)) for i in range(len(betas))]
        ends = []
        for index, beta in enumerate(betas):
            values = [100 * shares[beta][stage] for stage in stages]
            axes.plot(range(len(stages)), values, color=colours[index], marker=MARKERS[index % len(MARKERS)])
            ends.append(values[-1])
        axes.set_xticks(range(len(stages)), stages)
        axes.set(ylabel="positions computed (%)", xlim=(-0.3, len(stages) - 0.7))
        axes.set_ylim(0, max(1.08 * axes.dataLim.y1, 1e-6))
        axes.set_title(title)
        _label_right(axes, ends, [f"β = {_short(beta)}" for beta in betas], colours)
    return figure


@dataclass(frozen=True)
class CurvePoint:
    """One operating point of a method: macs and accuracy of each seed, in the same order.

    Raises InputError where the two are not equally many, empty, or not finite.
    """

    macs: Sequence[float]
    accuracy: Sequence[float]

    def __post_init__(self) -> None:
        """See the class."""
        values = [*self.macs, *self.accuracy]
        if not self.macs or len(self.macs) != len(self.accuracy) or not all(map(math.isfinite, values)):
            raise InputError(f"a point needs macs and accuracy of the same seeds, finite; got {self}")

    @property
    def mean(self) -> tuple[float, float]:
        """Mean macs and mean accuracy over the seeds."""
        return sum(self.macs) / len(self.macs), sum(self.accuracy) / len(self.accuracy)


@dataclass(frozen=True)
class Curve:
    """A method's operating points. Raises InputError where there is none."""

    method: str
    points: Sequence[CurvePoint]

    def __post_init__(self) -> None:
        """See the class."""
        if not self.points:
            raise InputError(f"{self.method} has no points: expected at least one")


def accuracy_against_macs(
    curves: Sequence[Curve],
    *,
    dense: CurvePoint | None = None,
    accuracy: str = "accuracy",
    unit: float = 1e9,
    per: str = "frame",
    log: bool = False,
    title: str = "",
) -> Any:
    """Returns a figure of accuracy against macs, a line per method (Fig. 4, 5 and 7).

    A marker stands at the mean over seeds; bars reach from the lowest to the highest seed, in both directions. The
    dense network is a dashed line at its accuracy, with a marker at its macs.

    Args:
        curves: the methods; each keeps its colour and marker by its place here.
        dense: the network that computes everything.
        accuracy: what the upright axis says.
        unit: macs per unit of the axis: 1e9, 1e6, 1e3 or 1.
        per: what the macs are of, in a word.
        log: a logarithmic axis of macs.
        title: above it.

    Raises:
        InputError: there is no curve, the unit is unknown, or a point has no macs on a logarithmic axis.
    """
    names = {number: f"{letter}macs per {per}" for number, letter in ((1e9, "G "), (1e6, "M "), (1e3, "k "), (1.0, ""))}
    if not curves or unit not in names:
        raise InputError(f"got {len(curves)} curves and unit {unit:g}; expected at least one, and one of {list(names)}")
    every = [macs for curve in curves for point in curve.points for macs in point.macs]
    if log and min(every) <= 0:
        raise InputError("a logarithmic axis cannot show a point without macs; use log=False")
    with style():
        figure = new_figure(5.6, 3.7)
        axes = figure.subplots()
        if log:
            axes.set_xscale("log")
        lines, texts, colours, obstacles = [], [], [], []
        for index, curve in enumerate(curves):
            colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
            points = sorted(curve.points, key=lambda point: point.mean[0])
            x, y = np.array([point.mean for point in points]).T
            bars = axes.errorbar(
                x / unit,
                y,
                xerr=_spread([[macs / unit for macs in point.macs] for point in points]),
                yerr=_spread([point.accuracy for point in points]),
                color=colour,
                marker=marker,
                elinewidth=0.9,
                capsize=2,
                label=curve.method,
            )
            obstacles += [segment for collection in bars[2] for segment in collection.get_segments()]
            lines.append(np.stack([x / unit, y], 1))
            texts.append(curve.method)
            colours.append(colour)
        if dense is not None:
            x0, y0 = dense.mean
            axes.axhline(y0, color=INK, linestyle=(0, (4, 3)), linewidth=1.0, zorder=1.5, label="dense")
            axes.plot([x0 / unit], [y0], color=INK, marker="*", markersize=10, linestyle="none")
            lines.append(np.array([[x0 / unit, y0]]))
            texts.append("dense")
            colours.append(INK)
        axes.set(xlabel=names[unit], ylabel=accuracy, title=title)
        axes.margins(x=0.08, y=0.12)
        if log:
            _plain_ticks(axes.xaxis)
        else:
            axes.set_xlim(left=0)
        if dense is not None:
            obstacles.append(np.array([[x, dense.mean[1]] for x in axes.get_xlim()]))
        _label_beside(figure, axes, lines, texts, colours, obstacles)
    return figure


def _pictures(frames: ArrayLike) -> NDArray[np.float64]:
    given = np.asarray(frames)
    if given.ndim != 4 or given.shape[-1] != 3 or 0 in given.shape:
        raise InputError(f"frames are {given.shape}; expected (T, H, W, 3), uint8 or 0..1")
    pictures = given.astype(np.float64) / (255 if given.dtype == np.uint8 else 1)
    if not (pictures.min() >= -1e-3 and pictures.max() <= 1 + 1e-3):
        raise InputError(f"frames reach from {pictures.min():g} to {pictures.max():g}; expected uint8, or 0..1")
    return pictures.clip(0, 1)


def _spread(values: Sequence[Sequence[float]]) -> NDArray[np.float64] | None:
    """Returns how far the lowest and the highest of each are from their mean, (2, P); None for single values."""
    if all(len(each) == 1 for each in values):
        return None
    means = [sum(each) / len(each) for each in values]
    low = [max(mean - min(each), 0.0) for each, mean in zip(values, means, strict=True)]
    high = [max(max(each) - mean, 0.0) for each, mean in zip(values, means, strict=True)]
    return np.array([low, high])


def _label_right(axes: Any, ends: Sequence[float], texts: Sequence[str], colours: Sequence[Any]) -> None:
    """Writes a label to the right of each line's end, moved apart where they would touch."""
    height = 0.065 * (axes.get_ylim()[1] - axes.get_ylim()[0])
    low, high = axes.get_ylim()
    for end, centre, text, colour in zip(ends, spread(ends, height, low=low, high=high), texts, colours, strict=True):
        axes.annotate(
            text,
            xy=(axes.get_lines()[0].get_xdata()[-1], end),
            xytext=(1.02, centre),
            textcoords=axes.get_yaxis_transform(),
            color=colour,
            va="center",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkA": 1, "shrinkB": 4},
        )


def _label_beside(
    figure: Any,
    axes: Any,
    lines: Sequence[Any],
    texts: Sequence[str],
    colours: Sequence[str],
    obstacles: Sequence[Any],
) -> None:
    """Writes each line's label in its colour, where it covers nothing; lines and obstacles in the axes' units."""
    figure.draw_without_rendering()  # settles sizes and places in pixels
    renderer = figure.canvas.get_renderer()
    labels = []
    for text, colour in zip(texts, colours, strict=True):
        labels.append(axes.text(0, 0, text, color=colour, fontsize=8, va="bottom"))
    sizes = [(box.width, box.height) for box in (label.get_window_extent(renderer) for label in labels)]
    frame = axes.get_window_extent(renderer)
    boxes = place_labels(
        [axes.transData.transform(line) for line in lines],
        sizes,
        within=(frame.x0, frame.y0, frame.x1, frame.y1),
        others=[axes.transData.transform(line) for line in obstacles],
    )
    for label, box in zip(labels, boxes, strict=True):
        label.set_position(axes.transData.inverted().transform(box[:2]))
        label.set_in_layout(False)


def _plain_ticks(axis: Any) -> None:
    """Marks a logarithmic axis at 1, 2, 5, 10... in plain numbers."""
    from matplotlib import ticker

    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def _short(number: float) -> str:
    """Returns a number as the paper writes its betas: 0.01, 1e-5, 1.5e-4."""
    if number == 0 or number >= 1e-3:
        return f"{number:g}"
    mantissa, exponent = f"{number:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _share(share: float) -> str:
    """Returns a share in percent; what is not quite none or all does not read as such."""
    if 0 < share < 0.005:
        return "<1%"
    return "99%" if 0.995 <= share < 1 else f"{share:.0%}"
