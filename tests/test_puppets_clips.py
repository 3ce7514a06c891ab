"""The rendered action clips: pairs that differ in the order of frames only, and how much moves."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import recipes.moving_clips
from recipes.moving_clips import MovingClips, augment_moving
from saccade.data import puppets_body as body
from saccade.data import puppets_pairs
from saccade.data.joints import JOINTS
from saccade.data.puppets import PuppetConfig, render_motion
from saccade.data.puppets_clips import (
    CLIP_ACTIONS,
    MIRRORED_ACTIONS,
    PAIRS,
    ClipConfig,
    PuppetClip,
    frame_change,
    render_clip,
)
from saccade.data.puppets_pairs import move, room

SECONDS = np.arange(16) / 12.5


def clip(**settings: object) -> PuppetClip:
    return render_clip(ClipConfig(**({"seed": 3, "frames": 5, "height": 47, "width": 61} | settings)))  # type: ignore[arg-type]


def test_same_settings_give_the_same_clip_and_another_seed_another() -> None:
    first, second, other = clip(), clip(), clip(seed=4)
    for field in dataclasses.fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))
    assert first.frames.shape == (5, 47, 61, 3)
    assert first.frames.dtype == np.uint8
    assert not np.array_equal(first.frames, other.frames)
    assert {clip(seed=seed, frames=1).action for seed in range(60)} == set(range(len(CLIP_ACTIONS)))
    assert CLIP_ACTIONS[clip(action="wave fast").action] == "wave fast"


def test_the_codec_changes_the_frames_and_not_the_truth() -> None:
    sent, plain, rough = clip(), clip(quality=None), clip(quality=40)
    np.testing.assert_array_equal(sent.moved, plain.moved)
    errors = [np.abs(c.frames.astype(int) - plain.frames).mean() for c in (sent, rough)]
    assert 0 < errors[0] < errors[1] < 20
    assert sent.config.quality == 23


def test_the_change_is_the_mean_difference_of_frames() -> None:
    found = clip()
    total, count = 0, 0
    for before, after in zip(found.frames[:-1].tolist(), found.frames[1:].tolist(), strict=True):
        for a, b in zip(np.ravel(before), np.ravel(after), strict=True):
            total, count = total + abs(int(b) - int(a)), count + 1
    assert found.change == pytest.approx(total / count)
    assert frame_change(found.frames[:1]) == 0.0
    assert clip(frames=1).change == 0.0


def test_moved_pixels_are_those_whose_paint_changed() -> None:
    config = PuppetConfig(seed=1, frames=4, height=40, width=40, noise=0.0, light_drift=0.0, distractors=2)
    rendered = render_motion(
        config, np.random.default_rng(1), lambda rng, t: move("wave fast", rng, t), room=(1.1, 0.35)
    )
    noisy = render_motion(
        dataclasses.replace(config, noise=9.0, light_drift=0.5),
        np.random.default_rng(1),
        lambda rng, t: move("wave fast", rng, t),
        room=(1.1, 0.35),
    )
    np.testing.assert_array_equal(rendered.moved, noisy.moved)
    assert rendered.moved[0] == 0
    for i in (1, 2, 3):
        seen = np.abs(np.diff(rendered.frames[i - 1 : i + 1].astype(int), axis=0)[0]).max(-1)
        # The light's colour is 0.71 to 1.16, so 1/32 of the range is 5.6 to 9.3 grey levels; rounding adds up to one.
        assert (seen > 10.3).mean() <= rendered.moved[i] <= (seen > 4.6).mean()
        assert rendered.moved[i] > 0


def points(action: str, seed: int) -> np.ndarray:
    """Returns where the body's points and its props are (T, n, 3), as the camera in front of it would see them."""
    motion = move(action, np.random.default_rng(seed), SECONDS)
    view = body.View(x=0.0, ground=0.0, scale=1.0, pitch=0.0, near=0.0)
    things = [body.pose(motion), *(prop.points for prop in motion.props)]
    return np.concatenate([view.project(thing, motion.turn, motion.travel) for thing in things], 1)


