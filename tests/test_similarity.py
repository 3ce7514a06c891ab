"""How alike feature maps are: against loops in float64, laws, and what does not apply."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.reduce import Similarity, Thresholds, map_redundancy, similarity

THRESHOLDS = Thresholds(cc=0.3, rmse=0.2)
SHAPES = [(7, 5, 9, 11), (2, 3, 1, 2), (13, 2, 5, 1), (3, 17, 4, 7), (1, 4, 3, 3), (6, 1, 3, 5)]


def maps(*shape: int, seed: int = 0, likeness: float = 0.8) -> Tensor:
    """Maps that share a picture, so that correlations lie all over, with scales and offsets of their own."""
    draw = torch.Generator().manual_seed(seed)
    channels, frames, height, width = shape
    shared = torch.randn(1, 1, height, width, generator=draw) * likeness
    gain = torch.randn(channels, 1, 1, 1, generator=draw)
    own = torch.randn(channels, frames, height, width, generator=draw)
    return gain * shared + 0.3 * own + torch.randn(channels, 1, 1, 1, generator=draw)


def correlation(a: Any, b: Any) -> float:
    flat = [np.ptp(each) == 0 for each in (a, b)]
    if any(flat):
        return float(all(flat))
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def by_loops(values: Tensor, dimension: str) -> dict[str, float] | None:
    """The definition, pair by pair."""
    x = values.double().numpy()
    groups = list(x) if dimension == "time" else list(x.transpose(1, 0, 2, 3))
    members = len(groups[0])
    if members < 2:
        return None
    span = x.max() - x.min() or 1.0
    cc, rmse, nearest, flagged = [], [], [], []
    for group in groups:
        best, alike = [-1.0] * members, [False] * members
        for i, j in combinations(range(members), 2):
            cc.append(correlation(group[i], group[j]))
            rmse.append(np.sqrt(((group[i] - group[j]) ** 2).mean()) / span)
            for k in (i, j):
                best[k] = max(best[k], cc[-1])
                alike[k] |= bool(cc[-1] > THRESHOLDS.cc and rmse[-1] < THRESHOLDS.rmse)
        nearest += best
        flagged += alike
    pairs = list(zip(cc, rmse, strict=True))
    return {
        "pairs": len(pairs),
        "cc": np.mean(cc),
        "cc_absolute": np.mean(np.abs(cc)),
        "cc_nearest": np.mean(nearest),
        "rmse": np.mean(rmse),
        "correlated_pairs": np.mean([c > THRESHOLDS.cc for c in cc]),
        "redundant_pairs": np.mean([c > THRESHOLDS.cc and r < THRESHOLDS.rmse for c, r in pairs]),
        "redundant_maps": np.mean(flagged),
    }


def best_of_first_half(values: Tensor) -> list[float]:
    """R^2 of a least-squares line from each channel of the first half to each of the second; the best."""
    x = values.double().flatten(1).numpy()
    half = (len(x) + 1) // 2
    found = []
    for target in x[half:]:
        r2 = []
        for given in x[:half]:
            slope, offset = np.polyfit(given, target, 1)
            r2.append(1 - ((target - slope * given - offset) ** 2).sum() / ((target - target.mean()) ** 2).sum())
        found.append(max(r2))
    return found


def check(found: Similarity | None, expected: dict[str, float] | None) -> None:
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert vars(found) == pytest.approx(expected, abs=1e-9)


# --- the definition


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_what_loops_over_pairs_give(shape: tuple[int, int, int, int]) -> None:
    x = maps(*shape)
    found = map_redundancy(x, thresholds=THRESHOLDS)
    assert found.shape == shape
    check(found.time, by_loops(x, "time"))
    check(found.channel, by_loops(x, "channel"))
    for alike in (found.time, found.channel):  # awkward, but not such that all or nothing passes
        assert alike is None or shape[2] * shape[3] < 9 or 0 < alike.redundant_pairs < 1


def test_the_second_half_is_rebuilt_as_by_least_squares() -> None:
    for channels in (2, 3, 8):
        x = maps(channels, 3, 5, 7, seed=channels)
        found = map_redundancy(x, thresholds=Thresholds(cc=0.7)).rebuilt
        assert found is not None
        expected = best_of_first_half(x)
        assert len(expected) == channels // 2
        assert found.r2 == pytest.approx(np.mean(expected), abs=1e-9)
        assert found.channels == np.mean(np.sqrt(expected) > 0.7)


def test_one_scale_has_to_do_for_all_frames_of_the_clip() -> None:
    first = maps(1, 2, 6, 6)[0]
    turned = torch.stack([first[0], -first[1]])
    found = map_redundancy(torch.stack([first, turned]) - torch.stack([first, turned]).mean((2, 3), keepdim=True))
    assert found.channel is not None
    assert found.rebuilt is not None
    assert found.channel.cc_absolute == pytest.approx(1)
    assert found.rebuilt.r2 < 0.5


def test_constant_maps_are_alike_among_themselves_only() -> None:
    x = maps(4, 3, 5, 6)
    x[1] = 0.0
    x[2] = torch.tensor([0.1, 0.7, 1 / 3])[:, None, None]
    found = map_redundancy(x, thresholds=THRESHOLDS)
    check(found.time, by_loops(x, "time"))
    check(found.channel, by_loops(x, "channel"))
    assert found.rebuilt is not None
    still = map_redundancy(torch.full((3, 4, 2, 2), 0.1))
    for alike in (still.time, still.channel):
        assert alike is not None
        assert (alike.cc, alike.rmse, alike.redundant_pairs, alike.redundant_maps) == (1, 0, 1, 1)
    assert still.rebuilt is not None
    assert (still.rebuilt.r2, still.rebuilt.channels) == (1, 1)


def test_what_varies_by_rounding_only_is_constant() -> None:
    x = maps(2, 2, 6, 6)
    x[0] = 1000 + 1e-4 * torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(1)).sign()
    assert x[0, 0].unique().numel() > 1  # 1000 and its neighbours among float32
    found = map_redundancy(x)
    assert found.channel is not None
    assert found.channel.cc == 0


# --- laws


def test_frames_that_are_the_same_are_wholly_redundant() -> None:
    x = maps(5, 1, 7, 9).expand(5, 6, 7, 9) * 100 + 3
    found = map_redundancy(x).time
    assert found is not None
    assert found.cc == pytest.approx(1, abs=1e-12)
    assert found.rmse < 1e-8
    assert (found.correlated_pairs, found.redundant_pairs, found.redundant_maps) == (1, 1, 1)


def test_correlation_does_not_depend_on_scale_and_offset() -> None:
    x = maps(6, 4, 7, 5).double()
    draw = torch.Generator().manual_seed(3)
    gain = 0.5 + torch.rand(6, 4, 1, 1, generator=draw, dtype=torch.float64)
    moved = gain * x + torch.randn(6, 4, 1, 1, generator=draw, dtype=torch.float64)
    before, after = map_redundancy(x), map_redundancy(moved)
    for dimension in ("time", "channel"):
        first, second = getattr(before, dimension), getattr(after, dimension)
        for quantity in ("cc", "cc_absolute", "cc_nearest", "correlated_pairs"):
            assert getattr(first, quantity) == pytest.approx(getattr(second, quantity), abs=1e-12)
        assert abs(first.rmse - second.rmse) > 1e-3


def test_nothing_depends_on_the_scale_and_offset_of_the_layer() -> None:
    x = maps(6, 4, 7, 5).double()
    before, after = map_redundancy(x, thresholds=THRESHOLDS), map_redundancy(40 * x - 7, thresholds=THRESHOLDS)
    for dimension in ("time", "channel", "rebuilt"):
        assert vars(getattr(before, dimension)) == pytest.approx(vars(getattr(after, dimension)), abs=1e-12)


def test_the_order_of_frames_and_channels_does_not_matter() -> None:
    x = maps(5, 6, 4, 3)
    before = map_redundancy(x, thresholds=THRESHOLDS)
    after = map_redundancy(x.flip(0, 1), thresholds=THRESHOLDS)
    for dimension in ("time", "channel"):
        assert vars(getattr(before, dimension)) == pytest.approx(vars(getattr(after, dimension)), abs=1e-12)


def test_large_offsets_cancel_no_digits() -> None:
    x = maps(3, 4, 8, 8).double()
    near, far = map_redundancy(x).time, map_redundancy((x + 1e6).float()).time
    assert near is not None
    assert far is not None
    assert near.rmse == pytest.approx(far.rmse, rel=0.1)  # float32 holds such maps to 0.06


@pytest.mark.parametrize("chunk", [1, 37, 250, 2000])
def test_chunks_change_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = maps(9, 5, 6, 7)
    whole = map_redundancy(x, thresholds=THRESHOLDS)
    monkeypatch.setattr(similarity, "CHUNK", chunk)
    pieces = map_redundancy(x, thresholds=THRESHOLDS)
    for dimension in ("time", "channel", "rebuilt"):
        assert vars(getattr(whole, dimension)) == pytest.approx(vars(getattr(pieces, dimension)), abs=1e-12)


# --- what does not apply, and what is refused


def reasons(*shape: int, **options: Any) -> dict[Any, str]:
    found = map_redundancy(maps(*shape), **options)
    missing = {d for d in ("time", "channel") if getattr(found, d) is None}
    assert missing == set(found.reasons)
    assert (found.rebuilt is None) == ("channel" in missing)
    return found.reasons


def test_a_dimension_that_does_not_apply_says_why() -> None:
    assert reasons(3, 2, 4, 4) == {}
    assert reasons(1, 2, 4, 4) == {"channel": "one channel"}
    assert reasons(3, 1, 4, 4) == {"time": "one frame"}
    assert reasons(1, 1, 4, 4) == {"channel": "one channel", "time": "one frame"}
    assert reasons(3, 2, 1, 1) == {"time": "maps of one position", "channel": "maps of one position"}
    assert reasons(3, 2, 4, 4, frames_in_time=False) == {"time": "its pictures are not the clip's frames"}


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match=r"\(3, 4, 5\); expected \(C, T, H, W\)"):
        map_redundancy(torch.zeros(3, 4, 5))
    with pytest.raises(InputError, match="not empty"):
        map_redundancy(torch.zeros(3, 0, 4, 5))
    for bad in (float("nan"), float("inf"), -float("inf")):
        x = maps(3, 2, 4, 4)
        x[1, 0, 2, 3] = bad
        with pytest.raises(InputError, match="NaN or infinite"):
            map_redundancy(x)
    with pytest.raises(InputError, match="coefficient is 1; expected"):
        Thresholds(cc=1)
    for rmse in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="RMSE"):
            Thresholds(rmse=rmse)
