"""A motion detector in front of a dense network: what people do today to spend less on quiet video.

python -m benchmarks.motion          # prints, per clip, the share of frames on which the network would run
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

import saccade

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class MotionDetector:
    """Says whether enough of a frame moved for the network to run again; otherwise its last result is repeated.

    A frame is shrunk to `rows` rows with its own proportions (averaged, as a camera's motion detection does), made
    grey and compared with an earlier one. A pixel moved when it differs by more than `levels`; the network runs when
    the share of pixels that moved is above `share`.

    The defaults were chosen once, over whole clips, and serve all of them: 64 rows, 15 levels and 0.5 % ran the
    network on 0.21 of the frames of bottle-detection, 0.26 of one-by-one-person-detection, 0.40 of car-detection,
    0.83 of highway and all frames of the two clips with a moving camera.

    Args:
        rows: height of the small picture, in pixels.
        levels: grey levels (of 0..255) a pixel must differ by.
        share: share of pixels, 0..1, that must have moved.
        since: compare with the "previous" frame, or with the one of the network's last "run". The first repeats a
            result for ever when things move slowly; the second runs more often.
    """

    rows: int = 64
    levels: float = 15.0
    share: float = 0.005
    since: Literal["previous", "run"] = "previous"

    def small(self, frame: saccade.Frame | npt.NDArray[np.uint8]) -> torch.Tensor:
        """Returns the small grey picture, float32 (rows, columns) in 0..255, of a frame (H, W, 3) uint8."""
        data = frame.data if isinstance(frame, saccade.Frame) else frame
        height, width, _ = data.shape
        size = (min(self.rows, height), max(1, round(width * min(self.rows, height) / height)))
        picture = torch.from_numpy(data if data.flags.writeable else data.copy()).permute(2, 0, 1)[None]
        red, green, blue = F.interpolate(picture, size=size, mode="bilinear", antialias=True)[0].float()
        return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue

    def moved(self, now: torch.Tensor, before: torch.Tensor) -> float:
        """Returns the share of pixels, 0..1, that differ by more than `levels` between two small pictures."""
        return float(((now - before).abs() > self.levels).float().mean())


class MotionGate:
    """Runs a network on the frames a motion detector lets through, and repeats its last result on the others.

    Attributes:
        frames: frames seen.
        runs: frames the network ran on; the first always.
    """

    def __init__(self, detector: MotionDetector) -> None:
        """See the class."""
        self.detector, self.frames, self.runs = detector, 0, 0
        self._before: torch.Tensor | None = None
        self._result: Any = None

    def wants(self, frame: saccade.Frame | npt.NDArray[np.uint8]) -> bool:
        """Returns whether the network has to run on this frame, and remembers the frame."""
        now = self.detector.small(frame)
        run = self._before is None or self.detector.moved(now, self._before) > self.detector.share
        if run or self.detector.since == "previous":
            self._before = now
        self.frames += 1
        self.runs += run
        return run

    def __call__(self, frame: saccade.Frame | npt.NDArray[np.uint8], network: Callable[[], Any]) -> Any:
        """Returns the network's result for this frame, fresh or repeated.

        Args:
            frame: the frame.
            network: called, without arguments, when the network has to run; what it returns must stay valid.
        """
        if self.wants(frame):
            self._result = network()
        return self._result

    @property
    def share(self) -> float:
        """Share of frames the network ran on; 0 before the first."""
        return self.runs / self.frames if self.frames else 0.0


def share_run(detector: MotionDetector, frames: Iterable[saccade.Frame | npt.NDArray[np.uint8]]) -> float:
    """Returns the share of frames a network behind the detector runs on."""
    gate = MotionGate(detector)
    for frame in frames:
        gate.wants(frame)
    return gate.share


def main() -> None:
    """Prints the shares over whole clips."""
    from benchmarks.assets import CLIPS, clip

    detector = MotionDetector()
    print(detector)
    for name in CLIPS:
        with saccade.read_video(clip(name)) as reader:
            print(f"{name}: {share_run(detector, reader):.2f}", flush=True)


if __name__ == "__main__":
    main()
