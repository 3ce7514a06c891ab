"""The rendered puppets: joints, visibility and boxes against what was painted, bones and rests against the body."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from saccade.data import puppets_body as body
from saccade.data.joints import BONES, JOINTS, MIRRORED
from saccade.data.puppets import ACTIONS, PARTS, PuppetConfig, PuppetVideo, encode_and_decode, render_puppets
from saccade.data.puppets_actions import act, keyed

PROP = PARTS.index("prop") + 1
# A joint belongs to these parts: written out here, by hand, as the drawing code must have it.
BELONGS = {
    "neck": {"torso", "neck", "head", "right upper arm", "left upper arm"},
    "belly": {"torso"},
    "face": {"head"},
    "shoulder": {"torso", "upper arm"},
    "hip": {"torso", "thigh"},
    "elbow": {"upper arm", "forearm"},
    "knee": {"thigh", "shin"},
    "wrist": {"forearm", "hand"},
    "ankle": {"shin", "foot"},
}


def scene(**settings: object) -> PuppetVideo:
    given = {"seed": 3, "frames": 4, "height": 97, "width": 81} | settings
    return render_puppets(PuppetConfig(**given))  # type: ignore[arg-type]


def quiet(**settings: object) -> PuppetVideo:
    return scene(**({"noise": 0.0, "light_drift": 0.0, "distractors": 0, "occluder": 0.0} | settings))


def assert_equal(a: PuppetVideo, b: PuppetVideo) -> None:
    for field in dataclasses.fields(a):
        if field.name != "config":
            np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name), err_msg=field.name)


def test_same_settings_give_the_same_arrays_and_another_seed_others() -> None:
    settings = {"jitter": 1.5, "distractors": 3, "occluder": 1.0}
    first, second, other = scene(**settings), scene(**settings), scene(seed=4, **settings)
    assert_equal(first, second)
    assert not np.array_equal(first.frames, other.frames)
    assert not np.array_equal(first.joints, other.joints)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_longer_video_begins_like_a_shorter_one(action: str) -> None:
    settings = {"action": action, "jitter": 1.5, "distractors": 3, "occluder": 1.0, "height": 48, "width": 48}
    for seed in range(2):
        short, long = scene(seed=seed, **settings), scene(seed=seed, frames=7, **settings)
        np.testing.assert_array_equal(short.frames, long.frames[:4])
        np.testing.assert_array_equal(short.joints, long.joints[:4])


@pytest.mark.parametrize(("height", "width"), [(63, 127), (32, 32), (128, 97), (200, 40)])
def test_joints_visibility_and_box_are_what_was_painted(height: int, width: int) -> None:
    hidden_by_itself = hidden_in_front = 0
    for seed in range(12):
        video = scene(seed=seed, height=height, width=width, occluder=0.5, jitter=2.0)
        assert video.frames.shape == (4, height, width, 3)
        assert (video.frames.dtype, video.joints.dtype, video.visible.dtype) == (np.uint8, np.float32, np.bool_)
        for parts, joints, visible, box in zip(video.parts, video.joints, video.visible, video.box, strict=True):
            person = [(x, y) for y, x in np.argwhere(parts) if abs(parts[y, x]) != PROP]
            xs, ys = zip(*person, strict=True)
            assert box.tolist() == [min(xs), min(ys), max(xs) + 1, max(ys) + 1]
            for name, (x, y), shown in zip(JOINTS, joints, visible, strict=True):
                if not (0 <= x < width and 0 <= y < height):
                    assert not shown
                    continue
                number = int(parts[int(y), int(x)])
                side, _, joint = name.rpartition(" ")
                own = {f"{side} {p}" if p not in PARTS else p for p in BELONGS[joint]}
                assert shown == (number > 0 and PARTS[number - 1] in own), name
                hidden_by_itself += number > 0 and not shown
                hidden_in_front += number < 0
    assert hidden_by_itself > 10
    assert hidden_in_front > 5


def test_something_in_front_hides_joints_and_changes_nothing_else() -> None:
    hidden = 0
    for seed in range(6):
        free, behind = scene(seed=seed, occluder=0.0), scene(seed=seed, occluder=1.0)
        np.testing.assert_array_equal(free.joints, behind.joints)
        np.testing.assert_array_equal(free.box, behind.box)
        np.testing.assert_array_equal(free.parts, np.abs(behind.parts))
        assert not (behind.visible & ~free.visible).any()
        hidden += int((free.visible & ~behind.visible).sum())
    assert hidden > 20


def test_the_camera_moves_everything_by_what_it_says() -> None:
    still, shaken = quiet(frames=12), quiet(frames=12, jitter=3.0)
    assert 1.0 < np.abs(shaken.camera).max() <= 3.0
    assert not still.camera.any()
    np.testing.assert_allclose(shaken.joints + shaken.camera[:, None], still.joints, atol=1e-4)
    # The background too: shift the still picture by whole pixels where the camera happens to be near them.
    video = quiet(frames=200, jitter=3.0, height=40, width=40)
    path = video.camera
    gaps = np.abs(path - np.rint(path)).max(1)
    a = int(np.argmin(gaps))
    b = int(np.argmin(np.where((np.rint(path) == np.rint(path[a])).all(1), 9, gaps)))
    dx, dy = (np.rint(path[b]) - np.rint(path[a])).astype(int)
    assert (dx, dy) != (0, 0)
    one = video.frames[a][max(0, dy) : 40 + min(0, dy), max(0, dx) : 40 + min(0, dx)].astype(int)
    two = video.frames[b][max(0, -dy) : 40 + min(0, -dy), max(0, -dx) : 40 + min(0, -dx)].astype(int)
    assert np.median(np.abs(one - two)) <= 6


def test_nothing_changes_where_nothing_moves() -> None:
    video = quiet(action="wave", frames=20, seed=2)
    moved = (video.frames != video.frames[:1]).any((0, 3))
    near = np.zeros((97, 81), bool)
    for y, x in np.argwhere((video.parts != 0).any(0)):
        near[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = True
    above_the_shadow = np.arange(97)[:, None] < video.joints[..., 1].max() - 8
    assert (~near & above_the_shadow).sum() > 1000
    assert not (moved & ~near & above_the_shadow).any()
    assert moved.any()


def test_noise_light_and_distractors_do_what_they_say() -> None:
    still, noisy = quiet(), quiet(noise=2.0)
    middling = (still.frames > 20) & (still.frames < 235)
    assert (noisy.frames.astype(float) - still.frames)[middling].std() == pytest.approx(2.0, rel=0.05)
    drifting = quiet(light_drift=0.1, frames=60, fps=5.0).frames.astype(float).mean((1, 2, 3))
    assert 1.1 < drifting.max() / drifting.min() < 1.1 / 0.9 + 0.02
    for count in (1, 2, 3):
        calm, lively = quiet(frames=10), quiet(frames=10, distractors=count)
        np.testing.assert_array_equal(calm.joints, lively.joints)
        np.testing.assert_array_equal(calm.visible, lively.visible)
        assert (calm.frames != lively.frames).any()


def spread(video: PuppetVideo, *names: str) -> float:
    """Return the largest way between any two places of the named joints, in shares of the picture's height."""
    chosen = video.joints[:, [j for j, name in enumerate(JOINTS) if name.split(" ")[-1] in names]]
    return float(np.linalg.norm(chosen.max(0) - chosen.min(0), axis=-1).max()) / video.frames.shape[1]


