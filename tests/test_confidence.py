"""What audits claim of a mean: by hand, and by thousands of simulated scenes with skewed errors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from saccade.stream.confidence import STAKES, Alarm, log_evidence, lower_end, upper_end

Draw = Callable[[np.random.Generator, tuple[int, ...]], npt.NDArray[np.float64]]
# Squared errors with a mean of 1: of whole frames, long-tailed, and of one cell in 16, in which all of it may lie.
FAMILIES: dict[str, Draw] = {
    "always the same": lambda rng, shape: np.ones(shape),
    "normal": lambda rng, shape: np.abs(rng.normal(1, 0.2, shape)),
    "exponential": lambda rng, shape: rng.exponential(size=shape),
    "lognormal": lambda rng, shape: rng.lognormal(-(1.5**2) / 2, 1.5, shape),
    "one cell in 16": lambda rng, shape: 16.0 * (rng.random(shape) < 1 / 16),
    "two cells in 16, lognormal": lambda rng, shape: 8 * (rng.random(shape) < 1 / 8) * rng.lognormal(-0.5, 1, shape),
}
each_family = pytest.mark.parametrize("family", FAMILIES)


def first_alarms(samples: npt.NDArray[np.float64], bound: float, confidence: float) -> list[int]:
    """Of every row, the number of the sample (from 1) that raises the first alarm; one more than there are for none."""
    found = []
    for row in samples:
        alarm = Alarm(bound, confidence)
        found.append(next((index for index, sample in enumerate(row, 1) if alarm.add(sample)), len(row) + 1))
    return found


def test_the_evidence_is_the_mean_of_every_gamblers_money() -> None:
    samples, mean = [0.5, 3.0, 0.0, 2.5], 1.25
    money = []
    for stake in STAKES:
        held = 1.0
        for sample in samples:
            held = held * (1 - stake) + held * stake * sample / mean
        money.append(held)
    assert float(log_evidence(samples, mean)) == pytest.approx(math.log(sum(money) / len(money)), rel=1e-12)


def test_the_evidence_of_a_fair_game_is_1_on_average() -> None:
    """Over all sequences of three tosses of 0 or 2, exactly."""
    games = np.array(list(itertools.product([0.0, 2.0], repeat=3)))
    assert np.exp(log_evidence(games, 1.0)).mean() == pytest.approx(1.0, rel=1e-12)


def test_the_lower_end_is_where_the_evidence_is_enough() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 3, 16):
        samples = list(rng.exponential(size=count))
        low = lower_end(samples, 0.9)
        assert 0 < low < sum(samples) / count
        assert math.exp(float(log_evidence(samples, low))) == pytest.approx(10, rel=1e-6)
        assert lower_end([4 * sample for sample in samples], 0.9) == pytest.approx(4 * low, rel=1e-9)
    assert lower_end([], 0.9) == lower_end([0.0, 0.0], 0.9) == 0
    assert lower_end([0.1, math.inf], 0.9) == math.inf
    assert lower_end([1.0] * 400, 0.9) > 0.9


@each_family
def test_the_lower_end_is_over_the_mean_less_often_than_promised(family: str) -> None:
    rng = np.random.default_rng(1)
    for confidence, count in ((0.9, 4), (0.9, 16), (0.99, 16)):
        samples = FAMILIES[family](rng, (20_000, count))
        over = log_evidence(samples, 1.0) >= -math.log1p(-confidence)
        assert over.mean() <= 1 - confidence
        for row in samples[:10]:
            assert (lower_end(list(row), confidence) > 1 - 1e-9) == bool(
                log_evidence(row, 1.0) >= -math.log1p(-confidence)
            )


@each_family
def test_false_alarms_are_rarer_than_promised_in_scenes_at_the_very_bound(family: str) -> None:
    """Counted over whole scenes with a new watch after every alarm: alarms per audit are at most 1 - confidence."""
    rng = np.random.default_rng(2)
    for confidence in (0.9, 0.98):
        alarms = audits = 0
        for _ in range(150):
            alarm = Alarm(1.0, confidence)
            raised = [alarm.add(sample) for sample in FAMILIES[family](rng, (200,))]
            alarms, audits = alarms + sum(raised), audits + len(raised)
        assert alarms / audits <= 1 - confidence


@each_family
def test_quiet_scenes_raise_hardly_any_alarm(family: str) -> None:
    """Half the error that is allowed, so a quarter of its square: an alarm in ten thousand audits, not in a hundred."""
    rng = np.random.default_rng(3)
    late = [index <= 100 for index in first_alarms(0.25 * FAMILIES[family](rng, (300, 100)), 1.0, 0.99)]
    assert sum(late) <= 0.05 * len(late)


@pytest.mark.parametrize(
    ("family", "within"),
    [("always the same", 4), ("normal", 5), ("exponential", 11), ("lognormal", 22), ("one cell in 16", 110)],
)
def test_an_error_that_doubles_beyond_what_is_allowed_is_found(family: str, within: int) -> None:
    """From half of what is allowed to twice: the alarm comes within so many audits in 19 scenes of 20."""
    rng = np.random.default_rng(4)
    draw = FAMILIES[family]
    scenes = np.concatenate([0.25 * draw(rng, (300, 40)), 4 * draw(rng, (300, 150))], 1)
    delays = [first - 40 for first in first_alarms(scenes, 1.0, 0.99) if first > 40]
    assert len(delays) >= 294
    assert np.quantile(delays, 0.95) <= within


def test_an_alarm_begins_anew_and_asks_for_no_error_where_none_is_allowed() -> None:
    alarm = Alarm(1.0, 0.9)
    assert [alarm.add(100.0) for _ in range(3)] == [True, True, True]
    assert not alarm.add(1.0)
    assert Alarm(1.0, 0.9).add(math.inf)
    exact = Alarm(0.0, 0.9)
    assert [exact.add(sample) for sample in (0.0, 0.0, 1e-12)] == [False, False, True]


@pytest.mark.parametrize(("family", "least"), [("normal", 0.97), ("exponential", 0.96), ("lognormal", 0.88)])
def test_the_upper_end_is_about_what_it_says(family: str, least: float) -> None:
    """At a confidence of 0.99 and 16 samples it is over the mean this often: less than said where skewed."""
    rng = np.random.default_rng(5)
    over = [upper_end(list(row), 0.99) >= 1 for row in FAMILIES[family](rng, (300, 16))]
    assert sum(over) / len(over) >= least


def test_the_upper_end_of_many_samples_is_that_of_a_normal_mean() -> None:
    values = np.random.default_rng(6).normal(5, 2, 2000)
    for confidence, deviations in ((0.9, 1.2816), (0.99, 2.3263)):
        beyond = (upper_end(list(values), confidence) - values.mean()) / (values.std(ddof=1) / 2000**0.5)
        assert beyond == pytest.approx(deviations, rel=0.1)


def test_the_upper_end_is_unknown_where_samples_do_not_tell() -> None:
    for samples in ([], [1.0], [0.0] * 9, [2.0, 2.0], [1.0, math.inf]):
        assert upper_end(samples, 0.99) == math.inf
    samples = [1.0, 2.0, 1.5, 1.2, 0.9, 1.1]
    assert upper_end(samples, 0.9) == upper_end(samples, 0.9) > 1.28
    assert upper_end(samples, 0.99) > upper_end(samples, 0.9)
