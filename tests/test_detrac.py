"""The UA-DETRAC reader on small sequences in the published layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.data.detrac import CLASSES, HEIGHT, WIDTH, read_detrac
from saccade.errors import FileFormatError, VideoError
from saccade.evaluate.detection import Detections, average_precision
from saccade.evaluate.detrac import detrac_truth
from tests.stills import write_jpeg

HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'
SEQUENCE = """<sequence name="MVI_20011">
  <sequence_attribute camera_state="unstable" sence_weather="sunny"/>
  <ignored_region>
    <box left="778.75" top="24.75" width="181.75" height="63.5"/>
    <box left="0.5" top="500" width="100" height="60"/>
  </ignored_region>
  <frame density="2" num="1">
    <target_list>
      <target id="1">
        <box left="592.75" top="378.8" width="160.05" height="162.2"/>
        <attribute orientation="18.488" speed="6.859" trajectory_length="5" truncation_ratio="0.1" vehicle_type="car"/>
        <occlusion><region_overlap occlusion_id="2" occlusion_status="0" left="1" top="2"/></occlusion>
      </target>
      <target id="7">
        <box left="-5.5" top="100" width="30" height="20"/>
        <attribute vehicle_type="bus"/>
      </target>
    </target_list>
  </frame>
  <frame density="1" num="2"/>
  <frame density="4" num="4">
    <target_list>
      <target id="1"><box left="600" top="300" width="50" height="40"/><attribute vehicle_type="Van"/></target>
      <target id="2"><box left="10" top="20" width="50" height="40"/><attribute vehicle_type="Sedan"/></target>
      <target id="3"><box left="960" top="20" width="50" height="40"/><attribute vehicle_type="car"/></target>
      <target id="4"><box left="10" top="20" width="0" height="40"/></target>
    </target_list>
  </frame>
