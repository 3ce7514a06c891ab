"""What a video file says about its own length: needed to notice that a copy was cut short.

FFmpeg plays a shortened file to its last byte and reports a normal end. MP4, Matroska and AVI state the size
of their parts, so comparing that with the size of the file tells the two apart exactly.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_MEDIA_BOXES = (b"mdat", b"moov", b"moof")


def missing_bytes(path: Path) -> str | None:
    """Return a sentence part saying how much of an MP4, Matroska or AVI file is missing, None if nothing is.

    Other containers, and recordings that never wrote their size, give None.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[4:8] == b"ftyp":
            declared = max((end for kind, end in _mp4_boxes(file, size) if kind in _MEDIA_BOXES), default=0)
        elif head[:4] == _EBML:
            declared = _matroska_end(file)
        elif head[:4] == b"RIFF":
            declared = _riff_end(file, size)
        else:
            return None
    return f"the file declares {declared} bytes and has {size}" if declared > size else None


def lacks_index(path: Path) -> bool:
    """Return whether this is an MP4 without its index (moov), as a recording that was cut off leaves it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(12)[4:8] != b"ftyp":
            return False
        return all(kind != b"moov" or end > size for kind, end in _mp4_boxes(file, size))


def _mp4_boxes(file: BinaryIO, size: int) -> list[tuple[bytes, int]]:
    """Return (type, end offset) of every top-level box, ISO/IEC 14496-12 section 4.2."""
    boxes = []
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:  # a 64-bit length follows the type
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:  # "to the end of the file"
            length = size - at
        if length < 8:
            break
        at += length
        boxes.append((kind, at))
    return boxes


def _riff_end(file: BinaryIO, size: int) -> int:
    """Return where the last RIFF chunk ends by its own declaration; AVIs over 1 GB have several."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):  # never filled in: an unfinished recording
            break
        at += 8 + length
    return at


def _matroska_end(file: BinaryIO) -> int:
    """Return where the segment ends by its own declaration, 0 if it does not say, RFC 8794 and RFC 9559."""
    file.seek(4)
    header = _element_size(file)
    if header is None:
        return 0
    file.seek(header, 1)
    if file.read(4) != _SEGMENT:
        return 0
    length = _element_size(file)
    return 0 if length is None else file.tell() + length


def _element_size(file: BinaryIO) -> int | None:
    """Return the next EBML element's size, None if it is the reserved "unknown"."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    width = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(width - 1), "big") & ((1 << 7 * width) - 1)
    return None if value == (1 << 7 * width) - 1 else value
