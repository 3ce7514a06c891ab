"""Moments in Time: videos of three seconds, one of 339 labels each, in the layout it is published in.

    moments_categories.txt                  clapping,0          name and index, one per line
    trainingSet.csv, validationSet.csv      clapping/some-video.mp4,clapping,3,0
    training/clapping/some-video.mp4, validation/...

The csv files have no header: file, label, and how many people agreed and disagreed with it. The label is the one in the
second column; in the published files it is the file's folder, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from saccade.data.videos import LabelledVideos, class_index, collect, table_rows
from saccade.errors import FileFormatError

_PARTS = {"train": "training", "validation": "validation"}


def read_moments(folder: str | Path, *, part: Literal["train", "validation"]) -> LabelledVideos:
    """Return the videos of one part, in the order of its csv file.

    Videos that are not there, or are empty files, are left out, told in the result and warned of
    (MissingDataWarning). Raises FileFormatError when a file is missing or has a damaged line, a label is no class, or
    no video can be used; ValueError for another part.
    """
    if part not in _PARTS:
        raise ValueError(f"read_moments: part {part!r}; expected 'train' or 'validation'")
    root, name = Path(folder), _PARTS[part]
    classes = read_categories(root / "moments_categories.txt")
    index = {label: number for number, label in enumerate(classes)}
    file, listed = root / f"{name}Set.csv", []
    for line, cells in table_rows(file):
        where = f"{file}, line {line}"
        if len(cells) < 2 or "/" not in cells[0] or not all(cell.isdecimal() for cell in cells[2:]):
            raise FileFormatError(
                f"{where}: {','.join(cells)!r}; expected a file, its label, and two numbers of votes, as in "
                "'clapping/some-video.mp4,clapping,3,0'"
            )
        listed.append((cells[0], class_index(index, cells[1], where=where), root / name / cells[0]))
    return collect(listed, classes, source=file, root=root / name)


def read_categories(file: Path) -> tuple[str, ...]:
    """Return the class names in the order of their indices; raises FileFormatError for damaged lines."""
    found: dict[int, str] = {}
    for line, cells in table_rows(file):
        if len(cells) != 2 or not cells[0] or not cells[1].isdecimal() or int(cells[1]) in found:
            raise FileFormatError(
                f"{file}, line {line}: {','.join(cells)!r}; expected a name and its index, each index once, as in "
                "'clapping,0'"
            )
        found[int(cells[1])] = cells[0]
    if not found or sorted(found) != list(range(len(found))) or len(set(found.values())) != len(found):
        raise FileFormatError(f"{file} holds {len(found)} classes; expected different names with indices from 0 on")
    return tuple(found[number] for number in range(len(found)))