@pytest.mark.parametrize("pair", PAIRS[:3], ids=lambda pair: CLIP_ACTIONS[pair[0]])
def test_one_of_a_pair_is_the_other_backwards(pair: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (CLIP_ACTIONS[index] for index in pair)
    drawn = puppets_pairs._ramp

    def turned(rng: np.random.Generator, seconds: np.ndarray, *, slack: float) -> np.ndarray:
        return 1 - drawn(rng, seconds, slack=slack)[::-1]

    there = [points(one, seed) for seed in range(4)]
    monkeypatch.setattr(puppets_pairs, "_ramp", turned)
    for seed, forth in enumerate(there):
        back = points(other, seed)
        assert forth.shape == back.shape
        # Only the sway of somebody standing (a few thousandths of the body) goes on as time does.
        np.testing.assert_allclose(back[::-1], forth, atol=0.02)
        assert np.abs(forth[0] - forth[-1]).max() > 0.08


def test_the_way_back_is_drawn_as_often_as_the_way_there() -> None:
    rng = np.random.default_rng(0)
    ways = np.stack([puppets_pairs._ramp(rng, SECONDS, slack=0.25) for _ in range(4000)])
    assert (np.diff(ways, axis=1) >= 0).all()
    assert ways[:, 0].max() < 0.25 + 1e-9
    assert ways[:, -1].min() > 0.75 - 1e-9
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        there, back = (np.quantile(w, share, axis=0) for w in (ways, 1 - ways[:, ::-1]))
        np.testing.assert_allclose(there, back, atol=0.04)


def told_apart(one: np.ndarray, other: np.ndarray) -> float:
    """Returns how often the five nearest of the first half name the second half of two sets of rows rightly."""
    half, right = len(one) // 2, 0
    known, names = np.concatenate([one[:half], other[:half]]), np.repeat([0, 1], half)
    for rows, name in ((one[half:], 0), (other[half:], 1)):
        nearest = np.argsort(((rows[:, None] - known[None]) ** 2).sum(-1), axis=1)[:, :5]
        right += int(((names[nearest].mean(1) > 0.5) == name).sum())
    return right / (2 * half)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: CLIP_ACTIONS[pair[0]])
def test_one_frame_does_not_tell_a_pair_apart_and_all_do(pair: tuple[int, int]) -> None:
    """Not even for one who sees where every point of the body is."""
    ways = [np.stack([points(CLIP_ACTIONS[a], seed + 1000 * a)[:, :15, :2] for seed in range(240)]) for a in pair]
    middle = told_apart(*(way[:, 8].reshape(240, -1) for way in ways))
    steps = [np.diff(way, axis=1) for way in ways]
    order = told_apart(*(np.concatenate([d.sum(1), np.abs(d).mean(1) * 5], 1).reshape(240, -1) for d in steps))
    assert middle < 0.62  # one half but for chance: 240 guesses
    assert order > 0.85


def test_waves_show_the_same_places_at_another_speed() -> None:
    wrists = [j for j, name in enumerate(JOINTS) if name.endswith("wrist")]
    crossings, reach = {}, {}
    for name in ("wave", "wave fast"):
        shown = [points(name, seed)[:, wrists] for seed in range(200)]
        moving = [s[:, int(np.argmax(np.ptp(s[..., 2], axis=0) + np.ptp(s[..., 0], axis=0)))] for s in shown]
        speed = np.array([np.linalg.norm(np.diff(m, axis=0), axis=-1).mean() for m in moving])
        crossings[name], reach[name] = speed.mean(), np.concatenate(moving)[:, 1]
    assert crossings["wave fast"] > 2 * crossings["wave"]
    assert np.quantile(reach["wave"], [0.1, 0.5, 0.9]) == pytest.approx(
        np.quantile(reach["wave fast"], [0.1, 0.5, 0.9]), abs=0.02
    )


