"""Functions that a user names: `package.module:function`, installed or in the current folder."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from saccade.errors import SaccadeError


def named_function(name: str, *, expected: str, error: type[SaccadeError]) -> Callable[..., Any]:
    """Returns what a name of the form `package.module:function` stands for.

    Args:
        name: the name.
        expected: what should be there, in words, for messages.
        error: what to raise.

    Raises:
        SaccadeError: of the type given: there is no such module, importing it fails, it has no such name, or what is
            called that cannot be called.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as missing:
        if missing.name is not None and (module_name + ".").startswith(missing.name + "."):
            raise error(
                f"{name}: there is no module {missing.name!r}, neither installed nor in {os.getcwd()}. "
                f"Expected {expected}; run from the folder that holds the module."
            ) from missing
        raise error(f"{name}: importing {module_name} failed: {missing}") from missing
    except Exception as failure:
        raise error(f"{name}: importing {module_name} failed: {type(failure).__name__}: {failure}") from failure
    found = getattr(module, attribute, None)
    if found is None:
        near = difflib.get_close_matches(attribute, [key for key in vars(module) if not key.startswith("_")], n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else "."
        raise error(f"{name}: {module_name} ({module.__file__}) has no {attribute!r}{hint}")
    if not callable(found):
        raise error(f"{name}: {attribute} is a {type(found).__name__}, not a function. Expected {expected}.")
    function: Callable[..., Any] = found
    return function


@contextmanager
def current_folder_importable() -> Iterator[None]:
    """Puts the current folder first on the path, as `python -m` does."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
