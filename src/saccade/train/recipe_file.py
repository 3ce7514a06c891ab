"""Recipes from Python files: finding `recipe`, and reading its options from text."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from saccade.errors import RecipeError, SaccadeError
from saccade.train.recipe import Recipe

TRUE, FALSE, NONE = ("true", "yes", "on", "1"), ("false", "no", "off", "0"), ("none", "null")


def load_recipe(source: str | Path, options: Mapping[str, Any] | None = None) -> Recipe:
    """Returns the recipe that `recipe(**options)` of a Python file or module makes.

    The current folder, and that of the file, become importable: a recipe may import what lies beside it.

    Args:
        source: a path that ends in .py, or a dotted module name.
        options: by name. Text is read as the type of the parameter's annotation, or else of its default.

    Raises:
        RecipeError: there is no such file, module or function; an option is unknown or of the wrong type; the function
            fails, or returns no Recipe.
    """
    function = _find(str(source))
    chosen = _read_options(function, dict(options or {}), source=str(source))
    try:
        made = function(**chosen)
    except SaccadeError:
        raise
    except Exception as error:
        raise RecipeError(f"{source}: recipe() failed: {type(error).__name__}: {error}") from error
    if not isinstance(made, Recipe):
        raise RecipeError(f"{source}: recipe() returned a {type(made).__name__}; expected a saccade.train.Recipe")
    return replace(made, options=chosen, source=str(source))


def recipe_options(source: str | Path) -> dict[str, str]:
    """Returns the options a recipe takes, each with its type and default in words.

    Raises:
        RecipeError: there is no such file, module or function.
    """
    function = _find(str(source))
    kinds = _kinds(function, str(source))
    return {
        name: _kind_name(kinds[name])
        + ("" if parameter.default is parameter.empty else f", by default {parameter.default!r}")
        for name, parameter in _parameters(function).items()
    }


def _find(source: str) -> Callable[..., Any]:
    module = _import_file(Path(source)) if source.endswith(".py") else _import_module(source)
    function = getattr(module, "recipe", None)
    if not callable(function):
        raise RecipeError(
            f"{source} defines no function recipe; expected `def recipe(**options) -> saccade.train.Recipe`"
        )
    return typing.cast(Callable[..., Any], function)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        near = [str(file) for file in sorted(path.parent.glob("*.py"))] if path.parent.is_dir() else []
        here = difflib.get_close_matches(str(path), near, n=3) or near[:8]
        raise RecipeError(f"there is no recipe {path}" + (f"; in its folder are {', '.join(here)}" if here else ""))
    path = path.resolve()
    _importable(path.parent)
    _importable(Path.cwd())
    inside = path.is_relative_to(Path.cwd())
    parts = path.relative_to(Path.cwd()).with_suffix("").parts if inside else (path.stem,)
    name = ".".join(parts) if all(part.isidentifier() for part in parts) else f"saccade_recipe_{path.stem}"
    known = sys.modules.get(name)
    if known is not None and Path(getattr(known, "__file__", None) or "").resolve() == path:
        return known
    if known is not None or name in sys.stdlib_module_names:
        name = f"saccade_recipe_{abs(hash(path))}"  # another module has the name; this one must not take its place
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # processes that a recipe starts find its functions by this name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _failed_import(str(path), error) from error
    return module


def _import_module(name: str) -> ModuleType:
    _importable(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name + ".").startswith(error.name + "."):
            raise RecipeError(
                f"there is no recipe {name}: no module {error.name!r} is installed or in {os.getcwd()}. Expected a "
                "path that ends in .py, or a dotted module name."
            ) from error
        raise _failed_import(name, error) from error
    except Exception as error:
        raise _failed_import(name, error) from error


def _failed_import(name: str, error: Exception) -> SaccadeError:
    return RecipeError(f"{name} cannot be imported: {type(error).__name__}: {error}")


def _importable(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: value for name, value in inspect.signature(function).parameters.items() if value.kind in named}


def _kinds(function: Callable[..., Any], source: str) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(function)
    except NameError as error:
        raise RecipeError(f"{source}: an annotation of recipe() cannot be resolved: {error}") from error
    return {
        name: hints.get(name, str if p.default in (p.empty, None) else type(p.default))
        for name, p in _parameters(function).items()
    }


def _read_options(function: Callable[..., Any], given: dict[str, Any], *, source: str) -> dict[str, Any]:
    """Returns every option of the function: what was given, read as its type, and the defaults of the others."""
    parameters, kinds = _parameters(function), _kinds(function, source)
    for name in given:
        if name not in parameters:
            takes = f"it takes {', '.join(parameters)}" if parameters else "it takes none"
            near = difflib.get_close_matches(name, parameters, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise RecipeError(f"{source} has no option {name!r}; {takes}{hint}")
    missing = [name for name, p in parameters.items() if p.default is p.empty and name not in given]
    if missing:
        raise RecipeError(
            f"{source} needs the option{'s' * (len(missing) > 1)} {', '.join(missing)}; give --set NAME=VALUE"
        )
    chosen = {}
    for name, parameter in parameters.items():
        value = given.get(name, parameter.default)
        if isinstance(value, str) and name in given:
            try:
                value = _read(value, kinds[name])
            except ValueError:
                expected = _kind_name(kinds[name])
                raise RecipeError(f"{source}: option {name} is {value!r}; expected {expected}") from None
        elif isinstance(value, list) and typing.get_origin(kinds[name]) is tuple:
            value = tuple(value)  # what a record in JSON makes of a tuple
        chosen[name] = value
    return chosen


def _read(text: str, kind: Any) -> Any:
    """Returns the text as a value of the type. Raises ValueError when it is none."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    word = text.strip().lower()
    if origin in (typing.Union, types.UnionType):
        if type(None) in inside and word in NONE:
            return None
        for option in inside:
            if option is not type(None):
                try:
                    return _read(text, option)
                except ValueError:
                    continue
        raise ValueError
    if origin is Literal:
        return {str(value): value for value in inside}[text] if text in map(str, inside) else _none_such()
    if origin in (tuple, list):
        each = inside[0] if inside else str
        parts = [part for part in text.split(",") if part.strip()]
        return origin(_read(part.strip(), each) for part in parts)
    if kind is bool:
        return word in TRUE if word in TRUE + FALSE else _none_such()
    if kind in (int, float, str, Path):
        return kind(text)
    return _none_such()


def _none_such() -> Any:
    raise ValueError


def _kind_name(kind: Any) -> str:
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return " or ".join(repr(value) for value in inside)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("none" if option is type(None) else _kind_name(option) for option in inside)
    if origin in (tuple, list):
        return f"{_kind_name(inside[0]) if inside else 'str'},..."
    return {bool: "true or false", Path: "a path"}.get(kind, getattr(kind, "__name__", str(kind)))
