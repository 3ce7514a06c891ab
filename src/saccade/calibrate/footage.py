"""Unlabelled footage as blocks of consecutive frames: what is calibrated on, and what is only checked."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.graph.plan import Plan
from saccade.stream import Stream

BLOCK = 20  # frames of a block
LEAD = 15  # frames between a block's lead and its second frame: what was announced then has grown old
SEARCHED = 0.6  # share of the blocks, the earlier ones, that thresholds are found on
LEAST = 4  # counted frames without which neither can be done


@dataclass(frozen=True)
class Clip:
    """A video to calibrate on.

    Attributes:
        name: what it is called.
        frames: opens it: returns its frames from the first on, each time anew. Frames are what a stream takes.
    """

    name: str
    frames: Callable[[], Iterable[Any]]


@dataclass(frozen=True)
class Block:
    """Frames of one clip, by number: an old one to start from, and consecutive ones to follow.

    The first is computed whole and the second brings all that changed since: neither is counted. So a short block
    meets announcements as old as those of a long run.

    Attributes:
        clip: the clip's name.
        lead: number of the old frame.
        first: number of the first consecutive frame.
        stop: one more than the last one's number.
    """

    clip: str
    lead: int
    first: int
    stop: int

    @property
    def numbers(self) -> list[int]:
        """The frames' numbers, in the order to run them."""
        return [self.lead, *range(self.first, self.stop)]

    @property
    def counted(self) -> list[int]:
        """The numbers of the frames that count."""
        return list(range(self.first + 1, self.stop))


def cut(lengths: dict[str, int], frames: int) -> tuple[list[Block], list[Block]]:
    """Returns blocks to search on and blocks to check on, about `frames` counted frames in all.

    Every clip gives its share, in blocks spread evenly over it; the later blocks of each are held out, so what is
    checked lies after what was searched on. A clip too short for two blocks is cut in two parts.

    Raises:
        InputError: a clip has too few frames.
    """
    searched: list[Block] = []
    heldout: list[Block] = []
    each = max(2 * (LEAST + 2), frames // max(1, len(lengths)))
    for name, length in lengths.items():
        wanted = min(length, each)
        if wanted < 2 * (LEAST + 2):
            raise InputError(
                f"{name} has {length} frames; calibrating takes at least {2 * (LEAST + 2)}: some to find thresholds "
                "on and some to check them on. Give a longer clip."
            )
        count = max(2, round(wanted / BLOCK))
        stride = length / count
        size = min(int(stride), max(LEAST + 2, wanted // count))
        gap = 1 + min(LEAD, int(stride) - size)  # what is left between blocks is used to let announcements grow old
        begins = [int(index * stride) for index in range(count)]
        blocks = [Block(name, begin, begin + gap, begin + gap + size - 1) for begin in begins]
        split = min(count - 1, max(1, round(SEARCHED * count)))
        searched += blocks[:split]
        heldout += blocks[split:]
    return searched, heldout


class Footage:
    """The frames of some blocks as a plan's inputs, with what the dense network gives for them, on disk.

    Use it in a `with` block: leaving it deletes the files. `searched` and `heldout` are its blocks.

    Args:
        plan: the plan.
        clips: the videos.
        frames: about how many frames to use in all.
        executor: what runs the dense network, see `Stream`.
        threads: how many share the work of a frame.
        on_frame: called after every frame that is kept.

    Raises:
        InputError: a clip is too short, or a frame does not fit the plan.
        VideoError: a clip cannot be read.
    """

    def __init__(
        self,
        plan: Plan,
        clips: Sequence[Clip],
        *,
        frames: int = 200,
        executor: str | None = None,
        threads: int = 1,
        on_frame: Callable[[], None] = lambda: None,
    ) -> None:
        if not clips:
            raise InputError("there is no clip to calibrate on; give at least one video")
        self.plan = plan
        self.clips = tuple(clip.name for clip in clips)
        self._numbers = {clip.name: index for index, clip in enumerate(clips)}
        lengths = {clip.name: sum(1 for _ in clip.frames()) for clip in clips}
        self.searched, self.heldout = cut(lengths, frames)
        self._dense = Stream(plan, reference_every=1, executor=executor, threads=threads)
        self._folder = tempfile.TemporaryDirectory(prefix="saccade-footage-")
        try:
            for clip in clips:
                blocks = (*self.searched, *self.heldout)
                wanted = {n for block in blocks if block.clip == clip.name for n in block.numbers}
                for number, frame in enumerate(islice(clip.frames(), max(wanted) + 1)):
                    if number in wanted:
                        self._keep(clip.name, number, frame)
                        on_frame()
        except BaseException:
            self._folder.cleanup()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()

    def _keep(self, clip: str, number: int, frame: Any) -> None:
        inputs = frame if isinstance(frame, (tuple, list)) else (frame,)
        if len(inputs) == 1 and not isinstance(inputs[0], Tensor):
            if self.plan.preprocess is None:
                raise InputError(
                    f"frame {number} of {clip} is a {type(frame).__name__} and the plan does not know how it becomes "
                    "the network's input; make the plan with preprocess=Preprocess(...)"
                )
            inputs = (self.plan.preprocess(inputs[0]),)
        outputs = torch.utils._pytree.tree_leaves(self._dense(*inputs))
        torch.save({"inputs": list(inputs), "outputs": outputs}, self._path(clip, number))

    def _path(self, clip: str, number: int) -> Path:
        return Path(self._folder.name) / f"{self._numbers[clip]}-{number}.pt"

    def inputs(self, clip: str, number: int) -> list[Tensor]:
        """Returns a frame as the plan's inputs."""
        return self._load(clip, number)["inputs"]

    def outputs(self, clip: str, number: int) -> list[Tensor]:
        """Returns what the dense network gives for a frame, flattened."""
        return self._load(clip, number)["outputs"]

    def _load(self, clip: str, number: int) -> dict[str, list[Tensor]]:
        loaded: dict[str, list[Tensor]] = torch.load(self._path(clip, number), mmap=True, weights_only=True)
        return loaded
