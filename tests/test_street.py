"""The rendered street: labels against masks, camera motion against pixels, traffic against its own rules."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from saccade.data import street
from saccade.data.street import CLASSES, StreetConfig, StreetVideo, encode_and_decode, render_street
from saccade.data.street_scene import Lane
from saccade.data.street_traffic import Placement, drive
from saccade.data.street_vehicles import OVERSAMPLING, Vehicle, draw_vehicle, fill_polygon

SIZES = [(63, 127), (97, 161), (128, 224)]


def scene(**settings: object) -> StreetVideo:
    given = {"seed": 3, "frames": 5, "height": 97, "width": 161} | settings
    return render_street(StreetConfig(**given))  # type: ignore[arg-type]


def test_same_settings_give_the_same_arrays_and_another_seed_others() -> None:
    first, second, other = scene(jitter=1.5), scene(jitter=1.5), scene(jitter=1.5, seed=4)
    np.testing.assert_array_equal(first.frames, second.frames)
    np.testing.assert_array_equal(first.masks, second.masks)
    for a, b in zip(first.labels, second.labels, strict=True):
        for field in dataclasses.fields(a):
            np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))
    assert not np.array_equal(first.frames, other.frames)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("pan", [0.0, 2.6])
def test_labels_are_the_extents_of_the_masks(height: int, width: int, pan: float) -> None:
    boxes = 0
    for seed in range(3):
        video = scene(seed=seed, height=height, width=width, pan=pan, traffic=1.5)
        assert video.frames.shape == (5, height, width, 3)
        assert video.frames.dtype == np.uint8
        for mask, label in zip(video.masks, video.labels, strict=True):
            assert set(np.unique(mask)) - {0} == set(label.instances.tolist())
            assert len(set(label.instances.tolist())) == len(label.instances)
            for box, instance in zip(label.boxes, label.instances, strict=True):
                ys, xs = np.nonzero(mask == instance)
                assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
                boxes += 1
            assert ((label.visible > 0) & (label.visible <= 1)).all()
    assert boxes > 10


def test_an_instance_keeps_its_class_and_every_class_occurs() -> None:
    seen: set[int] = set()
    for seed in range(8):
        classes: dict[int, int] = {}
        for label in scene(seed=seed, frames=12).labels:
            for instance, kind in zip(label.instances.tolist(), label.classes.tolist(), strict=True):
                assert classes.setdefault(instance, kind) == kind
        seen |= set(classes.values())
    assert seen == set(range(len(CLASSES)))


def a_car(lane: Lane) -> Vehicle:
    rng = np.random.default_rng(5)
    drawn = (draw_vehicle(rng, pixels_per_metre=lane.pixels_per_metre, direction=1) for _ in range(99))
    return next(vehicle for vehicle in drawn if CLASSES[vehicle.label] == "car")


def test_a_nearer_vehicle_hides_a_farther_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes = [Lane(60.0, 5.0, 1, False), Lane(62.0, 6.0, 1, False)]
    far, near = (Placement(i, a_car(lane), lane, 70.0, 0.0) for i, lane in enumerate(lanes, start=1))

    def shown(*placements: Placement) -> StreetVideo:
        monkeypatch.setattr(street, "drive", lambda *_, **__: [list(placements)])
        return scene(frames=1, noise=0, seed=2)

    both, far_alone, near_alone = shown(far, near), shown(far), shown(near)
    far_whole, near_whole = far_alone.masks[0] == 1, near_alone.masks[0] == 2
    overlap = far_whole & near_whole
    assert 0 < overlap.sum() < far_whole.sum()
    np.testing.assert_array_equal(both.masks[0] == 2, near_whole)
    np.testing.assert_array_equal(both.masks[0] == 1, far_whole & ~near_whole)
    inner = near_whole.copy()  # the rim is blended with what is behind it
    for shift in itertools.product((-1, 0, 1), (-1, 0, 1)):
        inner &= np.roll(near_whole, shift, (0, 1))
    assert (inner & far_whole).any()
    np.testing.assert_array_equal(both.frames[0][inner], near_alone.frames[0][inner])
    expected = 1 - overlap.sum() / far_whole.sum()
    np.testing.assert_allclose(both.labels[0].visible, [expected, 1.0], rtol=1e-6)


def test_visible_counts_the_part_outside_the_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    lane = Lane(60.0, 6.0, 1, False)
    vehicle = a_car(lane)

    def shown(rear: float) -> StreetVideo:
        monkeypatch.setattr(street, "drive", lambda *_, **__: [[Placement(1, vehicle, lane, rear, 0.0)]])
        return scene(frames=1, seed=2)

    inside, cut = shown(60.0), shown(-10.0)
    assert inside.labels[0].visible.tolist() == [1.0]
    share = (cut.masks == 1).sum() / (inside.masks == 1).sum()
    np.testing.assert_allclose(cut.labels[0].visible, [share], rtol=1e-6)
    assert 0 < share < 1


@pytest.mark.parametrize("direction", [1, -1])
def test_traffic_keeps_its_distance_stops_and_starts(direction: int) -> None:
    lane = Lane(100.0, 12.0, direction, False)
    stopped = started = moving = 0
    for seed in range(6):
        frames = drive((lane,), np.random.default_rng(seed), width=448, frames=260, fps=25.0, traffic=1.3)
        before: dict[int, float] = {}
        halted: set[int] = set()
        for placements in frames:
            places = sorted(placements, key=lambda p: direction * p.rear)
            for behind, ahead in itertools.pairwise(places):
                nose = direction * behind.rear + behind.vehicle.length_m * lane.pixels_per_metre
                assert nose < direction * ahead.rear
            now = {p.instance: direction * p.rear for p in placements}
            for instance in now.keys() & before.keys():
                step = now[instance] - before[instance]
                assert 0 <= step < 7
                moving += 1 < step < 6
                stopped += step == 0
                halted |= {instance} if step == 0 else set()
                started += step > 0.5 and instance in halted
            before = now
    assert moving > stopped > 50
    assert started > 50


def test_traffic_comes_far_to_near_and_numbers_are_never_shared() -> None:
    lanes = tuple(Lane(80.0 + 9 * i, 6.0 + i, (-1, 1)[i % 2], parked=i == 0) for i in range(4))
    frames = drive(lanes, np.random.default_rng(1), width=300, frames=50, fps=25.0, traffic=1.0)
    lane_of: dict[int, Lane] = {}
    for placements in frames:
        depths = [placement.lane.baseline for placement in placements]
        assert depths == sorted(depths)
        assert len({placement.instance for placement in placements}) == len(placements)
        for placement in placements:
            assert lane_of.setdefault(placement.instance, placement.lane) is placement.lane
    assert len(set(lane_of.values())) == 4


@pytest.mark.parametrize("pan", [3.0, -2.0, 0.75])
def test_pan_moves_the_street_by_what_it_says(pan: float) -> None:
    video = scene(frames=9, pan=pan, traffic=0, noise=0, light_drift=0)
    np.testing.assert_allclose(video.camera[:, 0], pan * np.arange(9))
    np.testing.assert_array_equal(video.camera[:, 1], 0)
    step = 1 if pan == round(pan) else 4
    shift = round(pan * step)
    before, after = video.frames[:-step].astype(int), video.frames[step:].astype(int)
    same = before[:, :, shift:] == after[:, :, :-shift] if shift > 0 else before[:, :, :shift] == after[:, :, -shift:]
    assert same.all()
    assert not np.array_equal(video.frames[0], video.frames[step])


@pytest.mark.parametrize(("x", "y"), [(0, 0), (5, 0), (0, 7), (11, 2), (3, 13)])
def test_between_pixels_the_picture_is_bilinear(x: int, y: int) -> None:
    rows, columns = np.mgrid[:31, :37].astype(np.float32)
    canvas = np.stack([columns, rows, rows * columns], axis=2)  # what bilinear sampling gives exactly
    window = street._crop(canvas, x, y, 23, 29)
    down, along = rows[:23, :29] + y / OVERSAMPLING, columns[:23, :29] + x / OVERSAMPLING
    np.testing.assert_allclose(window, np.stack([along, down, down * along], axis=2), rtol=1e-6)


def test_jitter_moves_the_street_by_what_the_camera_says() -> None:
    video = scene(frames=60, jitter=3.0, traffic=0, noise=0, light_drift=0)
    assert 1.5 < np.abs(video.camera).max() <= 3.0
    pairs = 0
    for i in range(60):
        for j in range(i):
            dx, dy = video.camera[i] - video.camera[j]
            if dx != round(dx) or dy != round(dy) or (dx == 0 and dy == 0):
                continue
            pairs += 1
            dx, dy = int(dx), int(dy)
            height, width = video.frames.shape[1:3]
            here = video.frames[i][max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
            there = video.frames[j][max(0, dy) : height - max(0, -dy), max(0, dx) : width - max(0, -dx)]
            np.testing.assert_array_equal(here, there)
    assert pairs > 5


def test_a_still_camera_over_an_empty_street_changes_only_by_noise_and_light() -> None:
    still = scene(traffic=0, noise=0, light_drift=0)
    assert (still.frames == still.frames[:1]).all()
    assert not still.masks.any()
    assert all(label.boxes.shape == (0, 4) for label in still.labels)
    noisy = scene(traffic=0, noise=2.0, light_drift=0)
    middling = (still.frames > 20) & (still.frames < 235)
    error = (noisy.frames.astype(float) - still.frames)[middling]
    assert error.std() == pytest.approx(2.0, rel=0.05)


def test_light_drifts_by_what_it_says() -> None:
    video = scene(traffic=0, noise=0, light_drift=0.1, frames=40, fps=2.0)
    level = video.frames.astype(float).mean((1, 2, 3))
    assert 1.15 < level.max() / level.min() < 1.1 / 0.9 + 0.01


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_codec_keeps_the_picture_and_calms_the_background(height: int, width: int) -> None:
    video = scene(height=height, width=width, frames=12)
    decoded, again = encode_and_decode(video, crf=20), encode_and_decode(video, crf=20)
    assert np.array_equal(decoded.frames, again.frames)
    assert decoded.frames.shape == video.frames.shape
    assert decoded.labels is video.labels
    assert decoded.masks is video.masks
    error = np.abs(decoded.frames.astype(int) - video.frames)
    assert 0 < error.mean() < 8
    background = (video.masks[1:] == 0) & (video.masks[:-1] == 0)
    jumps = np.abs(np.diff(decoded.frames.astype(int), axis=0)).max(-1)[background]
    assert (jumps > 8).mean() < 0.06
    coarse = encode_and_decode(video, crf=45)
    assert np.abs(coarse.frames.astype(int) - video.frames).mean() > error.mean()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": 0}, "frames is 0; expected a whole number of at least 1"),
        ({"height": 31}, "height is 31; expected a whole number of at least 32"),
        ({"seed": -1}, "seed is -1"),
        ({"fps": 0.0}, "fps is 0.0; expected a positive number"),
        ({"noise": -1.0}, "noise is -1.0; expected a number of at least 0"),
        ({"pan": float("nan")}, "pan is nan; expected a finite number"),
        ({"light_drift": 1.0}, "light_drift is 1.0; expected less than 1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scene(**settings)


def test_polygons_are_filled_where_an_independent_rule_says() -> None:
    triangle = np.array([(2.0, 1.0), (19.0, 4.0), (5.0, 15.0)], np.float32)
    ys, xs = np.mgrid[:17, :23] + 0.5
    sides = []
    for (x0, y0), (x1, y1) in zip(triangle, np.roll(triangle, -1, axis=0), strict=True):
        sides.append((x1 - x0) * (ys - y0) - (y1 - y0) * (xs - x0) > 0)
    np.testing.assert_array_equal(fill_polygon(triangle, 17, 23), np.logical_and.reduce(sides))


def test_reprs_show_shapes() -> None:
    video = scene(frames=2, traffic=0)
    assert repr(video) == "StreetVideo(frames=(2, 97, 161, 3), boxes=0, seed=3)"
    assert repr(video.labels[0]) == "StreetLabels(vehicles=0)"
