"""What a search has found so far, kept in a file, so that a stopped one goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Kept:
    """A file that keeps work not yet at its end.

    Args:
        path: the file; None keeps nothing.
        **what: everything that makes it this work and no other, as JSON data.
    """

    def __init__(self, path: Path | None, **what: Any) -> None:
        self.path = path
        self._key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def close(self) -> None:
        """Deletes the file: the work has come to its end."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _replace(self, save: Callable[[Path], object]) -> None:
        """Writes the file anew; whoever reads meanwhile sees the old or the new, never a part."""
        if self.path is not None:
            part = self.path.with_name(self.path.name + ".part")
            save(part)
            part.replace(self.path)


class Notes(Kept):
    """Thresholds found so far, of one search."""

    def read(self) -> tuple[dict[str, float], list[float]] | None:
        """Returns thresholds (logarithms) and cost after each sweep; None where there are none of this search."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            found = json.loads(self.path.read_text())
            if found["key"] != self._key:
                return None
            return {str(n): float(v) for n, v in found["logs"].items()}, [float(v) for v in found["costs"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # damaged by whatever stopped it: begin anew

    def write(self, logs: Mapping[str, float], costs: list[float]) -> None:
        """Keeps what was found."""
        text = json.dumps({"key": self._key, "logs": dict(logs), "costs": costs})
        self._replace(lambda path: path.write_text(text))
