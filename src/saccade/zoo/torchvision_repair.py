"""Importing packages that need torchvision beside a torch its compiled operators do not fit.

A torchvision built for another torch (most often a CUDA build beside a CPU torch) stops at import with
``operator torchvision::nms does not exist`` and takes timm, effdet and others down with it, although none of
its compiled operators is needed to build a network. Only when that very error appears are the missing
operators declared, without an implementation, and the import repeated; calling one of them still fails,
saying so.
"""

from __future__ import annotations

import importlib
import logging
import re
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import TypeVar

import torch

from saccade.errors import MissingExtraError

Found = TypeVar("Found")
_MISSING_OPERATOR = re.compile(r"operator torchvision::(\w+) does not exist")
_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_libraries: list[torch.library.Library] = []  # a Library that is collected takes its operators with it
_log = logging.getLogger(__name__)


def import_extra(name: str, *, extra: str) -> ModuleType:
    """Return the module `name`, imported despite a torchvision whose compiled operators do not load.

    Raises:
        MissingExtraError: the module, or one it needs, is not installed; `extra` is the extra to install.
    """
    try:
        with warnings.catch_warnings():  # what other packages still call is not for our users to repair
            warnings.simplefilter("ignore", DeprecationWarning)
            return repaired(lambda: importlib.import_module(name))
    except ImportError as error:
        missing = error.name or name
        raise MissingExtraError(
            f"{name} is needed for this and cannot be imported ({missing}: {error}). "
            f"Install it with: pip install 'saccade[{extra}]'"
        ) from error


def repaired(attempt: Callable[[], Found]) -> Found:
    """Returns what `attempt` returns, which may import torchvision: it is made a second time where that stops.

    Unpickling a model imports too, and does not go through `import_extra`.
    """
    before = set(sys.modules)
    try:
        return attempt()
    except RuntimeError as error:
        found = _MISSING_OPERATOR.search(str(error))
        if found is None or found.group(1) not in _SCHEMAS:
            raise
        _log.info("torchvision does not fit this torch (%s): its operators are declared, not loaded", error)
    _declare_missing_operators()
    _forget_orphans(before)
    return attempt()


def _declare_missing_operators() -> None:
    """Declare all of them at once: a half-registered torchvision cannot be imported a third time."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    _libraries.append(library)
    for operator, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, operator):
            library.define(operator + schema)


def _forget_orphans(before: set[str]) -> None:
    """Drop what a failed import leaves behind: submodules whose top package is gone from `sys.modules`.

    They would be found again by the next import, without being attributes of the new package. Of modules imported
    `before`, only torchvision's are looked at: somebody else's import of it may have failed earlier.
    """
    touched = {module.partition(".")[0] for module in set(sys.modules) - before} | {"torchvision"}
    for module in list(sys.modules):
        root = module.partition(".")[0]
        if root in touched and root not in sys.modules:
            del sys.modules[module]
