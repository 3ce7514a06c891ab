"""What surrounds a puppet: a textured, cluttered place, things that move and mean nothing, things in front."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from saccade.data.puppets_body import Floats
from saccade.data.puppets_drawing import Canvas, Picture
from saccade.data.street_scene import smooth_noise

Rng = np.random.Generator
# Paints frame i of something that moves, for a camera at x, y.
Distractor = Callable[[Canvas, int, float, float], None]


def _texture(rng: Rng, height: int, width: int, *, strength: float) -> Picture:
    """Return a multiplicative texture round 1, (height, width, 1)."""
    coarse, fine = (smooth_noise(rng, height, width, cell=cell) for cell in (23, 5))
    grain = rng.uniform(-1, 1, (height, width)).astype(np.float32)
    return (1 + np.float32(strength) * (coarse + 0.7 * fine + 0.6 * grain))[..., None]


def _colour(rng: Rng, low: float, high: float) -> Picture:
    grey = rng.uniform(low, high)
    return np.clip(grey * (1 + rng.uniform(0, 0.35) * rng.uniform(-1, 1, 3)), 0, 1).astype(np.float32)


def draw_background(rng: Rng, *, height: int, width: int, ground: float, scale: float) -> Picture:
    """Return a place (height, width, 3) in 0..1 to stand in; `ground` is the row of the feet."""
    canvas = np.empty((height, width, 3), np.float32)
    floor = int(np.clip(ground - rng.uniform(0.04, 0.25) * scale, 1, height - 1))
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    kind = rng.choice(["room", "bricks", "field"])
    if kind == "field":
        fade = np.linspace(0, 1, floor, dtype=np.float32)[:, None, None]
        sky = np.array([0.55, 0.68, 0.85], np.float32) * rng.uniform(0.7, 1.1)
        canvas[:floor] = sky + fade * (0.85 - sky) * 0.7
        hills = floor - (0.1 + 0.12 * smooth_noise(rng, 1, width, cell=max(8, width // 4))[0]) * scale
        canvas[(rows >= hills) & (rows < floor)] = rng.uniform(0.2, 0.4) * np.array([0.75, 1.0, 0.6], np.float32)
        canvas[floor:] = rng.uniform(0.25, 0.5) * np.array([0.8, 1.0, 0.45], np.float32)
    else:
        canvas[:floor] = _colour(rng, 0.25, 0.85)
        canvas[floor:] = _colour(rng, 0.2, 0.7)
        if kind == "bricks":
            high, wide = max(3, round(0.055 * scale)), max(6, round(0.15 * scale))
            joint = (rows % high == 0) | ((columns + rows // high % 2 * (wide // 2)) % wide == 0)
            canvas[:floor][joint[:floor]] *= rng.uniform(0.6, 1.35)
        elif rng.random() < 0.6:
            wide = max(3, int(rng.uniform(0.05, 0.2) * scale))
            canvas[:floor] *= np.where(columns % wide < wide // 2, rng.uniform(0.8, 0.95), 1)[..., None]
        if kind == "room":
            canvas[max(0, floor - max(1, round(0.03 * scale))) : floor] *= 0.7
            across = (columns - width / 2) / (1 + 1.5 * np.maximum(rows - floor, 0) / height) + width
            canvas[floor:][((across // max(3, 0.12 * scale)) % 2 == 0)[floor:]] *= 0.9
    for _ in range(rng.integers(2, 8)):
        _thing(rng, canvas, floor=floor, scale=scale, standing=kind == "field" or rng.random() < 0.5)
    return np.clip(canvas * _texture(rng, height, width, strength=rng.uniform(0.03, 0.12)), 0, 1)


def _thing(rng: Rng, canvas: Picture, *, floor: int, scale: float, standing: bool) -> None:
    """Draw a framed picture, a window, a cupboard or a crate."""
    height, width, _ = canvas.shape
    wide, high = rng.uniform(0.08, 0.4) * scale, rng.uniform(0.08, 0.5) * scale
    x = rng.uniform(-0.5 * wide, width - 0.5 * wide)
    bottom = floor + rng.uniform(-0.02, 0.05) * scale if standing else floor - rng.uniform(0.2, 0.9) * scale
    t, b, s, e = (
        int(np.clip(v, 0, m)) for v, m in ((bottom - high, height), (bottom, height), (x, width), (x + wide, width))
    )
    if b - t < 4 or e - s < 4:
        return
    canvas[t:b, s:e] = _colour(rng, 0.1, 0.9)
    inner = canvas[t + 1 : b - 1, s + 1 : e - 1]
    inner[:] = _colour(rng, 0.1, 0.9)
    detail = rng.integers(3)
    if detail == 0:
        inner[:: max(2, inner.shape[0] // 4)] *= 0.6
    elif detail == 1:
        inner += 0.25 * smooth_noise(rng, *inner.shape[:2], cell=4)[..., None]


def draw_occluder(rng: Rng, *, height: int, width: int, x: float, ground: float, scale: float) -> Picture:
    """Return something in front of the puppet (height, width, 4), premultiplied: a post, or a low box or hedge."""
    front = np.zeros((height, width, 4), np.float32)
    rows, columns = np.arange(height)[:, None] + 0.5, np.arange(width)[None, :] + 0.5
    if rng.random() < 0.5:
        middle = x + rng.choice([-1, 1]) * rng.uniform(0.0, 0.25) * scale
        inside = np.broadcast_to(np.abs(columns - middle) < rng.uniform(0.025, 0.05) * scale, (height, width))
    else:
        top = ground - rng.uniform(0.12, 0.4) * scale
        left = x - rng.uniform(-0.05, 0.5) * scale
        ragged = rng.choice([0, 0.05]) * scale * smooth_noise(rng, 1, width, cell=4)
        inside = (rows > top + ragged) & (columns > left) & (columns < left + rng.uniform(0.3, 0.8) * scale)
        inside = inside & (rows < ground + 0.12 * scale)
    front[..., :3] = _colour(rng, 0.15, 0.7) * _texture(rng, height, width, strength=0.1)
    front[..., 3] = 1
    return front * inside[..., None]


def _plant(rng: Rng, frames: int, fps: float, *, width: int, ground: float, scale: float) -> Distractor:
    """Leaves that sway."""
    side = rng.choice([-1, 1])
    foot = np.array([width / 2 + side * rng.uniform(0.25, 0.48) * width, ground - rng.uniform(0, 0.12) * scale])
    count = int(rng.integers(4, 8))
    lean, length = np.linspace(-0.9, 0.9, count) + rng.normal(0, 0.1, count), rng.uniform(0.25, 0.5, count) * scale
    period, phase = rng.uniform(1.2, 3.0), rng.random(count)
    colour = np.array([0.25, 0.45, 0.2], np.float32) * np.float32(rng.uniform(0.6, 1.4))
    much = rng.uniform(0.08, 0.25)

    def draw(canvas: Canvas, i: int, x: float, y: float) -> None:
        root = foot - (x, y)
        for k in range(count):
            angle = lean[k] + much * np.sin(2 * np.pi * (i / fps / period + phase[k]))
            tip = root + length[k] * np.array([np.sin(angle), -np.cos(angle)])
            shade = np.float32(0.8 + 0.4 * k / count)
            canvas.limb(root, tip, (0.012 * scale, 0.028 * scale), colour * shade, 0)

    return draw


def _screen(rng: Rng, frames: int, fps: float, *, width: int, ground: float, scale: float) -> Distractor:
    """A screen that flickers and shows moving bars."""
    wide, high = rng.uniform(0.18, 0.35) * scale, rng.uniform(0.12, 0.25) * scale
    middle = width / 2 + rng.choice([-1, 1]) * rng.uniform(0.2, 0.42) * width
    top = ground - rng.uniform(0.5, 1.0) * scale
    places = np.array([[middle - wide / 2, top], [middle + wide / 2, top + high]])
    tint, speed, bars = rng.uniform(0.3, 1.0, 3), rng.uniform(-1.5, 1.5), rng.uniform(6, 20) / wide
    dice = np.random.default_rng(rng.integers(2**32)).random((frames, 2))  # a longer video begins like a shorter one
    flicker, cut = 0.35 + 0.65 * dice[:, 0], np.cumsum(dice[:, 1] < 1 / (1.5 * fps))

    def draw(canvas: Canvas, i: int, x: float, y: float) -> None:
        where = canvas.window(places - (x, y), -1.0)
        if where is None:
            return
        along, down = canvas.offsets(where, middle - x, top - y)
        wave = np.sin(along * np.float32(bars) + np.float32(0.3) * down + np.float32(speed * i / fps * 6 + cut[i]))
        shown = np.roll(tint, cut[i]).astype(np.float32) * np.float32(flicker[i])
        canvas.picture[where] = (0.6 + 0.4 * wave)[..., None] * shown

    return draw


def _shadow(rng: Rng, frames: int, fps: float, *, width: int, ground: float, scale: float) -> Distractor:
    """A soft shadow that passes over the place, the puppet included."""
    wide, dark = rng.uniform(0.15, 0.4) * width, rng.uniform(0.1, 0.3)
    start, speed = rng.uniform(-0.5, 1.5) * width, rng.choice([-1, 1]) * rng.uniform(0.15, 0.6) * width
    slope = rng.uniform(-0.4, 0.4)

    def draw(canvas: Canvas, i: int, x: float, y: float) -> None:
        height, across = canvas.parts.shape
        middle = (start + speed * i / fps + 0.5 * width) % (2 * width) - 0.5 * width
        along, down = canvas.offsets((slice(0, height), slice(0, across)), middle - x, -y)
        bump = np.clip(1 - ((along + np.float32(slope) * down) / np.float32(wide)) ** 2, 0, 1)
        canvas.picture *= (1 - np.float32(dark) * bump)[..., None]

    return draw


def draw_distractors(
    rng: Rng, count: int, *, frames: int, fps: float, width: int, ground: float, scale: float
) -> tuple[list[Distractor], list[Distractor]]:
    """Return `count` (0 to 3) moving things: those behind the puppet, and those that pass over it."""
    kinds = rng.permutation(3)[:count]
    made = {k: (_plant, _screen, _shadow)[k](rng, frames, fps, width=width, ground=ground, scale=scale) for k in kinds}
    return [made[k] for k in (1, 0) if k in made], [made[2]] if 2 in made else []


def floor_shadow(canvas: Canvas, place: Floats, scale: float, darkness: float) -> None:
    """Darken the floor under a puppet; `place` is column and row under it."""
    wide, high = 0.24 * scale, 0.05 * scale
    corners = np.array([[place[0] - wide, place[1] - high], [place[0] + wide, place[1] + high]])
    where = canvas.window(corners, 0.0)
    if where is None:
        return
    x, y = canvas.offsets(where, place[0], place[1])
    reach = (x / np.float32(wide)) ** 2 + (y / np.float32(high)) ** 2
    canvas.picture[where] *= (1 - np.float32(darkness) * np.clip(1 - reach, 0, 1))[..., None]
