"""The only door to the native module: whether it is there, which instruction sets it holds, which one to use."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType

import torch  # noqa: F401  (first, so that its OpenMP is the only one in the process)

from saccade.errors import InputError

NAME = "saccade.kernels._native"
MODULE_VARIABLE = "SACCADE_NATIVE_MODULE"  # for development: the file of another build of the module
ISA_VARIABLE = "SACCADE_ISA"
REINSTALL = (
    "Install a C++17 compiler and then Saccade again, with SACCADE_NATIVE=1 in the environment: "
    "that shows why the engine cannot be built."
)


def native_module() -> ModuleType | None:
    """Returns the native module, or None where it is missing or does not load; `why_missing` says why."""
    return _load()[0]


def why_missing() -> str:
    """Returns why there is no native module, "" where there is one."""
    return _load()[1]


def built_isas() -> tuple[str, ...]:
    """Returns the names of the instruction sets the module was built for, best last; none without a module."""
    module = native_module()
    return () if module is None else tuple(module.built_isas())


def machine_isas() -> tuple[str, ...]:
    """Returns the names of those of them that this machine runs, best last; none without a module."""
    module = native_module()
    return () if module is None else tuple(module.machine_isas())


def choose_isa(name: str | None = None) -> str:
    """Returns the instruction set to use: `name`, or what SACCADE_ISA says, or the best this machine runs.

    SACCADE_ISA is read at every call; empty counts as unset.

    Raises:
        InputError: there is no native module, or it has no such set, or this machine does not run it.
    """
    if native_module() is None:
        raise InputError(f"there is no instruction set to choose from: no native engine ({why_missing()})")
    source = "the instruction set asked for"
    if name is None:
        name, source = os.environ.get(ISA_VARIABLE) or None, ISA_VARIABLE
    if name is None:
        return machine_isas()[-1]
    if name not in machine_isas():
        problem = "this machine does not run it" if name in built_isas() else "there is no such set in this build"
        raise InputError(f"{source} is {name!r}, but {problem}; here there are: {', '.join(machine_isas())}")
    return name


def warn_once() -> None:
    """Warns, once per process, that there is no native engine, why, and what to do; silent where there is one."""
    if native_module() is None:
        _warn()


@cache
def _warn() -> None:
    _, reason, advice = _load()
    warnings.warn(
        f"Saccade's native engine is not available ({reason}): running on the reference executor, "
        f"which computes everything and saves no time. {advice}",
        RuntimeWarning,
        stacklevel=3,
    )


@cache
def _load() -> tuple[ModuleType | None, str, str]:
    """Returns the module, why there is none, and what to do about that."""
    path = os.environ.get(MODULE_VARIABLE)
    if path and not Path(path).is_file():
        return None, f"{MODULE_VARIABLE} names {path}, which is not there", f"Correct {MODULE_VARIABLE} or unset it."
    try:
        return (_from_file(path) if path else importlib.import_module(NAME)), "", ""
    except ModuleNotFoundError:
        return None, "it was not built when Saccade was installed", REINSTALL
    except ImportError as error:
        return None, f"it does not load: {error}", REINSTALL


def _from_file(path: str) -> ModuleType:
    loaded = sys.modules.get(NAME)
    if loaded is not None and loaded.__file__ and Path(loaded.__file__).samefile(path):
        return loaded  # an extension module is set up once per process
    spec = importlib.util.spec_from_file_location(NAME, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not an extension module of this Python")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[NAME] = module
    return module
