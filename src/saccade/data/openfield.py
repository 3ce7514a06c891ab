"""The openfield set of DeepLabCut: a mouse from above, four joints on still pictures, and a video without labels.

Reads a DeepLabCut project folder: `labeled-data/<recording>/CollectedData_<who>.csv` beside the pictures it
names, `videos/`. In the set as published the 116 labelled pictures (recording m4s1) are not frames of its
one video (m3v1mp4.mp4): same arena and camera, another recording. The nearest of the video's 2330 frames
differs from a labelled picture by 2.8 to 8.3 grey levels on average (64 x 48 pixels), two frames of the video
that follow one another by 0.6 and never by more than 1.5. Nor do the pictures follow one another in time, so
there is no labelled clip: what can be trained on clips is the agreement with a network trained on the stills
(`unlabelled_clips`).
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade.data.clips import read_pictures, unlabelled_clips
from saccade.errors import FileFormatError

__all__ = ["LabelledPicture", "OpenField", "read_openfield", "unlabelled_clips"]


@dataclass(frozen=True, eq=False, repr=False)
class LabelledPicture:
    """One picture's file and truth, in pixels as the file has them.

    `joints` (J, 2) float32 are x, y, NaN where the file has none; those are not `visible` (J,). `box` (4,)
    float32 xyxy is the extent of the visible joints, without a margin; zeros where none is.
    """

    path: Path
    joints: NDArray[np.float32]
    visible: NDArray[np.bool_]
    box: NDArray[np.float32]

    def __repr__(self) -> str:
        """Show the file and the number of joints."""
        return f"LabelledPicture({self.path.name}, visible={int(self.visible.sum())} of {len(self.visible)})"

    def read(self) -> NDArray[np.uint8]:
        """Return the picture (H, W, 3) uint8 RGB; raises VideoError, or FileFormatError for joints outside of it."""
        picture = read_pictures([self.path])[0]
        height, width = picture.shape[:2]
        inside = ((self.joints >= 0) & (self.joints <= (width, height))).all(1)
        if (self.visible & ~inside).any():
            place = self.joints[self.visible & ~inside][0].tolist()
            raise FileFormatError(
                f"{self.path}: a joint at {place} lies outside the picture of {width} x {height} pixels"
            )
        return picture


@dataclass(frozen=True, eq=False, repr=False)
class OpenField:
    """A DeepLabCut project: joint `names`, labelled `pictures` in file order, `videos`.

    `missing` names the pictures that have labels and no file.
    """

    names: tuple[str, ...]
    pictures: tuple[LabelledPicture, ...]
    videos: tuple[Path, ...]
    missing: tuple[str, ...]

    def __repr__(self) -> str:
        """Show the numbers."""
        return (
            f"OpenField(joints={len(self.names)}, pictures={len(self.pictures)}, videos={len(self.videos)}, "
            f"missing={len(self.missing)})"
        )

    def split(self, train: float = 0.8) -> tuple[tuple[LabelledPicture, ...], tuple[LabelledPicture, ...]]:
        """Return the pictures to train on, the first `train` of each recording in file order, and the others.

        Neighbours in the files often look alike, so a random split would test on what was trained on. The order
        is not purely that of time: 5 of the 23 published test pictures have a training picture whose joints lie
        within 10 pixels on average. Raises ValueError when one side would be empty.
        """
        first, second = [], []
        for folder in sorted({picture.path.parent for picture in self.pictures}):
            here = [picture for picture in self.pictures if picture.path.parent == folder]
            cut = round(train * len(here)) if 0 < train < 1 else 0
            first += here[:cut]
            second += here[cut:]
        if not first or not second:
            raise ValueError(
                f"split: {train} of {len(self.pictures)} pictures leaves one side empty; expected a share in 0..1"
            )
        return tuple(first), tuple(second)


def read_openfield(folder: str | Path) -> OpenField:
    """Return the labels and videos of a DeepLabCut project folder.

    Raises FileFormatError when there are no labels, or a label file is not laid out as DeepLabCut does. Pictures
    without a file are left out and named in `missing`.
    """
    root = Path(folder)
    files = sorted(root.glob("labeled-data/*/CollectedData*.csv"))
    if not files:
        raise FileFormatError(f"{root} holds no labels; expected labeled-data/<recording>/CollectedData_<who>.csv")
    names: tuple[str, ...] | None = None
    pictures: list[LabelledPicture] = []
    missing: list[str] = []
    for file in files:
        here, rows = _read_labels(file)
        if names is not None and here != names:
            raise FileFormatError(f"{file} labels {', '.join(here)}; expected {', '.join(names)} as in {files[0]}")
        names = here
        for name, joints in rows:
            path = file.parent / name
            if path.is_file():
                pictures.append(_labelled(path, joints))
            else:
                missing.append(str(path.relative_to(root)))
    videos = tuple(sorted(path for path in (root / "videos").glob("*") if path.is_file()))
    return OpenField(names or (), tuple(pictures), videos, tuple(missing))


def _labelled(path: Path, joints: NDArray[np.float32]) -> LabelledPicture:
    visible = np.asarray(np.isfinite(joints).all(1))
    shown = joints[visible]
    box = np.concatenate([shown.min(0), shown.max(0)]) if len(shown) else np.zeros(4)
    return LabelledPicture(path, joints, visible, box.astype(np.float32))


def _read_labels(file: Path) -> tuple[tuple[str, ...], list[tuple[str, NDArray[np.float32]]]]:
    """Return the joints' names, and the name and joints (J, 2) of every picture, of one label file."""
    with file.open(newline="", encoding="utf-8") as text:
        lines = [line for line in csv.reader(text) if line]
    heads = [line[0] for line in lines[:3]]
    if heads != ["scorer", "bodyparts", "coords"]:
        raise FileFormatError(f"{file} begins with lines {heads}; expected scorer, bodyparts, coords")
    start = next((i for i, word in enumerate(lines[2]) if word == "x"), len(lines[2]))
    coordinates = lines[2][start:]
    names = tuple(lines[1][start::2])
    if not names or coordinates != ["x", "y"] * len(names) or lines[1][start::2] != lines[1][start + 1 :: 2]:
        raise FileFormatError(f"{file}: columns {coordinates} for {lines[1][start:]}; expected x, y for each body part")
    rows = []
    for number, line in enumerate(lines[3:], start=4):
        if len(line) != start + 2 * len(names):
            raise FileFormatError(f"{file}, line {number}: {len(line)} columns; expected {start + 2 * len(names)}")
        try:
            values = [float(cell) if cell.strip() else math.nan for cell in line[start:]]
        except ValueError as error:
            raise FileFormatError(f"{file}, line {number}: {error}; expected numbers or empty cells") from error
        # The path is one column, or one column per folder in newer projects; the pictures lie beside the labels.
        name = line[start - 1].replace("\\", "/").rsplit("/", 1)[-1]
        rows.append((name, np.array(values, np.float32).reshape(-1, 2)))
    return names, rows
