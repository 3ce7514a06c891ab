"""Rendered films with a class that all frames tell, or those of a stretch, or those of one moment only.

A puppet stands about. What makes the class is

- easy: the place, seen in every frame: a pool, a ski slope, a stage, a beach;
- medium: something that it does for a third to six tenths of the film: pull-ups, golf, sitting on a chair, pushing a
  crate; a cut leads there, and another back;
- hard: the colour of a card that it holds up for a tenth of the film.

Medium and hard films are set in the same places. For one seed, all frames but those that tell the class are the same
for all medium and hard classes, bit for bit, and the stretch and the moment lie where they lie whatever the class is.
So nothing else can tell it. Frames do not depend on which others are rendered.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from saccade.data.puppets import PuppetConfig
from saccade.data.puppets_actions import Rng, act
from saccade.data.puppets_body import SIDES, Floats, Motion, Prop, View, pose
from saccade.data.puppets_drawing import Canvas, Looks, Picture, draw_looks, paint
from saccade.data.puppets_places import PLACES, draw_place
from saccade.data.puppets_scene import Distractor, draw_background, draw_distractors, floor_shadow

DOINGS = {"pull-ups": "pullup", "golf": "golf", "sitting": "sit", "pushing": "push"}
CARDS = {
    "red card": (0.85, 0.06, 0.08),
    "yellow card": (0.95, 0.85, 0.10),
    "green card": (0.08, 0.62, 0.20),
    "blue card": (0.08, 0.25, 0.85),
}
FILM_CLASSES = (*PLACES, *DOINGS, *CARDS)
DIFFICULTIES = ("easy", "medium", "hard")
# DIFFICULTY[k] is the index into DIFFICULTIES of class k.
DIFFICULTY = (0,) * len(PLACES) + (1,) * len(DOINGS) + (2,) * len(CARDS)
LENGTHS = (40, 80, 160)  # frames of short, middling and long films
MOMENT = 10  # a moment is a tenth: any ten frames a tenth apart have one of it, and no more
STRETCH = (0.35, 0.6)
_ROOM = (1.34, 0.6)  # height, and width to either side, that everything here needs, in body heights


@dataclass(frozen=True, kw_only=True)
class FilmConfig:
    """Settings of one rendered film; equal settings give equal arrays.

    `kind` is one of FILM_CLASSES, None lets the seed choose; `noise` is the sensor's standard deviation in grey levels
    (of 255). Raises ValueError for settings that make no film.
    """

    seed: int
    frames: int = LENGTHS[1]
    height: int = 64
    width: int = 64
    fps: float = 12.5
    kind: str | None = None
    noise: float = 2.0

    def __post_init__(self) -> None:
        """Check every setting."""
        if self.kind is not None and self.kind not in FILM_CLASSES:
            names = ", ".join(FILM_CLASSES)
            raise ValueError(f"FilmConfig: kind is {self.kind!r}; expected None or one of {names}")
        if isinstance(self.frames, int) and self.frames < MOMENT:
            raise ValueError(f"FilmConfig: frames is {self.frames}; expected at least {MOMENT}")
        shared = {name: getattr(self, name) for name in ("seed", "frames", "height", "width", "fps", "noise")}
        try:
            PuppetConfig(**shared)
        except ValueError as error:
            raise ValueError(str(error).replace("PuppetConfig", "FilmConfig")) from None


@dataclass(frozen=True, eq=False, repr=False)
class PuppetFilm:
    """A rendered film, or some frames of it: `frames` (n, H, W, 3) uint8 RGB with their `numbers` (n,).

    `kind` is the index into FILM_CLASSES, `told` (T,) bool says of each frame of the whole film whether it shows what
    makes the class.
    """

    config: FilmConfig
    frames: NDArray[np.uint8]
    numbers: NDArray[np.int64]
    kind: int
    told: NDArray[np.bool_]

    @property
    def difficulty(self) -> str:
        """One of DIFFICULTIES."""
        return DIFFICULTIES[DIFFICULTY[self.kind]]

    def __repr__(self) -> str:
        """Show shape and class, not pixels."""
        return (
            f"PuppetFilm(frames={self.frames.shape}, kind={FILM_CLASSES[self.kind]!r}, told={self.told.mean():.2f}, "
            f"seed={self.config.seed})"
        )


def render_film(config: FilmConfig, numbers: Iterable[int] | None = None) -> PuppetFilm:
    """Return the film the settings describe, or the frames of it with these `numbers`, in their order.

    Raises ValueError for a number that is no frame of the film.
    """
    wanted = np.arange(config.frames) if numbers is None else np.array(list(numbers), np.int64)
    if ((wanted < 0) | (wanted >= config.frames)).any():
        raise ValueError(f"render_film: frames {wanted.min()} to {wanted.max()}; expected 0 to {config.frames - 1}")
    draw = partial(_stream, config.seed)
    kind = draw(0).integers(len(FILM_CLASSES)) if config.kind is None else FILM_CLASSES.index(config.kind)
    name, told = FILM_CLASSES[kind], _told(draw(1), config.frames, DIFFICULTY[kind])
    view, looks = _view(draw(2), config), draw_looks(draw(3))
    seconds = np.arange(config.frames) / config.fps
    idle = act("idle", draw(4), seconds)
    doing = act(DOINGS[name], draw(5), seconds) if name in DOINGS else idle
    if name in CARDS:
        doing = _holding(idle, CARDS[name])
    drawn = partial(draw_place, name) if name in PLACES else draw_background
    place = drawn(draw(6), height=config.height, width=config.width, ground=view.ground, scale=view.scale)
    moving = _moving(draw(7), config, view)
    light, darkness = _light(draw(8), seconds)
    found = np.empty((len(wanted), config.height, config.width, 3), np.uint8)
    acts = _seen(view, idle), _seen(view, doing)
    for row, i in zip(found, wanted.tolist(), strict=True):
        picture = _paint(place.copy(), moving, acts[int(told[i])], i, looks=looks, view=view, darkness=darkness)
        picture *= light[i]
        if config.noise:
            sensor = _stream(config.seed, 9, i)
            picture += np.float32(config.noise) * sensor.standard_normal(picture.shape, dtype=np.float32)
        row[:] = np.clip(np.rint(picture), 0, 255)
    return PuppetFilm(config, found, wanted, int(kind), told)


def _stream(seed: int, *part: int) -> Rng:
    """Return a generator of its own for every part of a film, so that none shifts another."""
    return np.random.default_rng([seed, *part])


def _told(rng: Rng, frames: int, difficulty: int) -> NDArray[np.bool_]:
    """Return which frames tell the class (T,); stretch and moment are both drawn, whatever is asked for."""
    lengths = (frames, round(rng.uniform(*STRETCH) * frames), frames // MOMENT)
    starts = [int(rng.integers(0, frames - length + 1)) for length in lengths]
    number, start = np.arange(frames), starts[difficulty]
    return (number >= start) & (number < start + lengths[difficulty])


def _view(rng: Rng, config: FilmConfig) -> View:
    tall, wide = _ROOM
    scale = min(rng.uniform(0.78, 0.94) * config.height / tall, rng.uniform(0.8, 1.0) * config.width / (2 * wide))
    return View(
        x=config.width / 2 + rng.uniform(-0.5, 0.5) * max(0.0, config.width - 2 * wide * scale),
        ground=config.height * rng.uniform(0.93, 0.97),
        scale=scale,
        pitch=rng.uniform(0.0, 0.15),
        near=rng.uniform(0.05, 0.2),
    )


def _moving(rng: Rng, config: FilmConfig, view: View) -> tuple[list[Distractor], list[Distractor]]:
    """Return what moves and means nothing, behind the puppet and over it: in one film of four there is something."""
    return draw_distractors(
        rng,
        int(rng.random() < 0.25),
        frames=config.frames,
        fps=config.fps,
        width=config.width,
        ground=view.ground,
        scale=view.scale,
    )


def _light(rng: Rng, seconds: Floats) -> tuple[Picture, float]:
    """Return the light's colour (T, 3) in grey levels, drifting slowly, and how dark shadows are."""
    tint = rng.uniform(0.75, 1.1) * rng.uniform(0.95, 1.05, 3)
    drift = np.sin(2 * np.pi * (seconds / rng.uniform(4, 12) + rng.random()))
    return (255 * tint * (1 + 0.03 * drift[:, None])).astype(np.float32), float(rng.uniform(0.1, 0.5))


