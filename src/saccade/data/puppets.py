"""Rendered puppets: seeded, labelled video of an articulated person acting (numpy only).

It exists because video with exact joints, visibility and actions cannot be shipped otherwise: a few hundred
bytes of settings give the same frames on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saccade.data.codec import encode_and_decode
from saccade.data.joints import JOINTS
from saccade.data.puppets_actions import ACTIONS, ROOM, Rng, act
from saccade.data.puppets_body import Floats, Motion, View, pose
from saccade.data.puppets_drawing import OWNERS, PARTS, Canvas, draw_looks, paint
from saccade.data.puppets_scene import draw_background, draw_distractors, draw_occluder, floor_shadow

__all__ = ["ACTIONS", "JOINTS", "PARTS", "PuppetConfig", "PuppetVideo", "encode_and_decode", "render_puppets"]

_MOVED = 1 / 32  # of the range of a colour: less is hardly seen


@dataclass(frozen=True, kw_only=True)
class PuppetConfig:
    """Settings of one rendered scene; equal settings give equal arrays.

    `action` is one of ACTIONS, None lets the seed choose. `distractors` (0 to 3) is how many things move that
    mean nothing (a screen, a plant, a passing shadow), `occluder` the chance of a post or box in front,
    `jitter` the largest shake of the camera in pixels, `noise` the sensor's standard deviation in grey levels
    (of 255), `light_drift` the largest relative change of brightness. Raises ValueError for settings that make
    no picture.
    """

    seed: int
    frames: int
    height: int = 128
    width: int = 128
    fps: float = 25.0
    action: str | None = None
    distractors: int = 2
    occluder: float = 0.15
    jitter: float = 0.0
    noise: float = 2.0
    light_drift: float = 0.03

    def __post_init__(self) -> None:
        """Check every setting."""
        for name, least in (("seed", 0), ("frames", 1), ("height", 32), ("width", 32), ("distractors", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"PuppetConfig: {name} is {value!r}; expected a whole number of at least {least}")
        if self.distractors > 3:
            raise ValueError(f"PuppetConfig: distractors is {self.distractors}; expected at most 3")
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"PuppetConfig: fps is {self.fps!r}; expected a positive number")
        if self.action is not None and self.action not in ACTIONS:
            raise ValueError(f"PuppetConfig: action is {self.action!r}; expected None or one of {', '.join(ACTIONS)}")
        for name in ("occluder", "jitter", "noise", "light_drift"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"PuppetConfig: {name} is {value!r}; expected a number of at least 0")
        if self.occluder > 1:
            raise ValueError(f"PuppetConfig: occluder is {self.occluder!r}; expected at most 1")
        if self.light_drift >= 1:
            raise ValueError(f"PuppetConfig: light_drift is {self.light_drift!r}; expected less than 1")


@dataclass(frozen=True, eq=False, repr=False)
class PuppetVideo:
    """A rendered scene of T frames: `frames` (T, H, W, 3) uint8 RGB and its truth.

    `joints` (T, 15, 2) float32 are x, y in pixels (the first pixel's middle is 0.5, 0.5), named by JOINTS;
    `visible` (T, 15) says which lie inside the frame with a part of the body they belong to as the nearest
    thing there; `box` (T, 4) float32 xyxy goes round the person's pixels (right and bottom edges exclusive;
    zeros where the person is out of the frame), `parts` (T, H, W) int8 are 0 on the background, the number (from
    1, into PARTS) of the part that is seen, or minus that number where something in front hides it; "prop" is
    no part of the person. `action` is the index into ACTIONS, `camera` (T, 2) float32 the camera's x, y. `moved`
    (T,) float32 is the share of the pixels whose painted colour, before light and noise, differs by over 1/32 of its
    range from the frame before; 0 for the first frame.
    """

    config: PuppetConfig
    frames: NDArray[np.uint8]
    joints: NDArray[np.float32]
    visible: NDArray[np.bool_]
    box: NDArray[np.float32]
    parts: NDArray[np.int8]
    action: int
    camera: NDArray[np.float32]
    moved: NDArray[np.float32]

    def __repr__(self) -> str:
        """Show shapes, not pixels."""
        return (
            f"PuppetVideo(frames={self.frames.shape}, action={ACTIONS[self.action]!r}, "
            f"visible={self.visible.mean():.2f}, seed={self.config.seed})"
        )


class Rendered(NamedTuple):
    """What `render_motion` makes; the fields are those of `PuppetVideo`."""

    frames: NDArray[np.uint8]
    joints: NDArray[np.float32]
    visible: NDArray[np.bool_]
    box: NDArray[np.float32]
    parts: NDArray[np.int8]
    camera: NDArray[np.float32]
    moved: NDArray[np.float32]


def _camera_path(config: PuppetConfig, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the camera's (x, y) per frame, within `jitter` pixels; the shake is slow and fast."""
    time = np.arange(config.frames)[:, None]
    swing = np.sin(2 * np.pi * (time / rng.uniform(17, 60, 2) + rng.random(2)))
    shake = np.clip(0.6 * swing + 0.3 * rng.normal(0, 1, (config.frames, 2)), -1, 1)
    return np.asarray(shake * config.jitter)


def _crop(canvas: NDArray[np.float32], x: float, y: float, height: int, width: int) -> NDArray[np.float32]:
    """Return the (height, width, channels) window of the canvas at x, y pixels, bilinear."""
    left, top = math.floor(x), math.floor(y)
    fx, fy = np.float32(x - left), np.float32(y - top)
    window = canvas[top : top + height + 1, left : left + width + 1]
    if fy:
        window = window[:-1] + fy * (window[1:] - window[:-1])
    if fx:
        window = window[:, :-1] + fx * (window[:, 1:] - window[:, :-1])
    return window[:height, :width].copy()


