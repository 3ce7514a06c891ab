"""Drawing of puppets: limbs, panels and heads as anti-aliased distance fields, painted far to near."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.data.puppets_body import HEAD, POINTS, SIDES, Floats, Prop

Picture = NDArray[np.float32]

_LIMBS = ("upper arm", "forearm", "hand", "thigh", "shin", "foot")
# The parts of a puppet, as they are numbered (from 1) in `PuppetVideo.parts`; "prop" is what it acts with.
PARTS = (
    "torso",
    "neck",
    "head",
    *(f"{side} {part}" for part in _LIMBS for side in ("right", "left")),
    "prop",
)
_ENDS = {
    "upper arm": ("shoulder", "elbow"),
    "forearm": ("elbow", "wrist"),
    "hand": ("wrist", "hand"),
    "thigh": ("hip", "knee"),
    "shin": ("knee", "ankle"),
    "foot": ("ankle", "toe"),
}
# Radii at both ends, in body heights.
_RADII = {
    "upper arm": (0.031, 0.025),
    "forearm": (0.025, 0.018),
    "hand": (0.021, 0.017),
    "thigh": (0.047, 0.034),
    "shin": (0.034, 0.022),
    "foot": (0.024, 0.019),
}
_NEARER = {"upper arm": 0.04, "forearm": 0.06, "hand": 0.06, "thigh": -0.01, "shin": -0.02, "foot": 0.0}


def _owners() -> tuple[frozenset[int], ...]:
    """Return for every joint the numbers of the parts it is an end of."""
    torso, neck, head = (PARTS.index(name) + 1 for name in ("torso", "neck", "head"))
    owners = {"neck": {torso, neck, head}, "belly": {torso}, "face": {head}}
    for side in ("right", "left"):
        for part, ends in _ENDS.items():
            for end in ends:
                owners.setdefault(f"{side} {end}", set()).add(PARTS.index(f"{side} {part}") + 1)
        owners[f"{side} shoulder"].add(torso)
        owners["neck"].add(PARTS.index(f"{side} upper arm") + 1)  # from the side, a shoulder lies over the neck
        owners[f"{side} hip"].add(torso)
    return tuple(frozenset(owners[name]) for name in POINTS[:15])


# OWNERS[j] are the parts joint j is an end of: it is seen where one of them is the nearest thing at its place.
OWNERS = _owners()


@dataclass(frozen=True, eq=False)
class Looks:
    """A puppet's colours (3,) in 0..1 by part, its build, and the light's direction in the picture."""

    colours: dict[str, Picture]
    trousers: Picture
    hair: Picture
    second: Picture  # of the shirt's pattern
    stripes: float  # per torso; 0 for none
    crosswise: bool
    thickness: float
    light: tuple[float, float]


def draw_looks(rng: np.random.Generator) -> Looks:
    """Return random looks: skin, clothes with long or short sleeves and legs, thickness."""

    def cloth() -> Picture:
        grey, colour = rng.uniform(0.1, 0.9), rng.uniform(0.05, 0.9, 3)
        return np.asarray(colour + rng.uniform(0.1, 0.8) * (grey - colour), np.float32)

    light, dark = np.array([0.90, 0.72, 0.60]), np.array([0.30, 0.19, 0.13])
    skin = (light + rng.random() * (dark - light)).astype(np.float32)
    shirt, trousers, shoes = cloth(), cloth(), np.float32(0.6) * cloth()
    colours: dict[str, Picture] = {
        "torso": shirt,
        "neck": skin,
        "head": skin,
        "hand": skin,
        "foot": shoes,
        "thigh": trousers,
    }
    colours["upper arm"] = shirt if rng.random() < 0.85 else skin
    colours["forearm"] = shirt if rng.random() < 0.45 else skin
    colours["shin"] = trousers if rng.random() < 0.7 else skin
    hair = np.asarray([(0.08, 0.06, 0.05), (0.30, 0.19, 0.10), (0.62, 0.48, 0.28), (0.6, 0.6, 0.6)][rng.integers(4)])
    return Looks(
        colours, trousers, hair.astype(np.float32), cloth(),
        stripes=float(rng.choice([0, 0, 3, 5])), crosswise=bool(rng.random() < 0.6), thickness=rng.uniform(0.85, 1.3),
        light=(rng.uniform(-1, 1), rng.uniform(-1, 0.2)),
    )  # fmt: skip


class Canvas:
    """A picture (H, W, 3) in 0..1 being painted, and the part number (H, W) int8 of the nearest part."""

    def __init__(self, picture: Picture, parts: NDArray[np.int8]) -> None:
        """Paint on these two arrays, in place."""
        self.picture, self.parts = picture, parts
        height, width = parts.shape
        self._rows = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5)
        self._columns = np.arange(width, dtype=np.float32)[None, :] + np.float32(0.5)

    def window(self, points: Floats, radius: float) -> tuple[slice, slice] | None:
        """Return the pixels within `radius` of the box round points (n, 2), None where there are none."""
        (left, top), (right, bottom) = points.min(0) - radius - 1, points.max(0) + radius + 2
        height, width = self.parts.shape
        t, b, s, e = max(0, int(top)), min(height, int(bottom)), max(0, int(left)), min(width, int(right))
        return (slice(t, b), slice(s, e)) if t < b and s < e and bottom > 0 and right > 0 else None

    def offsets(self, where: tuple[slice, slice], x: float, y: float) -> tuple[Picture, Picture]:
        """Return how far right (1, w) and below (h, 1) of x, y the pixels' centres are."""
        return self._columns[:, where[1]] - np.float32(x), self._rows[where[0]] - np.float32(y)

    def put(self, where: tuple[slice, slice], cover: Picture, colour: Picture, number: int) -> None:
        """Paint `colour` (h, w, 3) over the window, as far as `cover` (h, w) goes; number 0 is no part."""
        under = self.picture[where]
        under += cover[..., None] * (colour - under)
        if number:
            self.parts[where][cover >= 0.5] = number

    def limb(
        self,
        a: Floats,
        b: Floats,
        radii: tuple[float, float],
        colour: Picture,
        number: int,
        light: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Paint a round limb from a to b (2,) whose radius goes from one to the other."""
        where = self.window(np.stack([a, b]), max(radii))
        if where is None:
            return
        x, y = self.offsets(where, a[0], a[1])
        bx, by = np.float32(b[0] - a[0]), np.float32(b[1] - a[1])
        t = np.clip((x * bx + y * by) / np.maximum(bx * bx + by * by, np.float32(1e-6)), 0, 1)
        x, y = x - t * bx, y - t * by
        radius = np.float32(radii[0]) + t * np.float32(radii[1] - radii[0])
        off = np.sqrt(x * x + y * y)
        shade = _round(x / radius, y / radius, off / radius, light)
        self.put(where, np.clip(radius - off + np.float32(0.5), 0, 1), shade[..., None] * colour, number)

    def distance(self, where: tuple[slice, slice], corners: Floats) -> Picture:
        """Return the distance (h, w) of the window's pixels to a polygon (n, 2), 0 inside."""
        least, inside = None, None
        for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            x, y = self.offsets(where, ax, ay)
            dx, dy = np.float32(bx - ax), np.float32(by - ay)
            t = np.clip((x * dx + y * dy) / np.maximum(dx * dx + dy * dy, np.float32(1e-6)), 0, 1)
            square = (x - t * dx) ** 2 + (y - t * dy) ** 2
            least = square if least is None else np.minimum(least, square)
            crossed = ((y >= 0) != (y >= dy)) & ((x * dy < y * dx) == (dy > 0))
            inside = crossed if inside is None else inside ^ crossed
        assert least is not None
        assert inside is not None
        return np.where(inside, np.float32(0), np.sqrt(least))

    def panel(self, corners: Floats, radius: float, colour: Picture, number: int) -> None:
        """Paint a flat polygon (n, 2) with a rim of `radius` round it; the rim is darker."""
        where = self.window(corners, radius)
        if where is None:
            return
        off = self.distance(where, corners)
        shade = (1 - np.float32(0.3) * np.clip(off / np.float32(radius), 0, 1))[..., None]
        self.put(where, np.clip(np.float32(radius + 0.5) - off, 0, 1), shade * colour, number)

    def torso(self, corners: Floats, spine: Floats, belly: Floats, radius: float, looks: Looks, number: int) -> None:
        """Paint shirt and trousers round shoulders and hips (4, 2); `spine` leads down from the neck."""
        where = self.window(corners, radius)
        if where is None:
            return
        off = self.distance(where, corners)
        x, y = self.offsets(where, belly[0], belly[1])
        length = np.float32(max(np.hypot(*spine), 1e-3))
        down, over = np.float32(spine[0]) / length, np.float32(spine[1]) / length
        along, across = (x * down + y * over) / length, (x * over - y * down) / length
        colour = np.broadcast_to(looks.colours["torso"], (*off.shape, 3))
        if looks.stripes:
            phase = (along if looks.crosswise else 1.5 * across) * np.float32(2 * np.pi * looks.stripes)
            mix = np.clip(2 * np.sin(phase) + 0.5, 0, 1)[..., None]
            colour = colour + mix * (looks.second - colour)
        legs = np.clip((along - np.float32(0.2)) * length + np.float32(0.5), 0, 1)[..., None]
        colour = colour + legs * (looks.trousers - colour)
        rim = off / np.float32(radius)
        half = np.float32(0.5)
        lit = np.float32(0.35 * looks.light[0]) * np.clip(across, -half, half)
        shade = np.float32(1.05) - np.float32(0.25) * rim * rim + lit
        painted = (shade[..., None] * colour).astype(np.float32)
        self.put(where, np.clip(np.float32(radius + 0.5) - off, 0, 1), painted, number)

    def head(self, centre: Floats, radius: float, gaze: Floats, looks: Looks, number: int) -> None:
        """Paint a ball that looks along `gaze` (3,): right, down and near; hair covers what looks away."""
        where = self.window(centre[None], 1.1 * radius)
        if where is None:
            return
        x, y = (offset / np.float32(radius) for offset in self.offsets(where, centre[0], centre[1]))
        y = y / np.float32(1.1)
        off = np.sqrt(x * x + y * y)
        near = np.sqrt(np.clip(1 - off * off, 0, 1))
        front = x * np.float32(gaze[0]) + y * np.float32(gaze[1]) + near * np.float32(gaze[2])
        bald = np.clip((np.minimum(front + 0.15, y + 0.45)) * np.float32(radius) + np.float32(0.5), 0, 1)[..., None]
        colour = looks.hair + bald * (looks.colours["head"] - looks.hair)
        size = np.float32(radius)
        for side in SIDES:  # eyes
            eye = np.array([gaze[0] + side * 0.38 * gaze[2], gaze[1] - 0.12, gaze[2] - side * 0.38 * gaze[0]])
            if eye[2] > 0.1:
                apart = np.hypot(x - np.float32(eye[0]), y - np.float32(eye[1]))
                colour = colour * (
                    1 - np.float32(0.8) * np.clip((np.float32(0.2) - apart) * size + np.float32(0.3), 0, 1)[..., None]
                )
        shade = _round(x, y, off, looks.light)[..., None]
        self.put(where, np.clip((1 - off) * np.float32(radius) + np.float32(0.5), 0, 1), shade * colour, number)


def _round(x: Picture, y: Picture, off: Picture, light: tuple[float, float]) -> Picture:
    """Return the brightness of a round surface, x, y and off in radii from its middle."""
    lit = np.float32(0.14 * light[0]) * x + np.float32(0.14 * light[1]) * y
    return np.asarray(1.05 - np.float32(0.3) * off * off + lit)


def paint(canvas: Canvas, points: Floats, props: list[tuple[Floats, Prop]], looks: Looks, scale: float) -> None:
    """Paint a puppet and its props, far to near.

    `points` (len(POINTS), 3) are column, row and nearness, `props` the same for the points of each prop, and
    `scale` is in pixels per body height.
    """
    at = {name: points[i] for i, name in enumerate(POINTS)}
    thick = looks.thickness * scale
    corners = np.stack([at[n] for n in ("right shoulder", "left shoulder", "left hip", "right hip")])
    jobs: list[tuple[float, str, tuple[Floats, ...]]] = [
        (float(corners[:, 2].mean()), "torso", ()),
        (float(at["neck"][2]) - 0.02, "neck", (at["neck"], at["face"])),
        (float(at["face"][2]) + 0.02, "head", ()),
    ]
    for side in ("right", "left"):
        for part, (a, b) in _ENDS.items():
            ends = at[f"{side} {a}"], at[f"{side} {b}"]
            jobs.append((float(ends[0][2] + ends[1][2]) / 2 + _NEARER[part], f"{side} {part}", ends))
    for number, (places, _) in enumerate(props):
        jobs.append((float(places[:, 2].mean()), f"prop {number}", ()))
    hips, neck = (at["right hip"] + at["left hip"]) / 2, at["neck"]
    across = at["left shoulder"] - at["right shoulder"]
    for _, name, bone in sorted(jobs, key=lambda job: job[0]):
        part = name.split(" ", 1)[-1]
        if name.startswith("prop"):
            places, prop = props[int(part)]
            colour, number = np.asarray(prop.colour, np.float32), PARTS.index("prop") + 1
            if len(places) == 2:
                canvas.limb(places[0, :2], places[1, :2], (prop.radius * scale,) * 2, colour, number)
            else:
                canvas.panel(places[:, :2], prop.radius * scale, colour, number)
        elif name == "torso":
            inner = corners[:, :2] + 0.18 * (corners[:, :2].mean(0) - corners[:, :2])
            canvas.torso(inner, (hips - neck)[:2], at["belly"][:2], 0.052 * thick, looks, 1)
        elif name == "neck":
            canvas.limb(bone[0][:2], bone[1][:2], (0.03 * thick,) * 2, looks.colours["neck"], 2, looks.light)
        elif name == "head":
            gaze = np.array([-across[2], 0.03, across[0] / scale])
            gaze = gaze / max(float(np.linalg.norm(gaze)), 1e-6)
            canvas.head(at["face"][:2], HEAD * scale * (0.9 + 0.1 * looks.thickness), gaze, looks, 3)
        else:
            first, second = (radius * thick for radius in _RADII[part])
            canvas.limb(
                bone[0][:2], bone[1][:2], (first, second), looks.colours[part], PARTS.index(name) + 1, looks.light
            )
