"""How redundant a network's feature maps are, layer by layer, as a figure in the style of `plot_style`."""

from __future__ import annotations

from typing import Any

from saccade.reduce import DIMENSIONS, Redundancy
from saccade.report.plot_style import COLOURS, MARKERS, new_figure, style

NAMED = 48  # layers up to which each is named under the axis; more are numbered
PANELS = {
    "cc": "mean CC",
    "cc_nearest": "CC with the nearest",
    "rmse": "RMSE / range",
    "redundant_maps": "RP of maps (%)",
}


def redundancy_by_layer(found: Redundancy, *, title: str = "") -> Any:
    """Returns a figure of how alike the maps of each convolution are: a panel per quantity, a line per dimension.

    A marker stands at the mean over the clips, bars reach from the lowest to the highest clip. Where a dimension does
    not apply to a layer there is no marker.
    """
    count = len(found.layers)
    named = count <= NAMED
    with style():
        figure = new_figure(max(4.5, 1.2 + 0.17 * min(count, 60)), 1.0 + 1.25 * len(PANELS) + (0.8 if named else 0))
        panels = figure.subplots(len(PANELS), 1, sharex=True)
        for axes, (quantity, label) in zip(panels, PANELS.items(), strict=True):
            unit = 100 if label.endswith("(%)") else 1
            for index, dimension in enumerate(DIMENSIONS):
                over = [layer.spread(dimension, quantity) for layer in found.layers]
                x = [place for place, each in enumerate(over) if each is not None]
                known = [each for each in over if each is not None]
                axes.errorbar(
                    x,
                    [unit * each.mean for each in known],
                    yerr=[
                        [unit * max(each.mean - each.low, 0) for each in known],
                        [unit * max(each.high - each.mean, 0) for each in known],
                    ],
                    color=COLOURS[index],
                    marker=MARKERS[index],
                    markersize=3.5,
                    linewidth=1.0,
                    elinewidth=0.7,
                    label=dimension,
                )
            axes.set_ylabel(label)
            axes.margins(y=0.08)
            if quantity not in ("cc", "cc_nearest"):
                axes.set_ylim(bottom=0)
        last = panels[-1]
        last.set_xlim(-0.6, count - 0.4)
        if named:
            last.set_xticks(range(count), [layer.name for layer in found.layers], rotation=90, fontsize=6.5)
        else:
            last.set_xlabel("convolution, in the order in which they run")
        panels[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(DIMENSIONS), frameon=False, borderpad=0)
        if title:
            figure.suptitle(title, fontsize=10)
    return figure