def test_actions_go_the_way_they_are_called() -> None:
    belly = JOINTS.index("belly")
    for seed in range(6):
        way = {name: points(name, seed)[-1, belly] - points(name, seed)[0, belly] for name in CLIP_ACTIONS}
        assert way["sit down"][1] > 0.1  # rows count downward
        assert way["stand up"][1] < -0.1
        assert way["step right"][0] > 0.08
        assert way["step left"][0] < -0.08
        crate = {
            name: move(name, np.random.default_rng(seed), SECONDS).props[0].points[:, 0, 1] for name in ("push", "pull")
        }
        assert crate["push"][-1] - crate["push"][0] > 0.05
        assert crate["pull"][-1] - crate["pull"][0] < -0.05


def test_mirrored_actions_step_the_other_way() -> None:
    assert len(CLIP_ACTIONS) == len(MIRRORED_ACTIONS) == 12
    for a, b in enumerate(MIRRORED_ACTIONS):
        assert MIRRORED_ACTIONS[b] == a
        assert (a != b) == CLIP_ACTIONS[a].startswith("step")
    assert [(CLIP_ACTIONS[a], CLIP_ACTIONS[b]) for a, b in PAIRS] == [
        ("sit down", "stand up"), ("push", "pull"), ("step right", "step left"), ("wave", "wave fast"),
    ]  # fmt: skip


@pytest.mark.parametrize("action", CLIP_ACTIONS)
def test_bodies_stay_whole_and_in_the_picture(action: str) -> None:
    for seed in range(5):
        for seconds in (SECONDS, SECONDS[:1], np.arange(33) / 25):
            found = body.pose(move(action, np.random.default_rng(seed), seconds))
            assert np.isfinite(found).all()
            assert found[:, 13:15, 2].min() > 0
            neck, hips = found[:, 0], found[:, 5:7].mean(1)
            np.testing.assert_allclose(np.linalg.norm(neck - hips, axis=1), body.SPINE, rtol=1e-6)
        tall, wide = room(action)
        assert np.abs(points(action, seed)[:, :15, 0]).max() < wide + 0.06
        assert -points(action, seed)[:, :15, 1].min() < tall


def test_clips_go_from_still_to_busy() -> None:
    still = [clip(seed=seed, action="idle", frames=8).moved[1:].mean() for seed in range(12)]
    busy = [clip(seed=seed, action="jump", frames=8).moved[1:].mean() for seed in range(12)]
    assert min(still) < 0.01
    assert max(busy) > 0.15
    assert max(still) > min(busy)  # motion does not give the action away


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"action": "fly"}, "ClipConfig: action is 'fly'; expected None or one of idle, pullup"),
        ({"frames": 0}, "ClipConfig: frames is 0; expected a whole number of at least 1"),
        ({"quality": 52}, "ClipConfig: quality is 52; expected None or 0"),
        ({"height": 31}, "ClipConfig: height is 31"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clip(**settings)


def test_reprs_show_shapes() -> None:
    assert repr(clip(action="push")).startswith("PuppetClip(frames=(5, 47, 61, 3), action='push', change=")


def test_the_recipes_clips_are_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes.moving_clips, "CACHE", tmp_path)
    data = MovingClips("test", clips=14, frames=4, size=40)
    assert len(data) == 14
    assert [int(data[i]["label"]) for i in range(14)] == [(10_000_000 + i) % 12 for i in range(14)]
    sample = data[1]
    assert sample["frames"].shape == (4, 3, 40, 40)
    assert sample["change"] == pytest.approx(frame_change(sample["frames"]))
    assert 0 <= sample["moved"] <= 1
    monkeypatch.setattr(recipes.moving_clips, "render_clip", None)
    np.testing.assert_array_equal(MovingClips("test", clips=14, frames=4, size=40)[1]["frames"], sample["frames"])


def test_mirroring_turns_the_label_with_the_clip() -> None:
    frames = np.broadcast_to(np.arange(30, dtype=np.uint8) * 8, (2, 3, 20, 30))
    seen = set()
    for seed in range(20):
        for label in (8, 0):
            out = augment_moving({"frames": frames, "label": np.int64(label)}, np.random.default_rng(seed))
            turned = out["frames"][0, 0, 0, 0] > out["frames"][0, 0, 0, -1]
            assert out["label"] == (MIRRORED_ACTIONS[label] if turned else label)
            seen.add((label, int(out["label"])))
    assert seen == {(8, 8), (8, 9), (0, 0)}
