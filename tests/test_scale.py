"""The model of cost of docs/scale.md."""

from __future__ import annotations

import json

import pytest

from benchmarks.scale import Constants, table

LINES = [
    json.dumps({"path": "a", "ms": 110.0, "decode_ms": 30.0, "index_ms": 10.0, "decoded": 20, "frames": 4}),
    json.dumps({"path": "b", "error": "is damaged", "ms": 5000.0, "decode_ms": 1.0, "index_ms": 1.0, "decoded": 9}),
    json.dumps({"path": "cc", "ms": 250.0, "decode_ms": 50.0, "index_ms": 20.0, "decoded": 60, "frames": 6}),
]


def test_the_parts_of_a_video_sum_to_its_time() -> None:
    constants = Constants.of(LINES)
    assert constants.video_ms == pytest.approx((110 + 250) / 2)
    assert constants.open_ms == 15
    assert constants.decode_ms == 1
    assert constants.look_ms == pytest.approx((70 + 180) / 10)
    assert constants.line_bytes == len(LINES[0]) + 0.5
    with pytest.raises(ValueError, match="no video of the sample has an answer"):
        Constants.of(LINES[1:2])


def test_the_slower_of_workers_and_driver_counts() -> None:
    constants = Constants.of(LINES)
    assert constants.seconds(1000, workers=9, start_up=7, line_ms=1) == pytest.approx(7 + 20)
    assert constants.seconds(1000, workers=900, start_up=7, line_ms=1) == pytest.approx(7 + 1)
    found = table(constants, videos=1_000_000, cores=2, start_up=7, line_ms=1).splitlines()
    assert "| 1 machine of 2 cores | 2 | 25.00 | 11.1 | 1% |" in found
    assert "| 100 machines of 2 cores | 200 | 0.28 | 993.0 | 99% |" in found
