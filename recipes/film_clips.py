"""Rendered films for the recipe of early exits: of each, twenty frames spread evenly, as they would be visited.

A sample is a dict: `frames` (20, 3, 64, 64) uint8, `label` int64, `length` int64, the frames of the whole film. Frames
are as rendered, each by itself, so that no codec carries what one shows to another. `write_films` writes whole films as
video files, which do come from a codec.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recipes.kept_samples import CACHE, kept, render_all
from saccade.data.puppets_films import FILM_CLASSES, LENGTHS, FilmConfig, render_film
from saccade.exits import frames_to_visit
from saccade.video import write_video

FRAMES, SIZE = 20, 64
FILMS = {"train": 1440, "validation": 180, "test": 540}
FIRST_SEED = {"train": 11_000_016, "validation": 11_500_020, "test": 12_000_024}  # multiples of 36


def config(seed: int, *, size: int = SIZE) -> FilmConfig:
    """Return the settings of a film; classes take turns, seed by seed, and so do the three lengths."""
    classes = len(FILM_CLASSES)
    kind, length = FILM_CLASSES[seed % classes], LENGTHS[seed // classes % len(LENGTHS)]
    return FilmConfig(seed=seed, frames=length, height=size, width=size, kind=kind)


def render(seed: int, *, size: int = SIZE) -> dict[str, Any]:
    """Return one sample: the middle frames of twenty equal parts of a film."""
    what = config(seed, size=size)
    film = render_film(what, frames_to_visit(what.frames, FRAMES, "sequential"))
    return {
        "frames": np.ascontiguousarray(film.frames.transpose(0, 3, 1, 2)),
        "label": np.int64(film.kind),
        "length": np.int64(what.frames),
    }


class Films:
    """The films of one split, rendered once and kept in `CACHE`."""

    def __init__(self, split: str, *, films: int | None = None, size: int = SIZE) -> None:
        count, first = films or FILMS[split], FIRST_SEED[split]
        folder = CACHE / f"films-{split}-{count}x{FRAMES}-{size}"
        arrays = kept(folder, lambda: render_all(partial(render, size=size), range(first, first + count)))
        self.frames, self.label, self.length = arrays["frames"], arrays["label"], arrays["length"]

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, index: int) -> dict[str, Any]:
        frames = np.array(self.frames[index])
        return {"frames": frames, "label": self.label[index], "length": self.length[index]}


class FilmPairs:
    """Two films one after the other, of which every second frame is kept: what each shows is a label.

    A sample is a dict: `frames` (20, 3, 64, 64) uint8, `label` (K,) float32, 1 for the one or two classes shown.
    """

    def __init__(self, split: str, *, films: int | None = None, size: int = SIZE) -> None:
        self.films = Films(split, films=films, size=size)
        self.second = np.random.default_rng(FIRST_SEED[split]).permutation(len(self.films))

    def __len__(self) -> int:
        return len(self.films)

    def __getitem__(self, index: int) -> dict[str, Any]:
        label = np.zeros(len(FILM_CLASSES), np.float32)
        both = [self.films[index], self.films[int(self.second[index])]]
        label[[int(film["label"]) for film in both]] = 1
        return {"frames": np.concatenate([film["frames"][::2] for film in both]), "label": label}


def write_films(folder: Path, split: str, *, films: int, size: int = SIZE) -> list[Path]:
    """Return the first films of a split as mp4 files in folders by class; those that are there stay as they are."""
    found = []
    for seed in range(FIRST_SEED[split], FIRST_SEED[split] + films):
        what = config(seed, size=size)
        found.append(folder / str(what.kind) / f"{seed}.mp4")
        if not found[-1].exists():
            found[-1].parent.mkdir(parents=True, exist_ok=True)
            write_video(found[-1], render_film(what).frames, fps=what.fps, codec="libx264", crf=18)
    return found
