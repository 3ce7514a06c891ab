"""Models from the user's own code: ``package.module:factory``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from saccade.errors import ModelError
from saccade.named import current_folder_importable, named_function
from saccade.zoo.loaded import LoadedModel, picture_preprocess

EXPECTED = "a LoadedModel, or a pair (model, example input tensor or tuple of tensors)"


def load_from_factory(name: str) -> LoadedModel:
    """Returns what the factory called `name` makes; the current folder can be imported from.

    Raises:
        ModelError: the module or the factory cannot be found, fails, or returns something else.
    """
    attribute = name.partition(":")[2]
    expected = f"package.module:factory, a function without arguments that returns {EXPECTED}"
    with current_folder_importable():
        factory = named_function(name, expected=expected, error=ModelError)
        try:
            made = factory()
        except Exception as error:
            raise ModelError(f"{name}: {attribute}() failed: {type(error).__name__}: {error}") from error
    return _as_loaded(name, attribute, made)


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
