"""The ADE20K reader on a small set in the published layout."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from saccade.data.ade20k import IGNORED, read_ade20k
from saccade.errors import FileFormatError, MissingDataWarning
from tests.stills import write_jpeg, write_png

TABLE = "Idx\tRatio\tTrain\tVal\tName\n1\t0.1\t9\t1\twall\n2 \t0.1\t6\t6\tbuilding, edifice \n3\t0.08\t8\t7\tsky\n"


def write_grey(path: Path, labels: np.ndarray) -> None:
    """Write one channel of 8 bits without any loss."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.tobytes() for row in labels.astype(np.uint8))
    head = struct.pack(">IIBBBBB", labels.shape[1], labels.shape[0], 8, 0, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def small_set(root: Path, *, table: str = TABLE) -> Path:
    (root / "objectInfo150.txt").write_text(table)
    for number, size in ((2, (5, 7)), (1, (16, 16)), (3, (9, 4))):
        name, rng = f"ADE_train_{number:08}", np.random.default_rng(number)
        write_jpeg(root / "images" / "training" / f"{name}.jpg", np.full((*size, 3), 60 * number, np.uint8))
        write_grey(root / "annotations" / "training" / f"{name}.png", rng.integers(0, 4, size))
    return root


def test_pictures_have_their_labels(tmp_path: Path) -> None:
    found = read_ade20k(small_set(tmp_path), part="train")
    assert [p.name for p in found.pictures] == [f"ADE_train_{i:08}" for i in (1, 2, 3)]
    assert found.classes == ("wall", "building, edifice", "sky")
    assert repr(found) == "Ade20k(pictures=3, classes=3, missing=0)"
    for number, size, picture in zip((1, 2, 3), ((16, 16), (5, 7), (9, 4)), found.pictures, strict=True):
        assert np.abs(picture.read().astype(int) - 60 * number).max() <= 6
        drawn = np.random.default_rng(number).integers(0, 4, size)
        labels = picture.labels()
        assert (labels.shape, labels.dtype) == (size, np.int64)
        for (row, column), number_there in np.ndenumerate(drawn):
            assert labels[row, column] == (IGNORED if number_there == 0 else number_there - 1)


def test_all_150_numbers_are_read_as_they_are(tmp_path: Path) -> None:
    table = "Idx\tRatio\tTrain\tVal\tStuff\tName\n" + "".join(f"{i}\t0\t1\t1\t0\tc{i}\n" for i in range(1, 151))
    small_set(tmp_path, table=table)
    write_grey(tmp_path / "annotations/training/ADE_train_00000001.png", np.arange(151).reshape(1, 151))
    found = read_ade20k(tmp_path, part="train")
    assert len(found.classes) == 150
    assert found.pictures[0].labels().tolist() == [[IGNORED, *range(150)]]


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    small_set(tmp_path)
    (tmp_path / "images/training/ADE_train_00000002.jpg").unlink()
    (tmp_path / "annotations/training/ADE_train_00000003.png").unlink()
    first = r"2 files are missing, the first is annotations/training/ADE_train_00000003.png"
    with pytest.warns(MissingDataWarning, match=first) as told:
        found = read_ade20k(tmp_path, part="train")
    assert told[0].filename == __file__
    assert [p.name for p in found.pictures] == ["ADE_train_00000001"]
    assert found.missing[1] == "images/training/ADE_train_00000002.jpg"
    with pytest.raises(FileFormatError, match="0 pictures in images/validation and 0 in annotations/validation"):
        read_ade20k(tmp_path, part="validation")
    with pytest.raises(ValueError, match="part 'val'; expected 'train' or 'validation'"):
        read_ade20k(tmp_path, part="val")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("Idx\tRatio\n1\t0.1\n", "has the columns Idx, Ratio; expected Idx and Name"),
        ("Idx\tName\n1\twall\n3\tsky\n", r"'3 \| sky'; expected class 2 and its name there"),
        ("Idx\tName\n1\t \n", "expected class 1 and its name"),
        ("Idx\tName\n", "lists no class"),
        ("", "has the columns ; expected"),
    ],
)
def test_damaged_class_tables_are_refused(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        read_ade20k(small_set(tmp_path, table=table), part="train")


def test_labels_that_are_none_are_refused(tmp_path: Path) -> None:
    picture = read_ade20k(small_set(tmp_path), part="train").pictures[0]
    write_png(picture.annotation, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(FileFormatError, match="is no PNG of one channel and 8 bits"):
        picture.labels()
    picture.annotation.write_bytes(b"")
    with pytest.raises(FileFormatError, match="is no PNG"):
        picture.labels()
    write_grey(picture.annotation, np.full((2, 2), 4))
    with pytest.raises(FileFormatError, match="has class 4; expected 0 to 3"):
        picture.labels()
