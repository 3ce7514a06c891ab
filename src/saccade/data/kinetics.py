"""Kinetics-400 and Mini-Kinetics-200, from the lists they are published with.

Kinetics: one csv file per part (train.csv, val.csv) with the header

    label,youtube_id,time_start,time_end,split,is_cc          is_cc may be absent

and the videos as ID_000010_000020.mp4 (start and end in seconds), in folders by class (spaces or underscores in the
names) or all in one folder.

Mini-Kinetics (121k videos to train on, 10k to test; Meng et al., "AR-Net", ECCV 2020), as its authors released it:

    minik_classInd.txt                                       200 class names, one per line
    mini_train_videofolder.txt, mini_val_videofolder.txt     images/val/air drumming/ID_000000_000010 60 0

that is a place, a number of frames and a class index; `mini_val.txt` is the same with semicolons. The places are those
of folders of frames; here they may be such folders or Kinetics' videos, by class or all in one folder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from saccade.data.videos import Folder, LabelledVideos, class_index, class_names, collect, table_rows, text_lines
from saccade.errors import FileFormatError

_NEEDED = ("label", "youtube_id", "time_start", "time_end")


def read_kinetics(
    annotations: str | Path, videos: str | Path, *, classes: str | Path | Sequence[str] | None = None
) -> LabelledVideos:
    """Return the videos of one csv file, in its order.

    Videos that are not there, or are empty files, are left out, told in the result and warned of
    (MissingDataWarning): about one in six has gone from the web.

    Args:
        annotations: the csv file of the part.
        videos: the folder of the part's videos.
        classes: names in the order of their indices, or a file with one per line; None takes the labels of this csv
            file in alphabetical order, as is usual. Give every part the `classes` of the one to train on.

    Raises:
        FileFormatError: the file is missing or has a damaged line, a label is no class, or no video can be used.
    """
    file, folder = Path(annotations), Folder(Path(videos))
    rows = list(table_rows(file))
    header = [name.lower() for name in rows[0][1]] if rows else []
    lacking = [name for name in _NEEDED if name not in header]
    if lacking:
        raise FileFormatError(
            f"{file} has no column {', '.join(lacking)}; expected the header {','.join(_NEEDED)},split,is_cc"
            + (" (the lists to test on were first published without labels)" if lacking == ["label"] else "")
        )
    places = [header.index(name) for name in _NEEDED]
    found = []
    for line, cells in rows[1:]:
        where = f"{file}, line {line}"
        if len(cells) != len(header):
            raise FileFormatError(f"{where} has {len(cells)} columns; expected {len(header)}: {','.join(header)}")
        label, identity, start, end = (cells[place] for place in places)
        if not label or not re.fullmatch(r"[\w-]+", identity) or not (start.isdecimal() and end.isdecimal()):
            raise FileFormatError(
                f"{where}: label {label!r}, video {identity!r}, seconds {start!r} to {end!r}; expected a name, "
                "a YouTube id and two whole numbers"
            )
        found.append((where, label, f"{identity}_{int(start):06}_{int(end):06}"))
    if not found:
        raise FileFormatError(f"{file} lists no videos; expected one per line below the header")
    names = class_names(sorted({label for _, label, _ in found}) if classes is None else classes)
    index = {name: number for number, name in enumerate(names)}
    listed = ((stem, class_index(index, label, where=where), folder.find(label, stem)) for where, label, stem in found)
    return collect(list(listed), names, source=file, root=folder.root)


def read_mini_kinetics(
    listed: str | Path, videos: str | Path, *, classes: str | Path | Sequence[str]
) -> LabelledVideos:
    """Return the videos of one list of Mini-Kinetics, in its order; see the top of this file for the lists.

    What is missing is told as `read_kinetics` does. The number of frames in the list is that of its authors' own
    frames, and not used.

    Args:
        listed: mini_train_videofolder.txt, mini_val_videofolder.txt, or the same with semicolons.
        videos: the folder of the videos, or of the folders of frames.
        classes: minik_classInd.txt, or the names.

    Raises:
        FileFormatError: a file is missing or has a damaged line, a line's class index is not that of its folder's
            name, or no video can be used.
    """
    file, folder, names = Path(listed), Folder(Path(videos)), class_names(classes)
    found = []
    for number, text in enumerate(text_lines(file), start=1):
        if not text.strip():
            continue
        match = re.fullmatch(r"(.+?)[ ;](\d+)[ ;](\d+)", text.strip())
        parts = match.group(1).split("/") if match else []
        if match is None or len(parts) < 2 or not parts[-1]:
            raise FileFormatError(
                f"{file}, line {number}: {text!r}; expected a place, a number of frames and a class index, as in "
                "'images/val/air drumming/7LSJ2Ryv1a8_000000_000010 60 0'"
            )
        label, group, stem = int(match.group(3)), parts[-2], parts[-1]
        own = names[label] if label < len(names) else None
        if own is None or own.replace(" ", "_") != group.replace(" ", "_"):
            raise FileFormatError(
                f"{file}, line {number}: class {label} and folder {group!r}; the class list has "
                + (f"{own!r} there" if own else f"{len(names)} classes, 0 to {len(names) - 1}")
            )
        found.append((stem, label, folder.find(group, stem)))
    return collect(found, names, source=file, root=folder.root)
