"""Redundancy in a network: which maps are compared, what is told of them, and that nothing is left behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.errors import InputError, ModelError
from saccade.reduce import MapRedundancy, Thresholds, map_redundancy, measure_redundancy

THRESHOLDS = Thresholds(cc=0.3, rmse=0.2)


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
