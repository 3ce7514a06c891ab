"""`saccade evaluate`: trained weights measured as their recipe says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from saccade.cli.console import check_targets, say, write_results
from saccade.cli.train import duration, finite, read_settings
from saccade.report.values import values_table
from saccade.train import evaluate, load_recipe, read_weights, recipe_options


def evaluate_command(
    source: str,
    *,
    weights: Path,
    settings: Sequence[str],
    accelerator: str,
    threads: int | None,
    json: str | None,
) -> None:
    """Builds the recipe's network with the options it was trained with, loads the weights, and prints what it measures.

    Raises:
        SaccadeError: the recipe, the weights or the accelerator cannot be used, or the JSON cannot be written.
    """
    check_targets(source="", json_target=json, out=None)
    given = read_settings(settings)
    takes = recipe_options(source)
    trained = read_weights(weights)
    recipe = load_recipe(source, {**{k: v for k, v in trained.options.items() if k in takes}, **given})
    if recipe.name != trained.recipe:
        say(f"note: these weights were trained by recipe {trained.recipe!r}, this is {recipe.name!r}")
    if trained.step < trained.steps:
        say(f"note: these weights are of step {trained.step} of {trained.steps}; training has not finished")
    measured = evaluate(recipe, trained, accelerator=accelerator, threads=threads)
    data = {
        "recipe": recipe.name,
        "options": {
            name: value if isinstance(value, int | float | None) else str(value)
            for name, value in recipe.options.items()
        },
        "weights": str(trained.path),
        "step": trained.step,
        "steps": trained.steps,
        "metrics": dict(measured.metrics),
        "seconds": round(measured.seconds, 3),
        "device": measured.device,
    }
    caption = f"{trained.path}, step {trained.step}; {duration(measured.seconds)} on {measured.device}"
    write_results(finite(data), target=json, tables=lambda: [values_table(recipe.name, measured.metrics), caption])