def _holding(idle: Motion, colour: tuple[float, float, float]) -> Motion:
    """Return somebody who stands as in `idle`, and holds up a card in both hands, more or less to the camera."""
    motion, still = copy.deepcopy(idle), np.ones((len(idle.turn), 1, 1))
    motion.turn *= 0.3
    for index, side in enumerate(SIDES):
        motion.grip[:, index] = [side * 0.09, 0.10, 1.02]
        motion.elbows[index] = [side, 0.2, -0.3]
    corners = [[-0.12, 0.11, 1.02], [0.12, 0.11, 1.02], [0.12, 0.11, 1.27], [-0.12, 0.11, 1.27]]
    motion.props = [Prop(np.array(corners) * still, 0.012, colour)]
    return motion


def _seen(view: View, motion: Motion) -> tuple[Floats, list[tuple[Floats, Prop]]]:
    """Return where the points of the body and of its props are in the picture, (T, n, 3) each."""
    props = [(view.project(prop.points, motion.turn, motion.travel), prop) for prop in motion.props]
    return view.project(pose(motion), motion.turn, motion.travel), props


def _paint(
    picture: Picture,
    moving: tuple[list[Distractor], list[Distractor]],
    act: tuple[Floats, list[tuple[Floats, Prop]]],
    i: int,
    *,
    looks: Looks,
    view: View,
    darkness: float,
) -> Picture:
    """Return frame i in 0..1, painted over the place."""
    points, props = act
    canvas = Canvas(picture, np.zeros(picture.shape[:2], np.int8))
    for draw in moving[0]:
        draw(canvas, i, 0.0, 0.0)
    floor_shadow(canvas, np.array([points[i, 5:7, 0].mean(), view.ground]), view.scale, darkness)
    paint(canvas, points[i], [(places[i], prop) for places, prop in props], looks, view.scale)
    for draw in moving[1]:
        draw(canvas, i, 0.0, 0.0)
    return canvas.picture
