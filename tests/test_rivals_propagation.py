"""Key frames repeated, and features moved along optical flow: against loops, shifts, and the macs of what ran."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saccade.errors import InputError, MissingExtraError
from saccade.graph.mac_counter import count_macs
from saccade.rivals.flow import DISFlow, deep_feature_flow, to_grey
from saccade.rivals.keyframes import key_frames
from saccade.skip import warp


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, stride=2, padding=1)).double()


def clips(b: int = 2, t: int = 7) -> Tensor:
    return torch.rand(b, t, 3, 17, 23, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def no_flow(current: NDArray[np.uint8], key: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.zeros((*current.shape, 2), np.float32)


# --- key frames


@pytest.mark.parametrize("every", [1, 2, 3, 7, 20])
def test_key_frames_are_computed_and_stand_until_the_next(every: int) -> None:
    net, clip = network(), clips()

    def run(x: Tensor) -> dict[str, Any]:
        y = net(x)
        return {"map": y, "pooled": y.mean((2, 3)), "name": "net"}

    given = key_frames(run, clip, every=every)
    assert given.outputs["name"] == "net"
    for t in range(7):
        expected = run(clip[:, t - t % every])
        torch.testing.assert_close(given.outputs["map"][:, t], expected["map"])
        torch.testing.assert_close(given.outputs["pooled"][:, t], expected["pooled"])
    dense = count_macs(net, clip[:1, 0])
    assert given.macs.tolist() == [dense if t % every == 0 else 0 for t in range(7)]
    assert given.macs_per_frame == pytest.approx(dense * -(-7 // every) / 7)
    assert given.flow_ms == 0


def test_what_is_no_clip_is_refused() -> None:
    for function in (
        lambda clip, every: key_frames(network(), clip, every=every),
        lambda clip, every: deep_feature_flow(network(), lambda x: x, clip, every=every, flow=no_flow),
    ):
        with pytest.raises(InputError, match=r"\(B, T, C, H, W\) with at least one frame, got \(2, 0, 3, 17, 23\)"):
            function(clips(t=0), 2)
        with pytest.raises(InputError, match="got \\(2, 3, 17, 23\\)"):
            function(clips()[:, 0], 2)
        with pytest.raises(InputError, match="every=0"):
            function(clips(), 0)
    with pytest.raises(InputError, match=r"returned \(1,\) for 8 pictures"):
        key_frames(lambda x: x.mean().reshape(1), clips(), every=2)


# --- moving maps


def test_moving_is_bilinear_sampling_where_the_flow_points() -> None:
    rng = np.random.default_rng(0)
    value, field = rng.standard_normal((2, 3, 9, 13)), rng.uniform(-4, 4, (2, 2, 9, 13))
    given = warp(torch.from_numpy(value), torch.from_numpy(field)).numpy()
    for n, y, x in np.ndindex(2, 9, 13):
        at_x = min(max(x + field[n, 0, y, x], 0), 12)
        at_y = min(max(y + field[n, 1, y, x], 0), 8)
        left, top = min(int(at_x), 11), min(int(at_y), 7)
        a, b = at_x - left, at_y - top
        upper = (1 - a) * value[n, :, top, left] + a * value[n, :, top, left + 1]
        lower = (1 - a) * value[n, :, top + 1, left] + a * value[n, :, top + 1, left + 1]
        np.testing.assert_allclose(given[n, :, y, x], (1 - b) * upper + b * lower, atol=1e-9)


def test_flow_is_in_pixels_of_the_picture_and_maps_are_smaller() -> None:
    """A picture moved by 8 columns and 2 rows moves its map of a quarter the width and half the height by 2 and 1."""
    value = torch.rand(1, 2, 6, 10, dtype=torch.float64)
    field = torch.zeros(1, 2, 12, 40)
    field[:, 0], field[:, 1] = 8, -2
    given = warp(value, field)
    torch.testing.assert_close(given[:, :, 1:, :8], value[:, :, :5, 2:])


def test_what_is_no_map_is_not_moved() -> None:
    with pytest.raises(InputError, match="expected a map"):
        warp(torch.rand(2, 5), torch.zeros(2, 2, 4, 4))
    with pytest.raises(InputError, match="features still are maps"):
        deep_feature_flow(
            lambda x: x.flatten(1), lambda x: x, clips(), every=2, flow=lambda a, b: np.zeros((17, 23, 2))
        )


# --- deep feature flow


@pytest.mark.parametrize("every", [1, 3])
def test_features_are_computed_on_key_frames_and_moved_to_the_others(every: int) -> None:
    backbone, head, clip = network(), nn.Conv2d(4, 2, 1).double(), clips()
    asked = []

    def flow(current: NDArray[np.uint8], key: NDArray[np.uint8]) -> NDArray[np.float32]:
        asked.append((current, key))
        return np.full((17, 23, 2), [3.0, -1.5], np.float32)

    given = deep_feature_flow(
        lambda x: [backbone(x)], lambda found: {"heat": head(found[0])}, clip, every=every, flow=flow
    )
    grey, field = to_grey(clip), torch.tensor([3.0, -1.5]).reshape(1, 2, 1, 1).expand(2, 2, 17, 23)
    pairs = [(grey[b, t], grey[b, t - t % every]) for t in range(7) if t % every for b in range(2)]
    assert len(asked) == len(pairs)
    for got, expected in zip(asked, pairs, strict=True):
        np.testing.assert_array_equal(got, expected)
    for t in range(7):
        found = backbone(clip[:, t - t % every])
        found = found if t % every == 0 else warp(found, field)
        torch.testing.assert_close(given.outputs["heat"][:, t], head(found))
    on_key = count_macs(backbone, clip[:1, 0]) + 9 * 12 * 4 * 2
    off_key = 9 * 12 * 4 * 2 + 4 * 9 * 12 * 4 + 2 * 17 * 23
    assert given.macs.tolist() == [off_key if t % every else on_key for t in range(7)]


def texture(height: int, width: int) -> Tensor:
    noise = torch.rand(1, 3, height // 6, width // 6, generator=torch.Generator().manual_seed(3))
    return nn.functional.interpolate(noise, size=(height, width), mode="bicubic")[0]


def test_a_scene_that_moves_is_followed() -> None:
    """Features moved along the found flow are nearer to the frame's own than those that stayed."""
    pytest.importorskip("cv2")
    scene, net = texture(96, 160), network().float()
    clip = torch.stack([scene[:, 8:72, 8 + 3 * t : 104 + 3 * t] for t in range(4)])[None]
    dense = net(clip[0])
    moved = deep_feature_flow(net, lambda x: x, clip, every=4)
    held = key_frames(net, clip, every=4)
    inner = (..., slice(6, -6), slice(6, -6))
    for t in range(1, 4):
        error = (moved.outputs[0, t] - dense[t])[inner].square().mean()
        staying = (held.outputs[0, t] - dense[t])[inner].square().mean()
        assert error < 0.1 * staying, t
    assert moved.flow_ms > 0


