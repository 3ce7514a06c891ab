"""The folder a training writes to."""

from __future__ import annotations

import shutil
from pathlib import Path

from saccade.errors import TrainingError
from saccade.train.checkpoint import CHECKPOINT, RECORD, WEIGHTS
from saccade.train.logs import LOG, TENSORBOARD, TIMES


def prepare_folder(folder: Path, *, fresh: bool) -> None:
    """Makes the folder; `fresh` deletes in it what an earlier training wrote, and nothing else.

    Raises:
        TrainingError: the folder cannot be made or written to, or it holds weights and no checkpoint to go on from.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if fresh:
            for name in (CHECKPOINT, WEIGHTS, RECORD, LOG, TIMES):
                (folder / name).unlink(missing_ok=True)
            shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)
    except OSError as error:
        raise TrainingError(f"the folder {folder} cannot be written to: {error.strerror or error}") from error
    if (folder / WEIGHTS).exists() and not (folder / CHECKPOINT).exists():
        raise TrainingError(
            f"{folder} holds {WEIGHTS} and no {CHECKPOINT} to go on from; train into another folder, or from the "
            "beginning (--fresh, which deletes them)"
        )
