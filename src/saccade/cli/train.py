"""`saccade train`: a recipe into a folder."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from saccade.cli.console import check_targets, say, write_results
from saccade.errors import RecipeError
from saccade.report.values import values_table
from saccade.train import Progress, Recipe, Trained, load_recipe, recipe_options, train

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


def train_command(
    source: str,
    *,
    out: Path,
    settings: Sequence[str],
    steps: int | None,
    devices: int | None,
    accelerator: str,
    workers: int,
    threads: int | None,
    minutes: float | None,
    fresh: bool,
    json: str | None,
) -> None:
    """Trains a recipe, writes its record, and exits with 128 + the signal's number when one stopped it.

    Raises:
        SaccadeError: the recipe cannot be made, training cannot start or go on, or the JSON cannot be written.
    """
    check_targets(source="", json_target=json, out=None)
    recipe = _recipe(source, read_settings(settings), steps)
    with _Display(recipe) as display:
        trained = train(
            recipe,
            out,
            devices=devices,
            accelerator=accelerator,
            fresh=fresh,
            workers=workers,
            threads=threads,
            minutes=minutes,
            on_progress=display,
        )
    if not trained.first:
        return
    data = finite({**trained.record, "stopped": trained.stopped, "folder": str(out)})
    write_results(data, target=json, tables=lambda: [_table(trained)])
    if trained.stopped is not None:
        how = "the same command without --fresh goes on" if fresh else "the same command goes on"
        say(f"stopped by {trained.stopped} after step {trained.step} of {trained.steps}; {how}")
        number = getattr(signal, trained.stopped, None)
        raise typer.Exit(128 + number if number is not None else 0)


def read_settings(settings: Sequence[str]) -> dict[str, str]:
    """Returns what --set NAME=VALUE said, by name.

    Raises:
        RecipeError: one of them has no "=", or a name comes twice.
    """
    options: dict[str, str] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise RecipeError(f"got --set {text}; expected NAME=VALUE")
        if name in options:
            raise RecipeError(f"--set {name} was given twice, {options[name]!r} and {value!r}; give it once")
        options[name] = value
    return options


def finite(data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the data with null for numbers that JSON has no word for."""

    def clean(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: clean(inner) for key, inner in value.items()}
        if isinstance(value, float) and not abs(value) < float("inf"):
            return None
        return value

    return {key: clean(value) for key, value in data.items()}


def _recipe(source: str, options: dict[str, str], steps: int | None) -> Recipe:
    """Returns the recipe; --steps is its option of that name where it has one, so that its schedule knows of it."""
    if steps is None:
        return load_recipe(source, options)
    if "steps" not in recipe_options(source):
        return replace(load_recipe(source, options), steps=steps)
    if "steps" in options:
        raise RecipeError(f"got --steps {steps} and --set steps={options['steps']}; give one of the two")
    return load_recipe(source, {**options, "steps": str(steps)})


def _table(trained: Trained) -> Any:
    record = trained.record
    values: dict[str, object] = {
        "steps": f"{trained.step} of {trained.steps}",
        "parameters": f"{record['parameters']:,}",
        "time": duration(record["wall_seconds"]),
        **{name: value for name, value in record["last_row"].items() if name != "step"},
    }
    if trained.stopped is None:
        values["weights"] = trained.weights
    processes = f"{record['processes']} processes on " if record["processes"] > 1 else ""
    values["trained on"] = f"{processes}{record['device']}"
    return values_table(record["recipe"], values)


def duration(seconds: float) -> str:
    """Returns a time in words: "8.1 s", "12 min", "3 h 5 min"."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class _Display:
    """Shows where training is, on stderr: a bar on a terminal, and everywhere a line per row of the log.

    Nothing is shown before the first step, and so nothing by processes that are not the first.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._bar: Bar | None = None
        self._task: Any = None
        self._seen = False

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        if not self._seen:
            self._open(progress)
        losses = "  ".join(f"{name} {value:.4g}" for name, value in progress.losses.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=progress.step, losses=losses)
        if progress.row is not None:
            shown = "  ".join(f"{name} {value:.4g}" for name, value in progress.row.items())
            times = f"{duration(progress.seconds)}, {duration(progress.seconds_left)} left"
            self._line(f"step {progress.step}  {shown}  ({times})")

    def _open(self, progress: Progress) -> None:
        import sys

        self._seen = True
        if progress.step > 1:
            say(f"going on after step {progress.step - 1}")
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
        )
        self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(self.recipe.name, total=progress.steps, completed=progress.step - 1, losses="")
        self._bar.start()

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            say(text)
