"""Random access to the frames of a video file, decoding as little as an exact frame allows."""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, SupportsIndex, get_args

from av.video.reformatter import VideoReformatter

from saccade.errors import DamagedVideoError, VideoError
from saccade.video.cursor import Cursor, Disorder, Shown
from saccade.video.decoding import Damage
from saccade.video.frame import Frame
from saccade.video.index import FrameIndex, build_index, count_frames
from saccade.video.index_cache import cache_folder, file_state, load_index, save_index
from saccade.video.sources import OpenVideo, open_video
from saccade.video.upright import upright_rgb

Snap = Literal["exact", "keyframe"]


@dataclass(frozen=True)
class DecodeCost:
    """What random access to a video has cost so far.

    Attributes:
        frames_returned: frames asked for and given.
        frames_decoded: coded pictures sent to the decoder; more than were returned where others lean on them.
        seeks: how often decoding began elsewhere in the file.
        decode_ms: wall-clock milliseconds of seeking, reading, decoding and converting.
        index_ms: wall-clock milliseconds of opening the file and of making its index or loading a kept one.
    """

    frames_returned: int = 0
    frames_decoded: int = 0
    seeks: int = 0
    decode_ms: float = 0.0
    index_ms: float = 0.0


class VideoFrames:
    """The frames of a video file by number: `frames[i]` is frame i of `read_video`, the same bits.

    Opening reads the file's packets once, without decoding, and keeps that index in the user's cache folder
    ($SACCADE_CACHE, if set) until the file changes. A frame is decoded when it is asked for: from the key frame before
    it, or from where the last one ended if that is nearer, leaving out pictures that nothing leans on.

    In files without usable time stamps (a bare H.264 stream, H.264 or packed XviD with B pictures in AVI) frames are
    found by decoding and counting from the first; that is exact too, but slow, and so is making the index.

    One object serves one thread at a time; objects are independent.

    Args:
        path: the video file.
        snap: "exact" gives the frame asked for. "keyframe" gives the key frame nearest in time, for one decoded
            picture; its `index` and `pts_seconds` tell which it is. (Where frames are counted it is exact.)
        cache: whether to keep the index, or the folder to keep it in.
        allow_damaged: take a file that is cut short, with the frames that are there. `damage` tells what is missing.

    Attributes:
        path: the video file.
        fps: average frames per second; 25 where the file does not say.

    Raises:
        DamagedVideoError: the file is cut short, and `allow_damaged` is false.
        VideoError: it is missing, a directory, no video, without a single picture, or `snap` is none of the two.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        snap: Snap = "exact",
        cache: bool | str | os.PathLike[str] = True,
        allow_damaged: bool = False,
    ) -> None:
        began = time.perf_counter()
        if snap not in get_args(Snap):
            raise VideoError(f'snap is {snap!r}; expected "exact" or "keyframe".')
        self.snap = snap
        self.path = _checked_path(path)
        self._name = str(self.path)
        self._folder = None if cache is False else cache_folder() if cache is True else Path(cache)
        # Before it is opened: what is kept is then never newer than what was read.
        self._state = file_state(self.path) if self.path.is_file() else []
        self._decoded_before = self._seeks_before = 0  # by the index, and a cursor that was given up
        video = self._open()
        try:
            index = load_index(self.path, self._folder, state=self._state) if self._folder else None
            loaded = index is not None
            if index is None:
                index, self._decoded_before = build_index(video, self._open)
                self._keep(index)
            if not len(index):
                raise VideoError(f"{self._name} has a video stream without a single picture.")
            if index.damage and not allow_damaged:
                raise DamagedVideoError(
                    f"{self._name} is damaged: {index.damage}. {len(index)} coded pictures are there. "
                    "Copy or record it again, or pass allow_damaged=True to read these."
                )
        except BaseException:
            video.container.close()
            raise
        self.fps = index.fps
        self._index = index
        self._cursor = Cursor(video, self._open, index, untouched=loaded)
        self._reformatter = VideoReformatter()
        self._last: Shown | None = None
        self._expected: frozenset[int] = frozenset()
        self._kept: dict[int, Shown] = {}  # those of them that are known to be good
        self._later_damage = False  # behind the packet of the frame that is decoded
        self._damaged = 0  # the packet that was found damaged
        self._closed = False
        self._returned, self._decode_ms = 0, 0.0
        self._index_ms = 1000 * (time.perf_counter() - began)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._index)

    def __iter__(self) -> Iterator[Frame]:
        """Yield every frame in order."""
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: SupportsIndex) -> Frame:
        """Return a frame of (H, W, 3) uint8 RGB, by its number from 0, or from the end if negative.

        Raises:
            IndexError: the video has no such frame.
            DamagedVideoError: the frame's picture, or one that it leans on, is damaged; others may be sound.
            VideoError: the file changed since it was opened, cannot be read, or was closed.
        """
        frame = self._checked(number)
        began = time.perf_counter()
        try:
            if self.snap == "keyframe":
                frame = self._index.nearest_keyframe(frame)
            shown = self._kept.get(frame) or self._decoded(frame)
            self._last = shown
            data = upright_rgb(shown.picture, self._reformatter)
            self._returned += 1
        finally:
            self._decode_ms += 1000 * (time.perf_counter() - began)
        return Frame(data, shown.frame, shown.pts_seconds)

    def expect(self, numbers: Iterable[SupportsIndex]) -> None:
        """Tell which frames may be asked for, in place of those told before.

        Of these, pictures that come out of the decoder on the way to another are kept, at most one for each; so frames
        that are asked for in any order cost little more than in rising order.

        Raises:
            IndexError: the video has no such frame.
        """
        frames = [self._checked(number) for number in numbers]
        if self.snap == "keyframe":
            frames = [self._index.nearest_keyframe(frame) for frame in frames]
        self._expected = frozenset(frames)
        self._kept = {frame: shown for frame, shown in self._kept.items() if frame in self._expected}

    @property
    def damage(self) -> str | None:
        """What is missing at the end of the file, None if nothing is."""
        return self._index.damage

    @property
    def keyframes(self) -> list[int]:
        """The frames that can be decoded alone; empty where frames are found by counting."""
        return [int(frame) for frame in self._index.keyframes]

    @property
    def cost(self) -> DecodeCost:
        """What was spent so far."""
        return DecodeCost(
            self._returned,
            self._decoded_before + self._cursor.frames_decoded,
            self._seeks_before + self._cursor.seeks,
            self._decode_ms,
            self._index_ms,
        )

    def pts_seconds(self, number: SupportsIndex) -> float:
        """Return when a frame is shown, in seconds after the first, without decoding.

        Raises:
            IndexError: the video has no such frame.
        """
        return self._index.seconds(self._checked(number))

    def close(self) -> None:
        """Close the file; harmless when it is closed already."""
        self._closed = True
        self._cursor.close()

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def __repr__(self) -> str:
        """Show the file and how many frames it has."""
        return f"VideoFrames({str(self.path)!r}, {len(self)} frames)"

    def _open(self) -> OpenVideo:
        return open_video(self.path, open_timeout_seconds=10.0, read_timeout_seconds=10.0)

    def _keep(self, index: FrameIndex) -> None:
        if self._folder and file_state(self.path) == self._state:  # else it changed while it was read
            save_index(index, self.path, self._folder, state=self._state)

    def _checked(self, number: SupportsIndex) -> int:
        if self._closed:
            raise VideoError(f"{self._name} was closed; open it again with VideoFrames.")
        frame = operator.index(number)
        if not -len(self) <= frame < len(self):
            raise IndexError(f"{self._name} has no frame {frame}; it has {len(self)}, 0 to {len(self) - 1}.")
        return frame % len(self)

    def _decoded(self, frame: int) -> Shown:
        """Return the picture of a frame, by counting from the first where time stamps turn out to be wrong."""
        if self._last is not None and self._last.frame == frame:
            return self._last
        if self.path.exists() and file_state(self.path) != self._state:
            raise VideoError(f"{self._name} changed since it was opened; open it again.")
        try:
            return self._from_a_start(frame)
        except Disorder:
            self._decoded_before += self._cursor.frames_decoded
            self._seeks_before += self._cursor.seeks
            self._cursor.close()
            self._index, decoded = count_frames(self._open, self._index)
            self._decoded_before += decoded
            self._kept.clear()
            self._keep(self._index)
            self._cursor = Cursor(self._open(), self._open, self._index, untouched=True)
            return self._from_a_start(self._checked(frame))

    def _from_a_start(self, frame: int) -> Shown:
        """Return the picture of a frame, decoded from the key frame before it, or from an earlier one.

        The earlier one is for key frames that do not hold what they promise: the decoder leaves out pictures or calls
        them damaged, since they lean on something before.
        """
        damage: Damage | None = None
        for start in self._index.starts(frame):
            try:
                shown = self._run(frame, start)
            except Damage as found:
                if damage:
                    break
                damage = found
            else:
                if shown:
                    return shown
        first, last = self._index.reach(self._damaged if damage else int(self._index.packet_of_frame[frame]))
        raise DamagedVideoError(
            f"frame {frame} of {self._name} cannot be decoded: {damage or 'the decoder gives no picture for it'}. "
            f"The damage can reach frames {min(first, frame)} to {max(last, frame)}; others can be read."
        ) from damage

    def _run(self, frame: int, start: int) -> Shown | None:
        """Return a frame, decoded on from where the decoder is or from packet `start`; None if the decoder omits it.

        Raises:
            Damage: the frame, or one decoded before it, is damaged.
        """
        cursor, index = self._cursor, self._index
        if not cursor.reaches(frame, start):
            cursor.begin(start)
        packet = int(index.packet_of_frame[frame])
        # What the decoder holds back comes when more is decoded, or when it is emptied and must begin anew. The latter
        # costs less where so little was decoded; but not to one who reads frame after frame.
        following = self._last is not None and self._last.frame == frame - 1
        empties = index.timed and not following and packet - start + 1 <= max(1, index.reorder_depth)
        horizon = index.horizon(frame, cursor.start)
        self._later_damage = False
        try:
            while cursor.position is not None and cursor.newest < horizon:
                at = cursor.position
                if at == len(index.pts) or (empties and at > packet):
                    came = cursor.finish()
                elif index.needless(at, frame) and int(index.frame_of_packet[at]) not in self._expected:
                    cursor.leave_out()
                    continue
                else:
                    came = self._sent(packet)
                self._check(came, packet)
                wanted = (shown for shown in came if shown.frame >= frame or shown.frame in self._expected)
                cursor.ready.update((shown.frame, shown) for shown in wanted)
        except BaseException:  # Ctrl-C too: nobody knows what the decoder has seen
            cursor.give_up()
            raise
        found = cursor.ready.get(frame)
        if self._later_damage:
            cursor.give_up()
        for number in list(cursor.ready):
            if number in self._expected and index.horizon(number, cursor.start) <= cursor.newest:
                self._kept[number] = cursor.ready[number]
            if number <= frame:
                del cursor.ready[number]
        return found

    def _sent(self, packet: int) -> list[Shown]:
        """Decode the next packet, on the way to `packet` or past it."""
        at = self._cursor.position or 0
        try:
            return self._cursor.send()
        except Damage:
            self._damaged = at
            if not self._index.timed or at <= packet:
                raise
        # What was decoded before it is untouched, and the decoder may still hold it.
        self._later_damage = True
        return self._cursor.finish()

    def _check(self, came: list[Shown], packet: int) -> None:
        """Raise Damage if a picture decoded up to `packet` is damaged, take note if a later one is."""
        for shown in came:
            if shown.picture.is_corrupt:
                self._damaged = int(self._index.packet_of_frame[min(shown.frame, len(self) - 1)])
                if not self._index.timed or self._damaged <= packet:
                    raise Damage("the decoder reports a picture with damaged or missing parts")
                self._later_damage = True


def _checked_path(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise VideoError(f"random access needs the path of a video file, got {type(path).__name__}: {path!r}.")
    if isinstance(path, str) and "://" in path:
        raise VideoError(f"{path} is no file; random access needs one. Copy it first, or use read_video.")
    found = Path(path)
    if found.exists() and not found.is_file() and not found.is_dir():
        raise VideoError(f"{found} is a device or a pipe; random access needs a file. Use read_video.")
    return found
