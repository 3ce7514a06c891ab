"""Which frames and which crops make a clip: against brute force, and against a plain decoding of the whole video."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.data.crops import (
    CORNERS,
    PLACES,
    SCALES,
    Crop,
    all_views,
    crop,
    left_center_right,
    mean_prediction,
    mirrored,
    resize,
    resize_shorter,
    tsn_augment,
    tsn_places,
    tsn_sizes,
)
from saccade.data.sampling import clip_span, random_clip, read_clips, uniform_clips
from saccade.data.videos import LabelledVideo
from saccade.errors import DamagedVideoError, InputError, VideoError
from tests.clips import clip, faststart, moving, plain_decode
from tests.stills import write_png


@pytest.mark.parametrize(("length", "frames", "stride"), [(17, 4, 3), (10, 10, 1), (11, 4, 3), (1, 1, 7)])
def test_random_clips_begin_everywhere_they_fit(length: int, frames: int, stride: int) -> None:
    rng = np.random.default_rng(0)
    fitting = [s for s in range(length) if s + (frames - 1) * stride < length]
    found = [random_clip(length, rng, frames=frames, stride=stride) for _ in range(60 * len(fitting))]
    assert {int(numbers[0, 0]) for numbers in found} == set(fitting)
    for numbers in found:
        assert numbers.shape == (1, frames)
        assert (np.diff(numbers[0]) == stride).all()
        assert numbers.max() < length


@pytest.mark.parametrize(("length", "frames", "stride"), [(1, 4, 1), (3, 8, 1), (5, 4, 2), (7, 3, 5)])
def test_a_short_video_is_repeated_from_its_first_frame(length: int, frames: int, stride: int) -> None:
    wanted = [list(itertools.islice(itertools.cycle(range(length)), 0, frames * stride, stride))]
    assert random_clip(length, np.random.default_rng(1), frames=frames, stride=stride).tolist() == wanted
    assert uniform_clips(length, frames=frames, stride=stride, clips=3).tolist() == wanted * 3


@pytest.mark.parametrize("clips", [1, 2, 3, 5, 10])
@pytest.mark.parametrize(("length", "frames", "stride"), [(300, 16, 2), (63, 8, 1), (31, 16, 2), (40, 5, 3)])
def test_uniform_clips_are_spread_over_the_video(length: int, frames: int, stride: int, clips: int) -> None:
    numbers = uniform_clips(length, frames=frames, stride=stride, clips=clips)
    assert numbers.shape == (clips, frames)
    assert (np.diff(numbers, axis=1) == stride).all()
    room = length - clip_span(frames, stride)
    starts = numbers[:, 0].tolist()
    if clips > 1:
        assert (starts[0], starts[-1]) == (0, room)
        assert max(np.diff(starts)) - min(np.diff(starts)) <= 1
    if clips % 2:  # the middle clip has as many frames before it as after it
        before, after = starts[clips // 2], length - 1 - int(numbers[clips // 2, -1])
        assert after - before in (0, 1)
        assert uniform_clips(length, frames=frames, stride=stride).tolist() == [numbers[clips // 2].tolist()]


def test_impossible_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="a clip of 0 frames, one every 1"):
        uniform_clips(10, frames=0)
    with pytest.raises(ValueError, match="one every 0"):
        random_clip(10, np.random.default_rng(0), frames=2, stride=0)
    with pytest.raises(ValueError, match="a video of 0 frames"):
        uniform_clips(0, frames=2)
    with pytest.raises(ValueError, match="clips is 0"):
        uniform_clips(10, frames=2, clips=0)


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
def test_the_very_frames_are_read(tmp_path: Path, name: str) -> None:
    path = clip(tmp_path / name, 41)
    whole = np.stack(plain_decode(path))
    video = LabelledVideo(path, 0, "x")
    numbers = [np.array(rows) for rows in ([[7, 3, 3], [40, 0, 7]], [[40]], [[0]], [[20, 25]])]
    for wanted in numbers:
        np.testing.assert_array_equal(read_clips(video, lambda length, wanted=wanted: wanted), whole[wanted])
    found = read_clips(video, lambda length: uniform_clips(length, frames=4, stride=3, clips=3))
    np.testing.assert_array_equal(found, whole[uniform_clips(41, frames=4, stride=3, clips=3)])


def test_no_more_is_decoded_than_needed(tmp_path: Path) -> None:
    whole = faststart(clip(tmp_path / "whole.mp4", 60), tmp_path / "fast.mp4")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    video, good = LabelledVideo(cut, 0, "x"), plain_decode(whole)
    np.testing.assert_array_equal(read_clips(video, lambda length: np.array([[2, 9]]))[0], [good[2], good[9]])
    with pytest.raises(DamagedVideoError, match="is damaged after"):
        read_clips(video, lambda length: np.array([[2, length - 1]]))


@pytest.mark.parametrize("claimed", [None, 0, 9, 13, 40])
def test_the_length_is_the_true_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claimed: int | None) -> None:
    path = clip(tmp_path / "x.mp4", 12)
    whole, asked = np.stack(plain_decode(path)), []
    plain = read_clips.__globals__["read_video"]

    def claiming(*args: object, **options: object) -> object:
        reader = plain(*args, **options)
        reader.frame_count_estimate = claimed
        return reader

    monkeypatch.setitem(read_clips.__globals__, "read_video", claiming)
    for first in (0, 1):

        def last_frames(length: int, first: int = first) -> np.ndarray:
            asked.append(length)
            return np.array([[first * (length - 2), length - 1]])

        found = read_clips(LabelledVideo(path, 0, "x"), last_frames)
        length = 9 if claimed == 9 else 12
        np.testing.assert_array_equal(found[0], whole[[first * (length - 2), length - 1]])
        assert asked[-1] == length


def test_folders_of_frames_are_read(tmp_path: Path) -> None:
    frames = moving(5)
    for i, frame in enumerate(frames):
        write_png(tmp_path / "x" / f"{i + 1:05}.png", frame)
    video = LabelledVideo(tmp_path / "x", 0, "x")
    found = read_clips(video, lambda length: np.array([[4, 0], [0, length - 2]]))
    np.testing.assert_array_equal(found, np.stack(frames)[np.array([[4, 0], [0, 3]])])
    (tmp_path / "none").mkdir()
    with pytest.raises(VideoError, match="holds no frame"):
        read_clips(LabelledVideo(tmp_path / "none", 0, "x"), lambda length: np.array([[0]]))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([[5]], "frames 5 to 5; .* has 0 to 4"),
        ([[-1, 2]], "frames -1 to 2"),
        ([0, 1], r"got int64 \(2,\); expected whole frame numbers \(K, T\)"),
        ([[0.5]], "got float64"),
        ([[]], "expected whole frame numbers"),
    ],
)
def test_frames_that_are_not_there_are_refused(tmp_path: Path, numbers: list, message: str) -> None:
    video = LabelledVideo(clip(tmp_path / "x.mp4", 5), 0, "x")
    with pytest.raises(ValueError, match=message):
        read_clips(video, lambda length: np.array(numbers))


@pytest.mark.parametrize(("height", "width"), [(256, 340), (63, 47), (3, 5)])
def test_tsn_crops_are_those_of_the_paper(height: int, width: int) -> None:
    sides = [max(1, int(s * min(height, width))) for s in SCALES]
    sizes = tsn_sizes(height, width)
    assert sizes == [(sides[i], sides[j]) for i in range(4) for j in range(4) if abs(i - j) <= 1]
    assert len(tsn_sizes(height, width, distortion=3)) == 16
    if height == 256:
        assert sides == [256, 224, 192, 168]
    for size in sizes:
        found = tsn_places(height, width, size)
        assert len(PLACES) == len(found) == 13
        for (y, x), place in zip(PLACES, found, strict=True):
            assert (place.height, place.width) == size
            assert place.top == int((height - size[0]) * y / 4)
            assert place.left == int((width - size[1]) * x / 4)
        edges = {(c.top in (0, height - size[0]), c.left in (0, width - size[1])) for c in found[:4]}
        assert edges == {(True, True)}
        assert tsn_places(height, width, size, places=CORNERS) == found[:5]


def test_augmentation_gives_each_crop_and_mirror_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (2, 3, 9, 14), dtype=np.uint8)
    allowed = set()
    for size in tsn_sizes(9, 14, scales=(1.0, 0.6)):
        for place in tsn_places(9, 14, size, places=CORNERS):
            cut = resize(frames[..., place.top : place.top + size[0], place.left : place.left + size[1]], (8, 8))
            allowed |= {cut.tobytes(), np.ascontiguousarray(cut[..., ::-1]).tobytes()}
    seen = [tsn_augment(frames, rng, size=8, scales=(1.0, 0.6), places=CORNERS) for _ in range(900)]
    assert {s.tobytes() for s in seen} == allowed
    plain = [tsn_augment(frames, rng, size=8, scales=(1.0,), places=CORNERS[:1], mirror=False) for _ in range(20)]
    assert {s.tobytes() for s in plain} == {resize(frames[..., :9, :9], (8, 8)).tobytes()}
    tensor = tsn_augment(torch.from_numpy(frames), np.random.default_rng(5), size=8)
    assert torch.equal(tensor, torch.from_numpy(tsn_augment(frames, np.random.default_rng(5), size=8)))


@pytest.mark.parametrize(("height", "width"), [(8, 13), (13, 8), (8, 8), (9, 20), (12, 8)])
@pytest.mark.parametrize("size", [8, 5, 1])
def test_left_centre_and_right_lie_along_the_longer_side(height: int, width: int, size: int) -> None:
    first, middle, last = left_center_right(height, width, size)
    along, across = ("top", "left") if height > width else ("left", "top")
    longer, shorter = max(height, width), min(height, width)
    assert (getattr(first, along), getattr(last, along)) == (0, longer - size)
    for place in (first, middle, last):
        assert getattr(place, across) == (shorter - size) // 2
        assert (place.height, place.width) == (size, size)
    before, after = getattr(middle, along), longer - size - getattr(middle, along)
    assert after - before in (0, 1)
    frames = np.random.default_rng(0).random((2, height, width))
    if height <= width:
        np.testing.assert_array_equal(mirrored(crop(frames, first)), crop(mirrored(frames), last))
        if (width - size) % 2 == 0:
            np.testing.assert_array_equal(mirrored(crop(frames, middle)), crop(mirrored(frames), middle))


@pytest.mark.parametrize(("height", "width"), [(16, 24), (24, 16)])
def test_all_views_are_the_three_crops_of_every_clip(height: int, width: int) -> None:
    clips = np.random.default_rng(0).integers(0, 255, (2, 5, 3, height, width), dtype=np.uint8)
    views = all_views(clips, size=8, shorter=10)
    assert views.shape == (6, 3, 5, 8, 8)
    small = resize_shorter(clips, 10)
    assert small.shape[-2:] == ((10, 15) if height < width else (15, 10))
    for k, (i, place) in itertools.product(range(2), enumerate(left_center_right(*small.shape[-2:], 8))):
        for t, c in itertools.product(range(5), range(3)):
            wanted = small[k, t, c, place.top : place.top + 8, place.left : place.left + 8]
            np.testing.assert_array_equal(views[3 * k + i, c, t], wanted)
    assert torch.equal(all_views(torch.from_numpy(clips), size=8, shorter=10), torch.from_numpy(views))
    assert all_views(clips, size=8).shape == (6, 3, 5, 8, 8)


def test_the_prediction_is_the_mean_over_views() -> None:
    scores = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = mean_prediction(scores, 3)
    for video in range(2):
        shares = [scores[i].exp() / scores[i].exp().sum() for i in range(3 * video, 3 * video + 3)]
        torch.testing.assert_close(found[video], sum(shares) / 3)
    torch.testing.assert_close(mean_prediction(scores, 1), scores.softmax(1))
    with pytest.raises(InputError, match="of 4 views per video"):
        mean_prediction(scores, 4)


def test_resizing_is_the_mean_where_it_shrinks_by_a_half() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (3, 8, 12), dtype=np.uint8)
    wide = resize(frames.astype(np.float32), (8, 12))
    np.testing.assert_array_equal(wide, frames)
    flat = resize(np.full((2, 9, 7), 201, np.uint8), (4, 13))
    assert flat.shape == (2, 4, 13)
    assert flat.dtype == np.uint8
    assert (flat == 201).all()
    ramp = np.broadcast_to(np.arange(32, dtype=np.float32), (1, 4, 32)).copy()
    np.testing.assert_allclose(resize(ramp, (4, 16))[0, 0, 2:-2], np.arange(16)[2:-2] * 2 + 0.5, atol=1e-4)


def test_crops_that_do_not_fit_are_refused() -> None:
    frames = np.zeros((1, 6, 9))
    with pytest.raises(InputError, match=r"Crop\(top=3, left=0, height=4, width=4\) does not lie in"):
        crop(frames, Crop(3, 0, 4, 4))
    with pytest.raises(InputError, match="crops of 7 in frames of"):
        left_center_right(6, 9, 7)
    with pytest.raises(InputError, match=r"a crop of \(7, 2\)"):
        tsn_places(6, 9, (7, 2))
    with pytest.raises(ValueError, match="scales are"):
        tsn_sizes(6, 9, scales=(1.2,))
    with pytest.raises(InputError, match=r"clips are \(1, 6, 9\)"):
        all_views(frames, size=3)
    with pytest.raises(InputError, match="expected at least 1 pixel"):
        resize(frames, (0, 3))
