"""What the head of a coded picture tells without decoding: whether any other picture leans on it.

Those that none leans on need not be decoded on the way to another.

H.264 writes it into each slice (nal_ref_idc, ITU-T H.264 section 7.4.1). HEVC writes whether pictures of the same
temporal layer lean on a picture (ITU-T H.265 table 7-1); so in the highest layer, where nothing else could, it tells
the same. For other codecs nothing is disposable here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.stream import VideoStream

# The temporal layer, and whether a picture of this layer may lean on the picture.
Kind = tuple[int, bool]
_REFERENCED: Kind = (0, True)
_PICTURE = b"\0\0\1\xb6"  # the start code of a VOP, ISO/IEC 14496-2 table 6-3
_EMPTY_BYTES = 8  # of a VOP that is not coded, with its start code


def picture_kind(stream: VideoStream) -> Callable[[Packet[VideoStream]], Kind]:
    """Return what tells the kind of a stream's packets."""
    codec = stream.codec_context.name
    kind_of = {"h264": _h264_kind, "hevc": _hevc_kind}.get(codec)
    if kind_of is None:
        return lambda _: _REFERENCED
    extra = stream.codec_context.extradata or b""
    # Records of MP4 and Matroska begin with 1 and say how many bytes a unit's length has; else start codes divide.
    length_bytes = 0
    if extra[:1] == b"\x01":
        at = 4 if codec == "h264" else 21
        length_bytes = (extra[at] & 3) + 1 if len(extra) > at else 0
        if not length_bytes:
            return lambda _: _REFERENCED

    def kind(packet: Packet[VideoStream]) -> Kind:
        data = bytes(packet)
        units = _by_length(data, length_bytes) if length_bytes else _by_start_code(data)
        return kind_of(units)

    return kind


def disposable_packets(kinds: Sequence[Kind]) -> npt.NDArray[np.bool_]:
    """Return which packets (P,) nothing leans on, from their kinds."""
    highest = max((layer for layer, _ in kinds), default=0)
    return np.array([layer == highest and not referenced for layer, referenced in kinds], np.bool_)


def holds_one_picture(packet: Packet[VideoStream], codec: str) -> bool:
    """Return whether a packet surely is one picture; XviD packs two into one, and an empty one to make up for it."""
    if codec != "mpeg4":
        return True
    return packet.size > _EMPTY_BYTES and bytes(packet).count(_PICTURE) <= 1


def _by_length(data: bytes, length_bytes: int) -> Iterator[bytes]:
    """Yield the first two bytes of every unit."""
    at = 0
    while at + length_bytes + 2 <= len(data):
        length = int.from_bytes(data[at : at + length_bytes], "big")
        at += length_bytes
        yield data[at : at + 2]
        at += length


def _by_start_code(data: bytes) -> Iterator[bytes]:
    """Yield the first two bytes of every unit, ITU-T H.264 annex B."""
    at = data.find(b"\0\0\1")
    while at >= 0 and at + 5 <= len(data):
        yield data[at + 3 : at + 5]
        at = data.find(b"\0\0\1", at + 3)


def _h264_kind(units: Iterator[bytes]) -> Kind:
    slices = [head[0] for head in units if 1 <= head[0] & 31 <= 5]
    return (0, not slices or any(byte >> 5 & 3 for byte in slices))


def _hevc_kind(units: Iterator[bytes]) -> Kind:
    slices = [(head[0] >> 1 & 63, (head[1] & 7) - 1) for head in units if head[0] >> 1 & 63 < 32]
    if not slices:
        return _REFERENCED
    referenced = any(kind > 14 or kind % 2 for kind, _ in slices)
    return (max(layer for _, layer in slices), referenced)
