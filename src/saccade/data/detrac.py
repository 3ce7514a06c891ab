"""UA-DETRAC: traffic from above, 25 frames per second, 960 x 540, in the layout it is published in.

    DETRAC-Train-Annotations-XML/MVI_20011.xml, DETRAC-Test-Annotations-XML/...    one file per sequence
    Insight-MVT_Annotation_Train/MVI_20011/img00001.jpg, Insight-MVT_Annotation_Test/...

The standard partition, 60 sequences to train and 40 to test, is by these folders.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from saccade.data.clips import read_pictures
from saccade.errors import FileFormatError

CLASSES = ("car", "van", "bus", "others")
FPS = 25.0
HEIGHT, WIDTH = 540, 960
_FOLDERS = {
    "train": ("DETRAC-Train-Annotations-XML", "Insight-MVT_Annotation_Train"),
    "test": ("DETRAC-Test-Annotations-XML", "Insight-MVT_Annotation_Test"),
}


@dataclass(frozen=True, eq=False, repr=False)
class DetracFrame:
    """One frame's number (from 1), picture file and truth: N vehicles.

    `boxes` (N, 4) float32 xyxy in pixels, cut off at the picture's edges; `classes` (N,) int64 into CLASSES,
    others where the file names no such type; `ids` (N,) int64, the same for a vehicle through its sequence;
    `hidden` (N,) float32, the share of the vehicle outside the picture (the file's truncation ratio).
    """

    number: int
    picture: Path
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    ids: NDArray[np.int64]
    hidden: NDArray[np.float32]

    def __repr__(self) -> str:
        """Show number and vehicles."""
        return f"DetracFrame({self.number}, vehicles={len(self.boxes)})"


@dataclass(frozen=True, eq=False, repr=False)
class DetracSequence:
    """One sequence: `frames` in order, `ignored` (R, 4) float32 xyxy regions without labels in any frame.

    `dropped` counts boxes left out because they lie outside the picture altogether.
    """

    name: str
    frames: tuple[DetracFrame, ...]
    ignored: NDArray[np.float32]
    dropped: int

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.frames)

    def __repr__(self) -> str:
        """Show name and numbers."""
        boxes = sum(len(frame.boxes) for frame in self.frames)
        return f"DetracSequence({self.name}, frames={len(self)}, boxes={boxes}, ignored={len(self.ignored)})"

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Return pictures `start` to `stop` (T, H, W, 3) uint8 RGB; raises VideoError for a missing or damaged one."""
        return read_pictures([frame.picture for frame in self.frames[start:stop]])


@dataclass(frozen=True, eq=False, repr=False)
class Detrac:
    """One part of the set: its `sequences`, and why others were `skipped`, by name."""

    sequences: tuple[DetracSequence, ...]
    skipped: dict[str, str]

    def __repr__(self) -> str:
        """Show the numbers."""
        frames = sum(map(len, self.sequences))
        return f"Detrac(sequences={len(self.sequences)}, frames={frames}, skipped={len(self.skipped)})"


def read_detrac(folder: str | Path, *, part: Literal["train", "test"], names: Sequence[str] | None = None) -> Detrac:
    """Return the sequences of a part, in the order of their names, or those `names` lists.

    A frame that the file leaves out, or that has no target list, is a frame without vehicles. Sequences whose
    file is damaged or whose pictures are not all there are left out and told in `skipped`. Raises
    FileFormatError when nothing can be read, ValueError for another part.
    """
    if part not in _FOLDERS:
        raise ValueError(f"read_detrac: part {part!r}; expected 'train' or 'test'")
    labels, pictures = (Path(folder) / name for name in _FOLDERS[part])
    chosen = sorted(path.stem for path in labels.glob("*.xml")) if names is None else list(names)
    if not chosen:
        raise FileFormatError(f"{labels} holds no sequence; expected files such as MVI_20011.xml")
    found, skipped = [], {}
    for name in chosen:
        try:
            found.append(read_sequence(labels / f"{name}.xml", pictures / name))
        except FileFormatError as error:
            skipped[name] = str(error)
    if not found:
        raise FileFormatError(
            f"{labels}: none of {len(chosen)} sequences can be read; the first says: {skipped[chosen[0]]}"
        )
    return Detrac(tuple(found), skipped)


def read_sequence(file: Path, pictures: Path) -> DetracSequence:
    """Return one sequence from its XML file and the folder of its pictures, one frame per picture.

    Raises FileFormatError for a damaged file, a labelled frame without its picture, and pictures that are not
    numbered from 1 on.
    """
    if not file.is_file():
        raise FileFormatError(f"{file.name} is missing")
    try:
        root = ET.parse(file).getroot()
    except ET.ParseError as error:
        raise FileFormatError(f"{file.name} is damaged: {error}") from error
    if root.tag != "sequence":
        raise FileFormatError(f"{file.name} begins with <{root.tag}>; expected <sequence>")
    paths = sorted(pictures.glob("img*.jpg"))
    wrong = next((path.name for i, path in enumerate(paths, 1) if path.name != f"img{i:05}.jpg"), None)
    if not paths or wrong:
        raise FileFormatError(
            f"{pictures} holds {wrong or 'no pictures'}; expected img00001.jpg and so on, without gaps"
        )
    targets: dict[int, list[ET.Element]] = {}
    for node in root.iter("frame"):
        number = int(_number(node, "num", file))
        if number in targets or not 1 <= number <= len(paths):
            raise FileFormatError(f"{file.name}: frame {number} is there twice, or has no picture among {len(paths)}")
        targets[number] = node.findall("target_list/target")
    regions = [_box(node, file) for node in root.findall("ignored_region/box")]
    frames, dropped = [], 0
    for number, path in enumerate(paths, 1):
        frame, lost = _frame(number, path, targets.get(number, []), file)
        frames.append(frame)
        dropped += lost
    ignored = np.array(regions, np.float32).reshape(-1, 4).clip(0, (WIDTH, HEIGHT) * 2)
    return DetracSequence(root.get("name") or file.stem, tuple(frames), ignored, dropped)


def _frame(number: int, picture: Path, targets: list[ET.Element], file: Path) -> tuple[DetracFrame, int]:
    """Return the frame, and how many of its boxes lie outside the picture."""
    boxes, classes, ids, hidden = [], [], [], []
    for target in targets:
        box, about = target.find("box"), target.find("attribute")
        if box is None:
            raise FileFormatError(f"{file.name}, frame {number}: a target without a box")
        left, top, right, bottom = _box(box, file)
        cut = (max(left, 0.0), max(top, 0.0), min(right, float(WIDTH)), min(bottom, float(HEIGHT)))
        if cut[2] <= cut[0] or cut[3] <= cut[1]:
            continue
        kind = "" if about is None else about.get("vehicle_type", "").lower()
        boxes.append(cut)
        classes.append(CLASSES.index(kind) if kind in CLASSES else CLASSES.index("others"))
        ids.append(int(_number(target, "id", file)))
        ratio = None if about is None else about.get("truncation_ratio")
        hidden.append(0.0 if about is None or ratio is None else _number(about, "truncation_ratio", file))
    return DetracFrame(
        number,
        picture,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(classes, np.int64),
        np.array(ids, np.int64),
        np.array(hidden, np.float32),
    ), len(targets) - len(boxes)


def _box(node: ET.Element, file: Path) -> tuple[float, float, float, float]:
    left, top, width, height = (_number(node, name, file) for name in ("left", "top", "width", "height"))
    return left, top, left + width, top + height


def _number(node: ET.Element, name: str, file: Path) -> float:
    text = node.get(name)
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise FileFormatError(f"{file.name}: <{node.tag}> has {name}={text!r}; expected a number")
    return value
