"""benchmarks.records and benchmarks.reduced: what their figures mean."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

import saccade
from benchmarks import records, reduced
from saccade.kernels.cpu import native_module


def row(clip: str, record: str, macs: float, ms: float, error: float, held: int) -> dict[str, Any]:
    return {
        "network": "n",
        "clip": clip,
        "record": record,
        "tolerance": 0.1,
        "macs_ratio": macs,
        "ms": ms,
        "kept_bytes": 100,
        "state_bytes": held,
        "relative_error": {"mean": error},
    }


def test_forms_are_compared_pair_by_pair_with_the_base() -> None:
    rows = [
        row("a", "reference", 4.0, 10.0, 0.2, 200),
        row("b", "reference", 2.0, 20.0, 0.0, 200),
        row("a", "accumulated", 2.0, 20.0, 0.1, 110),
        row("b", "accumulated", 2.0, 5.0, 0.0, 120),
    ]
    base, other = records.summary(rows)
    assert [base[key] for key in ("macs", "ms", "error", "state_bytes")] == pytest.approx([1.0] * 4)
    assert other["pairs"] == 2
    assert other["macs"] == pytest.approx(math.sqrt(2.0 * 1.0))  # macs spent: twice as many on a, as many on b
    assert other["ms"] == pytest.approx(math.sqrt(2.0 * 0.25))
    assert other["error"] == pytest.approx(0.5)  # b has no error to compare
    assert other["state_over_kept"] == pytest.approx(1.15)


@pytest.mark.skipif(native_module() is None, reason="needs the native engine")
def test_a_tolerance_is_found_that_leaves_the_share_asked_for() -> None:
    torch.manual_seed(0)
    layers = [layer for _ in range(4) for layer in (nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())]
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *layers)
    plan = saccade.make_plan(model, torch.zeros(1, 3, 40, 40))
    wide = reduced.macs_fraction(plan, 1e-4, "float32")
    for wanted in (0.8 * wide, 0.5 * wide):
        found = reduced.find_tolerance(plan, wanted, "float32")
        assert reduced.macs_fraction(plan, found, "float32") == pytest.approx(wanted, abs=0.08)
        assert reduced.difference_reference(plan, found) < reduced.AGREES
