"""The pieces of the kernel benchmark that could be wrong without anybody seeing it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import kernels
from benchmarks.kernel_shapes import MASKS, WHOLE, Shape, active, record, thin
from saccade.kernels import cpu


def shape(size: int, into: int, out: int, kernel: int = 1, stride: int = 1, pad: int = 0, groups: int = 1) -> Shape:
    return Shape((size, size), (into, out), *((each, each) for each in (kernel, stride, pad, 1)), groups)


def test_shapes_are_those_of_the_convolutions_that_run_as_often_as_they_run() -> None:
    with torch.device("meta"):
        again = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), again, again, nn.ZeroPad2d(1), nn.Conv2d(8, 6, 1)
        )
    counts = record(model, (1, 3, 11, 15))
    first = Shape((11, 15), (3, 8), (3, 3), (2, 2), (0, 0), (1, 1), 1)
    twice = Shape((5, 7), (8, 8), (3, 3), (1, 1), (1, 1), (1, 1), 8)
    last = Shape((7, 9), (8, 6), (1, 1), (1, 1), (0, 0), (1, 1), 1)
    assert counts == {first: 1, twice: 2, last: 1}
    assert [each.kind for each in (first, twice, last)] == ["full", "depthwise", "pointwise"]
    assert [each.positions for each in (first, twice, last)] == [35, 35, 63]
    assert [each.macs for each in (first, twice, last)] == [35 * 8 * 27, 35 * 8 * 9, 63 * 48]


def test_nearly_the_same_shapes_are_measured_once_but_all_of_the_whole_network() -> None:
    big, alike, other = shape(30, 64, 64), shape(28, 60, 64), shape(28, 64, 256)
    network = [shape(28, 64, 60), shape(28, 62, 64)]
    assert list(thin({"a": Counter([alike, other]), "b": Counter([big, alike])}).items()) == [(other, "a"), (big, "b")]
    assert list(thin({"a": Counter([big, other]), WHOLE: Counter(network)})) == [other, *network]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("size", [1, 4, 7, 64])
def test_masks_have_exactly_the_density_and_ascend(mask: str, size: int) -> None:
    for density in (1.0, 1 / 2.51, 1 / 7.92, 1 / 50):
        chosen = active(shape(size, 1, 1), density, mask)
        assert len(chosen) == max(1, round(density * size * size))
        assert bool((chosen.diff() > 0).all())
        assert chosen.dtype == torch.int32
        assert 0 <= int(chosen.min()) <= int(chosen.max()) < size * size


def test_blobs_hang_together_and_random_positions_do_not() -> None:
    def neighbours(mask: str) -> float:
        on = torch.zeros(64 * 64, dtype=torch.bool)
        on[active(shape(64, 1, 1), 1 / 4.33, mask).long()] = True
        on = on.view(64, 64)
        return float((on[:, 1:] & on[:, :-1]).sum() / on.sum())

    assert neighbours("blobs") > 0.7
    assert neighbours("random") < 0.35


def row(layer: str, dtype: str, reduction: float, dense: float, sparse: float, **more: Any) -> dict[str, Any]:
    found = {"layer": layer, "dtype": dtype, "reduction": reduction, "dense_ms": dense, "sparse_ms": sparse}
    found |= {"mask": "random", "kind": "full", "macs": 100, "density": 1 / reduction, "error": 1e-7, "active": 500}
    return {**found, "realised": dense / sparse / reduction, **more}


def test_the_summary_counts_what_it_says() -> None:
    rows = [
        row("a", "float32", 2.51, 5.02, 2.0),
        row("b", "float32", 2.51, 2.51, 2.0, kind="depthwise", error=3e-7),
        row("c", "float32", 2.51, 2.51, 10.0, active=47),
        row("a", "bfloat16", 2.51, 5.02, 0.5),
    ]
    found = kernels.summary(rows)
    whole, full, depthwise, _, _ = found["realised"]
    assert (whole["kind"], whole["rows"], whole["median"]) == ("any", 3, pytest.approx(0.5))
    assert (full["kind"], full["rows"], full["median"]) == ("full", 2, pytest.approx(0.55))
    assert (depthwise["kind"], depthwise["rows"]) == ("depthwise", 1)
    assert whole["minimum_counted"] == pytest.approx(0.5)
    assert whole["share_counted"] == pytest.approx(2 / 3)
    assert whole["share_from_0.85"] == pytest.approx(1 / 3)
    assert found["bfloat16_over_float32"] == {"2.51": 4.0}
    assert found["largest_error"] == {"float32": 3e-7, "bfloat16": 1e-7}


def test_table_2_weighs_a_layer_by_how_often_it_occurs() -> None:
    rows = [
        row("a", "float32", 4.33, 10.0, 2.0),
        row("b", "float32", 4.33, 1.0, 1.0),
        row("c", "float32", 4.33, 9.0, 9.0),
    ]
    (found,) = kernels.table2(rows, {"a": 1, "b": 4})
    assert (found["dense_ms"], found["sparse_ms"], found["convolutions"], found["shapes"]) == (14.0, 6.0, 5, 2)
    assert found["speed_up"] == pytest.approx(14 / 6)
    assert found["macs_ratio"] == pytest.approx(4.33)
    assert found["paper_speed_up"] == 1.9


def test_runs_take_turns() -> None:
    order: list[str] = []
    times = kernels.take_turns([lambda: order.append("a"), lambda: order.append("b")], 0.0, least=4)
    assert len(times) == 2
    changes = [name for name, before in zip(order, ["", *order], strict=False) if name != before]
    assert "".join(changes) == "abababa"  # a b to find the length of a burst, then a b, b a, a b, b a


@pytest.mark.skipif(cpu.native_module() is None, reason=f"no native module: {cpu.why_missing()}")
@pytest.mark.parametrize("dtype", kernels.DTYPES)
def test_every_dense_form_and_every_mask_give_the_same(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in (shape(9, 8, 70, 3, 2, 1), shape(6, 16, 16, 5, 1, 2, groups=16), shape(2, 3, 5)):
        for index in range(4):  # two of the forms are not there in bfloat16 on processors without it
            monkeypatch.setattr(kernels, "fastest", lambda forms, index=index: list(forms)[index % len(forms)])
            monkeypatch.setattr(kernels, "BUFFER_BYTES", 4 * 128 * 7)
            with torch.inference_mode():
                rows = kernels.measure("x", each, dtype, isa=cpu.choose_isa(), seconds=0.0)
            assert len(rows) == (1 if each.positions < kernels.SMALL else 9)
            assert all(0 <= row["error"] < kernels.LIMITS[dtype] for row in rows)
            assert rows[0]["active"] == each.positions
