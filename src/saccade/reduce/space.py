"""What a layer may leave out: the search space of VA-RED2, and how much is left to compute with each option of it.

Option k of a dimension computes one in 2**k of its feature maps: every 2**k-th output frame, or the first C / 2**k
output channels, rounded up. Option 0 computes all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from saccade.errors import InputError

CheapTime = Literal["copy", "scale", "blend"]
CheapChannels = Literal["scale", "depthwise"]
MOST_OPTIONS = 8


@dataclass(frozen=True, kw_only=True)
class Reduce:
    """What to give the convolutions of a network: how many options, and what rebuilds what is left out.

    Attributes:
        time, channels: options of each dimension (the paper's search space: 2 or 3); 1 leaves it alone.
        hidden: units of the gate's hidden layer, D_h in eq. 4. The paper does not give its number.
        cheap_time: how a frame left out is rebuilt, channel by channel (eq. 1): "copy" of the computed frame before it,
            "scale", that frame times a learned number, or "blend", a learned sum of the computed frames before and
            after it. Numbers are one per channel and place among the frames left out.
        cheap_channels: how a channel left out is rebuilt from one that was computed (the paper's cheap linear
            operation): "scale", times a learned number, or "depthwise", by a learned filter over space of the layer's
            own kernel size, at least 3.
        overhead: share of a layer's macs that either may cost; where the one asked for would cost more at half of the
            maps, a cheaper one is taken: of channels "scale", of time "scale" or "copy" (see `affordable`).
    """

    time: int = 2
    channels: int = 2
    hidden: int = 16
    cheap_time: CheapTime = "blend"
    cheap_channels: CheapChannels = "depthwise"
    overhead: float = 0.02

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("time", "channels"):
            options = getattr(self, name)
            if not isinstance(options, int) or not 1 <= options <= MOST_OPTIONS:
                raise InputError(f"Reduce: {name} is {options!r}; expected 1 to {MOST_OPTIONS} options")
        if self.hidden < 1:
            raise InputError(f"Reduce: hidden is {self.hidden}; expected at least 1 unit")
        for name, known in (("cheap_time", CheapTime), ("cheap_channels", CheapChannels)):
            if getattr(self, name) not in known.__args__:  # type: ignore[attr-defined]
                raise InputError(
                    f"Reduce: {name} is {getattr(self, name)!r}; expected one of {', '.join(known.__args__)}"  # type: ignore[attr-defined]
                )

    def affordable(self, macs: int, taps: int) -> tuple[CheapTime, CheapChannels]:
        """Returns what rebuilds the frames and the channels of a layer, as dear as asked for or less.

        Args:
            macs: of one output number of the layer.
            taps: numbers of a "depthwise" filter.
        """
        most = 2 * self.overhead * macs  # macs for each number rebuilt, of half the maps
        costs = {"blend": 2, "scale": 1, "copy": 0}
        asked = list(costs).index(self.cheap_time)
        time = next(name for name, cost in list(costs.items())[asked:] if cost <= most)
        return time, self.cheap_channels if taps <= most else "scale"  # type: ignore[return-value]

    def __str__(self) -> str:
        return (
            f"{self.time} x {self.channels} options (time x channels), rebuilt by {self.cheap_time} and "
            f"{self.cheap_channels}"
        )


@dataclass(frozen=True)
class Policy:
    """One choice for a layer: option `time` and option `channels`, 0 being everything."""

    time: int = 0
    channels: int = 0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.time < 0 or self.channels < 0:
            raise InputError(f"a policy names options by 0, 1, ...; got {self.time} and {self.channels}")


ALL = Policy()


@dataclass(frozen=True)
class Space:
    """A layer's options and its sizes.

    Attributes:
        frames: output frames.
        inputs: input frames.
        out_channels: output channels, all of them.
        step: output channels are computed in whole multiples of this (those of one group of a grouped convolution).
        time, channels: options of each dimension, where there are fewer maps than the search space asks for, fewer.
    """

    frames: int
    inputs: int
    out_channels: int
    step: int
    time: int
    channels: int

    @classmethod
    def of(cls, what: Reduce, *, frames: int, inputs: int, out_channels: int, groups: int) -> Space:
        """Returns the options of a layer: of those asked for, the ones that leave out more than the one before."""
        step = out_channels // groups if groups > 1 else 1
        time = channels = 1
        while time < what.time and math.ceil(frames / 2**time) < math.ceil(frames / 2 ** (time - 1)):
            time += 1
        while channels < what.channels and _kept(out_channels, channels, step) < _kept(
            out_channels, channels - 1, step
        ):
            channels += 1
        return cls(frames, inputs, out_channels, step, time, channels)

    def stride(self, option: int) -> int:
        """Returns R, one in how many frames is computed."""
        return int(2**option)

    def kept_frames(self, option: int) -> int:
        """Returns how many output frames an option computes."""
        return math.ceil(self.frames / 2**option)

    def kept_channels(self, option: int) -> int:
        """Returns how many output channels an option computes."""
        return _kept(self.out_channels, option, self.step)


def _kept(channels: int, option: int, step: int) -> int:
    return min(channels, math.ceil(math.ceil(channels / 2**option) / step) * step)
