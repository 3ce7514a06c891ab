"""ADE20K for scene parsing: 20,210 pictures to train on, 2,000 to validate, 150 classes, in the benchmark's layout.

ADEChallengeData2016/
  images/training/ADE_train_00000001.jpg            images/validation/ADE_val_00000001.jpg
  annotations/training/ADE_train_00000001.png       one channel: 0 for all else, 1 to 150 the class
  objectInfo150.txt                                 table with the columns Idx and Name, separated by tabs
"""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from saccade.data.clips import read_pictures
from saccade.data.videos import text_lines
from saccade.errors import FileFormatError, MissingDataWarning

IGNORED = 255  # the label of pixels that count neither in a loss nor in a measure
_PARTS = {"train": "training", "validation": "validation"}


@dataclass(frozen=True, slots=True)
class AdePicture:
    """A picture and the picture of its labels; `name` is the file's, without its ending."""

    name: str
    picture: Path
    annotation: Path
    classes: int

    def read(self) -> NDArray[np.uint8]:
        """Return the picture (H, W, 3) uint8 RGB; raises VideoError for a damaged file."""
        return read_pictures([self.picture])[0]

    def labels(self) -> NDArray[np.int64]:
        """Return the class indices (H, W) int64 from 0 on, IGNORED where the file has 0 (no class of the set).

        Raises FileFormatError for a file that is no PNG of one channel and 8 bits, or has a class that is not there;
        VideoError for a damaged one.
        """
        if not _one_channel(self.annotation):
            raise FileFormatError(
                f"{self.annotation} is no PNG of one channel and 8 bits; expected a picture of labels"
            )
        numbers = read_pictures([self.annotation])[0][..., 0].astype(np.int64)
        if numbers.max() > self.classes:
            raise FileFormatError(f"{self.annotation} has class {numbers.max()}; expected 0 to {self.classes}")
        return np.where(numbers == 0, IGNORED, numbers - 1)


@dataclass(frozen=True, eq=False, repr=False)
class Ade20k:
    """One part of the set: its `pictures`, the `classes` in the order of their indices, and what is missing.

    `missing` names the pictures without labels and the labels without a picture.
    """

    pictures: tuple[AdePicture, ...]
    classes: tuple[str, ...]
    missing: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.pictures)

    def __repr__(self) -> str:
        """Show the numbers."""
        return f"Ade20k(pictures={len(self)}, classes={len(self.classes)}, missing={len(self.missing)})"


def read_ade20k(folder: str | Path, *, part: Literal["train", "validation"]) -> Ade20k:
    """Return the pictures of one part, in the order of their names; nothing is decoded.

    A picture without labels, and labels without a picture, are left out, told in `missing` and warned of
    (MissingDataWarning). Raises FileFormatError when the class table is missing or damaged, or no picture has labels;
    ValueError for another part.
    """
    if part not in _PARTS:
        raise ValueError(f"read_ade20k: part {part!r}; expected 'train' or 'validation'")
    root = Path(folder)
    classes = read_object_info(root / "objectInfo150.txt")
    pictures = {file.stem: file for file in (root / "images" / _PARTS[part]).glob("*.jpg")}
    annotations = {file.stem: file for file in (root / "annotations" / _PARTS[part]).glob("*.png")}
    both, missing = sorted(pictures.keys() & annotations.keys()), []
    if not both:
        raise FileFormatError(
            f"{root}: {len(pictures)} pictures in images/{_PARTS[part]} and {len(annotations)} in annotations/"
            f"{_PARTS[part]}, none in both; expected ADEChallengeData2016 as it was unpacked"
        )
    missing += [f"annotations/{_PARTS[part]}/{name}.png" for name in sorted(pictures.keys() - annotations.keys())]
    missing += [f"images/{_PARTS[part]}/{name}.jpg" for name in sorted(annotations.keys() - pictures.keys())]
    if missing:
        text = f"{root}: {len(missing)} files are missing, the first is {missing[0]}; what belongs to them is left out"
        warnings.warn(text, MissingDataWarning, stacklevel=2)
    found = tuple(AdePicture(name, pictures[name], annotations[name], len(classes)) for name in both)
    return Ade20k(found, classes, tuple(missing))


def read_object_info(file: Path) -> tuple[str, ...]:
    """Return the class names of objectInfo150.txt, in the order of their numbers; raises FileFormatError if damaged.

    A name is all synonyms there are, as in "building, edifice".
    """
    lines = [line.split("\t") for line in text_lines(file) if line.strip()]
    header = [name.strip() for name in lines[0]] if lines else []
    if "Idx" not in header or "Name" not in header:
        raise FileFormatError(f"{file} has the columns {', '.join(header)}; expected Idx and Name, separated by tabs")
    found = []
    for number, cells in enumerate(lines[1:], start=1):
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        if row.get("Idx") != str(number) or not row.get("Name"):
            raise FileFormatError(f"{file}: {' | '.join(cells)!r}; expected class {number} and its name there")
        found.append(row["Name"])
    if not found:
        raise FileFormatError(f"{file} lists no class")
    return tuple(found)


def _one_channel(file: Path) -> bool:
    """Return whether the head of the file is that of a grey PNG of 8 bits."""
    with file.open("rb") as stream:
        head = stream.read(26)
    if len(head) < 26 or head[:8] != b"\x89PNG\r\n\x1a\n":
        return False
    depth, colour = struct.unpack(">BB", head[24:26])
    return bool(depth == 8 and colour == 0)
