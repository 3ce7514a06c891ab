"""Video files to be found: in folders, and in lists."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ENDINGS = tuple(".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .nut .ogv .ts .vob .webm .wmv".split())
LISTS = (".txt", ".lst", ".list")


class Found(NamedTuple):
    """A file to be taken for a video, or a folder or list of which something is wrong.

    Attributes:
        path: of the file, folder or list.
        error: what is wrong; None where nothing is yet known to be.
    """

    path: str
    error: str | None = None


def find_videos(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Found]:
    """Yields the videos that paths stand for, each folder in the order of its names.

    - A folder: all files in it and below with a usual ending of videos (`ENDINGS`), but none whose name begins with a
      dot. Links are followed, but not into a folder one is in.
    - A file called .txt, .lst or .list: a list of files and folders, one a line, relative to the folder of the list.
    - Anything else: that path itself, whatever its ending and whether or not it exists.

    The same path may come several times. What cannot be read is told as its `error`, and the rest goes on.
    """
    for path in paths:
        text = os.fspath(path)
        if Path(text).suffix.lower() in LISTS and not os.path.isdir(text):
            yield from _listed(text)
        else:
            yield from _file_or_folder(text)


def _listed(path: str) -> Iterator[Found]:
    try:
        lines = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        yield Found(path, f"the list cannot be read: {error.strerror or error}")
        return
    for line in lines:
        if line.strip():
            yield from _file_or_folder(os.path.join(os.path.dirname(path), os.fsdecode(line.strip())))


def _file_or_folder(path: str) -> Iterator[Found]:
    if os.path.isdir(path):
        yield from _folder(path, ())
    else:
        yield Found(path)


def _folder(path: str, above: tuple[tuple[int, int], ...]) -> Iterator[Found]:
    try:
        own = os.stat(path)
        names = sorted(os.listdir(path))
    except OSError as error:
        yield Found(path, f"the folder cannot be read: {error.strerror or error}")
        return
    above = (*above, (own.st_dev, own.st_ino))
    for name in names:
        inside = os.path.join(path, name)
        if name.startswith("."):
            continue
        if os.path.isdir(inside):
            if not _is_above(inside, above):
                yield from _folder(inside, above)
        elif os.path.splitext(name)[1].lower() in ENDINGS:
            yield Found(inside)


def _is_above(path: str, above: tuple[tuple[int, int], ...]) -> bool:
    """Returns whether a link leads to a folder that one is in."""
    if not os.path.islink(path):
        return False
    try:
        state = os.stat(path)
    except OSError:
        return False
    return (state.st_dev, state.st_ino) in above
