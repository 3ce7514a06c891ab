"""Rendered street: seeded, labelled video with a static, shaking or panning camera (numpy only).

It exists because labelled video with exact boxes, masks and camera motion cannot be shipped otherwise: a
few hundred bytes of settings give the same frames on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.data.codec import encode_and_decode
from saccade.data.street_scene import Scene, draw_scene
from saccade.data.street_traffic import Placement, drive
from saccade.data.street_vehicles import CLASSES, OVERSAMPLING

__all__ = ["CLASSES", "StreetConfig", "StreetLabels", "StreetVideo", "encode_and_decode", "render_street"]


@dataclass(frozen=True, kw_only=True)
class StreetConfig:
    """Settings of one rendered scene; equal settings give equal arrays.

    `jitter` is the largest shake of the camera in pixels, `pan` its motion to the right in pixels per frame
    (both are rounded to a quarter of a pixel), `noise` the sensor's standard deviation in grey levels (of
    255), `light_drift` the largest relative change of brightness, `traffic` the density (1 is ordinary, 0 an
    empty street). Raises ValueError for settings that make no picture.
    """

    seed: int
    frames: int
    height: int = 256
    width: int = 448
    fps: float = 25.0
    jitter: float = 0.0
    pan: float = 0.0
    noise: float = 2.0
    light_drift: float = 0.03
    traffic: float = 1.0

    def __post_init__(self) -> None:
        """Check every setting."""
        for name, least in (("seed", 0), ("frames", 1), ("height", 32), ("width", 32)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"StreetConfig: {name} is {value!r}; expected a whole number of at least {least}")
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"StreetConfig: fps is {self.fps!r}; expected a positive number")
        for name in ("jitter", "noise", "light_drift", "traffic"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"StreetConfig: {name} is {value!r}; expected a number of at least 0")
        if not math.isfinite(self.pan):
            raise ValueError(f"StreetConfig: pan is {self.pan!r}; expected a finite number")
        if self.light_drift >= 1:
            raise ValueError(f"StreetConfig: light_drift is {self.light_drift!r}; expected less than 1")


@dataclass(frozen=True, eq=False, repr=False)
class StreetLabels:
    """Truth of one frame with N vehicles, far to near.

    `boxes` (N, 4) float32 xyxy in pixels around the visible part (right and bottom edges exclusive),
    `classes` (N,) int64 into CLASSES, `instances` (N,) int64 as in the mask, `visible` (N,) float32: visible
    pixels over the pixels of the whole vehicle, those outside the frame included.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    instances: NDArray[np.int64]
    visible: NDArray[np.float32]

    def __repr__(self) -> str:
        """Show the number of vehicles."""
        return f"StreetLabels(vehicles={len(self.boxes)})"


@dataclass(frozen=True, eq=False, repr=False)
class StreetVideo:
    """A rendered scene: `frames` (T, H, W, 3) uint8 RGB and the truth of each frame.

    `labels` are T, `masks` (T, H, W) int16 hold instance numbers (0 is background, lamp posts included),
    `camera` (T, 2) float32 is the camera's x, y in pixels relative to its first frame's resting place.
    """

    config: StreetConfig
    frames: NDArray[np.uint8]
    labels: tuple[StreetLabels, ...]
    masks: NDArray[np.int16]
    camera: NDArray[np.float32]

    def __repr__(self) -> str:
        """Show shapes, not pixels."""
        boxes = sum(len(label.boxes) for label in self.labels)
        return f"StreetVideo(frames={self.frames.shape}, boxes={boxes}, seed={self.config.seed})"


