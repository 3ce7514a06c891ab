"""JHMDB: 928 clips of 21 actions with 15 joints in every frame, in the layout it is published in.

    joint_positions/<action>/<clip>/joint_positions.mat   pos_img (2, 15, T), scale, viewpoint, action
    Rename_Images/<action>/<clip>/00001.png ...           320 x 240, one per frame
    puppet_mask/<action>/<clip>/puppet_mask.mat           part_mask (H, W, T); may be absent
    splits/<action>_test_split<1 to 3>.txt                <clip>.avi 1 (train), 2 (test) or 0 (neither)

Localisation papers (J-HMDB-21) find the one actor's box in every frame and the clip's action; the truth they score
against is the box round the puppet mask.

The 316 clips of 12 actions that pose papers use, those with the whole body in view (sub-JHMDB), come as another
folder of splits: pass splits="sub_splits".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from saccade.data.clips import read_pictures
from saccade.data.joints import JOINTS
from saccade.errors import FileFormatError, MissingExtraError

__all__ = ["ACTIONS", "JOINTS", "Jhmdb", "JhmdbClip", "read_jhmdb"]

ACTIONS = (
    "brush_hair", "catch", "clap", "climb_stairs", "golf", "jump", "kick_ball", "pick", "pour", "pullup", "push",
    "run", "shoot_ball", "shoot_bow", "shoot_gun", "sit", "stand", "swing_baseball", "throw", "walk", "wave",
)  # fmt: skip
_PARTS = {"train": 1, "test": 2}
_MARGIN = 0.1  # of the joints' larger extent, on every side, for a box made of joints


@dataclass(frozen=True, eq=False, repr=False)
class JhmdbClip:
    """One clip of T frames: its picture files and truth, in pixels (the first pixel's middle is 0.5, 0.5).

    `joints` (T, 15, 2) float32 are x, y, named by JOINTS; `visible` (T, 15) says which lie inside the picture
    (JHMDB marks joints hidden by the body, too); `box` (T, 4) float32 xyxy goes round the puppet mask, or where
    there is none round the joints with a margin of a tenth, within the picture; `masked` (T,) says which go round a
    mask, and so are the truth of localisation. `action` is the index into ACTIONS.
    """

    name: str
    action: int
    pictures: tuple[Path, ...]
    joints: NDArray[np.float32]
    visible: NDArray[np.bool_]
    box: NDArray[np.float32]
    masked: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return T."""
        return len(self.pictures)

    def __repr__(self) -> str:
        """Show name, action and T."""
        return f"JhmdbClip({self.name}, {ACTIONS[self.action]}, frames={len(self)})"

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Return frames `start` to `stop` (T', H, W, 3) uint8 RGB; raises VideoError for a damaged picture."""
        return read_pictures(self.pictures[start:stop])


@dataclass(frozen=True, eq=False, repr=False)
class Jhmdb:
    """One side of one split: its `clips`, and why clips of it were `skipped`, by "action/clip"."""

    clips: tuple[JhmdbClip, ...]
    skipped: dict[str, str]

    def __repr__(self) -> str:
        """Show the numbers."""
        return f"Jhmdb(clips={len(self.clips)}, frames={sum(map(len, self.clips))}, skipped={len(self.skipped)})"


def read_jhmdb(
    folder: str | Path, *, split: Literal[1, 2, 3], part: Literal["train", "test"], splits: str = "splits"
) -> Jhmdb:
    """Return the clips of one `part` of one `split`, actions in alphabetical order, clips as the split lists them.

    Clips with missing or damaged files are left out and told in `skipped`. Raises FileFormatError when there
    is no list for the split, a list has a line of another form, or no clip can be read; MissingExtraError
    without the extra `data` (scipy reads the .mat files).
    """
    root = Path(folder)
    if part not in _PARTS or split not in (1, 2, 3):
        raise ValueError(f"read_jhmdb: split {split!r}, part {part!r}; expected 1, 2 or 3 and 'train' or 'test'")
    names = [(action, name) for action in ACTIONS for name in _listed(root / splits, action, split, _PARTS[part])]
    if not names:
        raise FileFormatError(
            f"{root / splits} lists no clips to {part} on; expected files such as {ACTIONS[0]}_test_split{split}.txt "
            "with lines '<clip>.avi 1' (train) or '<clip>.avi 2' (test)"
        )
    clips, skipped = [], {}
    for action, name in names:
        try:
            clips.append(_read_clip(root, action, name))
        except FileFormatError as error:
            skipped[f"{action}/{name}"] = str(error)
    if not clips:
        first = next(iter(skipped.values()))
        raise FileFormatError(f"{root}: none of {len(names)} clips can be read; the first says: {first}")
    return Jhmdb(tuple(clips), skipped)


def _listed(folder: Path, action: str, split: int, part: int) -> list[str]:
    """Return the clips of an action that belong to the part; none where there is no list for the action."""
    files = [folder / f"{action}_test_split{mark}{split}.txt" for mark in ("", "_")]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return []
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.rsplit(maxsplit=1)
        if not words:
            continue
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise FileFormatError(f"{file}, line {number}: {line!r}; expected '<clip>.avi' and 0, 1 or 2")
        if int(words[1]) == part:
            found.append(words[0].removesuffix(".avi"))
    return found


def _read_clip(root: Path, action: str, name: str) -> JhmdbClip:
    inside = Path(action) / name
    places = _array(root / "joint_positions" / inside / "joint_positions.mat", "pos_img")
    if places.ndim == 2:  # MATLAB drops a last axis of length 1
        places = places[..., None]
    if places.ndim != 3 or places.shape[:2] != (2, len(JOINTS)) or not np.isfinite(places).all():
        raise FileFormatError(f"pos_img is {places.shape}; expected finite numbers (2, {len(JOINTS)}, frames)")
    frames = places.shape[2]
    pictures = tuple(root / "Rename_Images" / inside / f"{i:05}.png" for i in range(1, frames + 1))
    missing = [path.name for path in pictures if not path.is_file()]
    if missing:
        raise FileFormatError(f"{len(missing)} of {frames} pictures are missing, the first is {missing[0]}")
    height, width = _png_size(pictures[0])
    joints = (places.transpose(2, 1, 0) - 0.5).astype(np.float32)  # MATLAB's first pixel is 1
    visible = np.asarray(((joints >= 0) & (joints < (width, height))).all(-1))
    low, high = joints.min(1), joints.max(1)
    margin = _MARGIN * (high - low).max(1, keepdims=True)
    box = np.concatenate([low - margin, high + margin], 1).clip(0, (width, height) * 2)
    masked = np.zeros(frames, bool)
    mask_file = root / "puppet_mask" / inside / "puppet_mask.mat"
    if mask_file.is_file():
        mask = _array(mask_file, "part_mask")
        mask = mask[..., None] if mask.ndim == 2 else mask
        if mask.shape != (height, width, frames):
            raise FileFormatError(f"part_mask is {mask.shape}; expected {(height, width, frames)}, as the pictures")
        for i in range(frames):
            rows, columns = np.flatnonzero(mask[..., i].any(1)), np.flatnonzero(mask[..., i].any(0))
            if len(rows):
                box[i], masked[i] = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), True
    return JhmdbClip(name, ACTIONS.index(action), pictures, joints, visible, box.astype(np.float32), masked)


def _array(file: Path, name: str) -> NDArray[Any]:
    """Return one array of a .mat file; raises FileFormatError where it is missing or damaged."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingExtraError(
            "reading JHMDB needs scipy, which is not installed: pip install 'saccade[data]'"
        ) from error
    if not file.is_file():
        raise FileFormatError(f"{file.name} is missing")
    try:
        found = loadmat(file, variable_names=[name])
    except Exception as error:  # whatever a damaged file makes scipy raise
        raise FileFormatError(f"{file.name} cannot be read: {error}") from error
    if name not in found:
        raise FileFormatError(f"{file.name} holds no {name}")
    return np.asarray(found[name])


def _png_size(file: Path) -> tuple[int, int]:
    """Return height and width from the head of a PNG file."""
    with file.open("rb") as stream:
        head = stream.read(24)
    if len(head) < 24 or head[:8] != b"\x89PNG\r\n\x1a\n":
        raise FileFormatError(f"{file.name} is no PNG picture")
    width, height = struct.unpack(">II", head[16:])
    return height, width