def _box(parts: NDArray[np.int8]) -> tuple[int, int, int, int]:
    """Return the extent (x0, y0, x1, y1) of the person's pixels, zeros where there are none."""
    person = (parts != 0) & (np.abs(parts) != PARTS.index("prop") + 1)
    rows, columns = np.flatnonzero(person.any(1)), np.flatnonzero(person.any(0))
    if len(rows) == 0:
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _visible(joints: NDArray[np.float32], parts: NDArray[np.int8]) -> list[bool]:
    """Return for each joint (15, 2) whether a part it is an end of is what is seen at its place."""
    height, width = parts.shape
    seen = []
    for (x, y), owners in zip(joints.tolist(), OWNERS, strict=True):
        inside = 0 <= x < width and 0 <= y < height
        seen.append(inside and int(parts[int(y), int(x)]) in owners)
    return seen


def render_puppets(config: PuppetConfig) -> PuppetVideo:
    """Return the scene the settings describe; the same settings always give the same arrays."""
    body = np.random.default_rng([config.seed, 0])
    chosen = str(body.choice(ACTIONS))
    action = chosen if config.action is None else config.action
    rendered = render_motion(config, body, partial(act, action), room=ROOM[action])
    return PuppetVideo(config, action=ACTIONS.index(action), **rendered._asdict())


def render_motion(
    config: PuppetConfig, body: Rng, doing: Callable[[Rng, Floats], Motion], *, room: tuple[float, float]
) -> Rendered:
    """Return a scene in which a puppet does what `doing` gives for a generator and the times (T,) in seconds.

    `body` draws the puppet and its motion, the seed of `config` all else; `room` is as in ROOM, and `config.action`
    is not looked at.
    """
    place, sensor, shaking = (np.random.default_rng([config.seed, part]) for part in range(1, 4))
    height, width, frames = config.height, config.width, config.frames
    tall, wide = room
    scale = min(body.uniform(0.72, 0.92) * height / tall, body.uniform(0.8, 1.0) * width / (2 * wide))
    view = View(
        x=width / 2 + body.uniform(-0.5, 0.5) * max(0.0, width - 2 * wide * scale),
        ground=height * body.uniform(0.93, 0.97),
        scale=scale,
        pitch=body.uniform(0.0, 0.15),
        near=body.uniform(0.05, 0.2),
    )
    looks = draw_looks(body)
    motion = doing(body, np.arange(frames) / config.fps)
    points = view.project(pose(motion), motion.turn, motion.travel)
    props = [(view.project(prop.points, motion.turn, motion.travel), prop) for prop in motion.props]
    path = _camera_path(config, shaking)
    shift = np.concatenate([path, np.zeros((frames, 1))], 1)[:, None]
    points -= shift
    margin = math.ceil(config.jitter) + 1
    wider, higher, ground = width + 2 * margin, height + 2 * margin, view.ground + margin
    background = draw_background(place, height=higher, width=wider, ground=ground, scale=scale)
    behind, over = draw_distractors(
        place, config.distractors, frames=frames, fps=config.fps, width=width, ground=view.ground, scale=scale
    )
    front = None
    if place.random() < config.occluder:
        front = draw_occluder(place, height=higher, width=wider, x=view.x + margin, ground=ground, scale=scale)
    drift = np.sin(2 * np.pi * (np.arange(frames) / config.fps / place.uniform(4, 12) + place.random()))
    tint = place.uniform(0.75, 1.1) * place.uniform(0.95, 1.05, 3)
    light = (255 * tint * (1 + config.light_drift * drift[:, None])).astype(np.float32)
    darkness = place.uniform(0.1, 0.5)

    video = np.empty((frames, height, width, 3), np.uint8)
    parts = np.zeros((frames, height, width), np.int8)
    joints = points[:, : len(JOINTS), :2].astype(np.float32)
    visible, boxes = np.empty((frames, len(JOINTS)), bool), np.empty((frames, 4), np.float32)
    moved, before = np.zeros(frames, np.float32), None
    for i in range(frames):
        x, y = path[i]
        canvas = Canvas(_crop(background, x + margin, y + margin, height, width), parts[i])
        for draw in behind:
            draw(canvas, i, x, y)
        floor_shadow(canvas, np.array([points[i, 5:7, 0].mean(), view.ground - y]), scale, darkness)
        paint(canvas, points[i], [(places[i] - shift[i], prop) for places, prop in props], looks, scale)
        if front is not None:
            shown = _crop(front, x + margin, y + margin, height, width)
            canvas.picture *= 1 - shown[..., 3:]
            canvas.picture += shown[..., :3]
            parts[i][shown[..., 3] >= 0.5] *= -1
        for draw in over:
            draw(canvas, i, x, y)
        visible[i], boxes[i] = _visible(joints[i], parts[i]), _box(parts[i])
        picture = canvas.picture
        if before is not None:
            moved[i] = (np.abs(picture - before).max(-1) > _MOVED).mean()
        before = picture.copy()
        picture *= light[i]
        if config.noise:
            picture += np.float32(config.noise) * sensor.standard_normal(picture.shape, dtype=np.float32)
        video[i] = np.clip(np.rint(picture), 0, 255)
    return Rendered(video, joints, visible, boxes, parts, path.astype(np.float32), moved)
