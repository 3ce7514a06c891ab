"""Redundancy of feature maps: against loops in float64, laws, and what is met in a network."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.errors import InputError, ModelError
from saccade.reduce import MapRedundancy, Similarity, Thresholds, map_redundancy, measure_redundancy, similarity

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


# --- networks


class Clips(nn.Module):
    """A network of clips: 3d convolutions, one that halves time, a 2d one on frames and one on all of time."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 5, (1, 3, 3), padding=(0, 1, 1))
        self.down = nn.Conv3d(5, 7, 3, stride=2, padding=1)
        self.frame = nn.Conv2d(7, 4, 1)
        self.last = nn.Conv2d(4, 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.stem(x))
        x = F.relu_(self.down(x))
        x = self.frame(F.interpolate(x, scale_factor=(2, 1, 1))[0].transpose(0, 1))
        return self.last(x.mean(0, keepdim=True))


class Pictures(nn.Module):
    """A network of pictures that writes into what its convolutions put out, and calls one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.again = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.line = nn.Conv1d(6, 6, 1)
        self.up = nn.ConvTranspose2d(6, 6, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.stem(x))
        x = self.again(x).mul_(0)
        x = self.again(x + 1)
        return self.up(self.line(x.flatten(2)).view_as(x))


def seeded(make: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return make().eval()


def clip_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def same(found: MapRedundancy, expected: MapRedundancy) -> None:
    assert (found.shape, found.reasons) == (expected.shape, expected.reasons)
    for part in ("time", "channel", "rebuilt"):
        first, second = getattr(found, part), getattr(expected, part)
        assert (first is None) == (second is None)
        assert first is None or vars(first) == pytest.approx(vars(second), abs=1e-6)


@torch.no_grad()
def test_a_network_of_clips_is_compared_at_every_convolution() -> None:
    network, clips = seeded(Clips), [clip_of(1, 3, 6, 9, 7, seed=seed) for seed in (1, 2)]
    found = measure_redundancy(network, clips, thresholds=THRESHOLDS)
    assert [layer.name for layer in found.layers] == ["stem", "down", "frame", "last"]
    assert [layer.shape for layer in found.layers] == [(5, 6, 9, 7), (7, 3, 5, 4), (4, 6, 5, 4), (2, 1, 5, 4)]
    assert found.layers[3].reason("time") == "one frame"
    assert found.layers[2].reason("time") is None
    for index, clip in enumerate(clips):
        stem = network.stem(clip)
        down = network.down(F.relu(stem))
        frame = network.frame(F.interpolate(F.relu(down), scale_factor=(2, 1, 1))[0].transpose(0, 1))
        for layer, out in zip(found.layers, (stem[0], down[0], frame.transpose(0, 1)), strict=False):
            same(layer.clips[index], map_redundancy(out, thresholds=THRESHOLDS))


@torch.no_grad()
@pytest.mark.parametrize("held_bytes", [1, 6 * 4 * 6 * 9 * 7, 1 << 30])
@pytest.mark.parametrize("exported", [False, True])
def test_a_network_of_pictures_sees_one_frame_at_a_time(held_bytes: int, exported: bool) -> None:
    network, clip = seeded(Pictures), clip_of(4, 3, 9, 7)
    model = torch.export.export(network, (clip[:1],)) if exported else network  # takes a batch of one only
    found = measure_redundancy(model, [clip], thresholds=THRESHOLDS, held_bytes=held_bytes)
    assert [layer.name for layer in found.layers] == ["stem", "again", "again (call 2)"]  # no line, nothing transposed
    stem = network.stem(clip)
    for layer, x in zip(
        found.layers, (stem, network.again(F.relu(stem)), network.again(torch.ones(4, 6, 9, 7))), strict=True
    ):
        same(layer.clips[0], map_redundancy(x.transpose(0, 1), thresholds=THRESHOLDS))


def test_maps_are_held_as_far_as_there_is_room() -> None:
    class Counts(Pictures):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            assert not torch.is_grad_enabled()
            return super().forward(x)

    frames, layer = 4, 4 * 6 * 4 * 9 * 7  # bytes of the maps of one layer
    for held_bytes, passes in ((1, 3), (2 * layer - 1, 3), (2 * layer, 2), (3 * layer, 1)):
        network = seeded(Counts)
        measure_redundancy(network, [clip_of(frames, 3, 9, 7)], held_bytes=held_bytes)
        assert network.calls == 1 + passes * frames


def test_a_convolution_that_is_no_module_counts() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(clip_of(4, 3, 3, 3))

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(F.conv2d(x, self.kernel)[:, :3], 2 * self.kernel)

    found = measure_redundancy(Functional().eval(), [clip_of(2, 3, 8, 8)])
    assert [layer.name for layer in found.layers] == ["kernel", "computed weights"]


def test_pictures_that_are_not_the_clips_frames_have_no_time() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            if x.ndim == 5:
                return self.conv(torch.cat([x[0].transpose(0, 1)] * 2))
            return self.conv(torch.cat([x, x.flip(3)]))

    for clip in (clip_of(1, 3, 3, 5, 5), clip_of(3, 3, 5, 5)):
        layer = measure_redundancy(Parts().eval(), [clip]).layers[0]
        assert layer.shape == (2, 6, 5, 5)
        assert layer.reason("time") == "its pictures are not the clip's frames"
        assert layer.reason("channel") is None


def test_figures_are_means_over_layers_and_ranges_over_clips() -> None:
    network = seeded(Clips)
    clips = [clip_of(1, 3, 6, 9, 7, seed=seed) for seed in range(3)]
    found = measure_redundancy(network, clips)
    assert found.clips == 3
    for dimension in ("time", "channel"):
        rows = [[s.rmse for s in layer.similarities(dimension)] for layer in found.layers]
        assert [len(row) for row in rows] == [3, 3, 3, 0 if dimension == "time" else 3]
        over = np.mean([row for row in rows if row], 0)
        assert found.spread(dimension, "rmse") == pytest.approx((over.mean(), over.min(), over.max()))
        first = found.layers[0].spread(dimension, "rmse")
        assert first == pytest.approx((np.mean(rows[0]), min(rows[0]), max(rows[0])))
    assert found.layers[3].spread("time", "rmse") is None
    one = measure_redundancy(nn.Conv2d(3, 1, 1).eval(), [clip_of(1, 3, 5, 5)])
    assert [one.spread("time", "cc"), one.spread("channel", "cc"), one.rebuilt("r2")] == [None] * 3


def test_a_still_clip_is_redundant_in_time_and_a_busy_one_is_not() -> None:
    network = seeded(Clips)
    still = clip_of(1, 3, 1, 9, 7).expand(1, 3, 6, 9, 7)
    found = measure_redundancy(network, [still, clip_of(1, 3, 6, 9, 7)]).layers[0]
    quiet, busy = found.similarities("time")
    assert quiet.redundant_pairs == 1
    assert busy.redundant_pairs < 0.1


def left_on(network: nn.Module) -> list[Any]:
    return [
        (name, sorted(vars(module)), len(module._forward_hooks), len(module._forward_pre_hooks), module.training)
        for name, module in network.named_modules()
    ]


def test_nothing_is_left_on_the_network_even_when_it_raises() -> None:
    class Raises(Clips):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            raise ValueError("in the end")

    network, clip = seeded(Raises), clip_of(1, 3, 6, 9, 7)
    before, weights = left_on(network), {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(InputError, match=r"\(1, 3, 6, 9, 7\): ValueError: in the end"):
        measure_redundancy(network, [clip])
    assert left_on(network) == before
    assert all(torch.equal(weights[k], v) for k, v in network.state_dict().items())
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None
    assert torch.is_grad_enabled()


def test_what_cannot_be_measured_is_refused() -> None:
    clip = clip_of(2, 3, 6, 6)
    conv = nn.Conv2d(3, 4, 3).eval()
    with pytest.raises(ModelError, match="runs no 2d or 3d convolution"):
        measure_redundancy(nn.Flatten().eval(), [clip])
    with pytest.raises(InputError, match="no clip"):
        measure_redundancy(conv, [])
    with pytest.raises(InputError, match=r"\(3, 6, 6\); expected"):
        measure_redundancy(conv, [clip[0]])
    with pytest.raises(InputError, match="clip 2 is"):
        measure_redundancy(conv, [clip, clip[:1]])
    with pytest.raises(InputError, match="training mode"):
        measure_redundancy(nn.Conv2d(3, 4, 3), [clip])
    with pytest.raises(InputError, match=r"does not take an input \(1, 3, 6, 6\): RuntimeError"):
        measure_redundancy(nn.Conv2d(2, 4, 3).eval(), [clip])
    clip[1, 0, 0, 0] = float("nan")
    named = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    with pytest.raises(InputError, match=r"^0: maps reach from nan"):
        measure_redundancy(named, [clip])


def test_a_network_that_chooses_its_convolutions_is_refused() -> None:
    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)
            self.size = nn.Conv2d(2, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            if x.flatten()[0] == 7:
                return self.size(self.one(x)[..., :2])
            return self.size((self.one if x.flatten()[0] < 1 else self.two)(x))

    network, clip = Chooses().eval(), torch.zeros(2, 3, 4, 4)
    assert len(measure_redundancy(network, [clip]).layers) == 2
    other = clip + 2
    with pytest.raises(InputError, match=r"clip 2 ran other convolutions than the first \(one, two\)"):
        measure_redundancy(network, [clip, other])
    with pytest.raises(InputError, match=r"frame 2 ran other convolutions"):
        measure_redundancy(network, [torch.stack([clip[0], other[0]])])
    with pytest.raises(InputError, match=r"size puts out maps of other shapes"):
        measure_redundancy(network, [torch.stack([clip[0], clip[0] + 7])])
