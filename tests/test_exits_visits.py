"""A video file as a model looks at it: the right pictures in the right order, no more kept than can be wanted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from clips import clip
from exits_definition import small

from saccade.errors import InputError, VideoError
from saccade.exits import FixedBudget, VideoVisits, classify_videos, exit_macs
from saccade.preprocess import Preprocess
from saccade.video import read_video

HOW = Preprocess(size=(12, 16))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """23 pictures in one group."""
    return clip(tmp_path_factory.mktemp("visits") / "film.mp4", 23)


def test_pictures_come_in_the_models_order_and_each_is_decoded_once(film: Path) -> None:
    for order in ("coarse-to-fine", "sequential", "random"):
        model = small(frames=6, order=order)
        pictures = [HOW(frame)[0] for frame in read_video(film)]
        video = VideoVisits(film, model, HOW, cache=False)
        assert (video.length, video.cost.frames_decoded) == (0, 0)
        frames = list(video)
        assert video.length == 23
        assert sorted(video.visited) == sorted(model.positions(23))
        if order != "random":
            assert tuple(video.visited) == model.positions(23)
        assert all(torch.equal(frame, pictures[k]) for frame, k in zip(frames, video.visited, strict=True))
        assert video.cost.frames_decoded <= 23 + 1
        video.close()
        video.close()
        assert video.cost.frames_returned == 6
        assert list(video) == []


def test_a_video_has_its_own_random_order_every_time(film: Path, tmp_path: Path) -> None:
    model = small(frames=6, order="random")
    orders = []
    for name in ("a.mp4", "b.mp4", "c.mp4", "a.mp4"):
        (tmp_path / name).write_bytes(film.read_bytes())
        video = VideoVisits(tmp_path / name, model, HOW, cache=False)
        list(video)
        orders.append(tuple(video.visited))
    assert orders[0] == orders[3]
    assert len(set(orders)) > 1


def test_decoders_keep_no_more_pictures_than_are_still_to_be_visited(film: Path) -> None:
    video = VideoVisits(film, small(frames=6), HOW, cache=False)
    most = 0
    for t, _ in enumerate(video, 1):
        assert video._frames is not None
        kept = len(video._frames._kept)
        most = max(most, kept)
        assert kept <= 6 - t + 1
    assert most > 2, "nothing was kept, so that nothing was tested"


@pytest.mark.parametrize(("count", "stride"), [(1, 1), (3, 2), (5, 4), (4, 30)])
def test_clips_lie_around_the_places_and_inside_the_video(film: Path, count: int, stride: int) -> None:
    model = small(frames=4)
    pictures = [HOW(frame)[0] for frame in read_video(film)]
    video = VideoVisits(film, model, HOW, clip=count, stride=stride, cache=False)
    for place, found in zip(model.positions(23), video, strict=True):
        span = (count - 1) * stride + 1
        if span > 23:
            numbers = [k * stride % 23 for k in range(count)]
        else:
            starts = range(23 - span + 1)
            start = min(starts, key=lambda at: abs(at + span // 2 - place))
            numbers = [start + k * stride for k in range(count)]
        assert torch.equal(found, torch.stack([pictures[k] for k in numbers], 1))
        assert video.visited[-1] == numbers[0]


def test_files_in_batches_and_what_is_wrong_with_one(film: Path, tmp_path: Path) -> None:
    model = small().float()
    macs = exit_macs(model, torch.zeros(1, 3, 12, 16))
    paths = [film, tmp_path / "none.mp4", film]
    videos = [VideoVisits(path, model, HOW, cache=False) for path in paths]
    found = {id(done.video): done for done in classify_videos(model, videos, FixedBudget(2), macs=macs, batch=2)}
    one, none, other = (found[id(video)] for video in videos)
    assert isinstance(none.error, VideoError)
    assert one.exits is not None
    assert other.exits is not None
    assert torch.equal(one.exits.frames, other.exits.frames)
    assert [len(video.visited) for video in videos] == [2, 0, 2]
    assert all(0 < video.cost.frames_decoded <= 23 for video in (videos[0], videos[2]))
    with pytest.raises(InputError, match="would all be one"):
        VideoVisits(film, model, HOW, clip=3, snap="keyframe")
    with pytest.raises(InputError, match="a clip of 0 pictures"):
        VideoVisits(film, model, HOW, clip=0)
