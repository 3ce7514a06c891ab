"""What puppets do in the rendered action clips: twelve actions, eight of them in pairs that no one frame tells apart.

The two of a pair show the same poses in the same places equally often, and differ in the order or the speed in which
they come: one is the other backwards, or the same slower.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from saccade.data.puppets_actions import ROOM, WOOD, Rng, act, facing
from saccade.data.puppets_body import HIP, SHOULDER, SIDES, Floats, Motion, Prop


def _ramp(rng: Rng, seconds: Floats, *, slack: float) -> Floats:
    """Return a way (T,) gone once within the clip, from near 0 to near 1, easing in and out.

    It begins within `slack` of 0 and ends within `slack` of 1. Its shares of time and way are drawn so that the way
    backwards, 1 - ramp[::-1], is drawn equally often.
    """
    whole = max(float(seconds[-1]), 1e-9)
    length = rng.uniform(0.4, 1.0) * whole
    u = np.clip((seconds - rng.uniform(0, whole - length)) / length, 0, 1)
    low, high = rng.uniform(0, slack), 1 - rng.uniform(0, slack)
    return np.asarray(low + (high - low) * u * u * (3 - 2 * u))


def _sit(rng: Rng, seconds: Floats, *, back: bool) -> Motion:
    """Sit down on a chair, or get up from it."""
    motion, down = Motion(len(seconds)), _ramp(rng, seconds, slack=0.15)
    down = 1 - down if back else down
    motion.pelvis[:, 2] -= 0.235 * down
    motion.pelvis[:, 1] -= 0.20 * down
    motion.lean += 2.4 * rng.uniform(0.7, 1.1) * down * (1 - down)
    for index, side in enumerate(SIDES):
        motion.hands[:, index] += down[:, None] * np.array([-side * 0.03, 0.20, 0.09])
    still, seat = np.ones((len(seconds), 1, 1)), 0.245
    corner = [[-0.1, -0.11, seat], [0.1, -0.11, seat], [0.1, -0.30, seat], [-0.1, -0.30, seat]]
    motion.props = [Prop(np.array(corner) * still, 0.012, WOOD)]
    for x, y, _ in corner:
        motion.props.append(Prop(np.array([[x, y, 0.0], [x, y, seat if y > -0.2 else 0.52]]) * still, 0.011, WOOD))
    facing(rng, motion, most=0.5, around=0.9)
    return motion


def _push(rng: Rng, seconds: Floats, *, back: bool) -> Motion:
    """Push a crate away, or pull it near."""
    motion, out = Motion(len(seconds)), _ramp(rng, seconds, slack=0.15)
    out = 1 - out if back else out
    ahead, level = 0.16 + rng.uniform(0.22, 0.30) * out, rng.uniform(0.60, 0.72)
    motion.lean += 0.05 + 0.45 * out
    motion.pelvis[:, 2] -= 0.045
    motion.pelvis[:, 1] += 0.10 * out
    front = int(rng.integers(2))
    motion.ankles[:, front, 1] += 0.16
    motion.ankles[:, 1 - front, 1] -= 0.17
    for index, side in enumerate(SIDES):
        motion.grip[:, index] = np.stack([side * SHOULDER * 0.8 + 0 * ahead, ahead + 0.02, level + 0 * ahead], 1)
    high, deep = level + rng.uniform(0.06, 0.12), rng.uniform(0.12, 0.22)
    for x in (HIP * 2, -HIP * 2):
        corners = [(0.08, 0.0), (0.08, high), (0.08 + deep, high), (0.08 + deep, 0.0)]
        places = [np.stack([x + 0 * ahead, ahead + y, z + 0 * ahead], 1) for y, z in corners]
        motion.props.append(Prop(np.stack(places, 1), 0.01, WOOD))
    facing(rng, motion, most=0.25, around=np.pi / 2)
    return motion


def _step(rng: Rng, seconds: Floats, *, back: bool) -> Motion:
    """Step sideways to the right of the picture, or to the left, facing the camera."""
    motion, way = Motion(len(seconds)), _ramp(rng, seconds, slack=0.1)
    way = 1 - way if back else way
    gone = rng.uniform(0.3, 0.5) * (way - 0.5)
    motion.travel += gone + rng.uniform(-0.1, 0.1)
    phase = gone / 0.16 + rng.random()
    for index, side in enumerate(SIDES):
        motion.ankles[:, index, 0] += side * 0.035 * (1 - np.cos(2 * np.pi * phase))
        motion.ankles[:, index, 2] += 0.03 * np.clip(np.sin(2 * np.pi * (phase + index / 2)), 0, 1)
    motion.pelvis[:, 2] -= 0.02
    facing(rng, motion, most=0.4)
    return motion


def _wave(rng: Rng, seconds: Floats, *, back: bool) -> Motion:
    """Wave a raised hand slowly, or fast."""
    low, high = (0.32, 0.48) if back else (1.2, 2.0)
    motion, phase = Motion(len(seconds)), seconds / rng.uniform(low, high) + rng.random()
    index = int(rng.integers(2))
    up, wide, swing = rng.uniform(0.14, 0.24), rng.uniform(0.09, 0.13), np.sin(2 * np.pi * phase)
    motion.hands[:, index] = np.stack([SIDES[index] * (0.12 + wide * swing), 0.07 + 0 * swing, up - 0.03 * swing], 1)
    motion.elbows[index] = [SIDES[index], -0.2, -0.6]
    facing(rng, motion, most=0.9)
    return motion


_PAIRED: dict[str, tuple[Callable[..., Motion], bool, tuple[float, float]]] = {
    "sit down": (_sit, False, ROOM["sit"]),
    "stand up": (_sit, True, ROOM["sit"]),
    "push": (_push, False, ROOM["push"]),
    "pull": (_push, True, ROOM["push"]),
    "step right": (_step, False, (1.02, 0.5)),
    "step left": (_step, True, (1.02, 0.5)),
    "wave": (_wave, False, ROOM["wave"]),
    "wave fast": (_wave, True, ROOM["wave"]),
}
_ALONE = ("idle", "pullup", "golf", "jump")
CLIP_ACTIONS = (*_ALONE, *_PAIRED)
# Indices of the actions that only the order or the speed of the frames tells apart.
PAIRS = tuple((i, i + 1) for i in range(len(_ALONE), len(CLIP_ACTIONS), 2))
# MIRRORED_ACTIONS[a] is the action that a becomes when the clip is mirrored.
_TURNED = {"step right": "step left", "step left": "step right"}
MIRRORED_ACTIONS = tuple(CLIP_ACTIONS.index(_TURNED.get(name, name)) for name in CLIP_ACTIONS)


def room(action: str) -> tuple[float, float]:
    """Return the height and the width to either side that an action (one of CLIP_ACTIONS) needs, in body heights."""
    return _PAIRED[action][2] if action in _PAIRED else ROOM[action]


def move(action: str, rng: Rng, seconds: Floats) -> Motion:
    """Return the motion of an action (one of CLIP_ACTIONS) over a clip at the times `seconds` (T,)."""
    if action not in _PAIRED:
        return act(action, rng, seconds)
    make, back, _ = _PAIRED[action]
    return make(rng, seconds, back=back)
