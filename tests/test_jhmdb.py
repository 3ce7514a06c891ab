"""The JHMDB reader on a small set in the published layout."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.data.jhmdb import ACTIONS, JOINTS, JhmdbClip, read_jhmdb
from saccade.errors import FileFormatError, MissingExtraError, VideoError
from saccade.evaluate.pose import pck
from tests.stills import write_png

savemat = pytest.importorskip("scipy.io").savemat
HEIGHT, WIDTH = 24, 32


def add_clip(root: Path, action: str, name: str, frames: int, *, seed: int, mask: bool = True) -> np.ndarray:
    """Write one clip with random joints; return them (2, 15, T), as MATLAB counts."""
    rng = np.random.default_rng(seed)
    places = np.stack([rng.uniform(4, WIDTH - 4, (15, frames)), rng.uniform(4, HEIGHT - 4, (15, frames))])
    if frames == 1:
        places = places[..., 0]  # as MATLAB saves it
    folder = root / "joint_positions" / action / name
    folder.mkdir(parents=True)
    savemat(
        folder / "joint_positions.mat",
        {"pos_img": places, "scale": np.ones(frames), "viewpoint": "N", "action": action},
    )
    for i in range(frames):
        picture = np.full((HEIGHT, WIDTH, 3), (seed, i, 7), np.uint8)
        write_png(root / "Rename_Images" / action / name / f"{i + 1:05}.png", picture)
    if mask:
        (root / "puppet_mask" / action / name).mkdir(parents=True)
        parts = np.zeros((HEIGHT, WIDTH, frames), np.uint8)
        for i in range(frames):
            parts[3 + i : 20, 5 : 9 + i, i] = 3
        savemat(
            root / "puppet_mask" / action / name / "puppet_mask.mat",
            {"part_mask": parts[..., 0] if frames == 1 else parts},
        )
    return places.reshape(2, 15, frames)


def add_split(root: Path, action: str, lines: str, *, split: int = 1, folder: str = "splits", mark: str = "") -> None:
    (root / folder).mkdir(exist_ok=True)
    (root / folder / f"{action}_test_split{mark}{split}.txt").write_text(lines)


def small_set(root: Path) -> Path:
    add_clip(root, "wave", "a (1) of #2!", 3, seed=1)
    add_clip(root, "wave", "b", 1, seed=2, mask=False)
    add_clip(root, "golf", "c", 2, seed=3)
    add_split(root, "wave", "a (1) of #2!.avi 1 \nb.avi 2\nd.avi 0\n")
    add_split(root, "golf", "c.avi 1\n")
    return root


def only(root: Path) -> JhmdbClip:
    found = read_jhmdb(root, split=1, part="train")
    assert not found.skipped
    (clip,) = found.clips
    return clip


def test_clips_are_read_as_the_split_says(tmp_path: Path) -> None:
    root = small_set(tmp_path)
    train, test = read_jhmdb(root, split=1, part="train"), read_jhmdb(root, split=1, part="test")
    assert [(ACTIONS[c.action], c.name, len(c)) for c in train.clips] == [("golf", "c", 2), ("wave", "a (1) of #2!", 3)]
    assert [(ACTIONS[c.action], c.name, len(c)) for c in test.clips] == [("wave", "b", 1)]
    assert repr(train) == "Jhmdb(clips=2, frames=5, skipped=0)"
    assert repr(test.clips[0]) == "JhmdbClip(b, wave, frames=1)"
    clip = train.clips[1]
    frames = clip.read()
    assert frames.shape == (3, HEIGHT, WIDTH, 3)
    assert frames[:, 0, 0].tolist() == [[1, 0, 7], [1, 1, 7], [1, 2, 7]]
    np.testing.assert_array_equal(clip.read(1, 3), frames[1:])


@pytest.mark.parametrize("frames", [1, 4])
def test_joints_begin_at_matlabs_first_pixel(tmp_path: Path, frames: int) -> None:
    places = add_clip(tmp_path, "run", "x", frames, seed=4)
    add_split(tmp_path, "run", "x.avi 1\n")
    clip = only(tmp_path)
    for t in range(frames):
        for j in range(len(JOINTS)):
            assert clip.joints[t, j].tolist() == pytest.approx([places[0, j, t] - 0.5, places[1, j, t] - 0.5], abs=1e-5)
    assert clip.visible.all()
    assert pck(*_tensors(clip.joints, clip.joints, clip.visible, clip.box)).pck == 1.0


def _tensors(*arrays: np.ndarray) -> list:
    return [torch.from_numpy(array) for array in arrays]


def test_boxes_go_round_the_mask_or_the_joints(tmp_path: Path) -> None:
    add_clip(tmp_path, "sit", "x", 3, seed=5)
    add_split(tmp_path, "sit", "x.avi 1\n")
    assert only(tmp_path).box.tolist() == [[5, 3 + i, 9 + i, 20] for i in range(3)]
    assert only(tmp_path).masked.tolist() == [True] * 3
    (tmp_path / "puppet_mask" / "sit" / "x" / "puppet_mask.mat").unlink()
    clip = only(tmp_path)
    assert clip.masked.tolist() == [False] * 3
    for joints, box in zip(clip.joints, clip.box, strict=True):
        xs, ys = joints.T.tolist()
        m = 0.1 * max(max(xs) - min(xs), max(ys) - min(ys))
        wanted = [max(0, min(xs) - m), max(0, min(ys) - m), min(WIDTH, max(xs) + m), min(HEIGHT, max(ys) + m)]
        assert box.tolist() == pytest.approx(wanted, abs=1e-4)
    empty = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    empty[4:6, 7:9, 1] = 1
    savemat(tmp_path / "puppet_mask" / "sit" / "x" / "puppet_mask.mat", {"part_mask": empty})
    mixed = only(tmp_path)
    assert mixed.box[1].tolist() == [7, 4, 9, 6]
    assert mixed.masked.tolist() == [False, True, False]
    np.testing.assert_array_equal(mixed.box[[0, 2]], clip.box[[0, 2]])


def test_joints_outside_the_picture_are_not_visible(tmp_path: Path) -> None:
    places = add_clip(tmp_path, "sit", "x", 2, seed=5)
    places[0, 4, 0], places[1, 5, 1], places[0, 6, 1] = 0.4, HEIGHT + 1.0, WIDTH + 0.4
    savemat(tmp_path / "joint_positions" / "sit" / "x" / "joint_positions.mat", {"pos_img": places})
    add_split(tmp_path, "sit", "x.avi 1\n")
    assert np.argwhere(~only(tmp_path).visible).tolist() == [[0, 4], [1, 5]]


def test_other_splits_and_their_other_names_are_found(tmp_path: Path) -> None:
    root = small_set(tmp_path)
    add_split(root, "wave", "a (1) of #2! 2\nb 1\n", split=3, folder="sub_splits", mark="_")
    train = read_jhmdb(root, split=3, part="train", splits="sub_splits")
    assert [c.name for c in train.clips] == ["b"]
    with pytest.raises(
        FileFormatError, match=r"splits lists no clips to train on; expected files such as brush_hair_test_split3"
    ):
        read_jhmdb(root, split=3, part="train")
    with pytest.raises(ValueError, match="split 4, part 'test'; expected 1, 2 or 3"):
        read_jhmdb(root, split=4, part="test")  # type: ignore[arg-type]


def test_incomplete_clips_are_told_and_skipped(tmp_path: Path) -> None:
    root, lines = tmp_path, ["good.avi 1"]
    add_clip(root, "wave", "good", 2, seed=0)
    damage = {
        "nojoints": "joint_positions.mat is missing",
        "nopicture": "1 of 2 pictures are missing, the first is 00002.png",
        "nomatlab": "joint_positions.mat cannot be read",
        "nofield": "joint_positions.mat holds no pos_img",
        "shape": r"pos_img is \(2, 14, 2\); expected finite numbers \(2, 15, frames\)",
        "nan": "expected finite numbers",
        "mask": r"part_mask is \(24, 32, 1\); expected \(24, 32, 2\)",
        "nopng": "00001.png is no PNG picture",
    }
    for name in damage:
        add_clip(root, "wave", name, 2, seed=1)
        lines.append(f"{name}.avi 1")

    def mat(name: str) -> Path:
        return root / "joint_positions" / "wave" / name / "joint_positions.mat"

    mat("nojoints").unlink()
    (root / "Rename_Images" / "wave" / "nopicture" / "00002.png").unlink()
    mat("nomatlab").write_bytes(b"MATLAB 5.0 not really" * 20)
    savemat(mat("nofield"), {"pos_world": np.zeros((2, 15, 2))})
    savemat(mat("shape"), {"pos_img": np.zeros((2, 14, 2))})
    savemat(mat("nan"), {"pos_img": np.full((2, 15, 2), np.nan)})
    savemat(root / "puppet_mask" / "wave" / "mask" / "puppet_mask.mat", {"part_mask": np.zeros((HEIGHT, WIDTH, 1))})
    (root / "Rename_Images" / "wave" / "nopng" / "00001.png").write_bytes(b"GIF89a")
    add_split(root, "wave", "\n".join(lines))
    found = read_jhmdb(root, split=1, part="train")
    assert [clip.name for clip in found.clips] == ["good"]
    assert found.skipped.keys() == {f"wave/{name}" for name in damage}
    for name, message in damage.items():
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(found.skipped[f"wave/{name}"])
    add_split(root, "wave", "nojoints.avi 1")
    with pytest.raises(
        FileFormatError, match=r"none of 1 clips can be read; the first says: joint_positions.mat is missing"
    ):
        read_jhmdb(root, split=1, part="train")
    add_split(root, "wave", "good.avi 1\ngood.avi yes")
    with pytest.raises(
        FileFormatError, match=r"wave_test_split1.txt, line 2: 'good.avi yes'; expected '<clip>.avi' and 0, 1 or 2"
    ):
        read_jhmdb(root, split=1, part="train")


def test_damaged_pictures_are_told_when_read(tmp_path: Path) -> None:
    add_clip(tmp_path, "wave", "x", 2, seed=1)
    add_split(tmp_path, "wave", "x.avi 1")
    picture = tmp_path / "Rename_Images" / "wave" / "x" / "00002.png"
    picture.write_bytes(picture.read_bytes()[:40])
    with pytest.raises(VideoError, match=r"00002\.png"):
        only(tmp_path).read()


def test_without_scipy_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    add_clip(tmp_path, "wave", "x", 2, seed=1)
    add_split(tmp_path, "wave", "x.avi 1")
    with pytest.raises(MissingExtraError, match=r"pip install 'saccade\[data\]'"):
        read_jhmdb(tmp_path, split=1, part="train")
