"""What the commands share: how they end, where they write, and the progress they show."""

from __future__ import annotations

import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import typer

from saccade.errors import InputError, SaccadeError, SceneWarning, VideoError

if TYPE_CHECKING:
    from rich.table import Table

    from saccade.evaluate.clip_run import ClipRunReport
    from saccade.evaluate.video_run import RunReport

DAMAGED, ERROR, INTERRUPTED = 1, 2, 130
DEFAULT_TOLERANCE = 0.01
EVERY = 30.0  # seconds between lines of a stage that counts


@contextmanager
def ended_well() -> Iterator[None]:
    """Turns errors Saccade raises on purpose into one message and exit code 2, and Ctrl-C into 130."""
    try:
        yield
    except SaccadeError as error:
        say(f"error: {error}")
        raise typer.Exit(ERROR) from error
    except KeyboardInterrupt as error:
        say("interrupted")
        raise typer.Exit(INTERRUPTED) from error


def end(report: RunReport | ClipRunReport, *, failed: bool = False) -> None:
    """Ends the command as the run ended: says on stderr what cut it short, and exits with its code.

    `failed` says that something asked for could not be written.
    """
    if report.interrupted:
        say(f"interrupted after {report.frames} frames; the report is of these")
        raise typer.Exit(INTERRUPTED)
    if report.damage is not None:
        say(f"error: {report.damage} The report is of the {report.frames} frames before that.")
        raise typer.Exit(DAMAGED)
    if failed:
        raise typer.Exit(ERROR)


def say(message: str) -> None:
    """Prints a line on stderr."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def scene_warnings_said() -> Iterator[None]:
    """Prints a `SceneWarning` as a line on stderr, however often it comes; other warnings stay as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", SceneWarning)
        show = warnings.showwarning

        def said(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, SceneWarning):
                say(f"warning: {message}")
            else:
                show(message, category, *where, **more)

        warnings.showwarning = said
        yield


def settle_gate(
    threshold: float | None, tolerance: float | None, *, default: float = DEFAULT_TOLERANCE
) -> tuple[float | None, float | None]:
    """Returns threshold and tolerance with one of the two None; the default tolerance when neither was given.

    Raises:
        InputError: both were given.
    """
    if threshold is not None and tolerance is not None:
        raise InputError(
            f"got --threshold {threshold:g} and --tolerance {tolerance:g}; give one of the two: a threshold is "
            "absolute, a tolerance is relative to what each step puts out"
        )
    if threshold is None and tolerance is None:
        tolerance = default
    return threshold, tolerance


def check_targets(*, source: str, json_target: str | None, out: Path | None, option_out: str = "--out") -> None:
    """Raises SaccadeError before the run when a result could not be written, or would replace the input."""
    files = [(option_out, out)] if out is not None else []
    if json_target is not None and json_target != "-":
        files.append(("--json", Path(json_target)))
    for option, path in files:
        if path.is_dir():
            raise SaccadeError(f"{option} {path} is a folder; expected the name of a file to write")
        if not path.absolute().parent.is_dir():
            raise SaccadeError(f"{option} {path}: there is no folder {path.absolute().parent}; make it first")
        target = path if path.exists() else path.absolute().parent
        if not os.access(target, os.W_OK):
            raise SaccadeError(f"{option} {path}: {target} cannot be written; name a file in a folder of yours")
        if source and path.exists() and os.path.exists(source) and os.path.samefile(path, source):
            raise SaccadeError(f"{option} {path} is the input itself; name another file")
    if len(files) == 2 and files[0][1].absolute() == files[1][1].absolute():
        raise SaccadeError(f"{option_out} and --json both name {files[0][1]}; give each its own file")


def write_results(data: dict[str, Any], *, target: str | None, tables: Callable[[], list[Table | str]]) -> None:
    """Writes the JSON where it was asked for, and the tables on stdout unless the JSON goes there.

    Raises:
        SaccadeError: the file cannot be written.
    """
    text = json.dumps(data, indent=2, allow_nan=False)
    if target == "-":
        print(text, flush=True)
        return
    if target is not None:
        try:
            Path(target).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise SaccadeError(f"--json {target} cannot be written: {error.strerror or error}") from error
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160)
    for table in tables():
        console.print(table, markup=False, highlight=False)


class OverlayFile:
    """The overlay video of a run. Where it cannot be written on (a full disk), the run goes on without it.

    Args:
        path: the file to write; None for no overlay.
        fps: frames per second.

    Raises:
        VideoError: the video cannot be opened for writing.
    """

    def __init__(self, path: Path | None, *, fps: float) -> None:
        from saccade.video import VideoWriter

        self.failed = False
        self._writer = None if path is None else VideoWriter(path, fps=fps)

    def write(self, draw: Callable[[], Any]) -> None:
        """Writes the picture `draw` returns, if there is an overlay to write to."""
        if self._writer is not None:
            with self._survived():
                self._writer.write(draw())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:  # a run of no frames leaves no file, and is no error
            with self._survived() if writer.frames_written else suppress(VideoError):
                writer.close()

    @contextmanager
    def _survived(self) -> Iterator[None]:
        try:
            yield
        except VideoError as error:
            self.failed, self._writer = True, None
            say(f"error: {error} The run goes on without the overlay.")


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[], None]]:
    """Yields a function to call after every frame: it moves a bar on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def stages(what: str, seconds: float) -> Iterator[Callable[[str], None]]:
    """Yields a function to call with what is being done: a bar on stderr shows it, beside the time used of a budget.

    Where stderr is no terminal each stage is a line; of counts within one ("threshold 3 of 20", "step 7: ...") only the
    first, and one every half a minute.
    """
    began, last, told = time.monotonic(), "", 0.0
    if not sys.stderr.isatty():

        def line(stage: str) -> None:
            nonlocal last, told
            kind = re.sub(r"\d+ of \d+|(?<=step )\d+: .*", "", stage)
            if kind != last or time.monotonic() - told > EVERY:
                last, told = kind, time.monotonic()
                say(f"{time.monotonic() - began:6.0f} s  {stage}")

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(what), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=seconds)
        yield lambda stage: bar.update(task, description=stage, completed=time.monotonic() - began)
