"""Readers of labelled videos, on small sets of real video files in the published layouts."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import recipes.act_clips
from saccade.data.actions import read_actions
from saccade.data.kinetics import read_kinetics, read_mini_kinetics
from saccade.data.moments import read_moments
from saccade.data.videos import LabelledVideo, LabelledVideos
from saccade.errors import FileFormatError, MissingDataWarning, VideoError
from saccade.video import read_video
from saccade.zoo.tsn import segment_frames
from tests.clips import clip
from tests.stills import write_jpeg

HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"
ROWS = (
    '"air drumming",_dbcJuKJQNs,40,50,val,0\narchery,-3B32lodo2M,59,69,val,0\nhurling (sport),a-b_cdefghi,0,10,val,1\n'
)
STEMS = {
    "air drumming": "_dbcJuKJQNs_000040_000050",
    "archery": "-3B32lodo2M_000059_000069",
    "hurling (sport)": "a-b_cdefghi_000000_000010",
}
CLASSES = tuple(STEMS)


def video(path: Path, frames: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return clip(path, frames, height=32, width=32)


def kinetics(root: Path, *, place: Callable[[str], str], text: str = HEADER + ROWS) -> tuple[Path, Path]:
    for label, stem in STEMS.items():
        video(root / "val" / place(label) / f"{stem}.mp4")
    (root / "val.csv").write_text(text)
    return root / "val.csv", root / "val"


def shown(found: LabelledVideos) -> list[tuple[str, int, str]]:
    return [(v.name, v.label, v.path.suffix) for v in found.videos]


@pytest.mark.parametrize("place", [str, lambda name: name.replace(" ", "_"), lambda name: "."])
def test_kinetics_by_class_and_in_one_folder(tmp_path: Path, place: Callable[[str], str]) -> None:
    found = read_kinetics(*kinetics(tmp_path, place=place))
    assert shown(found) == [(STEMS[label], i, ".mp4") for i, label in enumerate(CLASSES)]
    assert found.classes == CLASSES
    assert (found.missing, found.damaged) == ((), {})
    assert repr(found) == "LabelledVideos(videos=3, classes=3, missing=0, damaged=0)"
    assert [v.first_frame().shape for v in found.videos] == [(32, 32, 3)] * 3
    assert len(found.checked()) == 3


def test_kinetics_columns_are_found_by_name(tmp_path: Path) -> None:
    rows = "".join(f"{line.split(',')[0]},val,{','.join(line.split(',')[1:4])}\n" for line in ROWS.splitlines())
    files = kinetics(tmp_path, place=str, text="\ufefflabel,split,youtube_id,time_start,time_end\n\n" + rows)
    assert [v.label for v in read_kinetics(*files).videos] == [0, 1, 2]


def test_classes_of_another_part_keep_their_indices(tmp_path: Path) -> None:
    files = kinetics(tmp_path, place=str)
    (tmp_path / "names.txt").write_text("archery\nzumba\nhurling (sport)\n\nair drumming\n")
    for classes in (tmp_path / "names.txt", ("archery", "zumba", "hurling (sport)", "air drumming")):
        found = read_kinetics(*files, classes=classes)
        assert [v.label for v in found.videos] == [3, 0, 2]
        assert found.classes == ("archery", "zumba", "hurling (sport)", "air drumming")
    with pytest.raises(FileFormatError, match=r"line 3: 'archery' is none of the 2 classes. Did you mean 'archer'\?"):
        read_kinetics(*files, classes=["archer", "air drumming"])
    with pytest.raises(FileFormatError, match="holds archery more than once"):
        read_kinetics(*files, classes=["archery", "archery"])


def test_what_is_missing_or_damaged_is_told(tmp_path: Path) -> None:
    files = kinetics(tmp_path, place=str)
    (tmp_path / "val" / "archery" / f"{STEMS['archery']}.mp4").unlink()
    (tmp_path / "val" / "air drumming" / f"{STEMS['air drumming']}.mp4").write_bytes(b"")
    text = r"1 missing \(-3B32lodo2M_000059_000069\) and 1 damaged \(_dbcJuKJQNs_000040_000050\) of 3 listed videos"
    with pytest.warns(MissingDataWarning, match=text) as told:
        found = read_kinetics(*files)
    assert told[0].filename == __file__
    assert found.missing == (STEMS["archery"],)
    assert re.search("is an empty file", found.damaged[STEMS["air drumming"]])
    assert shown(found) == [(STEMS["hurling (sport)"], 2, ".mp4")]
    last = tmp_path / "val" / "hurling (sport)" / f"{STEMS['hurling (sport)']}.mp4"
    last.write_bytes(b"no video")
    with pytest.warns(MissingDataWarning):
        found = read_kinetics(*files)
    with pytest.raises(FileFormatError, match=r"none of 3 listed videos can be used: 1 missing .* 2 damaged"):
        found.checked()
    last.unlink()
    with pytest.raises(FileFormatError, match="none of 3 listed videos can be used"):
        read_kinetics(*files)


def test_videos_that_do_not_decode_are_found_when_asked_for(tmp_path: Path) -> None:
    files = kinetics(tmp_path, place=str)
    broken = tmp_path / "val" / "archery" / f"{STEMS['archery']}.mp4"
    broken.write_bytes(broken.read_bytes()[:200])
    found = read_kinetics(*files)
    assert len(found) == 3
    with pytest.warns(MissingDataWarning, match="1 damaged") as told:
        checked = found.checked()
    assert told[0].filename == __file__
    assert [v.label for v in checked.videos] == [0, 2]
    assert list(checked.damaged) == [STEMS["archery"]]
    with pytest.raises(VideoError):
        found.videos[1].first_frame()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"has no column label, youtube_id, time_start, time_end; expected the header label,youtube_id"),
        ("youtube_id,time_start,time_end,split\na,0,10,test\n", "no column label; .*first published without labels"),
        (HEADER, "lists no videos"),
        (HEADER + "archery,-3B32lodo2M,59\n", "line 2 has 3 columns; expected 6"),
        (HEADER + ROWS + "archery,-3B32lodo2M,59,6x,val,0\n", "line 5: label 'archery', .*seconds '59' to '6x'"),
        (HEADER + "archery,../evil,59,69,val,0\n", "line 2: .*video '../evil'"),
        (HEADER + ",-3B32lodo2M,59,69,val,0\n", "line 2: label ''"),
        (HEADER + '"archery,-3B32lodo2M,59,69,val,0\n', "line 2: unexpected end of data"),
    ],
)
def test_damaged_kinetics_lists_are_refused(tmp_path: Path, text: str, message: str) -> None:
    files = kinetics(tmp_path, place=str, text=text)
    with pytest.raises(FileFormatError, match=message):
        read_kinetics(*files)


def test_lists_and_folders_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="is no folder"):
        read_kinetics(tmp_path / "val.csv", tmp_path / "val")
    (tmp_path / "val").mkdir()
    with pytest.raises(FileFormatError, match=r"val.csv cannot be read: No such file"):
        read_kinetics(tmp_path / "val.csv", tmp_path / "val")
    (tmp_path / "val.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileFormatError, match=r"val.csv is not text"):
        read_kinetics(tmp_path / "val.csv", tmp_path / "val")


def mini(root: Path, *, separator: str = " ") -> Path:
    lines = [f"images/val/{c}/{STEMS[c]}{separator}{60 + i}{separator}{i}" for i, c in enumerate(CLASSES)]
    (root / "mini_val.txt").write_text("\n".join(lines) + "\n")
    return root / "mini_val.txt"


@pytest.mark.parametrize("separator", [" ", ";"])
@pytest.mark.parametrize("place", [str, lambda name: "."])
def test_mini_kinetics_of_kinetics_videos(tmp_path: Path, place: Callable[[str], str], separator: str) -> None:
    _, folder = kinetics(tmp_path, place=place)
    found = read_mini_kinetics(mini(tmp_path, separator=separator), folder, classes=CLASSES)
    assert shown(found) == [(STEMS[label], i, ".mp4") for i, label in enumerate(CLASSES)]


def test_mini_kinetics_of_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label, stem in STEMS.items():
        for i in (1, 2, 10):
            write_jpeg(tmp_path / "images" / label / stem / f"{i:05}.jpg", rng.integers(0, 255, (16, 24, 3), np.uint8))
    (tmp_path / "names.txt").write_text("\n".join(CLASSES))
    found = read_mini_kinetics(mini(tmp_path), tmp_path / "images", classes=tmp_path / "names.txt")
    assert shown(found) == [(STEMS[label], i, "") for i, label in enumerate(CLASSES)]
    assert [file.name for file in found.videos[0].pictures()] == ["00001.jpg", "00002.jpg", "00010.jpg"]
    assert found.videos[0].first_frame().shape == (16, 24, 3)
    for file in found.videos[1].pictures():
        file.unlink()
    with pytest.warns(MissingDataWarning, match="1 damaged"):
        found = read_mini_kinetics(mini(tmp_path), tmp_path / "images", classes=CLASSES)
    assert re.search("holds no pictures", found.damaged[STEMS["archery"]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("images/val/archery/x 60\n", "line 1: .*expected a place, a number of frames and a class index"),
        ("x 60 0\n", "line 1: .*expected a place"),
        ("\nimages/val/archery/x 60 0\n", "line 2: class 0 and folder 'archery'; the class list has 'air drumming'"),
        ("images/val/archery/x 60 3\n", "line 1: class 3 .*has 3 classes, 0 to 2"),
        ("", "lists no videos"),
    ],
)
def test_damaged_mini_kinetics_lists_are_refused(tmp_path: Path, text: str, message: str) -> None:
    _, folder = kinetics(tmp_path, place=str)
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(FileFormatError, match=message):
        read_mini_kinetics(tmp_path / "list.txt", folder, classes=CLASSES)


def moments(root: Path, *, categories: str = "clapping,1\nblocking,0\n", rows: str = "") -> Path:
    video(root / "training" / "clapping" / "yt-a,b_1.mp4")
    video(root / "training" / "blocking" / "getty-id6_4.mp4")
    (root / "moments_categories.txt").write_text(categories)
    (root / "trainingSet.csv").write_text(
        rows or '"clapping/yt-a,b_1.mp4",clapping,3,0\nblocking/getty-id6_4.mp4,blocking,4,1\n'
    )
    return root


def test_moments_in_time(tmp_path: Path) -> None:
    found = read_moments(moments(tmp_path), part="train")
    assert found.classes == ("blocking", "clapping")
    assert shown(found) == [("clapping/yt-a,b_1.mp4", 1, ".mp4"), ("blocking/getty-id6_4.mp4", 0, ".mp4")]
    assert len(found.checked()) == 2
    (tmp_path / "training" / "clapping" / "yt-a,b_1.mp4").unlink()
    with pytest.warns(MissingDataWarning, match=r"1 missing \(clapping/yt-a,b_1.mp4\) of 2"):
        found = read_moments(tmp_path, part="train")
    assert [v.label for v in found.videos] == [0]
    with pytest.raises(FileFormatError, match=r"validationSet.csv cannot be read"):
        read_moments(tmp_path, part="validation")
    with pytest.raises(ValueError, match="part 'test'; expected 'train' or 'validation'"):
        read_moments(tmp_path, part="test")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rows": "clapping/x.mp4\n"}, "line 1: 'clapping/x.mp4'; expected a file, its label"),
        ({"rows": "clapping/x.mp4,clapping,3,many\n"}, "line 1: .*two numbers of votes"),
        (
            {"rows": "clapping/x.mp4,claping,3,0\n"},
            "line 1: 'claping' is none of the 2 classes. Did you mean 'clapping'",
        ),
        ({"categories": "clapping,0\nblocking,0\n"}, "line 2: 'blocking,0'; expected a name and its index"),
        ({"categories": "clapping,0\nblocking,2\n"}, "holds 2 classes; expected different names with indices from 0"),
        ({"categories": "clapping,0\nclapping,1\n"}, "holds 2 classes; expected different names"),
        ({"categories": ""}, "holds 0 classes"),
    ],
)
def test_damaged_moments_lists_are_refused(tmp_path: Path, given: dict[str, str], message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        read_moments(moments(tmp_path, **given), part="train")


def surveillance(root: Path) -> Path:
    for name, mark in (("fight", "fi"), ("noFight", "nofi")):
        for number in (1, 90, 91, 120):
            video(root / name / f"{mark}{number:03}.mp4", frames=number % 7 + 2)
    return root


def test_surveillance_clips_are_split_by_their_number(tmp_path: Path) -> None:
    found = {part: read_actions(surveillance(tmp_path), part=part) for part in ("train", "test")}
    assert [(v.name, v.label) for v in found["train"].videos] == [
        ("fight/fi001.mp4", 0), ("fight/fi090.mp4", 0), ("noFight/nofi001.mp4", 1), ("noFight/nofi090.mp4", 1),
    ]  # fmt: skip
    assert [(v.name, v.label) for v in found["test"].videos] == [
        ("fight/fi091.mp4", 0), ("fight/fi120.mp4", 0), ("noFight/nofi091.mp4", 1), ("noFight/nofi120.mp4", 1),
    ]  # fmt: skip
    (tmp_path / "fight" / "some.mp4").touch()
    with pytest.raises(FileFormatError, match=r"some.mp4 has no number in its name"):
        read_actions(tmp_path, part="train")
    with pytest.raises(FileFormatError, match=r"fight is no folder; expected the folders fight and noFight"):
        read_actions(tmp_path / "elsewhere", part="train")
    with pytest.raises(ValueError, match="part 'validation'; expected"):
        read_actions(tmp_path, part="validation")  # type: ignore[arg-type]


def test_the_recipe_takes_25_frames_of_each_surveillance_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes.act_clips, "FOLDER", surveillance(tmp_path))
    for split, part in (("train", "train"), ("test", "test")):
        samples, listed = recipes.act_clips.recorded(split, size=32), read_actions(tmp_path, part=part).videos
        assert [int(s["label"]) for s in samples] == [v.label for v in listed]
        for sample, labelled in zip(samples, listed, strict=True):
            decoded = [frame.data for frame in read_video(labelled.path)]
            chosen = np.stack([decoded[i] for i in segment_frames(len(decoded), 25)])
            np.testing.assert_array_equal(sample["frames"], chosen.transpose(0, 3, 1, 2))


def test_a_folder_without_pictures_has_no_first_frame(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no files"):
        LabelledVideo(tmp_path, 0, "x").first_frame()
