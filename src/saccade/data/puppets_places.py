"""Four places that cannot be mistaken for one another, nor for those of `saccade.data.puppets_scene`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from saccade.data.puppets_drawing import Picture
from saccade.data.street_scene import smooth_noise

Rng = np.random.Generator


def draw_place(name: str, rng: Rng, *, height: int, width: int, ground: float, scale: float) -> Picture:
    """Return a place, one of PLACES, (height, width, 3) in 0..1; `ground` is the row of the feet."""
    canvas = np.empty((height, width, 3), np.float32)
    floor = int(np.clip(ground - rng.uniform(0.05, 0.15) * scale, 2, height - 1))
    _DRAWN[name](rng, canvas, floor, scale)
    grain = 1 + rng.uniform(0.03, 0.1) * smooth_noise(rng, height, width, cell=5)
    return np.clip(canvas * grain[..., None], 0, 1).astype(np.float32)


def _shade(rng: Rng, colour: tuple[float, float, float]) -> Picture:
    """Return a colour a little lighter or darker, and a little off."""
    return np.asarray(np.array(colour) * rng.uniform(0.85, 1.12) * rng.uniform(0.94, 1.06, 3), np.float32)


def _pool(rng: Rng, canvas: Picture, floor: int, scale: float) -> None:
    """Water before a tiled wall; the puppet stands at the edge."""
    height, width, _ = canvas.shape
    far = int(np.clip(floor - rng.uniform(0.3, 0.6) * scale, 1, floor - 1))
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    canvas[:far] = _shade(rng, (0.80, 0.84, 0.84))
    tile = max(3, round(rng.uniform(0.08, 0.14) * scale))
    canvas[:far][((rows % tile == 0) | (columns % tile == 0))[:far]] *= 0.85
    wave = np.sin(columns * rng.uniform(0.3, 0.6) + rng.uniform(2, 6) * np.sin(rows * rng.uniform(0.4, 0.9)))
    canvas[far:floor] = _shade(rng, (0.12, 0.60, 0.72)) * (1 + 0.12 * wave[far:floor, :, None])
    canvas[floor:] = _shade(rng, (0.70, 0.68, 0.62))


def _ski_slope(rng: Rng, canvas: Picture, floor: int, scale: float) -> None:
    """Snow under a pale sky, with firs."""
    height, width, _ = canvas.shape
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    canvas[:] = _shade(rng, (0.62, 0.72, 0.84))
    top = floor - rng.uniform(0.25, 0.5) * scale
    edge = top + rng.uniform(-0.35, 0.35) * (columns - width / 2)
    firs = np.zeros((height, width), bool)
    for _ in range(rng.integers(3, 8)):
        x, tall = rng.uniform(0, width), rng.uniform(0.2, 0.5) * scale
        foot = float(np.interp(x, columns[0], edge[0])) + rng.uniform(0, 0.1) * scale
        inside = (np.abs(columns - x) < 0.3 * (rows - foot + tall)) & (rows < foot)
        canvas[inside] = _shade(rng, (0.08, 0.22, 0.14))
        firs |= inside
    snow = (rows >= edge) & ~firs
    canvas[snow] = _shade(rng, (0.92, 0.94, 0.97))


def _stage(rng: Rng, canvas: Picture, floor: int, scale: float) -> None:
    """A dark stage with curtains and a spot of light."""
    height, width, _ = canvas.shape
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    canvas[:] = _shade(rng, (0.05, 0.05, 0.08))
    canvas[floor:] = _shade(rng, (0.20, 0.12, 0.07))
    folds = 0.7 + 0.3 * np.sin(columns * rng.uniform(0.7, 1.2))
    drape = np.abs(columns - width / 2) > rng.uniform(0.28, 0.4) * width
    hangs = np.broadcast_to(drape, (height, width)) & (rows < floor)
    canvas[hangs] = (_shade(rng, (0.45, 0.04, 0.06)) * np.broadcast_to(folds[..., None], canvas.shape))[hangs]
    x = width * rng.uniform(0.35, 0.65)
    reach = ((columns - x) / (0.45 * scale)) ** 2 + ((rows - floor - 0.1 * scale) / (0.15 * scale)) ** 2
    canvas += (0.5 * np.clip(1 - reach, 0, 1) * (rows >= floor))[..., None] * np.array([1.0, 0.95, 0.8], np.float32)


def _beach(rng: Rng, canvas: Picture, floor: int, scale: float) -> None:
    """Sand, the sea behind it, and a sky that is dark blue above."""
    height = len(canvas)
    far = int(np.clip(floor - rng.uniform(0.25, 0.4) * scale, 1, floor - 1))
    near = int(np.clip(floor - rng.uniform(0.02, 0.12) * scale, far + 1, height - 1))
    fade = np.linspace(0, 1, far, dtype=np.float32)[:, None, None]
    canvas[:far] = _shade(rng, (0.25, 0.50, 0.90)) * (1 - 0.4 * fade) + 0.35 * fade
    canvas[far:near] = _shade(rng, (0.08, 0.30, 0.52))
    canvas[far:near][:: max(2, int(rng.integers(2, 5)))] *= 1.2
    canvas[near:] = _shade(rng, (0.90, 0.76, 0.46))


_DRAWN: dict[str, Callable[[Rng, Picture, int, float], None]] = {
    "pool": _pool,
    "ski slope": _ski_slope,
    "stage": _stage,
    "beach": _beach,
}
PLACES = tuple(_DRAWN)