def test_the_flow_points_to_where_the_key_frame_has_it() -> None:
    pytest.importorskip("cv2")
    scene = (255 * texture(96, 160).mean(0).clamp(0, 1)).to(torch.uint8).numpy()
    found = DISFlow()(scene[12:76, 20:116], scene[10:74, 15:111])  # (y, x) here is (y + 2, x + 5) there
    np.testing.assert_allclose(np.median(found, axis=(0, 1)), [5, 2], atol=0.2)


def test_grey_pictures_fill_their_range_clip_by_clip() -> None:
    clip = torch.stack([clips(1)[0], 5 - 3 * clips(1)[0]])
    grey = to_grey(clip)
    assert grey.shape == (2, 7, 17, 23)
    assert grey.dtype == np.uint8
    assert (grey.min((1, 2, 3)) == 0).all()
    assert (grey.max((1, 2, 3)) == 255).all()
    assert np.abs(grey[0].astype(int) + grey[1] - 255).max() <= 1
    assert (to_grey(torch.ones(1, 2, 3, 4, 5)) == 0).all()


def test_flow_without_opencv_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"saccade\[flow\]"):
        deep_feature_flow(network(), lambda x: x, clips(), every=2)
    deep_feature_flow(network(), lambda x: x, clips(), every=1)  # needs no flow


def test_flow_refuses_what_it_cannot_do() -> None:
    pytest.importorskip("cv2")
    with pytest.raises(InputError, match="'ultrafast', 'fast', 'medium'"):
        DISFlow("best")
    with pytest.raises(InputError, match=r"pictures of \(4, 4\)"):
        DISFlow()(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8))
