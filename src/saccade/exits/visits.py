"""A video file as a model looks at it: its frames in the order of the visits, decoded when they are asked for."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.exits.model import FrameExit
from saccade.exits.order import pictures_of_frame
from saccade.preprocess import Preprocess
from saccade.video import DecodeCost, VideoFrames
from saccade.video.seeking import Snap


class VideoVisits(Iterator[Tensor]):
    """The frames of a video file for `classify_video` and `classify_videos`; the file is opened with the first.

    All the model may visit are expected (`VideoFrames.expect`), so that pictures that come by on the way to another are
    kept until they are visited: at most as many as there are frames still to visit. One thread at a time may use it.

    Args:
        path: the video file.
        model: which frames of it are visited. In random order, every path has an order of its own.
        preprocess: from a picture to the backbone's input.
        clip: None where a frame is a picture (3, H, W). A number where it is a clip (3, clip, H, W): of so many
            pictures around the place that is visited.
        stride: a clip has one picture in so many; both as of `pictures_of_frame`.
        snap, cache: as of `VideoFrames`.

    Attributes:
        visited: the pictures looked at so far, by number; of clips, the first picture.
        length: pictures of the video; 0 before it was opened.

    Raises:
        InputError: clips of key frames, or of less than one picture.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        model: FrameExit,
        preprocess: Preprocess,
        *,
        clip: int | None = None,
        stride: int = 1,
        snap: Snap = "exact",
        cache: bool | str | os.PathLike[str] = True,
    ) -> None:
        if clip is not None and (clip < 1 or stride < 1):
            raise InputError(f"a clip of {clip} pictures, one in {stride}; expected at least 1 of each")
        if clip is not None and snap != "exact":
            raise InputError(f"got snap {snap!r} with clips, whose pictures would all be one; use 'exact'")
        self.path, self.visited, self.length = Path(path), list[int](), 0
        self._model, self._preprocess, self._clip, self._stride = model, preprocess, clip, stride
        self._snap, self._cache = snap, cache
        self._frames: VideoFrames | None = None
        self._cost = DecodeCost()
        self._coming: list[list[int]] = []  # pictures of the frames still to visit, the next one last
        self._closed = False

    @property
    def cost(self) -> DecodeCost:
        """What reading has cost so far."""
        return self._cost if self._frames is None else self._frames.cost

    def __iter__(self) -> VideoVisits:
        """Return self: a video is gone through once."""
        return self

    def __next__(self) -> Tensor:
        """Return the next frame as the backbone takes it, without a batch axis.

        Raises:
            StopIteration: all T have been visited, or it was closed.
            VideoError: the file is no video, or damaged where it is looked at; or as `VideoFrames`.
        """
        if self._closed:
            raise StopIteration
        if self._frames is None:
            self._open()
        assert self._frames is not None
        if not self._coming:
            raise StopIteration
        self._frames.expect(number for numbers in self._coming for number in numbers)
        pictures = [self._frames[number] for number in self._coming.pop()]
        self.visited.append(pictures[0].index)
        made = torch.cat([self._preprocess(picture) for picture in pictures])
        return made[0] if self._clip is None else made.transpose(0, 1).contiguous()

    def close(self) -> None:
        """Close the file and let go of what was kept of it; harmless when that was done."""
        self._closed = True
        if self._frames is not None:
            self._frames.close()
            self._cost, self._frames = self._frames.cost, None

    def __repr__(self) -> str:
        return f"VideoVisits({str(self.path)!r}, visited={self.visited})"

    def _open(self) -> None:
        self._frames = VideoFrames(self.path, snap=self._snap, cache=self._cache)
        self.length = len(self._frames)
        places = self._model.positions(self.length, seed=zlib.crc32(os.fsencode(self.path)))
        self._coming = [
            pictures_of_frame(place, self.length, clip=self._clip, stride=self._stride) for place in reversed(places)
        ]
