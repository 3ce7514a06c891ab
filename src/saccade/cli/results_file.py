"""A file of results that grows by one JSON line at a time and is never left unusable."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Self

from saccade.cli.console import say
from saccade.errors import FileFormatError, SaccadeError


class ResultsFile:
    """Takes one line per video, each with a `path`, and knows which are there.

    Every line goes to the system in one piece before the next is begun, so that whoever is killed loses nothing that
    was written. Without a path lines go to standard output.

    Args:
        path: the file; None for standard output.
        run: stands for all settings; lines of other settings are refused.
        resume: go on with the file, where there is one; else there must be none.
        on_line: called with each line that the file holds.

    Raises:
        SaccadeError: the file is there and is not to be gone on with, or cannot be written.
        FileFormatError: it holds something else, or results of another run.
    """

    def __init__(self, path: Path | None, *, run: str, resume: bool, on_line: Callable[[dict[str, Any]], None]) -> None:
        self._path, self._run = path, run
        self._file: IO[bytes] | None = None
        if path is None:
            return
        if path.exists() and not resume:
            raise SaccadeError(f"--out {path} is there already; go on with it by --resume, or name another file")
        try:
            self._file = path.open("r+b" if path.exists() else "x+b", buffering=0)
            try:
                _lock(self._file, path)
                self._file.seek(self._read(path, on_line))
                self._file.truncate()
            except BaseException:
                self._file.close()
                raise
        except OSError as error:
            raise SaccadeError(f"--out {path} cannot be written: {error.strerror or error}") from error

    def write(self, line: Mapping[str, Any]) -> None:
        """Writes a line. Raises SaccadeError where that fails; what has been written of it is cut off on resuming."""
        text = json.dumps({**line, "run": self._run}, allow_nan=False)
        if self._file is None:
            print(text, flush=True)
            return
        data = text.encode() + b"\n"
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise SaccadeError(
                f"--out {self._path} cannot be written on: {error.strerror or error}; --resume goes on from here"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def _read(self, path: Path, on_line: Callable[[dict[str, Any]], None]) -> int:
        """Returns where the last whole line ends."""
        end = 0
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                if not text.endswith(b"\n"):
                    say(f"note: the last line of {path} was not finished; it is done again")
                    break
                on_line(self._parsed(text, number))
                end += len(text)
        return end

    def _parsed(self, text: bytes, number: int) -> dict[str, Any]:
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not isinstance(line, dict) or not isinstance(line.get("path"), str):
            raise FileFormatError(
                f"--out {self._path}, line {number}, is no result of saccade classify; name another file, or take that "
                "line out"
            )
        if line.get("run") != self._run:
            raise FileFormatError(
                f"--out {self._path}, line {number}, is of another run ({line.get('run')}, now {self._run}): other "
                "weights, or another --model, --rule, --threshold, --snap, --stride, --top or --preprocess. Give "
                "the same, or name another file"
            )
        return line


def _lock(file: IO[bytes], path: Path) -> None:
    """Raises SaccadeError where another process is writing the file; the lock ends with the process."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SaccadeError(f"--out {path} is being written by another process; name another file") from error


def identity(path: str) -> str:
    """Returns by what a path is known to be the same as another, from the current folder."""
    return os.path.abspath(path)
