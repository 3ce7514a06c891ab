"""Writing a file so that either the old one or the whole new one is there, whatever happens in between."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from saccade.errors import SaccadeError, TrainingError


def replace_file(path: Path, contents: bytes | Callable[[Path], None]) -> None:
    """Replaces the file at `path` by the contents, or by what `contents(partial_path)` writes.

    Raises:
        TrainingError: it cannot be written, as on a full disk; the old file is still there.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if isinstance(contents, bytes):
                file.write(contents)
        if not isinstance(contents, bytes):
            contents(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
            os.chmod(partial, mode)  # safetensors makes files that only their owner may read
        partial.replace(path)
    except (OSError, RuntimeError, SaccadeError) as error:  # RuntimeError is what torch.save raises on a full disk
        partial.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or error
        raise TrainingError(f"{path} cannot be written: {reason}. What was there before is untouched.") from error
