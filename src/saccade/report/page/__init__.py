"""The page of a report: one HTML file that shows what a stream did to a video, without any other file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from saccade.evaluate.video_report import VideoReport
from saccade.report import words
from saccade.report.album import KeyFrame, WorstFrame
from saccade.report.charts import percent
from saccade.report.markup import Markup, joined, tag
from saccade.report.sections import over_time, steps_table, trade_off, worst_frames
from saccade.report.tables import REFERENCE_NOTE, engine_words, gate_words, macs

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_page(report: VideoReport, *, key_frames: Sequence[KeyFrame] = (), worst: Sequence[WorstFrame] = ()) -> str:
    """Returns the page as HTML: numbers of the report, its pictures, and a script for pointing, choosing and sorting.

    It asks for no other file and tells the browser to allow none.

    Args:
        report: what was measured.
        key_frames: frames to stand beside the course of the cost, in order.
        worst: frames to show side by side, the worst first.

    Pictures of frames the report does not hold, as of one that was interrupted, are left out.
    """
    key_frames = [frame for frame in key_frames if frame.index < len(report.frames)]
    worst = [frame for frame in worst if frame.row.index < len(report.frames)]
    title = f"{_short(report.run.model)} on {_short(report.run.source)}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"Saccade: {title}"),
        tag("style", Markup(_resource("style.css"))),
    )
    body = tag(
        "body",
        tag("header", _headline(report)),
        tag(
            "main",
            tag("section", trade_off(report), id="agreement"),
            tag("section", over_time(report, key_frames), id="time"),
            tag("section", worst_frames(worst), id="worst"),
            tag("section", steps_table(report), id="steps"),
            tag("section", _origin(report), id="origin"),
        ),
        tag("script", Markup(_resource("script.js"))),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _headline(report: VideoReport) -> Markup:
    run = report.run
    frames = f"{run.frames:,} frame{'' if run.frames == 1 else 's'}"
    return joined(
        tag("p", "Saccade report", class_="brand"),
        tag("h1", _short(run.model), tag("small", " on "), _short(run.source)),
        tag("p", " · ".join([frames, gate_words(run), engine_words(run)]), class_="setting"),
        [tag("p", warning, class_="warning", role="note") for warning in _warnings(report)],
        tag("div", _tiles(report), class_="tiles"),
    )


def _warnings(report: VideoReport) -> list[str]:
    run, found = report.run, []
    if run.interrupted:
        found.append(f"Interrupted: this is of the {run.frames} frames run until then.")
    if run.damage is not None:
        found.append(f"{run.damage} This is of the {run.frames} frames before that.")
    if run.weights.startswith("random"):
        found.append(f"The network has random weights ({run.weights}): its results mean nothing.")
    if run.executor == "reference":
        found.append(REFERENCE_NOTE)
    return found


def _tiles(report: VideoReport) -> list[Markup]:
    run, point, frames = report.run, report.operating, max(report.run.frames, 1)
    spent, dense = (run.executed_macs + run.gate_macs) / frames, run.dense_macs / frames
    later = [row.macs_fraction for row in report.frames[1:]]
    without_first = f"; {words.ratio(sum(later) / len(later))} after the first frame" if any(later) else ""
    error = f"relative error {words.error(point.relative_error_mean)}, worst {words.error(point.relative_error_worst)}"
    if point.f1 is not None:
        agreed = (
            "matched boxes (F1)",
            words.agreement(point.f1),
            f"worst frame {words.agreement(point.f1_worst)}; {error}",
        )
    elif point.argmax_agreement_mean is not None:
        labels = words.agreement(point.argmax_agreement_worst)
        agreed = (
            "argmax agreement with dense",
            words.agreement(point.argmax_agreement_mean),
            f"worst frame {labels}; {error}",
        )
    else:
        worst = f"worst frame {words.error(point.relative_error_worst)}"
        agreed = ("relative error to dense", words.error(point.relative_error_mean), worst)
    ms, dense_ms = run.ms_per_frame.median, report.dense_ms_per_frame.median
    speed = f"dense torch {words.milliseconds(dense_ms)}"
    if ms and dense_ms:
        speed += f", {words.times(dense_ms / ms)} times as long"
    return [
        _tile(
            "fewer macs",
            f"{words.times(run.macs_ratio)}{words.TIMES}" if run.macs_ratio else words.DASH,
            f"{macs(spent)} of {macs(dense)} per frame{without_first}",
            look="first",
        ),
        _tile(*agreed),
        _tile("per frame, median", words.milliseconds(ms), speed),
        _tile("kept between frames", f"{run.state_bytes / 2**20:.3g} MiB", "state of the stream, weights not counted"),
    ]


def _tile(what: str, number: str, more: str, *, look: str = "") -> Markup:
    return tag("div", tag("span", what), tag("strong", number), tag("small", more), class_=f"tile {look}".strip())


def _origin(report: VideoReport) -> Markup:
    run = report.run
    facts = {
        "model": f"{run.model} (weights: {run.weights})",
        "video": run.source,
        "frames": f"{run.frames:,}",
        "gate": gate_words(run),
        "engine": engine_words(run),
        "state": f"{run.state_bytes:,} bytes",
        "gate macs": percent(run.gate_macs / run.dense_macs) + " of dense" if run.dense_macs else words.DASH,
        "dense": f"the original program in torch {run.torch_version}, threads: {run.threads}",
        "machine": run.machine,
        "version": f"saccade {run.saccade_version}",
    }
    rows = [joined(tag("dt", name), tag("dd", value)) for name, value in facts.items()]
    note = (
        "Dense network, stream and scaled streams took turns on every frame, so times are those of a busy machine, not "
        "a benchmark; macs and agreement are exact. Relative error: L2 norm of the difference over that of the dense "
        "result."
    )
    again = tag("pre", report.command) if report.command else None
    return joined(tag("h2", "How this was made"), tag("p", note, class_="note"), tag("dl", rows), again)


def _short(source: str) -> str:
    """Returns a file's name without its folders; addresses and names of models as they are."""
    return source if ":" in source else source.rpartition("/")[2] or source


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
