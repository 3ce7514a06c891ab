"""Rendered action clips: a puppet does one of twelve things for a second or two, in clips from still to busy.

Four actions are told by scene and pose; the others come in pairs that only the order or the speed of the frames tells
apart (`saccade.data.puppets_pairs`). How much moves is known for every clip, and varies widely within each action:
figures of several sizes act slowly or at once, before a still or a lively background, some with a shaking camera.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from saccade.data.codec import encode_and_decode
from saccade.data.puppets import PuppetConfig, render_motion
from saccade.data.puppets_pairs import CLIP_ACTIONS, MIRRORED_ACTIONS, PAIRS, move, room

__all__ = ["CLIP_ACTIONS", "MIRRORED_ACTIONS", "PAIRS", "ClipConfig", "PuppetClip", "frame_change", "render_clip"]


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Settings of one rendered clip; equal settings give equal arrays.

    `action` is one of CLIP_ACTIONS, None lets the seed choose. `quality` is the crf of the H.264 the frames are sent
    through, None leaves them as rendered. Raises ValueError for settings that make no clip.
    """

    seed: int
    frames: int = 16
    height: int = 64
    width: int = 64
    fps: float = 12.5
    action: str | None = None
    quality: int | None = 23

    def __post_init__(self) -> None:
        """Check every setting."""
        if self.action is not None and self.action not in CLIP_ACTIONS:
            names = ", ".join(CLIP_ACTIONS)
            raise ValueError(f"ClipConfig: action is {self.action!r}; expected None or one of {names}")
        if self.quality is not None and not 0 <= self.quality <= 51:
            raise ValueError(f"ClipConfig: quality is {self.quality!r}; expected None or 0 (best) to 51")
        try:
            self._scene()
        except ValueError as error:
            raise ValueError(str(error).replace("PuppetConfig", "ClipConfig")) from None

    def _scene(self) -> PuppetConfig:
        return PuppetConfig(
            **{f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("action", "quality")}
        )


@dataclass(frozen=True, eq=False, repr=False)
class PuppetClip:
    """A rendered clip of T frames: `frames` (T, H, W, 3) uint8 RGB and `action`, the index into CLIP_ACTIONS.

    `box` (T, 4) float32 xyxy goes round the person's pixels, as in `PuppetVideo`. `change` is how much the frames
    change, see `frame_change`: sensor noise and the codec included. `moved` (T,) float32 is the true share of the
    pixels that moved since the frame before, 0 for the first, as in `PuppetVideo`.
    """

    config: ClipConfig
    frames: NDArray[np.uint8]
    action: int
    box: NDArray[np.float32]
    change: float
    moved: NDArray[np.float32]

    def __repr__(self) -> str:
        """Show shape, action and motion, not pixels."""
        return (
            f"PuppetClip(frames={self.frames.shape}, action={CLIP_ACTIONS[self.action]!r}, change={self.change:.2f}, "
            f"moved={self.moved.mean():.3f}, seed={self.config.seed})"
        )


def frame_change(frames: NDArray[np.uint8]) -> float:
    """Return the mean absolute difference of consecutive frames (T, ...) in grey levels of 0..255; 0 for one frame."""
    if len(frames) < 2:
        return 0.0
    return float(np.abs(np.diff(frames.astype(np.int16), axis=0)).mean())


def render_clip(config: ClipConfig) -> PuppetClip:
    """Return the clip the settings describe; the same settings always give the same arrays."""
    body, manner = (np.random.default_rng([config.seed, part]) for part in (4, 5))
    chosen = str(body.choice(CLIP_ACTIONS))
    action = chosen if config.action is None else config.action
    scene = PuppetConfig(
        seed=config.seed,
        frames=config.frames,
        height=config.height,
        width=config.width,
        fps=config.fps,
        distractors=int(manner.choice([0, 0, 0, 0, 0, 1, 1, 2])),
        occluder=0.05,
        jitter=float(manner.choice([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 1.5])) * config.height / 64,
        noise=float(manner.uniform(0, 3)),
    )
    rendered = render_motion(scene, body, partial(move, action), room=room(action))
    clip = PuppetClip(config, rendered.frames, CLIP_ACTIONS.index(action), rendered.box, 0.0, rendered.moved)
    if config.quality is not None:
        clip = encode_and_decode(clip, crf=config.quality)
    return replace(clip, change=frame_change(clip.frames))
