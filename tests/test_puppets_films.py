"""The rendered films: what tells the class, and that nothing else does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import recipes.film_clips
from recipes.film_clips import FIRST_SEED, Films, write_films
from saccade.data import puppets_films
from saccade.data.puppets_films import (
    CARDS,
    DIFFICULTIES,
    DIFFICULTY,
    DOINGS,
    FILM_CLASSES,
    LENGTHS,
    PLACES,
    STRETCH,
    FilmConfig,
    PuppetFilm,
    render_film,
)
from saccade.video import read_video


def film(seed: int = 3, numbers: list[int] | None = None, **settings: object) -> PuppetFilm:
    given = {"seed": seed, "frames": 20, "height": 41, "width": 37} | settings
    return render_film(FilmConfig(**given), numbers)  # type: ignore[arg-type]


def told(kind: str, seed: int = 3, **settings: object) -> np.ndarray:
    return film(seed, [], kind=kind, **settings).told


def test_frames_are_the_same_every_time_and_whichever_are_rendered() -> None:
    whole, again, other = film(kind="golf"), film(kind="golf"), film(4, kind="golf")
    np.testing.assert_array_equal(whole.frames, again.frames)
    assert (whole.frames.shape, whole.frames.dtype) == ((20, 41, 37, 3), np.uint8)
    assert not np.array_equal(whole.frames, other.frames)
    some = film(numbers=[13, 2, 2, 19], kind="golf")
    np.testing.assert_array_equal(some.frames, whole.frames[[13, 2, 2, 19]])
    np.testing.assert_array_equal(some.numbers, [13, 2, 2, 19])
    np.testing.assert_array_equal(some.told, whole.told)
    assert {film(seed, []).kind for seed in range(99)} == set(range(len(FILM_CLASSES)))


@pytest.mark.parametrize("seed", [1, 6])
def test_frames_that_do_not_tell_the_class_are_the_same_in_all_classes(seed: int) -> None:
    stretch, moment = told("golf", seed), told("red card", seed)
    quiet, shown = np.flatnonzero(~stretch & ~moment)[[0, -1]], [np.flatnonzero(w)[-1] for w in (stretch, moment)]
    films = {name: film(seed, [*quiet, *shown], kind=name) for name in (*DOINGS, *CARDS)}
    still = films["golf"].frames[:2]
    unlike = {name: found.frames[2 if name in DOINGS else 3] for name, found in films.items()}
    for name, found in films.items():
        np.testing.assert_array_equal(found.told, stretch if name in DOINGS else moment)
        np.testing.assert_array_equal(found.frames[:2], still)
        for second, picture in unlike.items():
            assert np.array_equal(unlike[name], picture) == (name == second)
    # Where a medium class shows nothing, it is as a hard one that shows nothing there either.
    for here, there in ((stretch & ~moment, "blue card"), (moment & ~stretch, "pull-ups")):
        for i in np.flatnonzero(here)[:1].tolist():
            one, other = (film(seed, [i], kind=name) for name in (there, "green card" if there in CARDS else "golf"))
            np.testing.assert_array_equal(one.frames, other.frames)


@pytest.mark.parametrize("frames", LENGTHS)
def test_ten_frames_a_tenth_apart_have_the_moment_once(frames: int) -> None:
    starts = set()
    for seed in range(200):
        moment = puppets_films._told(np.random.default_rng(seed), frames, 2)
        starts.add(int(np.flatnonzero(moment)[0]))
        for offset in range(frames // 10):
            assert moment[offset :: frames // 10].sum() == 1
    assert (min(starts), max(starts)) == (0, frames - frames // 10) or len(starts) > 60


def test_stretches_are_a_third_to_six_tenths_and_easy_films_are_told_throughout() -> None:
    shares = [puppets_films._told(np.random.default_rng(seed), 80, 1) for seed in range(300)]
    for share in shares:
        assert STRETCH[0] - 0.01 <= share.mean() <= STRETCH[1] + 0.01
        assert np.abs(np.diff(share.astype(int))).sum() <= 2  # in one piece
    assert np.ptp([share.mean() for share in shares]) > 0.2
    for name, hard in zip(FILM_CLASSES, DIFFICULTY, strict=True):
        found = film(5, [], kind=name)
        assert found.difficulty == DIFFICULTIES[hard]
        assert found.told.all() == (name in PLACES)
    assert np.bincount(DIFFICULTY).tolist() == [4, 4, 4]


def test_cards_differ_in_their_colour_and_in_nothing_else() -> None:
    for seed in (2, 5):
        i = int(np.flatnonzero(told("red card", seed))[0])
        red, blue = (
            film(seed, [i], kind=f"{colour} card", height=64, width=64, noise=0.0).frames[0].astype(int)
            for colour in ("red", "blue")
        )
        where = np.abs(red - blue).max(-1) > 0
        assert 20 <= where.sum() <= 400  # of 4096 pixels
        rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
        assert max(np.ptp(rows), np.ptp(columns)) < 24
        assert (red - blue)[where][:, 0].min() > 0 > (red - blue)[where][:, 2].max()


def test_one_look_tells_a_place() -> None:
    """The nearest mean colours of the upper and the lower half of another film say which."""
    looks = {name: [halves(film(seed, [4], kind=name).frames[0]) for seed in range(12)] for name in PLACES}
    means = {name: np.mean(found[:6], axis=0) for name, found in looks.items()}
    right = [
        min(means, key=lambda other: np.linalg.norm(means[other] - one)) == name
        for name, found in looks.items()
        for one in found[6:]
    ]
    assert np.mean(right) > 0.8


def halves(picture: np.ndarray) -> np.ndarray:
    middle = len(picture) // 2
    return np.concatenate([part.mean((0, 1)) for part in (picture[:middle], picture[middle:])])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "chess"}, "FilmConfig: kind is 'chess'; expected None or one of pool, ski slope"),
        ({"frames": 9}, "FilmConfig: frames is 9; expected at least 10"),
        ({"frames": 10.5}, "FilmConfig: frames is 10.5; expected a whole number"),
        ({"height": 31}, "FilmConfig: height is 31"),
        ({"noise": -1.0}, "FilmConfig: noise is -1.0"),
        ({"numbers": [3, 20]}, "frames 3 to 20; expected 0 to 19"),
        ({"numbers": [-1]}, "frames -1 to -1; expected 0 to 19"),
    ],
)
def test_impossible_films_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        film(**settings)  # type: ignore[arg-type]


def test_reprs_of_films_show_shapes() -> None:
    assert repr(film(numbers=[1], kind="pool")) == "PuppetFilm(frames=(1, 41, 37, 3), kind='pool', told=1.00, seed=3)"


def test_the_recipes_films_are_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes.film_clips, "CACHE", tmp_path)
    data = Films("test", films=14, size=32)
    assert [int(data[i]["label"]) for i in range(14)] == [*range(12), 0, 1]
    assert [int(data[i]["length"]) for i in (0, 11, 12)] == [LENGTHS[0], LENGTHS[0], LENGTHS[1]]
    sample = data[13]
    what = FilmConfig(seed=FIRST_SEED["test"] + 13, frames=80, height=32, width=32, kind=FILM_CLASSES[1])
    np.testing.assert_array_equal(sample["frames"], render_film(what, range(2, 80, 4)).frames.transpose(0, 3, 1, 2))
    monkeypatch.setattr(recipes.film_clips, "render_film", None)
    np.testing.assert_array_equal(Films("test", films=14, size=32)[13]["frames"], sample["frames"])
    assert all(first % 36 == 0 for first in FIRST_SEED.values())


def test_whole_films_are_written_as_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = write_films(tmp_path, "test", films=2, size=32)
    assert [path.parent.name for path in found] == list(PLACES[:2])
    frames = np.stack([frame.data for frame in read_video(found[1])])
    what = FilmConfig(seed=FIRST_SEED["test"] + 1, frames=40, height=32, width=32, kind=PLACES[1])
    assert np.abs(frames.astype(int) - render_film(what).frames).mean() < 6
    monkeypatch.setattr(recipes.film_clips, "render_film", None)
    assert write_films(tmp_path, "test", films=2, size=32) == found
