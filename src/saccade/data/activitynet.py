"""ActivityNet-v1.3: untrimmed videos of some minutes, 200 activities, in the layout it is published in.

    activity_net.v1-3.min.json       {"version": "VERSION 1.3", "taxonomy": [...], "database": {ID: entry, ...}}
    v_ID.mp4                         the videos, in one folder, or in folders in it (train, val, ...)

An entry has its `subset` ("training", "validation", "testing") and `annotations`, each with a `label` and the `segment`
of the video, in seconds, that shows it. A video is classified as a whole: its labels are those of all its segments,
most often one. The labels of the testing subset were kept back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from saccade.data.videos import Folder, LabelledVideos, class_index, class_names, collect, text_lines
from saccade.errors import FileFormatError

Subset = Literal["training", "validation"]
_FOLDERS = {"training": ("training", "train"), "validation": ("validation", "val")}


def read_activitynet(
    annotations: str | Path, videos: str | Path, *, subset: Subset, classes: str | Path | Sequence[str] | None = None
) -> LabelledVideos:
    """Return the videos of a subset, in the order of the file, each with all its labels.

    Videos that are not there, or are empty files, are left out, told in the result and warned of
    (MissingDataWarning). `found.targets()` is what the mean average precision takes.

    Args:
        annotations: the json file.
        videos: the folder of the videos: right in it, or in its folder "training" or "train", "validation" or "val";
            called v_ID, or ID.
        subset: "training" or "validation".
        classes: names in the order of their indices, or a file with one per line; None takes the labels of the whole
            file, all subsets, in alphabetical order.

    Raises:
        FileFormatError: the file is missing or damaged, a label is no class, or no video can be used.
        ValueError: there is no such subset.
    """
    if subset not in get_args(Subset):
        raise ValueError(
            f"read_activitynet: subset {subset!r}; expected 'training' or 'validation' (the labels of the testing "
            "subset are not published)"
        )
    file, folder = Path(annotations), Folder(Path(videos))
    entries = {name: _checked(file, name, entry) for name, entry in _database(file).items()}
    every = {label for _, labels in entries.values() for label in labels}
    if classes is None and not every:
        raise FileFormatError(f"{file} has no labels; expected annotations in its entries")
    names = class_names(sorted(every) if classes is None else classes)
    index = {name: number for number, name in enumerate(names)}
    listed = []
    for identity, (own, labels) in entries.items():
        if own != subset:
            continue
        where = f"{file}, video {identity!r}"
        if not labels:
            raise FileFormatError(f"{where} has no annotations; expected one at least in the {subset} subset")
        places = (folder.find(group, stem) for stem in (f"v_{identity}", identity) for group in _FOLDERS[subset])
        found = next((place for place in places if place is not None), None)
        listed.append((identity, [class_index(index, label, where=where) for label in labels], found))
    return collect(listed, names, source=file, root=folder.root)


def _database(file: Path) -> dict[str, Any]:
    try:
        whole = json.loads("\n".join(text_lines(file)))
    except json.JSONDecodeError as error:
        raise FileFormatError(
            f"{file}, line {error.lineno}: {error.msg}; expected the json file as published"
        ) from None
    found = whole.get("database") if isinstance(whole, dict) else None
    if not isinstance(found, dict):
        raise FileFormatError(f"{file} has no 'database'; expected videos by their YouTube ids there")
    return found


def _checked(file: Path, name: str, entry: Any) -> tuple[str, list[str]]:
    """Return the subset and the labels of an entry; raises FileFormatError where it has none, or a strange name."""
    try:
        subset, labels = entry["subset"], [part["label"] for part in entry["annotations"]]
    except (KeyError, TypeError):
        subset, labels = None, []
    if not isinstance(subset, str) or not all(isinstance(label, str) and label for label in labels):
        raise FileFormatError(
            f"{file}, video {name!r}: expected a 'subset' and 'annotations', a list of entries with a 'label' each"
        )
    if not re.fullmatch(r"[\w-]+", name):
        raise FileFormatError(f"{file}, video {name!r}; expected a YouTube id")
    return subset, labels