def _camera_path(config: StreetConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the camera's (x, y) per frame in steps of 1 / OVERSAMPLING pixel; the shake is slow and fast."""
    time = np.arange(config.frames)[:, None]
    swing = np.sin(2 * np.pi * (time / rng.uniform(17, 60, 2) + rng.random(2)))
    shake = np.clip(0.6 * swing + 0.3 * rng.normal(0, 1, (config.frames, 2)), -1, 1) * config.jitter
    path = shake + np.concatenate([time * config.pan, np.zeros_like(time)], axis=1)
    return np.rint(path * OVERSAMPLING).astype(np.int64)


def _crop(canvas: NDArray[np.float32], x: int, y: int, height: int, width: int) -> NDArray[np.float32]:
    """Return the (height, width, channels) window of the canvas at x, y (oversampled), bilinear."""
    (left, fx), (top, fy) = divmod(x, OVERSAMPLING), divmod(y, OVERSAMPLING)
    window = canvas[top : top + height + 1, left : left + width + 1]
    if fy:
        window = window[:-1] + (fy / OVERSAMPLING) * (window[1:] - window[:-1])
    if fx:
        window = window[:, :-1] + (fx / OVERSAMPLING) * (window[:, 1:] - window[:, :-1])
    return window[:height, :width].copy()


def _place(picture: NDArray[np.float32], mask: NDArray[np.int16], placement: Placement, x: int, y: int) -> int:
    """Draw one vehicle for a camera at x, y (oversampled); return how many pixels the whole vehicle has."""
    vehicle = placement.vehicle
    ends = vehicle.canvas.shape[1] - vehicle.foot[0] if vehicle.direction < 0 else vehicle.foot[0]
    column = round(placement.rear * OVERSAMPLING) - ends - x
    row = round(placement.lane.baseline * OVERSAMPLING) - vehicle.foot[1] - y
    (left, phase_x), (top, phase_y) = divmod(column, OVERSAMPLING), divmod(row, OVERSAMPLING)
    radius_m = vehicle.wheel_radius / (placement.lane.pixels_per_metre * OVERSAMPLING)
    turn = placement.travelled / radius_m * vehicle.direction % (2 * np.pi)
    patch = vehicle.patch(phase_x=phase_x, phase_y=phase_y, turn=turn)
    tall, wide = patch.alpha.shape
    whole = int((patch.alpha >= 0.5).sum())
    t, b = max(top, 0), min(top + tall, mask.shape[0])
    s, e = max(left, 0), min(left + wide, mask.shape[1])
    if t >= b or s >= e:
        return whole
    inner = (slice(t - top, b - top), slice(s - left, e - left))
    alpha, shadow = patch.alpha[inner][..., None], patch.shadow[inner][..., None]
    under = picture[t:b, s:e] * (1 - shadow)
    picture[t:b, s:e] = under * (1 - alpha) + patch.colour[inner]
    mask[t:b, s:e][alpha[..., 0] >= 0.5] = placement.instance
    return whole


def _label(mask: NDArray[np.int16], placed: list[tuple[Placement, int]]) -> StreetLabels:
    """Return the labels of every vehicle with at least one visible pixel."""
    boxes, classes, instances, visible = [], [], [], []
    for placement, whole in placed:
        seen = mask == placement.instance
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        if len(rows) == 0:
            continue
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        classes.append(placement.vehicle.label)
        instances.append(placement.instance)
        visible.append(np.count_nonzero(seen) / whole)
    return StreetLabels(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(classes, np.int64),
        np.array(instances, np.int64),
        np.array(visible, np.float32),
    )


def render_street(config: StreetConfig) -> StreetVideo:
    """Return the scene the settings describe; the same settings always give the same arrays."""
    layout, traffic, sensor, motion = (np.random.default_rng([config.seed, part]) for part in range(4))
    height, width, frames = config.height, config.width, config.frames
    path = _camera_path(config, motion)
    margin_x, margin_y = (int(np.abs(path[:, axis]).max()) // OVERSAMPLING + 2 for axis in (0, 1))
    margin_left = margin_x if config.pan < 0 else math.ceil(config.jitter) + 2
    margin_right = margin_x if config.pan >= 0 else math.ceil(config.jitter) + 2
    size = (height + 2 * margin_y, width + margin_left + margin_right)
    scene: Scene = draw_scene(layout, height=size[0], width=size[1], frame_height=height)
    shown = drive(scene.lanes, traffic, width=size[1], frames=frames, fps=config.fps, traffic=config.traffic)
    time = np.arange(frames) / config.fps
    drift = np.sin(2 * np.pi * (time / layout.uniform(8, 20) + layout.random()))
    tint = layout.uniform(0.65, 1.08) * layout.uniform(0.96, 1.04, 3)  # the hour of the day
    light = (tint * (1 + config.light_drift * drift[:, None])).astype(np.float32)
    video = np.empty((frames, height, width, 3), np.uint8)
    masks = np.zeros((frames, height, width), np.int16)
    labels = []
    for i in range(frames):
        x, y = int(path[i, 0]) + margin_left * OVERSAMPLING, int(path[i, 1]) + margin_y * OVERSAMPLING
        picture = _crop(scene.background, x, y, height, width)
        placed = [(placement, _place(picture, masks[i], placement, x, y)) for placement in shown[i]]
        front = _crop(scene.foreground, x, y, height, width)
        picture = picture * (1 - front[..., 3:]) + front[..., :3]
        masks[i][front[..., 3] >= 0.5] = 0
        labels.append(_label(masks[i], placed))
        picture *= 255 * light[i]
        if config.noise:
            picture += config.noise * sensor.standard_normal(picture.shape, dtype=np.float32)
        video[i] = np.clip(np.rint(picture), 0, 255)
    return StreetVideo(config, video, tuple(labels), masks, (path / OVERSAMPLING).astype(np.float32))
