"""Surveillance clips of fights and of none, about two seconds each: folders `fight` and `noFight` of mp4 files.

    fight/fi001.mp4 ...       noFight/nofi001.mp4 ...

There are no lists: the number in a clip's name says its part. Neighbouring numbers may show one scene, so the parts are
blocks of numbers, never drawn at random.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from saccade.data.videos import LabelledVideos, collect
from saccade.errors import FileFormatError

CLASSES = ("fight", "noFight")
TRAIN_UP_TO = 90  # the last number to train on


def read_actions(folder: str | Path, *, part: Literal["train", "test"]) -> LabelledVideos:
    """Return the clips of one part, class by class, in the order of their names.

    Empty files are left out, told in the result and warned of (MissingDataWarning). Raises FileFormatError when a class
    has no folder, a name no number, or no clip can be used; ValueError for another part.
    """
    if part not in ("train", "test"):
        raise ValueError(f"read_actions: part {part!r}; expected 'train' or 'test'")
    root, listed = Path(folder), []
    for label, name in enumerate(CLASSES):
        if not (root / name).is_dir():
            raise FileFormatError(f"{root / name} is no folder; expected the folders {' and '.join(CLASSES)}")
        for path in sorted((root / name).glob("*.mp4")):
            number = re.search(r"\d+", path.stem)
            if number is None:
                raise FileFormatError(f"{path} has no number in its name; expected a name such as fi001.mp4")
            if (int(number.group()) <= TRAIN_UP_TO) == (part == "train"):
                listed.append((f"{name}/{path.name}", label, path))
    return collect(listed, CLASSES, source=root, root=root)
