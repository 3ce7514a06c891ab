"""`saccade train` and `saccade evaluate`: recipes found or not, options read, and what is printed and written."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from saccade.cli.app import app
from saccade.cli.train import duration
from saccade.errors import RecipeError
from saccade.train import load_recipe, read_weights, recipe_options

ROOT = Path(__file__).resolve().parents[1]
TOY = str(Path(__file__).parent / "toy_recipe.py")
TYPED = """
from pathlib import Path
from typing import Literal
from tests import toy_recipe

def recipe(*, needed: int, whole=3, share=0.5, on: bool = False, where: Path = Path("a"), name: str | None = None,
           kind: Literal["x", 4] = "x", sizes: tuple[int, ...] = (1, 2), odd: dict = {}):
    recipe.got = {key: value for key, value in locals().items()}
    return toy_recipe.recipe()
"""


def saccade(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Importing a recipe changes the path and the modules: not for the other tests."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    yield
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    ended = saccade("train", TOY, "--out", folder, "--set", "hidden=5", "--steps", 9, "--accelerator", "cpu")
    assert ended.exit_code == 0, ended.output
    return folder


def typed(tmp_path: Path, **options: Any) -> dict[str, Any]:
    (tmp_path / "typed.py").write_text(TYPED)
    made = load_recipe("typed.py", options)
    assert made.source == "typed.py"
    got = sys.modules["typed"].recipe.got
    assert dict(made.options) == got
    return dict(got)


def test_options_are_read_as_their_type(tmp_path: Path) -> None:
    assert typed(tmp_path, needed="7") == {
        "needed": 7, "whole": 3, "share": 0.5, "on": False, "where": Path("a"), "name": None, "kind": "x",
        "sizes": (1, 2), "odd": {},
    }  # fmt: skip
    given = {"whole": "-2", "share": "1e-3", "on": "Yes", "where": "b/c", "name": "7", "kind": "4", "sizes": "3, 4,5"}
    assert typed(tmp_path, needed=8, **given) == {
        "needed": 8, "whole": -2, "share": 1e-3, "on": True, "where": Path("b/c"), "name": "7", "kind": 4,
        "sizes": (3, 4, 5), "odd": {},
    }  # fmt: skip
    assert typed(tmp_path, needed="1", name="none", sizes=[6])["sizes"] == (6,)
    assert recipe_options("typed.py")["kind"] == "'x' or 4, by default 'x'"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "typed.py needs the option needed; give --set NAME=VALUE"),
        ({"needed": "x"}, "option needed is 'x'; expected int"),
        ({"needed": "1", "on": "perhaps"}, "option on is 'perhaps'; expected true or false"),
        ({"needed": "1", "sizes": "1,b"}, "option sizes is '1,b'; expected int,..."),
        ({"needed": "1", "kind": "y"}, "option kind is 'y'; expected 'x' or 4"),
        ({"needed": "1", "odd": "{}"}, "option odd is '{}'; expected dict"),
        ({"nedded": "1"}, "has no option 'nedded'; it takes needed, whole, .*did you mean needed?"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        typed(tmp_path, **options)


def test_recipes_that_cannot_be_used(tmp_path: Path) -> None:
    for name, text, message in (
        ("none.py", "x = 1", "none.py defines no function recipe"),
        ("wrong.py", "def recipe(): return 3", r"recipe\(\) returned a int; expected a saccade.train.Recipe"),
        ("fails.py", "def recipe(): return 1 / 0", r"recipe\(\) failed: ZeroDivisionError"),
        ("broken.py", "import no_such_module", "broken.py cannot be imported: ModuleNotFoundError"),
        ("syntax.py", "def recipe(:", "syntax.py cannot be imported: SyntaxError"),
        ("number.py", "from tests.toy_recipe import recipe as toy\ndef recipe(): return toy(steps=0)", "steps is 0"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(RecipeError, match=message):
            load_recipe(name)
    with pytest.raises(RecipeError, match=r"there is no recipe wrang.py; in its folder are wrong.py"):
        load_recipe("wrang.py")
    with pytest.raises(RecipeError, match=r"there is no recipe nowhere/x.py$"):
        load_recipe("nowhere/x.py")
    with pytest.raises(RecipeError, match=r"there is no recipe no.such: no module 'no' is installed or in"):
        load_recipe("no.such")


def test_a_recipe_may_import_its_neighbours_and_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "of recipes"
    folder.mkdir()
    (folder / "neighbour.py").write_text("from tests.toy_recipe import recipe")
    for name in ("csv.py", "json.py", "two-words.py"):
        (folder / name).write_text("from neighbour import recipe")
        assert load_recipe(folder / name).name == "toy"
    assert sys.modules["json"] is json
    assert load_recipe("tests.toy_recipe").source == "tests.toy_recipe"


def test_training_prints_rows_and_a_table_and_writes_json(tmp_path: Path) -> None:
    ended = saccade("train", TOY, "--out", "out", "--set", "seed=5", "--json", "a.json", "--accelerator", "cpu")
    assert ended.exit_code == 0, ended.stderr
    assert re.search(r"^step 7  loss [\d.]+  size .*validation_error [\d.]+ .*left\)$", ended.stderr, re.MULTILINE)
    assert "24 of 24" in ended.stdout
    assert str(Path("out/weights.safetensors")) in ended.stdout
    record = json.loads(Path("a.json").read_text())
    assert record["options"]["seed"] == record["seed"] == 5
    assert record["stopped"] is None
    assert record == json.loads(Path("out/record.json").read_text()) | {"stopped": None, "folder": "out"}
    again = saccade("train", TOY, "--out", "out", "--set", "seed=5", "--json", "-", "--accelerator", "cpu")
    assert json.loads(again.stdout)["last_row"] == record["last_row"]


def test_steps_are_the_option_of_that_name(trained: Path, tmp_path: Path) -> None:
    assert read_weights(trained).steps == read_weights(trained).options["steps"] == 9
    both = saccade("train", TOY, "--out", "out", "--steps", 3, "--set", "steps=4")
    assert (both.exit_code, "got --steps 3 and --set steps=4; give one" in both.stderr) == (2, True)
    (tmp_path / "fixed.py").write_text("from tests.toy_recipe import recipe as toy\ndef recipe(): return toy(steps=8)")
    assert saccade("train", "fixed.py", "--out", "fixed", "--steps", 2, "--accelerator", "cpu").exit_code == 0
    assert read_weights("fixed").step == 2


def test_evaluation_takes_the_options_of_the_training(trained: Path) -> None:
    """The network has 5 hidden units, not the recipe's 6, and is measured as the last validation measured it."""
    last = json.loads((trained / "record.json").read_text())["last_row"]
    for weights in (trained, trained / "weights.safetensors", trained / "checkpoint.pt"):
        ended = saccade("evaluate", TOY, "--weights", weights, "--json", "-", "--accelerator", "cpu")
        assert ended.exit_code == 0, ended.stderr
        told = json.loads(ended.stdout)
        assert told["metrics"] == {"error": last["validation_error"], "of": last["validation_of"]}
        assert (told["options"]["hidden"], told["step"], told["device"]) == (5, 9, "cpu")
        assert ended.stderr == ""
    shown = saccade("evaluate", TOY, "--weights", trained).stdout
    assert f"{last['validation_error']:.5g}" in shown


