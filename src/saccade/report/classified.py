"""Many classified videos as a table and as a figure."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from saccade.evaluate.classified import ClassifiedTally
from saccade.report.plot_style import COLOURS, new_figure, style
from saccade.report.tables import macs
from saccade.report.values import values_table

SHOWN = 10  # classes


def classified_table(tally: ClassifiedTally, *, title: str, seconds: float | None = None) -> Table:
    """Returns a table of what was found and what it cost; `seconds` is how long this run took."""
    answered = max(1, tally.answered)
    values: dict[str, object] = {"videos": tally.answered + tally.failed, "failed": tally.failed}
    if tally.answered:
        share = tally.macs / tally.dense_macs
        values |= {
            "frames looked at, mean": f"{tally.mean_frames:.2f}",
            "left after frame": ", ".join(f"{t}: {n}" for t, n in sorted(tally.frames.items())),
            "macs per video": f"{macs(tally.macs / answered)}, {share:.1%} of those of all frames",
            "pictures decoded per video": f"{tally.decoded / answered:.1f} of {tally.pictures / answered:.1f}",
            "ms per video": f"{tally.ms / answered:.1f} ({tally.decode_ms / answered:.1f} decoding, "
            f"{tally.index_ms / answered:.1f} opening)",
            "classes": ", ".join(f"{name}: {count}" for name, count in tally.classes.most_common(SHOWN)),
        }
    if seconds is not None:
        values["this run"] = f"{seconds:.1f} s"
    return values_table(title, values)


def exits_histogram(tally: ClassifiedTally, *, frames: int, title: str = "") -> Any:
    """Returns a figure of how many videos were left after each of T = `frames` frames."""
    with style():
        figure = new_figure(4.5, 2.8)
        axes = figure.subplots()
        places = range(1, frames + 1)
        axes.bar(places, [tally.frames[t] for t in places], color=COLOURS[0])
        axes.axvline(tally.mean_frames, color=COLOURS[1], linewidth=1.2, label=f"mean {tally.mean_frames:.2f}")
        axes.set_xticks(places)
        axes.set_xlabel("frames looked at")
        axes.set_ylabel("videos")
        axes.legend(frameon=False)
        if title:
            axes.set_title(title)
    return figure
