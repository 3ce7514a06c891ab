"""Indexes of video files, kept on disk so that a file is read through once."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from saccade.video.index import FrameIndex

_FORMAT = 1
_ARRAYS = ("pts", "dts", "sizes", "key", "hidden", "disposable", "torn")


def cache_folder() -> Path:
    """Return where indexes are kept: $SACCADE_CACHE, else a folder in the user's cache folder."""
    chosen = os.environ.get("SACCADE_CACHE")
    if chosen:
        return Path(chosen) / "frames"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "saccade" / "frames"


def file_state(path: Path) -> list[int]:
    """Return what changes when the file does: size, time of change in ns, and which file it is."""
    state = path.stat()
    return [state.st_size, state.st_mtime_ns, state.st_ino]


def load_index(path: Path, folder: Path, *, state: list[int]) -> FrameIndex | None:
    """Return the kept index of a video in this state, None if there is none, or a damaged one."""
    try:
        with np.load(io.BytesIO(_place(path, folder).read_bytes()), allow_pickle=False) as kept:
            about = json.loads(bytes(kept["about"]))
            if about["of"] != _key(path, state):
                return None
            arrays = {name: kept[name] for name in _ARRAYS}
        index = FrameIndex(
            pts=np.cumsum(arrays["pts"]),
            dts=np.cumsum(arrays["dts"]),
            sizes=arrays["sizes"],
            key=arrays["key"],
            hidden=arrays["hidden"],
            disposable=arrays["disposable"],
            torn=arrays["torn"],
            time_base=Fraction(*about["time_base"]),
            fps=about["fps"],
            timed=about["timed"],
            counted=about["counted"],
            damage=about["damage"],
        )
    except Exception:  # a damaged file can fail in any way; it is made anew
        return None
    return index if len({len(getattr(index, name)) for name in _ARRAYS}) == 1 else None


def save_index(index: FrameIndex, path: Path, folder: Path, *, state: list[int]) -> None:
    """Keep the index of a video as it was in this state; where that cannot be written, nothing is kept.

    The file appears whole or not at all, so that any number of processes may write it.
    """
    about = {
        "of": _key(path, state),
        "time_base": index.time_base.as_integer_ratio(),
        "fps": index.fps,
        "timed": index.timed,
        "counted": index.counted,
        "damage": index.damage,
    }
    arrays = {name: getattr(index, name) for name in _ARRAYS}
    for name in ("pts", "dts"):  # steps repeat, so that they compress
        arrays[name] = np.diff(arrays[name], prepend=np.int64(0))
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        number, written = tempfile.mkstemp(dir=folder, suffix=".part")
        try:
            with os.fdopen(number, "wb") as file:
                np.savez_compressed(file, allow_pickle=False, **arrays)
            os.replace(written, _place(path, folder))
        except BaseException:
            os.unlink(written)
            raise


def _place(path: Path, folder: Path) -> Path:
    """Return the file for a video, one per path, so that an index of an older state is written over."""
    return folder / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]}.npz"


def _key(path: Path, state: list[int]) -> list[object]:
    """Return what a kept index must have been made of: this file in this state, by the same demuxers."""
    return [_FORMAT, str(path.resolve()), *state, list(av.library_versions["libavformat"])]
