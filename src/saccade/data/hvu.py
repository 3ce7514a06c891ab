"""HVU, the holistic video understanding set: clips with several of 3142 tags each, in the layout it is published in.

    HVU_Tags_Categories_V1.0.csv              Tag,Category                            archery,action
    HVU_Train_V1.0.csv, HVU_Val_V1.0.csv      Tags,youtube_id,time_start,time_end     archery|bow|field,ID,57.0,67.0

and the videos as ID_000570_000670.mp4 (start and end in tenths of a second, the rest cut off) in one folder. Tags are
of six categories: action, attribute, concept, event, object and scene.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from saccade.data.videos import Folder, LabelledVideos, class_index, class_names, collect, table_rows
from saccade.errors import FileFormatError

_HEADER = ["tags", "youtube_id", "time_start", "time_end"]


def read_hvu(annotations: str | Path, videos: str | Path, *, tags: str | Path | Sequence[str]) -> LabelledVideos:
    """Return the videos of one csv file, in its order, each with all its tags.

    Videos that are not there, or are empty files, are left out, told in the result and warned of
    (MissingDataWarning). `found.targets()` is what losses and metrics of several labels take.

    Args:
        annotations: the csv file of the part.
        videos: the folder of the part's videos.
        tags: HVU_Tags_Categories_V1.0.csv, whose order is that of the class indices, or the names.

    Raises:
        FileFormatError: a file is missing or has a damaged line, a tag is not in the list, or no video can be used.
    """
    file, folder = Path(annotations), Folder(Path(videos))
    names = tuple(read_tags(tags)) if isinstance(tags, str | Path) else class_names(tags)
    index = {name: number for number, name in enumerate(names)}
    listed = []
    rows = list(table_rows(file))
    if not rows or [name.lower() for name in rows[0][1]] != _HEADER:
        raise FileFormatError(f"{file} does not begin with the header Tags,youtube_id,time_start,time_end")
    for line, cells in rows[1:]:
        where = f"{file}, line {line}"
        seconds = [_seconds(cell) for cell in cells[2:]]
        if len(cells) != 4 or not cells[0] or not re.fullmatch(r"[\w-]+", cells[1]) or None in seconds:
            raise FileFormatError(
                f"{where}: {','.join(cells)!r}; expected tags, a YouTube id and two times in seconds, as in "
                "'archery|bow|field,ID,57.0,67.0'"
            )
        labels = [class_index(index, tag.strip(), where=where) for tag in cells[0].split("|")]
        stem = "_".join([cells[1], *(f"{int(10 * float(cell)):06}" for cell in cells[2:])])
        listed.append((stem, labels, folder.find("", stem)))
    return collect(listed, names, source=file, root=folder.root)


def read_tags(file: str | Path) -> dict[str, str]:
    """Return the category of every tag, in the order of the file; raises FileFormatError for damaged lines."""
    found: dict[str, str] = {}
    rows = list(table_rows(Path(file)))
    if not rows or [name.lower() for name in rows[0][1]] != ["tag", "category"]:
        raise FileFormatError(f"{file} does not begin with the header Tag,Category")
    for line, cells in rows[1:]:
        if len(cells) != 2 or not all(cells) or cells[0] in found:
            raise FileFormatError(
                f"{file}, line {line}: {','.join(cells)!r}; expected a tag and its category, each tag once, as in "
                "'archery,action'"
            )
        found[cells[0]] = cells[1]
    if not found:
        raise FileFormatError(f"{file} lists no tags; expected one per line below the header")
    return found


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
