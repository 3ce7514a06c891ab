"""The body of a puppet: proportions, a motion's description, and where it puts the joints in space.

Lengths are in body heights. Axes: x to the puppet's left, y forward, z up; the ground is z = 0. The first of
two sides is always the right one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.data.joints import JOINTS

Floats = NDArray[np.float64]

SIDES = (-1.0, 1.0)  # x of the right and of the left side
ANKLE, SHIN, THIGH = 0.045, 0.235, 0.245
SPINE, NECK, HEAD = 0.30, 0.095, 0.066  # hip to neck, neck to the middle of the head, the head's radius
UPPER_ARM, FOREARM, HAND = 0.170, 0.150, 0.055
SHOULDER, HIP, FOOT = 0.105, 0.055, 0.105
HIP_HEIGHT = ANKLE + SHIN + THIGH - 0.004  # standing, knees not quite straight

# Points of a puppet: the joints, then the ends of its hands and feet.
POINTS = (*JOINTS, "right hand", "left hand", "right toe", "left toe")


@dataclass(frozen=True, eq=False)
class Prop:
    """A thing acted with: `points` (T, n, 3), a rod for n = 2, a flat panel for more; its radius is round them."""

    points: Floats
    radius: float
    colour: tuple[float, float, float]


class Motion:
    """What a puppet does over T frames; a new one stands still with its arms hanging.

    `pelvis` (T, 3), `ankles` (T, 2, 3) and, where not NaN, `grip` (T, 2, 3) for the wrists are places;
    `hands` (T, 2, 3) are the wrists' places relative to their shoulders where `grip` is NaN. `lean` forward, `roll`
    to the left, `twist` of the shoulders to the left, `nod`, `toes` (T, 2) downward are angles in radians; so is
    `turn`, the way the puppet faces: 0 to the camera, pi / 2 to the right of the picture. `travel` (T,) is the
    way gone to the right of the picture.
    """

    def __init__(self, frames: int) -> None:
        """Stand still for `frames` frames."""
        self.pelvis = np.tile([0.0, 0.0, HIP_HEIGHT], (frames, 1))
        self.ankles = np.stack([np.tile([side * (HIP + 0.012), 0.0, ANKLE], (frames, 1)) for side in SIDES], 1)
        self.hands = np.stack([np.tile([side * 0.035, 0.02, -0.314], (frames, 1)) for side in SIDES], 1)
        self.grip = np.full((frames, 2, 3), np.nan)
        self.lean, self.roll, self.twist, self.nod, self.turn, self.travel = np.zeros((6, frames))
        self.toes = np.zeros((frames, 2))
        self.elbows = np.array([[side * 0.5, -1.0, -0.3] for side in SIDES])  # the way the elbows point
        self.knees = np.array([[side * 0.12, 1.0, 0.0] for side in SIDES])
        self.props: list[Prop] = []


def bend(root: Floats, target: Floats, upper: float, lower: float, towards: Floats) -> tuple[Floats, Floats]:
    """Return the middle and the end (T, 3) of a limb of two bones that reaches for `target` (T, 3) from `root`.

    The middle bends `towards` (3,). A target out of reach is reached for as far as the bones go.
    """
    way = target - root
    asked = np.linalg.norm(way, axis=1, keepdims=True)
    along = way / np.maximum(asked, 1e-9)
    length = np.clip(asked, abs(upper - lower) + 1e-3, upper + lower - 1e-4)
    foot = (length**2 + upper**2 - lower**2) / (2 * length)
    rise = np.sqrt(np.maximum(upper**2 - foot**2, 0))
    aside = towards - (along @ towards)[:, None] * along
    aside /= np.maximum(np.linalg.norm(aside, axis=1, keepdims=True), 1e-6)
    return root + along * foot + aside * rise, root + along * length


def pose(motion: Motion) -> Floats:
    """Return where the motion puts the points of the body (T, len(POINTS), 3), before the puppet is turned."""
    zero = np.zeros_like(motion.lean)
    spine = np.stack([np.sin(motion.roll), np.sin(motion.lean), np.cos(motion.lean) * np.cos(motion.roll)], 1)
    spine /= np.linalg.norm(spine, axis=1, keepdims=True)
    neck = motion.pelvis + spine * SPINE
    belly = motion.pelvis + spine * (0.36 * SPINE)
    gaze = motion.lean * 0.5 + motion.nod
    face = neck + NECK * np.stack([np.sin(motion.roll), np.sin(gaze) + 0.12, np.cos(gaze)], 1)
    left = np.stack([np.cos(motion.twist), -np.sin(motion.twist), zero], 1)
    left = left - (left * spine).sum(1, keepdims=True) * spine
    found = {"neck": neck, "belly": belly, "face": face}
    for index, (name, side) in enumerate(zip(("right", "left"), SIDES, strict=True)):
        shoulder = neck + left * (side * SHOULDER) - spine * 0.035
        hip = motion.pelvis + np.array([side * HIP, 0.0, 0.0])
        wish = np.where(np.isnan(motion.grip[:, index]), shoulder + motion.hands[:, index], motion.grip[:, index])
        elbow, wrist = bend(shoulder, wish, UPPER_ARM, FOREARM, motion.elbows[index])
        knee, ankle = bend(hip, motion.ankles[:, index], THIGH, SHIN, motion.knees[index])
        fore = (wrist - elbow) / FOREARM
        toes = motion.toes[:, index]
        foot = np.stack([side * 0.2 + zero, np.cos(toes), -0.22 - np.sin(toes)], 1)
        joints = (shoulder, hip, elbow, knee, wrist, ankle)
        found |= dict(zip(("shoulder", "hip", "elbow", "knee", "wrist", "ankle"), joints, strict=True)) | {
            "hand": wrist + fore * HAND,
            "toe": ankle + foot / np.linalg.norm(foot, axis=1, keepdims=True) * FOOT,
        }
        for part in ("shoulder", "hip", "elbow", "knee", "wrist", "ankle", "hand", "toe"):
            found[f"{name} {part}"] = found.pop(part)
    return np.stack([found[name] for name in POINTS], 1)


@dataclass(frozen=True)
class View:
    """Where the puppet stands in the picture: its foot at column `x`, row `ground`; `scale` pixels per height.

    `pitch` is how far the camera looks down (radians), `near` how much nearer things grow (per body height).
    """

    x: float
    ground: float
    scale: float
    pitch: float
    near: float

    def project(self, points: Floats, turn: Floats, travel: Floats) -> Floats:
        """Return (T, n, 3): columns and rows in pixels, and how near the camera, of points (T, n, 3)."""
        cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
        across = points[..., 0] * cos + points[..., 1] * sin
        depth = points[..., 1] * cos - points[..., 0] * sin
        grown = 1 + self.near * depth
        column = self.x + self.scale * (across * grown + travel[:, None])
        row = self.ground - self.scale * (points[..., 2] * grown - np.sin(self.pitch) * depth)
        return np.stack([column, row, depth], -1)
