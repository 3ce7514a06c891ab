"""Clips cut from sequences, and the DeepLabCut reader on small projects and on the published set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saccade.data.clips import Window, cut_windows, read_pictures, unlabelled_clips
from saccade.data.openfield import read_openfield
from saccade.errors import FileFormatError, VideoError
from saccade.video import write_video
from tests.assets import require_asset
from tests.clips import moving
from tests.stills import write_jpeg, write_png

HEAD = ["scorer,me,me,me,me", "bodyparts,nose,nose,tail,tail", "coords,x,y,x,y"]


def project(root: Path, lines: list[str], *, recording: str = "one", pictures: int = 5) -> Path:
    folder = root / "labeled-data" / recording
    folder.mkdir(parents=True)
    for i in range(pictures):
        write_png(folder / f"img{i}.png", np.full((12, 20, 3), 40 * i, np.uint8))
    (folder / "CollectedData_me.csv").write_text("\n".join(lines) + "\n")
    return root


def rows(count: int = 5, *, recording: str = "one") -> list[str]:
    return [f"labeled-data/{recording}/img{i}.png,{i}.25,{i + 1},{2 * i + 3}.5,7" for i in range(count)]


@pytest.mark.parametrize("frames", [1, 3, 4])
@pytest.mark.parametrize("stride", [None, 1, 2, 5])
@pytest.mark.parametrize("rest", ["drop", "keep"])
def test_windows_are_the_plain_definition(frames: int, stride: int | None, rest: str) -> None:
    lengths = [0, 1, 2, 4, 7, 9, 13]
    step = stride or frames
    wanted = []
    for k, length in enumerate(lengths):
        covered: set[int] = set()
        for start in range(0, length, step):
            here = set(range(start, min(start + frames, length)))
            if len(here) == frames or (rest == "keep" and start + frames > length and length - 1 not in covered):
                wanted.append(Window(k, start, start + len(here)))
                covered |= here
    assert cut_windows(lengths, frames=frames, stride=stride, rest=rest) == wanted  # type: ignore[arg-type]
    assert all(len(w) == w.stop - w.start for w in wanted)


def test_windows_that_cannot_be_cut_are_refused() -> None:
    with pytest.raises(
        ValueError, match="none of 2 sequences gives a window; the longest has 3 frames, expected at least 4"
    ):
        cut_windows([3, 1], frames=4)
    with pytest.raises(ValueError, match="frames is 0 and stride 2; expected at least 1"):
        cut_windows([3], frames=0, stride=2)
    with pytest.raises(ValueError, match="rest is 'pad'"):
        cut_windows([3], frames=1, rest="pad")  # type: ignore[arg-type]


@pytest.mark.parametrize(("frames", "every"), [(3, None), (3, 2), (2, 5), (11, 1)])
def test_clips_of_a_video_are_its_frames(tmp_path: Path, frames: int, every: int | None) -> None:
    path = tmp_path / "a.mp4"
    pictures = np.stack(moving(11))
    write_video(path, pictures, fps=25, codec="libx264rgb", pixel_format="rgb24", crf=0)
    clips = list(unlabelled_clips(path, frames=frames, every=every))
    starts = [s for s in range(0, 11, every or frames) if s + frames <= 11]
    assert len(clips) == len(starts)
    for clip, start in zip(clips, starts, strict=True):
        np.testing.assert_array_equal(clip, pictures[start : start + frames])


def test_clips_longer_than_the_video_are_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", np.stack(moving(5)), fps=25)
    with pytest.raises(ValueError, match=r"a\.mp4 has 5 frames; expected at least 6"):
        list(unlabelled_clips(tmp_path / "a.mp4", frames=6))
    with pytest.raises(ValueError, match="every 0; expected at least 1"):
        unlabelled_clips(tmp_path / "a.mp4", frames=6, every=0)


def test_pictures_are_read_as_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, 9, 13, 3), dtype=np.uint8)
    paths = [write_png(tmp_path / f"{i:05}.png", p) for i, p in enumerate(pictures)]
    np.testing.assert_array_equal(read_pictures(paths), pictures)
    smooth = np.full((16, 16, 3), (200, 90, 30), np.uint8)
    assert np.abs(read_pictures([write_jpeg(tmp_path / "a.jpg", smooth)])[0].astype(int) - smooth).max() < 6
    other = write_png(tmp_path / "other.png", pictures[0][:5])
    with pytest.raises(VideoError, match=r"other\.png is 13 x 5 pixels; expected 13 x 9"):
        read_pictures([*paths, other])
    with pytest.raises(VideoError):
        read_pictures([tmp_path / "none.png"])
    with pytest.raises(VideoError, match="no files"):
        read_pictures([])


def test_labels_are_read(tmp_path: Path) -> None:
    lines = rows()
    lines[1] = "labeled-data/one/img1.png,,,5.5,7"
    lines[2] = "labeled-data/one/img2.png,,,,"
    field = read_openfield(project(tmp_path, HEAD + lines))
    assert field.names == ("nose", "tail")
    assert [picture.path.name for picture in field.pictures] == [f"img{i}.png" for i in range(5)]
    first, second, third = field.pictures[:3]
    assert first.joints.tolist() == [[0.25, 1.0], [3.5, 7.0]]
    assert first.box.tolist() == [0.25, 1.0, 3.5, 7.0]
    assert second.visible.tolist() == [False, True]
    assert np.isnan(second.joints[0]).all()
    assert second.box.tolist() == [5.5, 7.0, 5.5, 7.0]
    assert third.visible.tolist() == [False, False]
    assert third.box.tolist() == [0, 0, 0, 0]
    assert (field.pictures[3].read() == 120).all()
    assert repr(field) == "OpenField(joints=2, pictures=5, videos=0, missing=0)"
    assert repr(second) == "LabelledPicture(img1.png, visible=1 of 2)"


def test_newer_projects_name_pictures_in_three_columns(tmp_path: Path) -> None:
    head = [f"{line.split(',')[0]},,,{line.split(',', 1)[1]}" for line in HEAD]
    lines = [line.replace("/", ",") for line in rows()]
    new = read_openfield(project(tmp_path / "new", head + lines))
    old = read_openfield(project(tmp_path / "old", HEAD + rows()))
    for a, b in zip(new.pictures, old.pictures, strict=True):
        assert a.path.name == b.path.name
        np.testing.assert_array_equal(a.joints, b.joints)


def test_the_split_is_by_blocks_of_each_recording(tmp_path: Path) -> None:
    project(tmp_path, HEAD + rows(recording="b"), recording="b")
    field = read_openfield(project(tmp_path, HEAD + rows(recording="a"), recording="a"))
    train, test = field.split(0.6)
    assert [f"{p.path.parent.name}{p.path.stem[-1]}" for p in train] == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert [f"{p.path.parent.name}{p.path.stem[-1]}" for p in test] == ["a3", "a4", "b3", "b4"]
    for share in (0.0, 1.0, 0.01):
        with pytest.raises(ValueError, match="leaves one side empty"):
            field.split(share)


def test_missing_pictures_are_named_and_the_others_kept(tmp_path: Path) -> None:
    field = read_openfield(project(tmp_path, HEAD + rows(), pictures=3))
    assert len(field.pictures) == 3
    assert field.missing == ("labeled-data/one/img3.png", "labeled-data/one/img4.png")


def test_damaged_labels_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"holds no labels; expected labeled-data/<recording>/CollectedData"):
        read_openfield(tmp_path)
    cases = {
        "begin": (HEAD[1:] + rows(), "begins with lines .*expected scorer, bodyparts, coords"),
        "columns": ([*HEAD[:2], "coords,x,y,x,z", *rows()], "expected x, y for each body part"),
        "short": (HEAD + rows()[:1] + ["labeled-data/one/img1.png,3,4"], "line 5: 3 columns; expected 5"),
        "word": ([*HEAD, "labeled-data/one/img0.png,3,4,many,2"], "line 4: .*expected numbers or empty cells"),
    }
    for name, (lines, message) in cases.items():
        with pytest.raises(FileFormatError, match=message):
            read_openfield(project(tmp_path / name, lines))
    outside = read_openfield(project(tmp_path / "outside", [*HEAD, "labeled-data/one/img0.png,3,4,20.5,2"]))
    with pytest.raises(FileFormatError, match=r"a joint at \[20.5, 2.0\] lies outside the picture of 20 x 12 pixels"):
        outside.pictures[0].read()
    project(tmp_path / "two", HEAD + rows(), recording="one")
    with pytest.raises(FileFormatError, match="labels snout, tail; expected nose, tail"):
        read_openfield(project(tmp_path / "two", [line.replace("nose", "snout") for line in HEAD], recording="two"))


def test_the_published_set() -> None:
    field = read_openfield(require_asset("pose/openfield"))
    assert field.names == ("snout", "leftear", "rightear", "tailbase")
    assert len(field.pictures) == 116
    assert all(picture.visible.all() for picture in field.pictures)
    assert not field.missing
    train, test = field.split()
    assert (len(train), len(test)) == (93, 23)
    assert test[0].path.name == "img0093.png"
    assert field.pictures[0].read().shape == (480, 640, 3)
    clip = next(unlabelled_clips(field.videos[0], frames=4))
    assert clip.shape == (4, 480, 640, 3)