</sequence>
"""


def add(root: Path, text: str = SEQUENCE, *, name: str = "MVI_20011", part: str = "Train", pictures: int = 5) -> Path:
    folder = root / f"DETRAC-{part}-Annotations-XML"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.xml").write_text(HEAD + text)
    for i in range(1, pictures + 1):
        picture = np.full((16, 32, 3), 30 * i, np.uint8)
        write_jpeg(root / f"Insight-MVT_Annotation_{part}" / name / f"img{i:05}.jpg", picture)
    return root


def test_a_sequence_is_read(tmp_path: Path) -> None:
    data = read_detrac(add(tmp_path), part="train")
    (sequence,) = data.sequences
    assert repr(data) == "Detrac(sequences=1, frames=5, skipped=0)"
    assert repr(sequence) == "DetracSequence(MVI_20011, frames=5, boxes=4, ignored=2)"
    assert [frame.number for frame in sequence.frames] == [1, 2, 3, 4, 5]
    assert [len(frame.boxes) for frame in sequence.frames] == [2, 0, 0, 2, 0]
    first, fourth = sequence.frames[0], sequence.frames[3]
    assert repr(first) == "DetracFrame(1, vehicles=2)"
    np.testing.assert_allclose(first.boxes, [[592.75, 378.8, 752.8, 540.0], [0, 100, 24.5, 120]], rtol=1e-6)
    assert [CLASSES[k] for k in first.classes] == ["car", "bus"]
    assert first.ids.tolist() == [1, 7]
    assert first.hidden.tolist() == pytest.approx([0.1, 0.0])
    assert [CLASSES[k] for k in fourth.classes] == ["van", "others"]
    assert sequence.dropped == 2
    np.testing.assert_allclose(sequence.ignored, [[778.75, 24.75, 960, 88.25], [0.5, 500, 100.5, 540]])
    assert (first.boxes.dtype, first.classes.dtype, first.ids.dtype) == (np.float32, np.int64, np.int64)
    empty = sequence.frames[1]
    assert empty.boxes.shape == (0, 4)


def test_pictures_are_read_in_order(tmp_path: Path) -> None:
    (sequence,) = read_detrac(add(tmp_path), part="train").sequences
    clip = sequence.read(1, 4)
    assert clip.shape == (3, 16, 32, 3)
    assert [round(float(picture.mean()) / 30) for picture in clip] == [2, 3, 4]
    sequence.frames[2].picture.write_bytes(b"\xff\xd8 not a picture")
    with pytest.raises(VideoError, match=r"img00003\.jpg"):
        sequence.read()


def test_parts_are_folders_and_names_choose(tmp_path: Path) -> None:
    for name in ("MVI_2", "MVI_1", "MVI_3"):
        add(tmp_path, name=name, part="Test", pictures=4)
    add(tmp_path)
    read = read_detrac(tmp_path, part="test")
    assert [str(s.frames[0].picture.parent.name) for s in read.sequences] == ["MVI_1", "MVI_2", "MVI_3"]
    chosen = read_detrac(tmp_path, part="test", names=["MVI_3", "MVI_9"])
    assert len(chosen.sequences) == 1
    assert chosen.skipped == {"MVI_9": "MVI_9.xml is missing"}
    with pytest.raises(ValueError, match="part 'val'; expected 'train' or 'test'"):
        read_detrac(tmp_path, part="val")  # type: ignore[arg-type]
    with pytest.raises(
        FileFormatError, match=r"DETRAC-Train-Annotations-XML holds no sequence; expected files such as"
    ):
        read_detrac(tmp_path / "elsewhere", part="train")


@pytest.mark.parametrize(
    ("text", "pictures", "message"),
    [
        (SEQUENCE[:400], 5, r"bad\.xml is damaged: "),
        ("<annotation/>", 5, "begins with <annotation>; expected <sequence>"),
        (SEQUENCE, 0, r"holds no pictures; expected img00001\.jpg"),
        (SEQUENCE, 3, "frame 4 is there twice, or has no picture among 3"),
        (SEQUENCE.replace('num="2"', 'num="1"'), 5, "frame 1 is there twice"),
        (SEQUENCE.replace('num="2"', 'num="two"'), 5, "<frame> has num='two'; expected a number"),
        (SEQUENCE.replace('left="600"', ""), 5, "<box> has left=None; expected a number"),
        (SEQUENCE.replace('width="50"', 'width="nan"'), 5, "<box> has width='nan'; expected a number"),
        (
            SEQUENCE.replace('<box left="600" top="300" width="50" height="40"/>', ""),
            5,
            "frame 4: a target without a box",
        ),
    ],
)
def test_damaged_sequences_are_told_and_skipped(tmp_path: Path, text: str, pictures: int, message: str) -> None:
    add(tmp_path, name="good")
    add(tmp_path, text, name="bad", pictures=pictures)
    data = read_detrac(tmp_path, part="train")
    assert [sequence.frames[0].picture.parent.name for sequence in data.sequences] == ["good"]
    assert data.skipped.keys() == {"bad"}
    with pytest.raises(FileFormatError, match=rf"none of 1 sequences can be read; the first says: .*{message}"):
        read_detrac(tmp_path, part="train", names=["bad"])


def test_a_gap_in_the_pictures_is_told(tmp_path: Path) -> None:
    root = add(tmp_path)
    (root / "Insight-MVT_Annotation_Train" / "MVI_20011" / "img00002.jpg").unlink()
    with pytest.raises(FileFormatError, match=r"holds img00003\.jpg; expected img00001\.jpg and so on, without gaps"):
        read_detrac(root, part="train")


def test_regions_without_labels_count_neither_way(tmp_path: Path) -> None:
    (sequence,) = read_detrac(add(tmp_path), part="train").sequences
    truth, marks = zip(*(detrac_truth(sequence, frame) for frame in sequence.frames), strict=True)
    assert [len(t) for t in truth] == [2 + 8, 8, 8, 2 + 8, 8]
    assert [int(m.sum()) for m in marks] == [8] * 5
    perfect = [Detections(t.boxes[~m], t.scores[~m], t.labels[~m]) for t, m in zip(truth, marks, strict=True)]
    assert average_precision(perfect, truth, ignored=marks).ap == pytest.approx(1.0)

    def with_one_more(box: list[float]) -> float:
        extra = torch.tensor([box], dtype=torch.float32)
        found = [
            Detections(
                torch.cat([extra, p.boxes]),
                torch.cat([torch.ones(1), 0.5 * p.scores]),
                torch.cat([torch.zeros(1).long(), p.labels]),
            )
            for p in perfect
        ]
        return average_precision(found, truth, ignored=marks).ap

    assert with_one_more([800.0, 30.0, 850.0, 80.0]) == pytest.approx(1.0)  # within a region
    assert with_one_more([300.0, 30.0, 350.0, 80.0]) < 0.9
    assert (HEIGHT, WIDTH) == (540, 960)