def test_evaluations_that_cannot_be(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, message in (
        (["--weights", trained, "--set", "hidden=6"], "holds the weights of another network"),
        (["--weights", "nothing"], "there is no file nothing"),
        (["--weights", tmp_path], "holds neither weights.safetensors nor checkpoint.pt"),
        (["--weights", trained / "log.csv"], "log.csv is damaged or not a saccade weights file"),
        (["--weights", trained, "--accelerator", "tpu"], "got accelerator 'tpu'; expected one of auto, cpu"),
        (["--weights", trained, "--set", "hidden"], "got --set hidden; expected NAME=VALUE"),
        (["--weights", trained, "--set", "seed=1", "--set", "seed=2"], "--set seed was given twice"),
    ):
        ended = saccade("evaluate", TOY, *arguments)
        assert ended.exit_code == 2
        assert message in ended.stderr.replace("\n", " ")
    (tmp_path / "bare.py").write_text(
        "from dataclasses import replace\nfrom tests.toy_recipe import recipe as toy\n"
        "def recipe(hidden=5): return replace(toy(hidden=hidden), name='bare', evaluate=None)"
    )
    ended = saccade("evaluate", "bare.py", "--weights", trained)
    assert (ended.exit_code, "recipe bare has no evaluate" in ended.stderr) == (2, True)
    assert "note: these weights were trained by recipe 'toy', this is 'bare'" in ended.stderr


def test_a_metric_without_a_value_is_null(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "nan.py").write_text(
        "from dataclasses import replace\nfrom tests.toy_recipe import recipe as toy\n"
        "def recipe(): return replace(toy(hidden=5), evaluate=lambda model: {'ap': float('nan'), 'of': 2})"
    )
    ended = saccade("evaluate", "nan.py", "--weights", trained, "--json", "-")
    assert json.loads(ended.stdout)["metrics"] == {"ap": None, "of": 2}


def test_an_unfinished_training_is_evaluated_with_a_note() -> None:
    saccade("train", TOY, "--out", "out", "--minutes", 0, "--accelerator", "cpu")
    ended = saccade("evaluate", TOY, "--weights", "out")
    assert ended.exit_code == 0
    assert "note: these weights are of step 1 of 24; training has not finished" in ended.stderr


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "training.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "sign.py").write_text(code)
    commands = [line.split("#")[0].split()[1:] for line in re.findall(r"^    (saccade .*sign.*)$", text, re.MULTILINE)]
    assert [command[0] for command in commands] == ["train", "evaluate"]
    for command in commands:
        ended = saccade(*command, "--threads", 1)
        assert ended.exit_code == 0, ended.stderr
    accuracy = re.search(r"accuracy\s+([\d.]+)", ended.stdout)
    assert accuracy is not None
    assert float(accuracy[1]) > 0.8  # guessing gives a half


def test_times_in_words() -> None:
    assert [duration(s) for s in (0.04, 8.13, 99.94, 725, 5990, 11100)] == [
        "0.0 s", "8.1 s", "99.9 s", "12 min", "1 h 40 min", "3 h 5 min",
    ]  # fmt: skip


def test_a_recipe_keeps_its_options_when_changed(tmp_path: Path) -> None:
    assert replace(load_recipe(TOY, {"hidden": "9"}), steps=2).options["hidden"] == 9
