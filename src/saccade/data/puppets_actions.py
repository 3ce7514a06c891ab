"""What puppets do: ten actions, from standing idle to a golf swing, each a `Motion` over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from saccade.data.puppets_body import ANKLE, HIP, HIP_HEIGHT, SHOULDER, SIDES, SPINE, Floats, Motion, Prop

Rng = np.random.Generator
WOOD, METAL = (0.45, 0.31, 0.18), (0.55, 0.57, 0.60)


def keyed(phase: Floats, times: Sequence[float], values: Sequence[float]) -> Floats:
    """Return the values at `phase` (T,) of a curve of period 1 that eases from one key to the next.

    `times` rise from 0 to below 1; the curve stands still at each key, and between two equal values.
    """
    at, level = np.array([*times, 1.0 + times[0]]), np.array([*values, values[0]])
    phase = (phase - times[0]) % 1.0 + times[0]
    index = np.clip(np.searchsorted(at, phase, side="right") - 1, 0, len(times) - 1)
    u = (phase - at[index]) / (at[index + 1] - at[index])
    return np.asarray(level[index] + (level[index + 1] - level[index]) * u * u * (3 - 2 * u))


def _phase(rng: Rng, seconds: Floats, low: float, high: float) -> Floats:
    """Return the number of periods gone by (T,), for a period drawn from low to high seconds."""
    return np.asarray(seconds / rng.uniform(low, high) + rng.random())


def facing(rng: Rng, motion: Motion, *, most: float, around: float = 0.0) -> None:
    """Let the puppet face within `most` of `around` radians, to either side."""
    motion.turn += rng.choice(SIDES) * around + rng.uniform(-most, most)


def idle(rng: Rng, seconds: Floats) -> Motion:
    """Stand: shift the weight now and then, look around."""
    motion, phase = Motion(len(seconds)), _phase(rng, seconds, 5, 9)
    shift = keyed(phase, [0.0, 0.12, 0.5, 0.62], [-1, 1, 1, -1])
    motion.pelvis[:, 0] += 0.012 * shift
    motion.roll += 0.03 * shift
    motion.nod += 0.2 * keyed(phase * 1.3, [0.0, 0.3, 0.4, 0.8], [0, 0, 1, 1])
    if rng.random() < 0.4:  # arms akimbo
        motion.hands[:] = [[side * 0.01, 0.02, -0.24] for side in SIDES]
        motion.elbows[:] = [[side, -0.3, 0.0] for side in SIDES]
    facing(rng, motion, most=1.2)
    return motion


def wave(rng: Rng, seconds: Floats) -> Motion:
    """Wave a raised hand, or both; everything else rests."""
    motion, phase = Motion(len(seconds)), _phase(rng, seconds, 0.6, 1.1)
    which = [0, 1] if rng.random() < 0.25 else [int(rng.integers(2))]
    high, wide = rng.uniform(0.14, 0.24), rng.uniform(0.06, 0.11)
    for index in which:
        swing = np.sin(2 * np.pi * phase)
        motion.hands[:, index] = np.stack(
            [SIDES[index] * (0.12 + wide * swing), 0.07 + 0 * swing, high - 0.03 * swing], 1
        )
        motion.elbows[index] = [SIDES[index], -0.2, -0.6]
    facing(rng, motion, most=0.9)
    return motion


def clap(rng: Rng, seconds: Floats) -> Motion:
    """Clap in front of the chest."""
    motion, phase = Motion(len(seconds)), _phase(rng, seconds, 0.4, 0.75)
    gap = 0.010 + rng.uniform(0.08, 0.15) * (0.5 - 0.5 * np.cos(2 * np.pi * phase)) ** 0.7
    level, ahead = HIP_HEIGHT + SPINE - rng.uniform(0.02, 0.10), rng.uniform(0.20, 0.24)
    for index, side in enumerate(SIDES):
        motion.grip[:, index] = np.stack([side * gap, ahead + 0 * gap, level + 0 * gap], 1)
    motion.nod += 0.1
    facing(rng, motion, most=1.1)
    return motion


def walk(rng: Rng, seconds: Floats) -> Motion:
    """Walk to and fro across the picture."""
    motion = Motion(len(seconds))
    speed, reach = rng.uniform(0.45, 0.8), rng.uniform(0.25, 0.55)
    lap = _phase(rng, seconds, 4 * reach / speed, 4 * reach / speed + 1e-9)
    turning = 0.5 * speed / (4 * reach)  # half a second, as a share of the lap
    motion.travel += keyed(lap, [0.0, 0.5], [-reach, reach])
    ends = [0.5 * turning, 0.5 - 0.5 * turning, 0.5 + 0.5 * turning, 1 - 0.5 * turning]
    motion.turn += np.pi / 2 * keyed(lap, ends, [1, 1, -1, -1])
    stride = rng.uniform(0.14, 0.2)
    way = np.cumsum(np.abs(np.diff(motion.travel, prepend=motion.travel[:1])))
    step = way / (4 * stride) + rng.random()
    for index in range(2):
        phase = (step + index / 2) % 1.0
        motion.ankles[:, index, 1] += stride * np.where(phase < 0.5, 1 - 4 * phase, -np.cos(2 * np.pi * (phase - 0.5)))
        lift = np.where(phase < 0.5, 0.0, np.sin(2 * np.pi * (phase - 0.5)))
        motion.ankles[:, index, 2] += 0.055 * lift
        motion.toes[:, index] = 0.5 * lift
        motion.hands[:, 1 - index, 1] += 0.12 * np.cos(2 * np.pi * phase)
        motion.hands[:, 1 - index, 2] += 0.02
    motion.pelvis[:, 2] += -0.018 + 0.010 * np.cos(4 * np.pi * step)
    motion.lean += 0.06
    motion.twist += 0.12 * np.cos(2 * np.pi * step)
    return motion


def jump(rng: Rng, seconds: Floats) -> Motion:
    """Crouch, jump with the arms, land, stand a moment."""
    motion, phase = Motion(len(seconds)), _phase(rng, seconds, 1.1, 1.7)
    height = rng.uniform(0.08, 0.16)
    flight = np.clip((phase % 1.0 - 0.42) / 0.24, 0, 1)
    rise = 4 * height * flight * (1 - flight)
    crouch = keyed(phase, [0.0, 0.14, 0.32, 0.42, 0.66, 0.76, 0.92], [0, 0, 1, 0, 0, 0.8, 0])
    motion.pelvis[:, 2] += rise - 0.15 * crouch
    motion.pelvis[:, 1] -= 0.06 * crouch
    motion.ankles[:, :, 2] += rise[:, None]
    motion.toes += (0.7 * (rise > 0) * np.minimum(1, rise / 0.04))[:, None]
    motion.lean += 0.55 * crouch
    arms = keyed(phase, [0.0, 0.12, 0.3, 0.5, 0.6, 0.85], [0, 0, -0.5, 2.3, 2.2, 0])
    motion.hands[:, :, 1] = (0.31 * np.sin(arms))[:, None]
    motion.hands[:, :, 2] = (-0.31 * np.cos(arms))[:, None]
    facing(rng, motion, most=0.8, around=rng.choice([0.0, 1.2]))
    return motion


def squat(rng: Rng, seconds: Floats) -> Motion:
    """Squat slowly with the arms held forward."""
    motion, phase = Motion(len(seconds)), _phase(rng, seconds, 2.0, 3.6)
    depth = rng.uniform(0.14, 0.25) * keyed(phase, [0.0, 0.1, 0.45, 0.6], [0, 0, 1, 1])
    motion.pelvis[:, 2] -= depth
    motion.pelvis[:, 1] -= 0.6 * depth
    motion.lean += 2.4 * depth
    motion.ankles[:, :, 0] *= 1.7
    arms = rng.uniform(0.8, 1.0)
    for index, side in enumerate(SIDES):
        motion.hands[:, index] = [-side * 0.02, 0.30 * arms, 0.02]
        motion.elbows[index] = [side * 0.3, 0.0, -1.0]
    facing(rng, motion, most=0.6, around=rng.choice([0.0, 0.9]))
    return motion


def pullup(rng: Rng, seconds: Floats) -> Motion:
    """Pull the body up to a bar, its hands at rest."""
    motion, phase = Motion(len(seconds)), _phase(rng, seconds, 1.8, 3.2)
    hang, wide = 0.13, rng.uniform(0.10, 0.19)
    bar = HIP_HEIGHT + SPINE + hang + 0.27
    up = rng.uniform(0.15, 0.22) * keyed(phase, [0.0, 0.12, 0.4, 0.5], [0, 0, 1, 1])
    motion.pelvis[:, 2] += hang + up
    motion.pelvis[:, 1] -= 0.02
    motion.ankles[:] = motion.pelvis[:, None] + [[s * 0.05, -0.10, -(HIP_HEIGHT - ANKLE) + 0.04] for s in SIDES]
    motion.toes += 0.8
    motion.grip[:] = [[s * wide, 0.05, bar] for s in SIDES]
    motion.elbows[:] = [[s, 0.3, -0.6] for s in SIDES]
    motion.nod -= 0.2
    still = np.ones((len(seconds), 1, 1))
    motion.props = [Prop(np.array([[-0.42, 0.05, bar], [0.42, 0.05, bar]]) * still, 0.012, METAL)]
    motion.props += [Prop(np.array([[s * 0.42, 0.0, 0.0], [s * 0.42, 0.05, bar]]) * still, 0.014, METAL) for s in SIDES]
    facing(rng, motion, most=0.45, around=rng.choice([0.0, np.pi]))
    return motion


def golf(rng: Rng, seconds: Floats) -> Motion:
    """Swing a club: wait, take it back, strike, follow through, return."""
    motion, phase = Motion(len(seconds)), _phase(rng, seconds, 2.2, 3.4)
    hand = rng.choice(SIDES)
    back, through = rng.uniform(1.7, 2.3), rng.uniform(1.9, 2.5)
    angle = hand * keyed(phase, [0.0, 0.18, 0.44, 0.50, 0.60, 0.72, 0.95], [0, 0, -back, -back, through, through, 0])
    motion.twist -= 0.45 * angle
    motion.lean += 0.32
    motion.pelvis[:, 0] += 0.02 * np.sin(angle)
    motion.ankles[:, :, 0] *= 2.0
    centre = np.array([0.0, 0.13, HIP_HEIGHT + SPINE - 0.04])
    down = np.stack([np.sin(angle), 0.35 + 0.15 * np.cos(angle), -np.cos(angle)], 1)
    down /= np.linalg.norm(down, axis=1, keepdims=True)
    grip = centre + 0.26 * down
    motion.grip[:] = np.stack([grip - 0.012 * down, grip + 0.012 * down], 1)[:, :: int(hand)]
    club = 1.5 * angle
    away = np.stack([np.sin(club), 0.55 + 0 * club, -np.cos(club)], 1)
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    motion.props = [Prop(np.stack([grip, grip + 0.46 * away], 1), 0.008, METAL)]
    facing(rng, motion, most=0.5, around=rng.choice([0.0, 1.3]))
    return motion


def sit(rng: Rng, seconds: Floats) -> Motion:
    """Sit down on a chair and get up again, with rests between."""
    motion, phase = Motion(len(seconds)), _phase(rng, seconds, 3.5, 6.0)
    down = keyed(phase, [0.0, 0.18, 0.40, 0.75, 0.95], [0, 0, 1, 1, 0])
    tilt = keyed(phase, [0.0, 0.18, 0.29, 0.42, 0.73, 0.84, 0.97], [0, 0, 1, 0.1, 0.1, 1, 0])
    motion.pelvis[:, 2] -= 0.235 * down
    motion.pelvis[:, 1] -= 0.20 * down
    motion.lean += 0.6 * tilt
    for index, side in enumerate(SIDES):
        motion.hands[:, index] += down[:, None] * np.array([-side * 0.03, 0.20, 0.09])
    still, seat = np.ones((len(seconds), 1, 1)), 0.245
    corner = [[-0.1, -0.11, seat], [0.1, -0.11, seat], [0.1, -0.30, seat], [-0.1, -0.30, seat]]
    motion.props = [Prop(np.array(corner) * still, 0.012, WOOD)]
    for x, y, _ in corner:
        top = seat if y > -0.2 else 0.52
        motion.props.append(Prop(np.array([[x, y, 0.0], [x, y, top]]) * still, 0.011, WOOD))
    motion.props.append(Prop(np.array([[-0.1, -0.3, 0.49], [0.1, -0.3, 0.49]]) * still, 0.022, WOOD))
    facing(rng, motion, most=0.5, around=0.9)
    return motion


def push(rng: Rng, seconds: Floats) -> Motion:
    """Push a crate away and let it come back."""
    motion, phase = Motion(len(seconds)), _phase(rng, seconds, 1.6, 2.8)
    out = keyed(phase, [0.0, 0.1, 0.45, 0.6], [0, 0, 1, 1])
    ahead, level = 0.20 + rng.uniform(0.08, 0.14) * out, rng.uniform(0.60, 0.72)
    motion.lean += 0.12 + 0.30 * out
    motion.pelvis[:, 2] -= 0.045
    motion.pelvis[:, 1] += 0.05 * out
    front = int(rng.integers(2))
    motion.ankles[:, front, 1] += 0.16
    motion.ankles[:, 1 - front, 1] -= 0.17
    for index, side in enumerate(SIDES):
        motion.grip[:, index] = np.stack([side * SHOULDER * 0.8 + 0 * ahead, ahead + 0.02, level + 0 * ahead], 1)
    low, high, deep = 0.0, level + rng.uniform(0.06, 0.12), rng.uniform(0.16, 0.3)
    for x in (HIP * 2, -HIP * 2):
        corners = [(0.08, low), (0.08, high), (0.08 + deep, high), (0.08 + deep, low)]
        motion.props.append(
            Prop(np.stack([np.stack([x + 0 * ahead, ahead + y, z + 0 * ahead], 1) for y, z in corners], 1), 0.01, WOOD)
        )
    facing(rng, motion, most=0.25, around=np.pi / 2)
    return motion


_DOING: dict[str, Callable[[Rng, Floats], Motion]] = {
    "idle": idle,
    "wave": wave,
    "clap": clap,
    "walk": walk,
    "jump": jump,
    "squat": squat,
    "pullup": pullup,
    "golf": golf,
    "sit": sit,
    "push": push,
}
ACTIONS = tuple(_DOING)
# What an action needs around the body: its height and its width to either side, in body heights.
ROOM = dict.fromkeys(ACTIONS, (1.02, 0.3)) | {
    "wave": (1.10, 0.35),
    "walk": (1.02, 0.45),
    "jump": (1.30, 0.3),
    "pullup": (1.32, 0.45),
    "golf": (1.15, 0.55),
    "push": (1.02, 0.6),
}


def act(action: str, rng: Rng, seconds: Floats) -> Motion:
    """Return the motion of an action (one of ACTIONS) at the times `seconds` (T,); the rng varies it."""
    motion = _DOING[action](rng, seconds)
    sway = np.sin(2 * np.pi * (seconds / rng.uniform(2.5, 4.5) + rng.random()))
    motion.roll += rng.uniform(0, 0.006) * sway  # nobody stands quite still
    motion.nod += rng.uniform(0, 0.02) * sway
    return motion
