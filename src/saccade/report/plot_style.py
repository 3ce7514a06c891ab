"""One style for every plot: fonts, sizes and colours, and how a figure is made and written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from saccade.errors import MissingExtraError
from saccade.report.drawing import COMPUTED

# Okabe and Ito's colours, told apart by the colour-blind too; markers differ as well, for prints without colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F5539")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, FAINT, PAPER = "#222222", "#D9D9D9", "#FFFFFF"
TINT = tuple(channel / 255 for channel in COMPUTED)  # as in overlay videos: where something was computed
SEQUENTIAL = "cividis"  # for what has an order

_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
    "figure.facecolor": PAPER,
    "figure.dpi": 100.0,
    "savefig.dpi": 200.0,
    "svg.fonttype": "path",  # looks the same where the font is missing
    "svg.hashsalt": "saccade",  # the same figure gives the same file
}


@contextmanager
def style() -> Iterator[None]:
    """Everything drawn or saved inside `with style():` has this project's fonts, sizes and colours.

    Raises MissingExtraError where matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtraError(
            "plots need matplotlib, which is not installed. Install it with: pip install 'saccade[report]'"
        ) from error
    with matplotlib.rc_context():  # whatever the user has set comes back afterwards
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)  # type: ignore[arg-type]
        yield


def save_figure(figure: Any, path: str | Path, *, formats: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Writes the figure as PNG and as SVG, or as one of them, whatever the suffix of `path`; returns what it wrote.

    Folders are made.
    """
    stem = Path(path)
    stem = stem.with_suffix("") if stem.suffix in (".png", ".svg") else stem
    stem.parent.mkdir(parents=True, exist_ok=True)
    written = [stem.with_name(f"{stem.name}.{kind}") for kind in formats]
    with style():
        for file, kind in zip(written, formats, strict=True):
            figure.savefig(file, metadata={"Software": None} if kind == "png" else {"Date": None})
    return written


def new_figure(width: float, height: float) -> Any:
    """Returns an empty figure of this size in inches, drawn without a window; call it inside `style()`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
