"""Marks drawn on float pictures (H, W, 3) with numpy: boxes, text, class colours, the strip of costs."""

from __future__ import annotations

import colorsys
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.report.glyphs import text_points

Floats = NDArray[np.float32]
BACKDROP = (18.0, 18.0, 22.0)
TROUGH = (52.0, 52.0, 60.0)
COMPUTED = (255.0, 0.0, 140.0)  # of the tint and of the bars: where, and how much
WHITE = (240.0, 240.0, 240.0)


def draw_text(canvas: Floats, text: str, *, x: int, y: int, scale: int, colour: tuple[float, float, float]) -> int:
    """Draws text with its upper left corner at (x, y), cut at the edges; returns the column after it."""
    points = text_points(text, scale=scale)
    top, left = max(y, 0), max(x, 0)
    part = points[top - y : max(canvas.shape[0] - y, 0), left - x : max(canvas.shape[1] - x, 0)]
    canvas[top : top + part.shape[0], left : left + part.shape[1]][part] = colour
    return x + points.shape[1]


def fill(canvas: Floats, *, left: int, top: int, right: int, bottom: int, colour: tuple[float, float, float]) -> None:
    """Fills a rectangle, right and bottom exclusive, cut at the edges."""
    canvas[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = colour


def draw_box(
    canvas: Floats, box: tuple[float, float, float, float], *, label: str, colour: tuple[float, float, float]
) -> None:
    """Draws the outline of an xyxy box in pixels, and its label above it (inside, where there is no room)."""
    left, top, right, bottom = (round(edge) for edge in box)
    thick = max(1, round(min(canvas.shape[:2]) / 200))
    for inner in (
        {"left": left, "top": top, "right": right, "bottom": top + thick},
        {"left": left, "top": bottom - thick, "right": right, "bottom": bottom},
        {"left": left, "top": top, "right": left + thick, "bottom": bottom},
        {"left": right - thick, "top": top, "right": right, "bottom": bottom},
    ):
        fill(canvas, **inner, colour=colour)
    if label:
        scale = max(1, round(min(canvas.shape[:2]) / 250))
        width, height = 4 * scale * len(label) + scale, 7 * scale
        y = top - height if top >= height else top + thick
        x = max(0, min(left, canvas.shape[1] - width))
        fill(canvas, left=x, top=y, right=x + width, bottom=y + height, colour=colour)
        draw_text(canvas, label, x=x + scale, y=y + scale, scale=scale, colour=(0.0, 0.0, 0.0))


@lru_cache(maxsize=1024)
def class_colour(label: int) -> tuple[float, float, float]:
    """Returns the colour (0..255) of a class: hues a golden angle apart, none near that of the tint."""
    hue = 0.03 + 0.76 * ((label * 0.618034) % 1)
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.65, 1.0)
    return 255 * red, 255 * green, 255 * blue


def label_colours(labels: NDArray[Any]) -> Floats:
    """Returns the class colours (H, W, 3) of a map of labels (H, W)."""
    present, inverse = np.unique(labels, return_inverse=True)
    palette = np.array([class_colour(int(label)) for label in present], dtype=np.float32)
    return palette[inverse.reshape(labels.shape)]


def strip_height(picture_height: int) -> int:
    """Returns how high the strip of costs is under a picture of that height, in pixels."""
    return max(12, 7 * text_scale(picture_height) + 6)


def text_scale(picture_height: int) -> int:
    """Returns how many pixels wide a point of text is on a picture of that height."""
    return max(1, round(picture_height / 200))


def cost_strip(fractions: list[float], *, width: int, height: int, history: int) -> Floats:
    """Returns a strip (height, width, 3): this frame's share of the dense macs, and those before it.

    Args:
        fractions: share per frame, the latest last; at most `history` are shown, one bar each, newest at the right.
        width: of the strip, in pixels.
        height: of the strip, in pixels.
        history: frames the right half has room for.
    """
    strip = np.full((height, width, 3), BACKDROP, dtype=np.float32)
    now = fractions[-1] if fractions else 0.0
    scale = max(1, (height - 6) // 7)
    pad = max(2, (height - 5 * scale) // 2)
    left = pad
    text = f"MACS {100 * now:5.1f}%"
    if left + 4 * scale * len(text) < width // 2:
        left = draw_text(strip, text, x=left, y=pad, scale=scale, colour=WHITE) + pad
    middle = width // 2
    bar_end = left + round((middle - left) * min(max(now, 0.0), 1.0))
    fill(strip, left=left, top=pad, right=middle, bottom=height - pad, colour=TROUGH)
    fill(strip, left=left, top=pad, right=bar_end, bottom=height - pad, colour=COMPUTED)
    begin, room = middle + 2 * pad, width - middle - 3 * pad
    if room < 8:
        return strip
    fill(strip, left=begin, top=pad // 2, right=begin + room, bottom=height - pad // 2, colour=TROUGH)
    tall = height - 2 * (pad // 2)
    shown = fractions[-history:]
    for place, fraction in enumerate(shown, start=history - len(shown)):
        a, b = begin + place * room // history, begin + (place + 1) * room // history
        bar = round(tall * min(max(fraction, 0.0), 1.0))
        fill(
            strip,
            left=a,
            top=height - pad // 2 - bar,
            right=max(b, a + 1),
            bottom=height - pad // 2,
            colour=COMPUTED,
        )
    return strip
