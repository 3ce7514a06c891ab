"""Vehicles of the rendered street: drawn once from the side at four times the resolution, then placed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

CLASSES = ("car", "van", "bus", "truck")
OVERSAMPLING = 4  # positions are multiples of 1 / OVERSAMPLING pixel

Floats = NDArray[np.float32]
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class _Shape:
    """Side view of one kind of vehicle; x runs 0 (rear) to 1 (front), y 0 (ground) to 1 (roof)."""

    label: str
    length_m: tuple[float, float]
    height_m: tuple[float, float]
    body: tuple[Points, ...]
    windows: tuple[Points, ...]
    wheels: tuple[float, ...]
    wheel_radius_m: float
    load: tuple[Points, ...] = ()  # painted in a second colour


def _row(start: float, stop: float, count: int, low: float, high: float) -> tuple[Points, ...]:
    """`count` equal rectangles side by side, with gaps of a tenth of their width."""
    step = (stop - start) / count
    lefts = [start + i * step for i in range(count)]
    return tuple(((x, low), (x, high), (x + 0.9 * step, high), (x + 0.9 * step, low)) for x in lefts)


_SHAPES = (
    _Shape(
        "car", (4.2, 4.8), (1.40, 1.52),
        (((0.01, 0.20), (0.0, 0.55), (0.04, 0.64), (0.17, 0.68), (0.30, 0.98), (0.36, 1.0), (0.58, 1.0),
          (0.64, 0.97), (0.77, 0.66), (0.94, 0.58), (0.99, 0.50), (1.0, 0.22)),),
        (((0.24, 0.69), (0.325, 0.92), (0.46, 0.93), (0.46, 0.69)),
         ((0.49, 0.69), (0.49, 0.93), (0.60, 0.92), (0.72, 0.69))),
        (0.19, 0.81), 0.33,
    ),
    _Shape(
        "car", (3.6, 4.2), (1.45, 1.62),
        (((0.01, 0.20), (0.0, 0.55), (0.03, 0.70), (0.10, 0.97), (0.16, 1.0), (0.56, 1.0), (0.62, 0.97),
          (0.76, 0.66), (0.94, 0.57), (0.99, 0.48), (1.0, 0.22)),),
        (((0.09, 0.69), (0.14, 0.92), (0.42, 0.93), (0.42, 0.69)),
         ((0.45, 0.69), (0.45, 0.93), (0.585, 0.92), (0.70, 0.69))),
        (0.18, 0.80), 0.32,
    ),
    _Shape(
        "van", (4.9, 5.7), (2.0, 2.35),
        (((0.0, 0.15), (0.0, 0.90), (0.03, 0.98), (0.08, 1.0), (0.68, 1.0), (0.76, 0.97), (0.88, 0.60),
          (0.97, 0.52), (1.0, 0.42), (1.0, 0.15)),),
        (((0.70, 0.60), (0.70, 0.92), (0.75, 0.91), (0.85, 0.60)),
         ((0.53, 0.60), (0.53, 0.92), (0.67, 0.92), (0.67, 0.60))),
        (0.18, 0.81), 0.36,
    ),
    _Shape(
        "van", (4.7, 5.4), (1.9, 2.15),
        (((0.0, 0.15), (0.0, 0.85), (0.02, 0.97), (0.06, 1.0), (0.64, 1.0), (0.72, 0.97), (0.86, 0.62),
          (0.97, 0.54), (1.0, 0.42), (1.0, 0.15)),),
        (*_row(0.05, 0.68, 3, 0.60, 0.91), ((0.70, 0.60), (0.70, 0.91), (0.72, 0.90), (0.83, 0.60))),
        (0.18, 0.81), 0.35,
    ),
    _Shape(
        "bus", (9.5, 11.5), (2.9, 3.2),
        (((0.0, 0.10), (0.0, 0.95), (0.01, 1.0), (0.97, 1.0), (0.99, 0.95), (1.0, 0.55), (1.0, 0.10)),),
        (*_row(0.03, 0.84, 7, 0.48, 0.84), ((0.86, 0.14), (0.86, 0.86), (0.915, 0.86), (0.915, 0.14)),
         ((0.94, 0.40), (0.94, 0.88), (0.985, 0.86), (0.992, 0.40))),
        (0.22, 0.78), 0.48,
    ),
    _Shape(
        "truck", (6.5, 8.5), (2.9, 3.4),
        (((0.75, 0.13), (0.75, 0.74), (0.78, 0.80), (0.92, 0.80), (0.98, 0.50), (1.0, 0.44), (1.0, 0.13)),),
        (((0.83, 0.49), (0.83, 0.73), (0.905, 0.73), (0.95, 0.49)),),
        (0.12, 0.25, 0.87), 0.46,
        (((0.0, 0.24), (0.0, 1.0), (0.735, 1.0), (0.735, 0.24)),),
    ),
)  # fmt: skip


def fill_polygon(points: Floats, height: int, width: int) -> NDArray[np.bool_]:
    """Return the (height, width) mask of pixel centres inside the polygon `points` (n, 2) of x, y."""
    ys, xs = np.arange(height, dtype=np.float32) + 0.5, np.arange(width, dtype=np.float32) + 0.5
    inside = np.zeros((height, width), dtype=bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        rows = np.flatnonzero((ys >= min(y0, y1)) & (ys < max(y0, y1)))
        crossing = x0 + (ys[rows] - y0) * (x1 - x0) / (y1 - y0)
        inside[rows] ^= xs[None, :] < crossing[:, None]
    return inside


@dataclass(frozen=True, eq=False)
class Patch:
    """One vehicle at one place: premultiplied `colour` (h, w, 3), coverage `alpha` and `shadow` (h, w)."""

    colour: Floats
    alpha: Floats
    shadow: Floats


@dataclass(eq=False)
class Vehicle:
    """A vehicle's looks: class index, size in metres and its oversampled drawing.

    `canvas` (h, w, 5) holds colour premultiplied with coverage, coverage and shadow; its origin (`foot`)
    is the pixel under the rear end on the ground.
    """

    label: int
    length_m: float
    canvas: Floats
    foot: tuple[int, int]  # x, y in oversampled pixels
    wheels: tuple[tuple[int, int], ...]
    wheel_radius: float
    direction: int
    _last: tuple[tuple[int, int, int], Patch] | None = field(default=None, repr=False)

    def patch(self, *, phase_x: int, phase_y: int, turn: float) -> Patch:
        """Return the drawing in pixels, moved by phases of 1 / OVERSAMPLING pixel, wheels turned."""
        key = (phase_x, phase_y, round(turn * 32))
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        n = OVERSAMPLING
        height, width, _ = self.canvas.shape
        big = np.zeros((n * (-(-height // n) + 1), n * (-(-width // n) + 1), 5), np.float32)
        big[phase_y : phase_y + height, phase_x : phase_x + width] = self.canvas
        for x, y in self.wheels:
            self._turn_wheel(big, x + phase_x, y + phase_y, key[2] / 32)
        small = big.reshape(big.shape[0] // n, n, big.shape[1] // n, n * 5).sum(1)
        small = small.reshape(*small.shape[:2], n, 5).sum(2) / (n * n)
        result = Patch(small[..., :3], small[..., 3], small[..., 4])
        self._last = (key, result)
        return result

    def _turn_wheel(self, big: Floats, x: int, y: int, turn: float) -> None:
        hub = int(self.wheel_radius * 0.62)
        dy, dx = np.mgrid[-hub : hub + 1, -hub : hub + 1].astype(np.float32)
        spokes = np.cos(5 * (np.arctan2(dy, dx) - turn)) > -0.2
        inside = dx * dx + dy * dy <= hub * hub
        tone = np.where(spokes, 0.66, 0.22).astype(np.float32)
        window = big[y - hub : y + hub + 1, x - hub : x + hub + 1]
        window[inside, :3] = tone[inside, None]


def _paint(rng: np.random.Generator) -> Floats:
    """Return a body colour (3,) in 0..1: greys are as common as on a real street."""
    if rng.random() < 0.45:
        return (rng.choice([0.14, 0.30, 0.52, 0.72, 0.90]) * rng.uniform(0.92, 1.05, 3)).astype(np.float32)
    colours = np.array(
        [[0.70, 0.12, 0.10], [0.13, 0.25, 0.60], [0.12, 0.42, 0.25], [0.82, 0.66, 0.12], [0.72, 0.36, 0.10],
         [0.22, 0.48, 0.66], [0.40, 0.12, 0.22], [0.60, 0.55, 0.45]]
    )  # fmt: skip
    return np.clip(colours[rng.integers(len(colours))] * rng.uniform(0.8, 1.15, 3), 0, 1).astype(np.float32)


def draw_vehicle(rng: np.random.Generator, *, pixels_per_metre: float, direction: int) -> Vehicle:
    """Return a random vehicle seen from the side, driving right (`direction` 1) or left (-1)."""
    shape = _SHAPES[rng.choice(len(_SHAPES), p=[0.28, 0.24, 0.12, 0.10, 0.12, 0.14])]
    scale = pixels_per_metre * OVERSAMPLING
    length, tall = rng.uniform(*shape.length_m), rng.uniform(*shape.height_m)
    long_px, tall_px = max(8, round(length * scale)), max(8, round(tall * scale))
    margin, below = max(2, round(0.5 * scale)), max(2, round(0.25 * scale))
    height, width = tall_px + margin + below, long_px + 2 * margin
    ground = margin + tall_px
    colour, alpha = np.zeros((height, width, 3), np.float32), np.zeros((height, width), bool)
    light = np.linspace(1.18, 0.62, tall_px, dtype=np.float32)
    shade = np.ones(height, np.float32)
    shade[margin:ground] = light
    shade[ground:] = 0.6

    def area(points: Points) -> NDArray[np.bool_]:
        xy = np.array(points, np.float32) * (long_px, -tall_px) + (margin, ground)
        return fill_polygon(xy.astype(np.float32), height, width)

    def fill(where: NDArray[np.bool_], paint: Floats | tuple[float, float, float], lit: bool = True) -> None:
        tint = np.asarray(paint, np.float32)
        rows = np.broadcast_to(shade[:, None], where.shape)[where][:, None] if lit else 1.0
        colour[where] = np.clip(tint * rows, 0, 1)
        alpha[where] = True

    def box(left: float, low: float, right: float, high: float) -> NDArray[np.bool_]:
        return area(((left, low), (left, high), (right, high), (right, low)))

    main, second = _paint(rng), _paint(rng)
    if shape.load:
        fill(box(0.02, 0.13, 0.80, 0.25), (0.12, 0.12, 0.13))
    for points in shape.load:
        fill(area(points), second)
        for rib in np.linspace(0.06, 0.68, 8):
            fill(box(rib, 0.26, rib + 0.006, 0.98), second * 0.78)
    for points in shape.body:
        fill(area(points), main)
    body = alpha.copy()
    fill(box(0.0, 0.10, 1.0, 0.30) & body, main * 0.72)  # sill and bumpers
    if shape.label == "bus":
        fill(box(0.0, 0.34, 0.85, 0.42) & body, second)
    else:
        fill(box(0.0, 0.565, 0.98, 0.585) & body, np.minimum(main * 1.25 + 0.05, 1))  # waist line
    glass = np.array([0.16, 0.20, 0.25], np.float32) * rng.uniform(0.7, 1.3)
    ramp = np.linspace(0.75, 1.5, width, dtype=np.float32)
    for points in shape.windows:
        pane = area(points)
        fill(pane, glass)
        colour[pane] *= np.broadcast_to(ramp, pane.shape)[pane][:, None]
    if not shape.load and shape.label != "bus":
        fill(box(0.47, 0.22, 0.475, 0.68) & body, main * 0.5)  # door gap
        fill(box(0.40, 0.60, 0.44, 0.63) & body, main * 0.5)  # handle
    fill(box(0.955, 0.40, 1.0, 0.52) & alpha, (1.0, 0.95, 0.70), lit=False)
    fill(box(0.0, 0.40, 0.022, 0.55) & alpha, (0.75, 0.06, 0.05), lit=False)
    radius = max(2.0, shape.wheel_radius_m * scale)
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    wheels = [(round(margin + x * long_px), round(ground - radius)) for x in shape.wheels]
    for x, y in wheels:
        distance = np.hypot(xs - x, ys - y)
        fill((distance <= 1.18 * radius) & alpha & (ys < y + 0.2 * radius), (0.05, 0.05, 0.06), lit=False)
        fill(distance <= radius, (0.07, 0.07, 0.08), lit=False)
        fill(distance <= 0.62 * radius, (0.5, 0.5, 0.5), lit=False)
    middle = margin + long_px / 2
    reach = ((xs - middle) / (0.54 * long_px)) ** 2 + ((ys - ground) / max(1.0, 0.2 * scale)) ** 2
    shadow = np.clip(1.3 - reach, 0, 1) * 0.55
    if direction < 0:
        colour, alpha, shadow = colour[:, ::-1], alpha[:, ::-1], shadow[:, ::-1]
        wheels = [(width - 1 - x, y) for x, y in wheels]
    cover = alpha.astype(np.float32)[..., None]
    canvas = np.concatenate([colour * cover, cover, shadow[..., None].astype(np.float32)], axis=2)
    label = CLASSES.index(shape.label)
    return Vehicle(label, long_px / scale, canvas, (margin, ground), tuple(wheels), radius, direction)