def test_actions_move_what_they_name_and_rest_the_rest() -> None:
    for seed in range(3):
        shown = {a: quiet(action=a, seed=seed, frames=60, fps=13.0, height=64, width=64) for a in ACTIONS}
        for action in ("wave", "clap", "squat", "sit", "golf", "idle", "push"):
            assert spread(shown[action], "ankle") < 0.02, action
        for action in ("wave", "clap", "jump", "squat", "golf", "sit"):
            assert spread(shown[action], "wrist") > 0.06, action
        assert spread(shown["wave"], "hip", "knee") < 0.02
        assert spread(shown["pullup"], "wrist") < 0.01
        assert spread(shown["pullup"], "belly", "knee") > 0.08
        assert spread(shown["idle"], "wrist", "knee", "neck", "face") < 0.1
        assert spread(shown["walk"], "neck", "ankle") > 0.15
        assert spread(shown["jump"], "ankle") > 0.04
        assert spread(shown["squat"], "belly") > 0.05
        assert spread(shown["sit"], "belly") > 0.1


@pytest.mark.parametrize("action", ACTIONS)
def test_bones_keep_their_length_and_feet_stay_above_ground(action: str) -> None:
    lengths = {
        ("shoulder", "elbow"): body.UPPER_ARM,
        ("elbow", "wrist"): body.FOREARM,
        ("hip", "knee"): body.THIGH,
        ("knee", "ankle"): body.SHIN,
    }
    for seed in range(5):
        points = body.pose(act(action, np.random.default_rng(seed), np.arange(300) / 25))
        assert np.isfinite(points).all()
        for (a, b), length in lengths.items():
            for side in ("right", "left"):
                ends = (points[:, body.POINTS.index(f"{side} {name}")] for name in (a, b))
                np.testing.assert_allclose(np.linalg.norm(np.subtract(*ends), axis=1), length, rtol=1e-6)
        neck, hips = points[:, 0], points[:, 5:7].mean(1)
        np.testing.assert_allclose(np.linalg.norm(neck - hips, axis=1), body.SPINE, rtol=1e-6)
        assert points[:, 13:15, 2].min() > 0
        # Nothing jumps: at 25 frames a second no joint goes further than a fast club's hands.
        assert np.linalg.norm(np.diff(points[:, :15], axis=0), axis=-1).max() < 0.3


