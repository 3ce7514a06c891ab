"""When videos were left, and whether that was right (FrameExit, Fig. 3, 4 and 5); and one video as it was looked at.

Every function returns a matplotlib figure that belongs to no window, in the style of `plot_style`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saccade.errors import InputError
from saccade.report.plot_labels import place_labels
from saccade.report.plot_style import COLOURS, INK, MARKERS, SEQUENTIAL, new_figure, style

WHOLE = 3000.0  # points squared: the area of the circle of all videos
WRITTEN_INSIDE = 0.2  # the share from which a circle holds its number
PICTURE_INCHES = 1.0
DIMMED = 0.35  # opacity of pictures that were not looked at


def watermelon(settings: Mapping[str, tuple[ArrayLike, ArrayLike]], *, title: str = "") -> Any:
    """Returns a figure of who left when: a row per setting, a circle per number of frames (Fig. 3).

    A circle's area is the share of the videos that left after so many frames, also written in it or above it; its
    height is how many of them in a hundred were right. Nobody left where there is no circle.

    Args:
        settings: by name, as "β = 0.01", how many videos left after t frames and how many of those were right, both
            (T,), t = 1 to T.
        title: above all rows.

    Raises:
        InputError: there is no setting, the two are not equally long, nobody left, or more were right than left.
    """
    if not settings:
        raise InputError("got no settings; expected at least one")
    rows = [(name, *_counts(name, left, right)) for name, (left, right) in settings.items()]
    longest = max(len(left) for _, left, _ in rows)
    with style():
        figure = new_figure(1.2 + 0.5 * longest, 0.5 + 2.1 * len(rows))
        for panel, (name, left, right) in zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
            there = np.flatnonzero(left)
            shares, heights = left[there] / left.sum(), 100 * right[there] / left[there]
            panel.scatter(
                there + 1,
                heights,
                s=WHOLE * shares,
                color=COLOURS[0],
                alpha=0.65,
                linewidths=0,
                zorder=2,
                clip_on=False,
            )
            for t, share, height in zip(there + 1, shares, heights, strict=True):
                inside = share >= WRITTEN_INSIDE
                panel.annotate(
                    _share(share),
                    (t, height),
                    xytext=(0, 0 if inside else np.sqrt(WHOLE * share) / 2 + 1),  # points, from the centre
                    textcoords="offset points",
                    ha="center",
                    va="center" if inside else "bottom",
                    fontsize=7,
                )
            panel.set(xlim=(0.4, longest + 0.6), ylim=(-8, 130), ylabel="right (%)")
            panel.set_xticks(range(1, longest + 1))
            panel.set_yticks(range(0, 101, 25))
            panel.set_title(name, loc="left")
        panel.set_xlabel("left after so many frames")
        if title:
            figure.suptitle(title, fontsize=10)
    return figure


def exit_matrix(left: ArrayLike, right: ArrayLike, *, title: str = "") -> Any:
    """Returns a figure of what leaving at another time would have given (Fig. 4).

    The cell in row i and column j has the share of the videos left after i frames that the classifier after j frames
    is right about, in percent; on the diagonal, framed, is what was answered. Rows of which there are no videos are
    empty. Beside each row stands how many videos it is of.

    Args:
        left: how many videos left after i frames, (T,).
        right: of those, how many would have been right after j, (T, T).
        title: above it.

    Raises:
        InputError: shapes do not fit, nobody left, or more were right than left.
    """
    counts, _ = _counts("the matrix", left, np.zeros_like(np.asarray(left)))
    given = np.asarray(right, dtype=float)
    steps = len(counts)
    if given.shape != (steps, steps):
        raise InputError(f"right is {given.shape}; expected {(steps, steps)}, as {steps} numbers of videos left")
    if not ((given >= 0) & (given <= counts[:, None])).all():
        raise InputError("right has a cell below 0 or above the number of videos that left; expected 0 to that number")
    shares = np.full((steps, steps), np.nan)
    np.divide(100 * given, counts[:, None], out=shares, where=counts[:, None] > 0)
    with style():
        figure = new_figure(1.7 + 0.42 * steps, 0.9 + 0.36 * steps)
        axes = figure.subplots()
        axes.grid(False)
        picture = axes.imshow(shares, vmin=0, vmax=100, cmap=SEQUENTIAL, aspect="auto", interpolation="nearest")
        for i, j in zip(*np.nonzero(~np.isnan(shares)), strict=True):
            colour = INK if shares[i, j] > 55 else "#FFFFFF"
            axes.text(j, i, f"{shares[i, j]:.0f}", ha="center", va="center", fontsize=7, color=colour)
        for i in np.flatnonzero(counts):
            axes.add_patch(_frame(i - 0.5, i - 0.5, 1, 1))
        axes.set_xticks(range(steps), range(1, steps + 1))
        axes.set_yticks(range(steps), [f"{i + 1}  ({count:.0f})" for i, count in enumerate(counts)])
        axes.set(xlabel="answer of the classifier after j frames", ylabel="left after i frames (videos)", title=title)
        figure.colorbar(picture, ax=axes, label="right (%)", fraction=0.05, pad=0.02)
    return figure


def precision_against_frames(
    precision: Sequence[float | None],
    frames: Sequence[float | None],
    *,
    classes: Sequence[str],
    groups: Sequence[str] | None = None,
    title: str = "",
) -> Any:
    """Returns a figure of the classes: average precision against the mean frames of their videos (Fig. 5).

    Args:
        precision: average precision of each class, 0..1; None or NaN where no video shows it, which leaves it out.
        frames: mean frames of the videos that show it; None or NaN as well.
        classes: their names.
        groups: a name per class; classes of one group have one colour and marker. At most seven.
        title: above it.

    Raises:
        InputError: not one of each per class, no class that a video shows, a precision outside 0..1, less than no
            frame, or more than seven groups.
    """
    named = list(groups) if groups is not None else [""] * len(classes)
    if not len(precision) == len(frames) == len(named) == len(classes):
        raise InputError(
            f"got {len(precision)} precisions, {len(frames)} frames and {len(named)} groups of {len(classes)} classes; "
            "expected one of each"
        )
    heights, places = (np.array([np.nan if v is None else v for v in values], float) for values in (precision, frames))
    there = np.flatnonzero(~(np.isnan(heights) | np.isnan(places))).tolist()
    if not there or not ((heights[there] >= 0) & (heights[there] <= 1) & (places[there] >= 0)).all():
        raise InputError(
            "expected at least one class that a video shows, precisions of 0 to 1, and frames of 0 or more"
        )
    kinds = list(dict.fromkeys(named))
    if len(kinds) > len(COLOURS):
        raise InputError(f"got {len(kinds)} groups; expected at most {len(COLOURS)}, so that colours tell them apart")
    with style():
        figure = new_figure(5.6, 3.7)
        axes = figure.subplots()
        for index, kind in enumerate(kinds):
            own = [k for k in there if named[k] == kind]
            if own:
                shown = {"color": COLOURS[index], "marker": MARKERS[index], "linestyle": "none"}
                axes.plot(places[own], 100 * heights[own], label=kind, **shown)
        axes.set(xlabel="frames of a video, on average", ylabel="average precision (%)", title=title)
        axes.margins(x=0.12, y=0.15)
        if groups is not None:
            axes.legend(frameon=False, loc="best", fontsize=8)
        points = np.stack([places, 100 * heights], 1)[there]
        colours = [COLOURS[kinds.index(named[k])] for k in there]
        _name_points(figure, axes, points, [classes[k] for k in there], colours)
    return figure


def contact_sheet(
    frames: ArrayLike,
    visits: Sequence[int],
    *,
    answers: Sequence[str],
    sureness: Sequence[float],
    columns: int = 10,
    title: str = "",
) -> Any:
    """Returns a figure of one video in the order of time, with what was looked at and what was answered after it.

    Pictures that were looked at are framed; above each stands its place among the visits, below it the answer after
    it and how sure that was. The last visit, after which the video was left, has a bolder frame. All others are pale.

    Args:
        frames: pictures of the video in the order of time, (N, H, W, 3) uint8.
        visits: which of them were looked at, in the order of the visits, from 0. The same one may come again.
        answers: what was answered after each visit.
        sureness: how sure that was, 0..1.
        columns: pictures in a row.
        title: above it.

    Raises:
        InputError: frames are not pictures, there is no visit or one of no picture, there is not one answer and one
            sureness per visit, a sureness is not within 0..1, or there are no columns.
    """
    pictures = np.asarray(frames)
    if pictures.ndim != 4 or pictures.shape[-1] != 3 or pictures.dtype != np.uint8 or 0 in pictures.shape:
        raise InputError(f"frames are {pictures.dtype} {pictures.shape}; expected uint8 (N, H, W, 3), not empty")
    if not visits or not len(visits) == len(answers) == len(sureness):
        raise InputError(
            f"got {len(visits)} visits, {len(answers)} answers and {len(sureness)} numbers of sureness; expected as "
            "many of each, at least one"
        )
    if not all(0 <= visit < len(pictures) for visit in visits):
        raise InputError(f"visits are {list(visits)}; expected pictures 0 to {len(pictures) - 1}")
    if not all(0 <= sure <= 1 for sure in sureness) or columns < 1:
        raise InputError(f"sureness is {list(sureness)} and columns {columns}; expected 0 to 1, and at least 1")
    of_picture: dict[int, list[int]] = {}
    for number, visit in enumerate(visits):
        of_picture.setdefault(int(visit), []).append(number)
    across = min(columns, len(pictures))
    down = -(-len(pictures) // across)
    lines = max(map(len, of_picture.values()))
    height, width = pictures.shape[1:3]
    tall = PICTURE_INCHES * height / width
    with style():
        figure = new_figure(0.2 + (PICTURE_INCHES + 0.08) * across, 0.3 + (tall + 0.22 + 0.26 * lines) * down)
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for panel in panels:
            panel.set_axis_off()
        for place, (panel, picture) in enumerate(zip(panels, pictures, strict=False)):
            numbers = of_picture.get(place, [])
            panel.imshow(picture, alpha=1.0 if numbers else DIMMED, interpolation="nearest")
            if numbers:
                bold = len(visits) - 1 in numbers
                panel.add_patch(_frame(-0.5, -0.5, width, height, colour=COLOURS[1], line=3.0 if bold else 1.6))
                panel.set_title(", ".join(str(number + 1) for number in numbers), fontsize=8, pad=3, color=COLOURS[1])
                said = "\n".join(f"{answers[number]}\n{_share(sureness[number])}" for number in numbers)
                panel.text(0.5, -0.06, said, transform=panel.transAxes, ha="center", va="top", fontsize=6.5)
        if title:
            figure.suptitle(title, fontsize=10)
    return figure


def _counts(name: str, left: ArrayLike, right: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns how many left after 1 to T frames and how many were right, checked."""
    counts, good = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
    if counts.ndim != 1 or counts.shape != good.shape:
        raise InputError(f"{name}: left is {counts.shape} and right {good.shape}; expected (T,) for both")
    if not (counts >= 0).all() or not counts.sum() > 0:
        raise InputError(f"{name}: {counts.tolist()} videos left; expected numbers that are not negative, not all 0")
    if not ((good >= 0) & (good <= counts)).all():
        raise InputError(f"{name}: {good.tolist()} were right of {counts.tolist()}; expected 0 to as many as left")
    return counts, good


