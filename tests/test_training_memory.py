"""The benchmark of training memory: what it counts, and how its rows are made."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import training_memory
from benchmarks.training_memory import in_fresh_process, study


def test_a_peak_holds_weights_gradients_momentum_and_activations() -> None:
    held = b"\1" * 2**30  # by this process, which says nothing about the other
    found = in_fresh_process("r2plus1d:tiny", "recompute", (4, 4, 56))
    del held
    stem = 4 * 8 * 4 * 28 * 28 * 4  # one of the maps kept for the gradient, in bytes
    assert 3 * found["weights"] + 3 * stem < found["peak"] < 2**30
    assert found["reduced_layers"] > 4
    assert 3 < found["loss"] < 10  # 400 classes, weights at random


def test_rows_are_medians_beside_the_dense_network(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {"dense": [200, 100, 101], "reduced": [250, 251, 20], "recompute": [130, 110, 120]}

    def measured(network: str, variant: str, sizes: tuple[int, int, int]) -> dict[str, Any]:
        assert (network, sizes) == ("r2plus1d:tiny", (8, 16, 56))
        return {"peak": peaks[variant].pop(0), "weights": 1}

    monkeypatch.setattr(training_memory, "in_fresh_process", measured)
    rows = study("r2plus1d:tiny", repeats=3, jobs=1)
    assert [(row["variant"], row["peak"]) for row in rows] == [("dense", 101), ("reduced", 250), ("recompute", 120)]
    assert [row["ratio"] for row in rows] == [1.0, 250 / 101, 120 / 101]
    assert rows[0]["clip"] == [16, 56, 56]


def test_what_fails_in_a_process_is_said() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)r2plus1d:19, dense: .*no R\(2\+1\)D '19'"):
        in_fresh_process("r2plus1d:19", "dense", (1, 4, 56))
