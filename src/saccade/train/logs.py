"""What a training writes down as it goes: log.csv, times.csv, and the same for TensorBoard."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saccade.errors import TrainingError
from saccade.train.files import replace_file
from saccade.zoo.torchvision_repair import import_extra

LOG, TIMES, TENSORBOARD = "log.csv", "times.csv", "tensorboard"

Row = dict[str, float | int]


class Log:
    """The rows of a training.

    log.csv holds what follows from recipe and seed alone, so that two runs can be compared byte for byte; seconds are
    in times.csv. Both are made from the rows in memory, and those are part of every checkpoint: what a killed run wrote
    after its last checkpoint is gone after resuming.

    Args:
        folder: where the files are; None writes nothing (a process that is not the first).
        rows, times: what was logged before, from a checkpoint.
        tensorboard: whether to write for TensorBoard too.
        first: the step training goes on with; TensorBoard hides what an earlier run wrote from there on.

    Raises:
        MissingExtraError: tensorboard is wanted and not installed.
        TrainingError: a file cannot be written.
    """

    def __init__(
        self, folder: Path | None, *, rows: list[Row], times: list[Row], tensorboard: bool, first: int
    ) -> None:
        self.folder, self.rows, self.times = folder, rows, times
        self._writer: Any = None
        if folder is None:
            return
        if tensorboard:
            board = import_extra("torch.utils.tensorboard", extra="train")
            self._writer = board.SummaryWriter(str(folder / TENSORBOARD), purge_step=first)
        self._write(LOG, rows)
        self._write(TIMES, times)

    def add(self, step: int, values: Mapping[str, float], *, seconds: float) -> None:
        """Appends a row of values and the seconds trained so far."""
        for name, table, row in (
            (LOG, self.rows, {"step": step, **values}),
            (TIMES, self.times, {"step": step, "seconds": round(seconds, 3)}),
        ):
            known = _columns(table)
            table.append(row)
            if self.folder is None:
                continue
            if set(row) <= set(known):
                self._append(name, known, row)
            else:
                self._write(name, table)
        if self._writer is not None:
            for key, value in values.items():
                self._writer.add_scalar(key.replace("validation_", "validation/", 1), value, step)
            self._writer.add_scalar("seconds", seconds, step)
            self._writer.flush()

    def close(self) -> None:
        """Ends TensorBoard's file."""
        if self._writer is not None:
            self._writer.close()

    def _write(self, name: str, table: list[Row]) -> None:
        assert self.folder is not None
        columns = _columns(table)
        lines = [",".join(columns), *(_line(columns, row) for row in table)] if table else []
        replace_file(self.folder / name, "".join(line + "\n" for line in lines).encode())

    def _append(self, name: str, columns: list[str], row: Row) -> None:
        assert self.folder is not None
        try:
            with (self.folder / name).open("a", encoding="utf-8", newline="") as file:
                file.write(_line(columns, row) + "\n")
        except OSError as error:
            where = os.fspath(self.folder / name)
            raise TrainingError(f"{where} cannot be written: {error.strerror or error}") from error


def _columns(table: list[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in table for name in row))


def _line(columns: list[str], row: Row) -> str:
    values = (row.get(name) for name in columns)
    return ",".join(
        "" if value is None else f"{value}" if isinstance(value, int) else f"{value:.7g}" for value in values
    )