def _frame(x: float, y: float, width: float, height: float, *, colour: str = INK, line: float = 1.2) -> Any:
    """Returns an empty rectangle to put around something."""
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), width, height, fill=False, edgecolor=colour, linewidth=line, clip_on=False)


def _name_points(
    figure: Any, axes: Any, points: NDArray[np.float64], names: Sequence[str], colours: Sequence[str]
) -> None:
    """Writes a name beside each point, over no other."""
    figure.draw_without_rendering()  # settles sizes and places in pixels
    renderer = figure.canvas.get_renderer()
    labels = [
        axes.text(0, 0, name, color=colour, fontsize=7, va="bottom")
        for name, colour in zip(names, colours, strict=True)
    ]
    sizes = [(box.width, box.height) for box in (label.get_window_extent(renderer) for label in labels)]
    inside = axes.get_window_extent(renderer)
    boxes = place_labels(
        [axes.transData.transform(point[None]) for point in points],
        sizes,
        within=(inside.x0, inside.y0, inside.x1, inside.y1),
        gap=8.0,
    )
    for label, box in zip(labels, boxes, strict=True):
        label.set_position(axes.transData.inverted().transform(box[:2]))
        label.set_in_layout(False)


def _share(share: float) -> str:
    """Returns a share in percent; what is not quite none does not read as such."""
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"
