"""Many classified videos summed up, from one line of results each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class ClassifiedTally:
    """Sums over videos; add a line of results at a time.

    Attributes:
        failed: videos without an answer.
        frames: how many videos were left after how many frames.
        classes: how often each class came first, by its name, or its number where it has none.
        macs, dense_macs: executed, deciding included, and of all frames; of videos with an answer.
        decoded: coded pictures sent to decoders.
        pictures: that the videos have.
        decode_ms, index_ms, ms: of videos with an answer; as in their lines.
    """

    failed: int = 0
    frames: Counter[int] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    macs: int = 0
    dense_macs: int = 0
    decoded: int = 0
    pictures: int = 0
    decode_ms: float = 0.0
    index_ms: float = 0.0
    ms: float = 0.0

    def add(self, line: Mapping[str, Any]) -> None:
        """Adds one video: its `error`, or what is said of it. Raises KeyError and TypeError where neither is."""
        if line.get("error") is not None:
            self.failed += 1
            return
        first = line["top"][0]
        numbers = {
            name: line[name] for name in ("macs", "dense_macs", "decoded", "pictures", "decode_ms", "index_ms", "ms")
        }
        sums = {name: getattr(self, name) + value for name, value in numbers.items()}
        self.frames[int(line["frames"])] += 1
        self.classes[str(first.get("class", first["index"]))] += 1
        for name, value in sums.items():
            setattr(self, name, value)

    @property
    def answered(self) -> int:
        """Videos with an answer."""
        return sum(self.frames.values())

    @property
    def mean_frames(self) -> float:
        """Frames looked at per video with an answer."""
        return sum(count * videos for count, videos in self.frames.items()) / max(1, self.answered)
