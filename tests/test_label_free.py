"""The tables of benchmarks.label_free: costs at equal distance, and a page that is made of the rows alone."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from benchmarks.label_free_tables import as_near_as_motion, at_distance, gain, markdown


def curve(*points: tuple[float, float]) -> list[dict[str, float]]:
    return [
        {"setting": 1.0, "macs_ratio": ratio, "mean": mean, "worst": mean, "view_error": 0.0} for ratio, mean in points
    ]


def test_costs_lie_between_the_points_by_logarithms() -> None:
    line = curve((2.0, 0.01), (8.0, 0.04))
    assert at_distance(line, 0.01) == 2.0
    assert at_distance(line, 0.02) == pytest.approx(4.0)
    assert at_distance(line, 0.04) == 8.0
    assert at_distance(line, 0.5) == 8.0
    assert at_distance(line, 0.005) is None
    assert at_distance(curve((2.0, 0.0), (8.0, 0.04)), 0.02) == 2.0  # no logarithm of an exact point


def test_a_nearer_and_cheaper_setting_counts_farther_out() -> None:
    assert at_distance(curve((9.0, 0.01), (3.0, 0.02)), 0.03) == 9.0


def row() -> dict[str, Any]:
    return {
        "network": "net",
        "clip": "a.mp4",
        "measure": "argmax",
        "tolerance": 0.02,
        "macs_ratio": 8.0,
        "seconds": 60.0,
        "holdout": {"mean": 0.01, "worst": 0.03, "within_tolerance": 0.99, "frames": 100},
        "attempts": 2,
        "curves": {
            "global": curve((2.0, 0.005), (4.0, 0.02)),
            "guess": curve((3.0, 0.02)),
            "calibrated": curve((8.0, 0.01)),
            "adapted": curve((10.0, 0.01)),
        },
        "times": {
            "engines": {
                "dense": {"mean_ms": 9.5, "mean": 0.0},
                "motion": {"mean_ms": 2.5, "mean": 0.01},
                "calibrated x 1": {"mean_ms": 1.5, "mean": 0.01},
                "calibrated x 4": {"mean_ms": 1.0, "mean": 0.02},
            },
            "motion_share": 0.25,
        },
    }


def test_gains_are_at_the_calibrated_distance() -> None:
    assert gain(row()) == pytest.approx(8 / (2 * 2**0.5))
    assert gain(row(), "guess") is None
    assert gain(row(), "adapted", of="calibrated") == 1.25


def test_the_page_tells_every_row() -> None:
    result = {"environment": {"machine": "m", "commit": "c"}, "frames": 9, "minutes": 2.0, "rows": [row()]}
    result["rows"].append(row() | {"asked": 0.01, "tolerance": 0.01})
    page = markdown(result)
    assert (
        "| net | a.mp4 | argmax | 0.02 | 8.00 | 2.83 | - | 1.25 | 0.01 | 0.03 | 99 % | 2 | 60 | 8.00 | 2.00 |" in page
    )
    assert "| net | a.mp4 | argmax | 0.01 | 8.00 | 0.01, 0.03 | 8.00 | - | 2.83 |" in page
    assert "| net | a.mp4 | 1.5 | 9.5 | 2.5 | 0.25 | 0.01 | 0.01 | 1.5 |" in page
    assert "| net | a.mp4 | global | 1: 2.00 at 0.005; 1: 4.00 at 0.02 |" in page
    for told in ("static cameras, 1 network", "macs / 2.83 on average", "worse in 0 of 1", "in 1 of 1 pairs"):
        assert told in page
    assert "moving cameras" not in page
    for above, below in itertools.pairwise(line.count("|") for line in page.splitlines()):
        assert above == below or not (above and below), "a row has other columns than its table's head"


def test_a_stream_that_is_farther_off_than_the_motion_detector_does_not_count() -> None:
    found = row()
    assert as_near_as_motion(found) == {"mean_ms": 1.5, "mean": 0.01}
    found["times"]["engines"]["motion"]["mean"] = 0.001
    assert as_near_as_motion(found) is None
