"""What puppets are painted with: areas, centres and distances against plain definitions in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from saccade.data.puppets_drawing import Canvas


def blank(height: int = 41, width: int = 53) -> Canvas:
    return Canvas(np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.int8))


def brute_distance(corners: np.ndarray, x: float, y: float) -> float:
    """Return the distance of a point to a polygon, 0 inside, by angles and segments."""
    turn, least = 0.0, math.inf
    for (ax, ay), (bx, by) in zip(corners.tolist(), np.roll(corners, -1, 0).tolist(), strict=True):
        a, b = complex(ax - x, ay - y), complex(bx - x, by - y)
        turn += math.atan2((a.conjugate() * b).imag, (a.conjugate() * b).real)
        side = b - a
        t = min(1.0, max(0.0, -(a * side.conjugate()).real / abs(side) ** 2)) if side else 0.0
        least = min(least, abs(a + t * side))
    return 0.0 if abs(turn) > math.pi else least


def test_distance_to_a_polygon_is_the_plain_definition() -> None:
    canvas, rng = blank(23, 31), np.random.default_rng(0)
    for _ in range(12):
        centre, angles = rng.uniform(5, 20, 2), np.sort(rng.uniform(0, 2 * np.pi, 5))
        corners = centre + rng.uniform(3, 12) * np.stack([np.cos(angles), np.sin(angles)], 1)
        found = canvas.distance((slice(0, 23), slice(0, 31)), corners)
        wanted = [[brute_distance(corners, x + 0.5, y + 0.5) for x in range(31)] for y in range(23)]
        np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("radius", [1.6, 4.3])
def test_a_limb_covers_its_area_about_its_middle(radius: float) -> None:
    """Coverage in place of yes or no: what a joint's place means to a fraction of a pixel."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        a, b = rng.uniform(10, 30, 2), rng.uniform(10, 30, 2)
        canvas = blank()
        white = np.ones(3, np.float32)
        canvas.limb(a, b, (radius, radius), white, 1)
        cover = np.zeros((41, 53))
        for y in range(41):
            for x in range(53):
                side, off = b - a, np.array([x + 0.5, y + 0.5]) - a
                t = min(1.0, max(0.0, float(off @ side) / float(side @ side)))
                cover[y, x] = min(1.0, max(0.0, radius + 0.5 - math.hypot(*(off - t * side))))
        np.testing.assert_array_equal(canvas.parts == 1, cover >= 0.5)
        area = math.pi * radius**2 + 2 * radius * float(np.linalg.norm(b - a))
        assert cover.sum() == pytest.approx(area, rel=0.05)
        ys, xs = np.mgrid[:41, :53] + 0.5
        light = canvas.picture[..., 0]
        centre = (light * xs).sum() / light.sum(), (light * ys).sum() / light.sum()
        np.testing.assert_allclose(centre, (a + b) / 2, atol=0.05)
        assert (canvas.picture[cover == 0] == 0).all()


def test_what_lies_outside_the_picture_paints_nothing() -> None:
    canvas = blank()
    white = np.ones(3, np.float32)
    for place in ([-30.0, 5.0], [90.0, 5.0], [5.0, -30.0], [5.0, 90.0]):
        canvas.limb(np.array(place), np.array(place) + 2, (3.0, 2.0), white, 1)
        canvas.panel(np.add(place, [[0, 0], [3, 0], [0, 3]]), 1.0, white, 1)
    assert not canvas.picture.any()
    assert not canvas.parts.any()
