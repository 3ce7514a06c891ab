"""Exported programs from `.pt2` files, through torch's own loader, checked before and explained after."""

from __future__ import annotations

import logging
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.export import ExportedProgram

from saccade.errors import FileFormatError
from saccade.graph.capture import first_line, quiet
from saccade.preprocess import Preprocess

PREPROCESS_ENTRY = "saccade_preprocess.json"
_EXPECTED = "Expected a .pt2 file written by torch.export.save; copy or export it again."


def load_program(path: str | Path) -> tuple[ExportedProgram, Preprocess | None]:
    """Returns the program in a `.pt2` file, and the preprocess stored in it, if any.

    A preprocess is stored by ``torch.export.save(program, path, extra_files={"saccade_preprocess.json": text})``.

    Raises:
        FileFormatError: the file is missing, damaged, or no exported program, or its preprocess is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileFormatError(f"there is no file {path}; expected a program saved by torch.export.save")
    _check_archive(path)
    extra = {PREPROCESS_ENTRY: ""}
    try:
        with quiet(), _no_tracebacks():
            program = torch.export.load(path, extra_files=extra)
    except Exception as error:  # torch raises whatever the damage trips over
        raise FileFormatError(
            f"{path} ({path.stat().st_size} bytes) is not a program torch can load: {first_line(error)}. "
            f"It may come from a newer torch than this one ({torch.__version__}). {_EXPECTED}"
        ) from error
    if not extra[PREPROCESS_ENTRY]:
        return program, None
    try:
        return program, Preprocess.from_json(extra[PREPROCESS_ENTRY])
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {PREPROCESS_ENTRY} inside it: {error}") from error


def _check_archive(path: Path) -> None:
    """Raises FileFormatError for what torch accepts (flipped bits in weights) or meets with a traceback."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            names = archive.namelist()
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise FileFormatError(
            f"{path} ({path.stat().st_size} bytes) is not an exported program, or a damaged one: {error}. {_EXPECTED}"
        ) from error
    if broken is not None:
        raise FileFormatError(f"{path} is damaged: the checksum of {broken!r} inside it does not match. {_EXPECTED}")
    if not any(entry.endswith("/archive_format") for entry in names):
        raise FileFormatError(
            f"{path} is a zip file, but no exported program: it holds {', '.join(names[:3]) or 'nothing'}. "
            f"{_EXPECTED} A checkpoint made with torch.save holds no network: export the module itself."
        )


@contextmanager
def _no_tracebacks() -> Iterator[None]:
    """torch logs the whole traceback of a file it cannot load; the error that follows says it in a line."""
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
