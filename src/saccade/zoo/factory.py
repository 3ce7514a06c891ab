"""Models from the user's own code: ``package.module:factory``."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from saccade.errors import ModelError
from saccade.zoo.loaded import LoadedModel, picture_preprocess

EXPECTED = "a LoadedModel, or a pair (model, example input tensor or tuple of tensors)"


def load_from_factory(name: str) -> LoadedModel:
    """Returns what the factory called `name` makes; the current folder can be imported from.

    Raises:
        ModelError: the module or the factory cannot be found, fails, or returns something else.
    """
    module_name, _, attribute = name.partition(":")
    with _current_folder_importable():
        factory = _find(name, module_name, attribute)
        try:
            made = factory()
        except Exception as error:
            raise ModelError(f"{name}: {attribute}() failed: {type(error).__name__}: {error}") from error
    return _as_loaded(name, attribute, made)


def _find(name: str, module_name: str, attribute: str) -> Any:
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise ModelError(
                f"{name}: there is no module {error.name!r}, neither installed nor in {os.getcwd()}. "
                "Expected package.module:factory; run from the folder that holds the module."
            ) from error
        raise ModelError(f"{name}: importing {module_name} failed: {error}") from error
    except Exception as error:
        raise ModelError(f"{name}: importing {module_name} failed: {type(error).__name__}: {error}") from error
    found = getattr(module, attribute, None)
    if found is None:
        near = difflib.get_close_matches(attribute, [key for key in vars(module) if not key.startswith("_")], n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else "."
        raise ModelError(f"{name}: {module_name} ({module.__file__}) has no {attribute!r}{hint}")
    if not callable(found):
        raise ModelError(
            f"{name}: {attribute} is a {type(found).__name__}, not a function. Expected a function without "
            f"arguments that returns {EXPECTED}."
        )
    return found


def _as_loaded(name: str, attribute: str, made: Any) -> LoadedModel:
    if isinstance(made, LoadedModel):
        if isinstance(made.model, nn.Module):
            made.model.eval()
        return replace(made, name=name)
    got = type(made).__name__
    if isinstance(made, tuple):
        got = f"({', '.join(type(item).__name__ for item in made)})"
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module | ExportedProgram):
        model, example = made
        example = (example,) if isinstance(example, torch.Tensor) else example
        if isinstance(example, list | tuple) and example and all(isinstance(v, torch.Tensor) for v in example):
            if isinstance(model, nn.Module):
                model.eval()
            return LoadedModel(
                name=name, model=model, example=tuple(example), preprocess=picture_preprocess(tuple(example))
            )
    raise ModelError(f"{name}: {attribute}() returned {got}; expected {EXPECTED}.")


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """Puts the current folder first on the path, as `python -m` does."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
