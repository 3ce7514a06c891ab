"""Static parts of the rendered street: sky, houses, pavement, road, and the lamp posts in front."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.data.street_vehicles import fill_polygon

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Lane:
    """One lane: `baseline` is the canvas row its wheels touch; `direction` 1 drives right, -1 left."""

    baseline: float
    pixels_per_metre: float
    direction: int
    parked: bool


@dataclass(frozen=True, eq=False)
class Scene:
    """What does not move: `background` (H, W, 3) in 0..1, `foreground` (H, W, 4) premultiplied, and lanes."""

    background: Floats
    foreground: Floats
    lanes: tuple[Lane, ...]  # far to near


def smooth_noise(rng: np.random.Generator, height: int, width: int, *, cell: int) -> Floats:
    """Return noise in -1..1 of shape (height, width), smooth over about `cell` pixels."""
    rows, columns = height // cell + 2, width // cell + 2
    grid = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    y, x = np.arange(height, dtype=np.float32) / cell, np.arange(width, dtype=np.float32) / cell
    y0, x0 = y.astype(np.int64), x.astype(np.int64)
    fy, fx = (y - y0)[:, None], (x - x0)[None, :]
    upper = grid[y0][:, x0] * (1 - fx) + grid[y0][:, x0 + 1] * fx
    lower = grid[y0 + 1][:, x0] * (1 - fx) + grid[y0 + 1][:, x0 + 1] * fx
    return (upper * (1 - fy) + lower * fy).astype(np.float32)


def _grain(rng: np.random.Generator, height: int, width: int, *, strength: float) -> Floats:
    """Return a multiplicative texture around 1, of shape (height, width, 1)."""
    coarse = smooth_noise(rng, height, width, cell=41) + 0.7 * smooth_noise(rng, height, width, cell=11)
    fine = smooth_noise(rng, height, width, cell=3) + 0.8 * rng.uniform(-1, 1, (height, width))
    return (1 + strength * (0.6 * coarse + 0.6 * fine))[..., None].astype(np.float32)


def _houses(rng: np.random.Generator, canvas: Floats, *, ground: int, unit: float) -> None:
    """Draw a row of fronts that stand on row `ground`; `unit` is the number of pixels in a metre there."""
    width = canvas.shape[1]
    left = -int(rng.uniform(0, 6) * unit)
    while left < width:
        wide = max(4, int(rng.uniform(7, 15) * unit))
        top = max(0, ground - int(rng.uniform(6.5, 11.5) * unit))
        lo, hi = max(left, 0), min(left + wide, width)
        if hi > lo and ground > top:
            wall = rng.uniform(0.35, 0.78) * np.array([1.0, rng.uniform(0.80, 0.98), rng.uniform(0.62, 0.95)])
            front = np.broadcast_to(wall, (ground - top, hi - lo, 3)).astype(np.float32)
            front = front * _grain(rng, ground - top, hi - lo, strength=0.07)
            course = max(2, round(0.35 * unit))
            front[::course] *= 0.90
            canvas[top:ground, lo:hi] = front
            canvas[top : top + max(1, round(0.3 * unit)), lo:hi] *= 0.6
            canvas[top:ground, max(lo, hi - max(1, round(0.12 * unit))) : hi] *= 0.7
            _windows(rng, canvas, left=left, wide=wide, top=top, ground=ground, unit=unit)
        left += wide


def _windows(
    rng: np.random.Generator, canvas: Floats, *, left: int, wide: int, top: int, ground: int, unit: float
) -> None:
    across, storey = max(3, round(2.3 * unit)), max(3, round(2.9 * unit))
    shop = rng.random() < 0.5
    awning = rng.uniform(0.2, 0.8, 3)
    for level, sill in enumerate(range(ground - round(0.9 * unit), top + round(1.6 * unit), -storey)):
        for x in range(left + across // 3, left + wide - across // 2, across):
            x0, x1 = max(x, 0), min(x + round(1.2 * unit), canvas.shape[1])
            if x1 <= x0:
                continue
            high = max(top, sill - round(1.5 * unit))
            low = ground if level == 0 and not shop and rng.random() < 0.25 else sill
            canvas[max(high - 1, 0) : low + 1, max(x0 - 1, 0) : x1 + 1] *= 1.2
            glass = rng.uniform(0.10, 0.34) * np.array([0.85, 1.0, 1.15])
            if rng.random() < 0.12:
                glass = np.array([0.85, 0.74, 0.45])
            fall = np.linspace(1.3, 0.8, max(low - high, 1), dtype=np.float32)[:, None, None]
            canvas[high:low, x0:x1] = glass * fall[: max(low - high, 0)]
            canvas[high:low, (x0 + x1) // 2] *= 1.8
        if level == 0 and shop:
            row = max(top, sill - round(1.9 * unit))
            canvas[row : row + max(1, round(0.4 * unit)), max(left, 0) : left + wide] = awning


def _trees(rng: np.random.Generator, canvas: Floats, *, ground: int, unit: float) -> None:
    height, width, _ = canvas.shape
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    for _ in range(rng.poisson(width / (14 * unit))):
        x, radius, rise = rng.uniform(0, width), rng.uniform(1.0, 1.9) * unit, rng.uniform(3.0, 4.5) * unit
        trunk = max(1, round(0.15 * unit))
        canvas[int(max(0, ground - rise)) : ground, int(max(0, x - trunk)) : int(x + trunk)] = (
            0.24,
            0.18,
            0.13,
        )
        green = np.array([0.16, 0.30, 0.12]) * rng.uniform(0.8, 1.4)
        for _ in range(26):
            dx, dy = rng.normal(0, 0.5 * radius, 2)
            leaf = (xs - x - dx) ** 2 + (ys - ground + rise - dy) ** 2 < (rng.uniform(0.25, 0.5) * radius) ** 2
            canvas[leaf] = green * rng.uniform(0.65, 1.35)


def _road(rng: np.random.Generator, canvas: Floats, *, far: int, near: int, lanes: tuple[Lane, ...]) -> None:
    width, height = canvas.shape[1], canvas.shape[0]
    tone = rng.uniform(0.24, 0.42)
    asphalt = tone * np.array([1.0, rng.uniform(0.98, 1.02), rng.uniform(0.98, 1.06)])
    canvas[far:near] = asphalt * _grain(rng, near - far, width, strength=0.09)
    for _ in range(rng.integers(2, 7)):  # repairs
        x, y, long = rng.integers(width), rng.integers(far, near), rng.integers(8, 60)
        canvas[y : min(near, y + int(rng.integers(2, 12))), x : x + long] *= rng.uniform(0.75, 1.2)
    driven = [lane for lane in lanes if not lane.parked]
    for upper, lower in itertools.pairwise(driven):
        row = round(upper.baseline + 0.16 * (lower.baseline - upper.baseline))
        thick, unit = max(1, round(0.014 * (near - far))), upper.pixels_per_metre
        solid = upper.direction != lower.direction
        dash = round(3 * unit)
        gap = 0 if solid else round(4 * unit)
        for start in range(-int(rng.integers(1 + dash)), width, max(1, dash + gap)):
            canvas[row : row + thick, max(start, 0) : max(start + dash, 0)] = 0.78 + 0.06 * rng.random()
    for row, thick, tint in ((far, max(1, height // 110), 0.62), (near, max(1, height // 70), 0.66)):
        canvas[row : row + thick] = tint
        canvas[row + thick : row + thick + max(1, thick // 2)] *= 0.6


def _lamp_posts(rng: np.random.Generator, foreground: Floats, *, foot: int, unit: float) -> None:
    height, width, _ = foreground.shape
    x = rng.uniform(0, 16) * unit
    while x < width:
        half, tone = max(0.6, 0.09 * unit), rng.uniform(0.12, 0.3)
        top = foot - 7.5 * unit
        pole = [(x - half, foot), (x - half * 0.7, top), (x + half * 0.7, top), (x + half, foot)]
        arm = [(x, top), (x, top - 0.15 * unit), (x + 1.6 * unit, top - 0.3 * unit), (x + 1.6 * unit, top)]
        for points in (pole, arm):
            where = fill_polygon(np.array(points, np.float32), height, width)
            foreground[where] = (tone, tone, tone * 1.05, 1)
        x += rng.uniform(18, 34) * unit


def draw_scene(rng: np.random.Generator, *, height: int, width: int, frame_height: int) -> Scene:
    """Return the street on a canvas of (height, width); sizes follow `frame_height`, in pixels."""
    ground = round(height * rng.uniform(0.30, 0.40))
    far = ground + max(2, round(height * rng.uniform(0.04, 0.08)))
    near = round(height * rng.uniform(0.84, 0.93))
    far_unit = frame_height * rng.uniform(0.032, 0.040)
    near_unit = frame_height * rng.uniform(0.062, 0.078)
    count, keep_left = int(rng.integers(2, 5)), rng.random() < 0.3
    rows = np.linspace((0.38, 0.24, 0.18)[count - 2], (0.86, 0.92, 0.95)[count - 2], count)
    lanes = [Lane(far + 0.06 * (near - far), far_unit, 1, parked=True)] if rng.random() < 0.6 else []
    for i, row in enumerate(rows):
        away = i < count / 2
        direction = (1 if away else -1) if keep_left else (-1 if away else 1)
        lanes.append(Lane(far + row * (near - far), far_unit + row * (near_unit - far_unit), direction, False))
    canvas = np.empty((height, width, 3), np.float32)
    sky = np.array([0.62, 0.74, 0.88]) * rng.uniform(0.8, 1.1)
    canvas[:] = sky * np.linspace(0.92, 1.1, height, dtype=np.float32)[:, None, None]
    canvas *= 1 + 0.05 * smooth_noise(rng, height, width, cell=61)[..., None]
    _houses(rng, canvas, ground=ground, unit=far_unit)
    slabs = rng.uniform(0.45, 0.62) * np.array([1.0, 0.98, 0.94])
    for top, bottom in ((ground, far), (near, height)):
        canvas[top:bottom] = slabs * _grain(rng, bottom - top, width, strength=0.06)
        step = max(3, round(1.2 * (far_unit if bottom == far else near_unit)))
        canvas[top:bottom, ::step] *= 0.88
        canvas[top:bottom:step] *= 0.88
    _trees(rng, canvas, ground=ground + (far - ground) // 2, unit=far_unit)
    _road(rng, canvas, far=far, near=near, lanes=tuple(lanes))
    foreground = np.zeros((height, width, 4), np.float32)
    if rng.random() < 0.6:
        _lamp_posts(rng, foreground, foot=min(height - 1, near + (height - near) // 3), unit=near_unit)
    return Scene(np.clip(canvas, 0, 1).astype(np.float32), foreground, tuple(lanes))
