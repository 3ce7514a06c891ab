"""Video frames as a plan's input, preprocessed natively where the plan takes nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from saccade.graph.plan import Plan
from saccade.preprocess import Preprocess, check_frame
from saccade.stream.picture import Picture
from saccade.stream.state import StreamState


class PictureSource:
    """Keeps a stream's picture between frames, and starts it anew when the stream's history is not its own.

    Args:
        plan: the plan the frames are for.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._picture: Picture | None = None
        self._follows: tuple[int, int] | None = None  # the state's generation and frames after the last picture

    def fits(self, preprocess: Preprocess, frame: Any) -> bool:
        """Returns whether a frame, preprocessed, is exactly the plan's one input; raises InputError for no frame."""
        if len(self.plan.inputs) != 1:
            return False
        spec = self.plan.values[self.plan.inputs[0]]
        data = check_frame(frame)
        size = preprocess.input_size((data.shape[0], data.shape[1]))
        wanted = (1, preprocess.channel_count, *size)
        return spec.dtype == "float32" and spec.shape == wanted and spec.channel_axis == 1

    @contextmanager
    def next(self, preprocess: Preprocess, frame: Any, state: StreamState) -> Iterator[Picture]:
        """Gives the picture brought up to date with a frame; forgets it where its use fails."""
        data = check_frame(frame)
        size = (data.shape[0], data.shape[1])
        picture = self._picture
        if picture is None or picture.source_size != size or picture.preprocess is not preprocess:
            picture = Picture(preprocess, size)
        elif self._follows != (state.generation, state.frames):
            picture.reset()
        self._picture = None
        picture.update(frame)
        yield picture
        self._picture, self._follows = picture, (state.generation, state.frames)

    def forget(self) -> None:
        """Forgets the last frame: the stream was given something else since."""
        self._picture = None
