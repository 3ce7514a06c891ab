"""The order of visits: the authors' at T = 10, and what holds for every T."""

from __future__ import annotations

from itertools import pairwise

import pytest

from saccade.errors import InputError
from saccade.exits import frames_to_visit, visiting_order
from saccade.zoo.tsn import segment_frames

AUTHORS = (5, 0, 9, 2, 7, 4, 6, 3, 8, 1)


def widest(places: list[int]) -> int:
    return max((b - a for a, b in pairwise(sorted(places))), default=0)


def test_ten_frames_are_visited_as_the_authors_do() -> None:
    assert visiting_order(10) == AUTHORS


@pytest.mark.parametrize("frames", [*range(1, 40), 63, 100, 127])
def test_coarse_to_fine_visits_each_place_once_and_halves_the_widest_gap(frames: int) -> None:
    order = visiting_order(frames)
    assert sorted(order) == list(range(frames))
    assert list(order[:3]) == list(dict.fromkeys((frames // 2, 0, frames - 1)))[:3]
    for seen in range(3, frames):
        before, place = list(order[:seen]), order[seen]
        below, above = max(p for p in before if p < place), min(p for p in before if p > place)
        assert above - below == widest(before)
        assert abs((above - place) - (place - below)) <= 1


@pytest.mark.parametrize(("frames", "wanted"), [(1, (0,)), (2, (1, 0)), (3, (1, 0, 2)), (4, (2, 0, 3, 1))])
def test_few_frames(frames: int, wanted: tuple[int, ...]) -> None:
    assert visiting_order(frames) == wanted


def test_other_orders() -> None:
    assert visiting_order(7, "sequential") == tuple(range(7))
    drawn = [visiting_order(7, "random", seed=seed) for seed in range(50)]
    assert all(sorted(order) == list(range(7)) for order in drawn)
    assert len(set(drawn)) > 40
    assert drawn == [visiting_order(7, "random", seed=seed) for seed in range(50)]
    assert {order[0] for order in drawn} == set(range(7))


@pytest.mark.parametrize(("length", "frames"), [(300, 10), (7, 10), (1, 10), (1, 1), (11, 4), (16, 16)])
def test_frames_are_the_middles_of_equal_parts_in_the_order_of_visits(length: int, frames: int) -> None:
    places = visiting_order(frames)
    visits = frames_to_visit(length, frames)
    assert [visits[places.index(k)] for k in range(frames)] == segment_frames(length, frames)


def test_wrong_requests_are_named() -> None:
    with pytest.raises(InputError, match="an order of 0 frames"):
        visiting_order(0)
    with pytest.raises(InputError, match="there is no order 'backwards'; expected one of coarse-to-fine, sequential"):
        visiting_order(3, "backwards")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a video of 0 frames"):
        frames_to_visit(0, 3)
