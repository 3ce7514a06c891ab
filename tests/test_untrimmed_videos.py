"""Readers of videos with several labels, on small sets of real video files in the published layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saccade.data.activitynet import read_activitynet
from saccade.data.hvu import read_hvu, read_tags
from saccade.data.videos import LabelledVideos
from saccade.errors import FileFormatError, MissingDataWarning
from tests.clips import clip


def entry(subset: str, *labels: str) -> dict[str, Any]:
    parts = [{"label": label, "segment": [7.5 * i, 7.5 * i + 5]} for i, label in enumerate(labels)]
    return {"subset": subset, "annotations": parts, "duration": 82.73, "resolution": "1920x1080", "url": "https://"}


DATABASE = {
    "sLY_R0dz3P8": entry("training", "Shoveling snow"),
    "-9f7Q3vq1tE": entry("validation", "Archery", "Camel ride", "Archery"),
    "_abcdefghij": entry("testing"),
    "QOlSCBRmfWY": entry("validation", "Shoveling snow", "Shoveling snow"),
    "a1b2c3d4e5f": entry("training", "Zumba"),
}


def activitynet(root: Path, place: str, database: Any = None) -> tuple[Path, Path]:
    file, videos = root / "activity_net.v1-3.min.json", root / "videos"
    file.write_text(
        json.dumps(
            {
                "version": "VERSION 1.3",
                "taxonomy": [{"nodeName": "Archery", "nodeId": 3, "parentName": "Sports", "parentId": 1}],
                "database": DATABASE if database is None else database,
            }
        )
    )
    for identity in DATABASE:
        path = videos / place.format(identity)
        path.parent.mkdir(parents=True, exist_ok=True)
        clip(path, 2, height=32, width=32)
    return file, videos


def shown(found: LabelledVideos) -> list[tuple[str, tuple[int, ...]]]:
    return [(video.name, video.labels) for video in found.videos]


@pytest.mark.parametrize("place", ["v_{}.mp4", "val/v_{}.mp4", "validation/v_{}.mkv", "{}.mp4"])
def test_activitynet_videos_have_the_labels_of_all_their_segments(tmp_path: Path, place: str) -> None:
    found = read_activitynet(*activitynet(tmp_path, place), subset="validation")
    assert found.classes == ("Archery", "Camel ride", "Shoveling snow", "Zumba")  # of all subsets
    assert shown(found) == [("-9f7Q3vq1tE", (0, 1)), ("QOlSCBRmfWY", (2,))]
    assert found.targets().tolist() == [[1, 1, 0, 0], [0, 0, 1, 0]]
    assert found.targets().dtype == np.float32
    assert (found.missing, found.damaged) == ((), {})
    assert found.videos[0].first_frame().shape == (32, 32, 3)


def test_activitynet_videos_that_are_missing_or_damaged_are_told(tmp_path: Path) -> None:
    file, videos = activitynet(tmp_path, "v_{}.mp4")
    (videos / "v_-9f7Q3vq1tE.mp4").unlink()
    with pytest.warns(MissingDataWarning, match=r"1 missing \(-9f7Q3vq1tE\) of 2 listed videos") as told:
        found = read_activitynet(file, videos, subset="validation")
    assert told[0].filename == __file__
    assert (shown(found), found.missing) == ([("QOlSCBRmfWY", (2,))], ("-9f7Q3vq1tE",))
    (videos / "v_a1b2c3d4e5f.mp4").write_bytes(b"")
    (videos / "v_sLY_R0dz3P8.mp4").unlink()
    with pytest.raises(FileFormatError, match=r"none of 2 listed videos can be used: 1 missing .* 1 damaged"):
        read_activitynet(file, videos, subset="training")


def test_activitynet_classes_can_be_given(tmp_path: Path) -> None:
    files = activitynet(tmp_path, "v_{}.mp4")
    names = ["Zumba", "Shoveling snow", "Camel ride", "Archery"]
    (tmp_path / "names.txt").write_text("\n".join(names))
    for classes in (names, tmp_path / "names.txt"):
        found = read_activitynet(*files, subset="validation", classes=classes)
        assert [video.labels for video in found.videos] == [(3, 2), (1,)]
    with pytest.raises(FileFormatError, match=r"'QOlSCBRmfWY': 'Shoveling snow' is none of the 3 .*'Shovelling snow'"):
        read_activitynet(*files, subset="validation", classes=["Shovelling snow", "Camel ride", "Archery"])
    with pytest.raises(ValueError, match=r"subset 'testing'; expected .* the testing subset are not published"):
        read_activitynet(*files, subset="testing")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("database", "message"),
    [
        ([1], "has no 'database'; expected videos by their YouTube ids"),
        ({"a": {"subset": "validation"}}, "video 'a': expected a 'subset' and 'annotations'"),
        ({"a": entry("validation", "x") | {"annotations": [{"segment": [0, 1]}]}}, "video 'a': expected a 'subset'"),
        ({"a": entry("validation", "x") | {"annotations": 3}}, "video 'a': expected a 'subset'"),
        ({"a": entry("validation", "x") | {"annotations": [{"label": 3}]}}, "video 'a': expected a 'subset'"),
        ({"../a": entry("validation", "x")}, "video '../a'; expected a YouTube id"),
        ({"a": entry("testing")}, "has no labels"),
        ({"a": entry("validation"), "b": entry("training", "x")}, "video 'a' has no annotations"),
        ({"b": entry("training", "x")}, "lists no videos"),
    ],
)
def test_damaged_activitynet_files_are_refused(tmp_path: Path, database: Any, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        read_activitynet(*activitynet(tmp_path, "v_{}.mp4", database), subset="validation")


def test_activitynet_files_that_are_no_json_are_refused(tmp_path: Path) -> None:
    file, videos = activitynet(tmp_path, "v_{}.mp4")
    file.write_text('{"database": \n{"a": }}')
    with pytest.raises(FileFormatError, match=r"min.json, line 2: Expecting value; expected the json file"):
        read_activitynet(file, videos, subset="training")
    with pytest.raises(FileFormatError, match=r"other.json cannot be read"):
        read_activitynet(tmp_path / "other.json", videos, subset="training")


CATEGORIES = "Tag,Category\narchery,action\nfield,scene\nbow,object\nsport of athletics,concept\n"
HEADER = "Tags,youtube_id,time_start,time_end\n"
ROWS = (
    "bow|archery|field,OLpWTpTC4P8,57.0,67.0\n"
    "sport of athletics|archery,-sPKW4tZZ_c,4.18,233.5\n"
    "field,xsPKW4tZZBc,0,10\n"
)
STEMS = ("OLpWTpTC4P8_000570_000670", "-sPKW4tZZ_c_000041_002335", "xsPKW4tZZBc_000000_000100")


def hvu(root: Path, text: str = HEADER + ROWS, categories: str = CATEGORIES) -> tuple[Path, Path, Path]:
    (root / "videos_val").mkdir()
    for stem in STEMS:
        clip(root / "videos_val" / f"{stem}.mp4", 2, height=32, width=32)
    (root / "HVU_Val_V1.0.csv").write_text(text)
    (root / "HVU_Tags_Categories_V1.0.csv").write_text(categories)
    return root / "HVU_Val_V1.0.csv", root / "videos_val", root / "HVU_Tags_Categories_V1.0.csv"


def test_hvu_videos_have_all_their_tags(tmp_path: Path) -> None:
    file, videos, tags = hvu(tmp_path)
    found = read_hvu(file, videos, tags=tags)
    assert found.classes == ("archery", "field", "bow", "sport of athletics")
    assert [video.labels for video in found.videos] == [(2, 0, 1), (3, 0), (1,)]
    assert found.targets().tolist() == [[1, 1, 1, 0], [1, 0, 0, 1], [0, 1, 0, 0]]
    assert [video.path.stem for video in found.videos] == list(STEMS)
    assert read_tags(tags) == {"archery": "action", "field": "scene", "bow": "object", "sport of athletics": "concept"}
    assert len(read_hvu(file, videos, tags=tuple(reversed(found.classes)))) == 3


def test_hvu_videos_that_are_missing_are_told(tmp_path: Path) -> None:
    file, videos, tags = hvu(tmp_path)
    (videos / f"{STEMS[0]}.mp4").unlink()
    with pytest.warns(MissingDataWarning, match=r"1 missing \(OLpWTpTC4P8_000570_000670\) of 3 listed videos"):
        found = read_hvu(file, videos, tags=tags)
    assert [video.labels for video in found.videos] == [(3, 0), (1,)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"text": ""}, "does not begin with the header Tags,youtube_id"),
        ({"text": ROWS}, "does not begin with the header Tags,youtube_id"),
        ({"text": HEADER}, "lists no videos"),
        (
            {"text": HEADER + "archery,OLpWTpTC4P8,57.0\n"},
            "line 2: 'archery,OLpWTpTC4P8,57.0'; expected tags, a YouTube",
        ),
        ({"text": HEADER + "archery,OLpWTpTC4P8,57.0,late\n"}, "line 2: .*two times in seconds"),
        ({"text": HEADER + "archery,OLpWTpTC4P8,nan,9\n"}, "line 2: .*two times in seconds"),
        ({"text": HEADER + "archery,../a,0,9\n"}, "line 2: .*a YouTube id"),
        ({"text": HEADER + ",OLpWTpTC4P8,0,9\n"}, "line 2: .*expected tags"),
        ({"text": HEADER + "archery|bows,OLpWTpTC4P8,0,9\n"}, "line 2: 'bows' is none of the 4 .* mean 'bow'"),
        ({"categories": "archery,action\n"}, "does not begin with the header Tag,Category"),
        ({"categories": "Tag,Category\narchery\n"}, "line 2: 'archery'; expected a tag and its category"),
        ({"categories": "Tag,Category\na,b\na,b\n"}, "line 3: 'a,b'; expected a tag and its category, each tag once"),
        ({"categories": "Tag,Category\n"}, "lists no tags"),
    ],
)
def test_damaged_hvu_files_are_refused(tmp_path: Path, given: dict[str, str], message: str) -> None:
    file, videos, tags = hvu(tmp_path, **given)
    with pytest.raises(FileFormatError, match=message):
        read_hvu(file, videos, tags=tags)