def test_a_limb_reaches_what_it_can() -> None:
    rng = np.random.default_rng(0)
    root, target = rng.normal(0, 0.2, (200, 3)), rng.normal(0, 0.2, (200, 3))
    middle, end = body.bend(root, target, 0.3, 0.2, np.array([0.0, 1.0, 0.2]))
    asked = np.linalg.norm(target - root, axis=1)
    near = (asked > 0.11) & (asked < 0.49)
    assert near.sum() > 50
    np.testing.assert_allclose(end[near], target[near], atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(middle - root, axis=1), 0.3, rtol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(middle - end, axis=1), 0.2, rtol=1e-9)
    far = asked >= 0.5
    np.testing.assert_allclose(np.linalg.norm(np.cross(end - root, target - root), axis=1)[far], 0, atol=1e-9)


def test_keyed_curves_pass_their_keys_and_repeat() -> None:
    times, values = [0.1, 0.4, 0.7], [1.0, -2.0, 5.0]
    np.testing.assert_allclose(keyed(np.array(times) + 3, times, values), values, atol=1e-9)
    phase = np.linspace(0, 1, 57)
    np.testing.assert_allclose(keyed(phase, times, values), keyed(phase - 2, times, values), atol=1e-9)
    assert (np.diff(keyed(np.linspace(0.1, 0.4, 50), times, values)) < 0).all()


def test_names_mirror_and_join() -> None:
    assert len(JOINTS) == 15
    for j, k in enumerate(MIRRORED):
        assert MIRRORED[k] == j
        assert JOINTS[j].split()[-1] == JOINTS[k].split()[-1]
        assert (j == k) == (" " not in JOINTS[j])
    assert {j for bone in BONES for j in bone} == set(range(15))


def test_the_codec_keeps_the_truth() -> None:
    video = scene(height=63, width=65, frames=6)
    decoded = encode_and_decode(video)
    assert decoded.joints is video.joints
    assert decoded.frames.shape == video.frames.shape
    assert 0 < np.abs(decoded.frames.astype(int) - video.frames).mean() < 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": 0}, "frames is 0; expected a whole number of at least 1"),
        ({"height": 31}, "height is 31; expected a whole number of at least 32"),
        ({"seed": -1}, "seed is -1"),
        ({"fps": 0.0}, "fps is 0.0; expected a positive number"),
        ({"noise": float("nan")}, "noise is nan; expected a number of at least 0"),
        ({"distractors": 4}, "distractors is 4; expected at most 3"),
        ({"occluder": 1.5}, "occluder is 1.5; expected at most 1"),
        ({"light_drift": 1.0}, "light_drift is 1.0; expected less than 1"),
        ({"action": "fly"}, "action is 'fly'; expected None or one of idle, wave"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scene(**settings)


def test_reprs_show_shapes() -> None:
    assert repr(quiet(action="wave")).startswith("PuppetVideo(frames=(4, 97, 81, 3), action='wave', visible=")
