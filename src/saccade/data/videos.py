"""A video with a label, and what every reader of such sets does: find the files, tell what is missing or damaged."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade.data.clips import read_pictures
from saccade.errors import FileFormatError, MissingDataWarning, VideoError
from saccade.video import read_video

_SHOWN = 3  # names in a message
_VIDEOS = (".mp4", ".mkv", ".webm", ".avi", ".mov")
_PICTURES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class LabelledVideo:
    """A video: its `path` (a file, or a folder of its frames as pictures), class index and name in the set's list.

    In sets whose videos may have several labels, `label` is the one listed first, and `others` are the rest.
    """

    path: Path
    label: int
    name: str
    others: tuple[int, ...] = ()

    @property
    def labels(self) -> tuple[int, ...]:
        """All class indices, each once."""
        return (self.label, *self.others)

    def pictures(self) -> list[Path]:
        """Return the picture files of a folder of frames, in the order of their names; none for a video file."""
        if not self.path.is_dir():
            return []
        return sorted(file for file in self.path.iterdir() if file.suffix.lower() in _PICTURES)

    def first_frame(self) -> NDArray[np.uint8]:
        """Return the first frame (H, W, 3) uint8 RGB; raises VideoError where there is none."""
        if self.path.is_dir():
            return read_pictures(self.pictures()[:1])[0]
        with read_video(self.path, stop=1) as reader:
            for frame in reader:
                return frame.data
        raise VideoError(f"{self.path} has no frame")


@dataclass(frozen=True, eq=False, repr=False)
class LabelledVideos:
    """One part of a set: its `videos`, the names of its `classes`, and what was left out.

    `missing` are the names of listed videos that are not there, `damaged` says why others cannot be used, by name.
    """

    videos: tuple[LabelledVideo, ...]
    classes: tuple[str, ...]
    missing: tuple[str, ...]
    damaged: Mapping[str, str]

    def __len__(self) -> int:
        """Return the number of videos that can be used."""
        return len(self.videos)

    def __repr__(self) -> str:
        """Show the numbers."""
        return (
            f"LabelledVideos(videos={len(self)}, classes={len(self.classes)}, missing={len(self.missing)}, "
            f"damaged={len(self.damaged)})"
        )

    def targets(self) -> NDArray[np.float32]:
        """Return 1 where a video has a label, 0 elsewhere, (N, K); as losses and metrics of several labels take it."""
        found = np.zeros((len(self.videos), len(self.classes)), np.float32)
        for row, video in zip(found, self.videos, strict=True):
            row[list(video.labels)] = 1
        return found

    def checked(self) -> LabelledVideos:
        """Return these without the videos whose first frame cannot be decoded; they are told in `damaged`.

        Opens every video. Damage further on shows when those frames are read. Warns and raises as a reader does.
        """
        good, damaged = [], dict(self.damaged)
        for video in self.videos:
            try:
                video.first_frame()
            except VideoError as error:
                damaged[video.name] = str(error)
            else:
                good.append(video)
        found = dataclasses.replace(self, videos=tuple(good), damaged=damaged)
        return found if len(damaged) == len(self.damaged) else _told(found, "what was checked", depth=3)


class Folder:
    """The videos and frame folders right in a folder, and those in the folders in it, each looked up once."""

    def __init__(self, root: Path) -> None:
        """List the folder; raises FileFormatError when there is none."""
        if not root.is_dir():
            raise FileFormatError(f"{root} is no folder; expected the folder the videos lie in")
        self.root = root
        self._flat: dict[str, Path] = {}
        self._inside: dict[tuple[str, str], Path] = {}
        for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
            if entry.is_dir():
                self._flat.setdefault(entry.name, Path(entry.path))
                for inner in sorted(os.scandir(entry.path), key=lambda inner: inner.name):
                    if stem := _stem(inner):
                        self._inside.setdefault((_plain(entry.name), stem), Path(inner.path))
            elif stem := _stem(entry):
                self._flat.setdefault(stem, Path(entry.path))

    def find(self, group: str, stem: str) -> Path | None:
        """Return the video with this name but for its ending: in the folder `group`, else right in the root.

        Spaces in the names of folders may be underscores on the disk.
        """
        return self._inside.get((_plain(group), stem)) or self._flat.get(stem)


def _plain(name: str) -> str:
    return name.replace(" ", "_")


def _stem(entry: os.DirEntry[str]) -> str:
    """Return the name of a folder, that of a video without its ending, and nothing for another file."""
    stem, ending = os.path.splitext(entry.name)
    return entry.name if entry.is_dir() else stem if ending.lower() in _VIDEOS else ""


def collect(
    listed: Iterable[tuple[str, int | Sequence[int], Path | None]],
    classes: Sequence[str],
    *,
    source: Path,
    root: Path,
) -> LabelledVideos:
    """Return the videos of a list of names, class indices and places (None where there is none), in its order.

    Instead of one index there may be several, one at least; doubles count once. Empty files, and folders without
    pictures, are damaged. Warns with a MissingDataWarning when something is left out; raises FileFormatError when
    nothing is left.
    """
    videos, missing, damaged = [], [], {}
    for name, label, path in listed:
        first, *others = (label,) if isinstance(label, int) else dict.fromkeys(label)
        video = None if path is None else LabelledVideo(path, first, name, tuple(others))
        if video is None or not video.path.exists():
            missing.append(name)
        elif video.path.is_dir() and not video.pictures():
            damaged[name] = f"{video.path} holds no pictures"
        elif video.path.is_file() and not video.path.stat().st_size:
            damaged[name] = f"{video.path} is an empty file"
        else:
            videos.append(video)
    found = LabelledVideos(tuple(videos), tuple(classes), tuple(missing), damaged)
    if not videos and not missing and not damaged:
        raise FileFormatError(f"{source} lists no videos; expected one per line")
    return _told(found, f"{source}, videos in {root}", depth=4)


def _told(found: LabelledVideos, where: str, *, depth: int) -> LabelledVideos:
    """Return what was found, after warning of what is left out the caller `depth` calls up; see `collect`."""
    parts = []
    if found.missing:
        parts.append(f"{len(found.missing)} missing ({_some(found.missing)})")
    if found.damaged:
        parts.append(f"{len(found.damaged)} damaged ({_some(list(found.damaged))})")
    listed = len(found) + len(found.missing) + len(found.damaged)
    if not found.videos:
        raise FileFormatError(
            f"{where}: none of {listed} listed videos can be used: {', '.join(parts)}. Check that the folder is the "
            "one the videos were downloaded to"
        )
    if parts:
        text = f"{where}: {' and '.join(parts)} of {listed} listed videos are left out"
        warnings.warn(text, MissingDataWarning, stacklevel=depth)
    return found


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def text_lines(file: Path) -> list[str]:
    """Return the lines of a text file; raises FileFormatError when it is missing or no text."""
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise FileFormatError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{file} is not text: {error}") from error


def table_rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of the lines of a csv file, empty ones left out; raises FileFormatError if damaged."""
    reader = csv.reader(text_lines(file), strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise FileFormatError(f"{file}, line {reader.line_num}: {error}") from error


def class_index(classes: Mapping[str, int], name: str, *, where: str) -> int:
    """Return the index of a class; raises FileFormatError, with the nearest name, when there is no such class."""
    if name in classes:
        return classes[name]
    near = difflib.get_close_matches(name, list(classes), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise FileFormatError(f"{where}: {name!r} is none of the {len(classes)} classes.{hint}")


def class_names(classes: Path | str | Sequence[str]) -> tuple[str, ...]:
    """Return class names given, or read one per line from a file; raises FileFormatError for none and for doubles."""
    if isinstance(classes, str | Path):
        names = tuple(line.strip() for line in text_lines(Path(classes)) if line.strip())
    else:
        names = tuple(classes)
    double = sorted({name for name in names if names.count(name) > 1})
    if not names or double:
        what = f"{_some(double)} more than once" if double else "no names"
        raise FileFormatError(f"the class list {classes if isinstance(classes, str | Path) else ''} holds {what}")
    return names
