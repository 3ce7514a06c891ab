"""The recipes of localisation and segmentation: their losses and measures, and that a reduced network goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import recipes.part_pictures
from recipes.localisation import ANCHORS, body_only, seen
from recipes.localisation_loss import FITS, THERE, region_loss
from recipes.moving_clips import augment_moving
from recipes.part_pictures import CLASSES, augment_parts, class_of, classes_of
from recipes.pose_clips import pictures
from recipes.segmentation import confusions, encoder_only, mean_iou, understood
from saccade.data.puppets import PARTS
from saccade.evaluate.detection import box_iou
from saccade.train import evaluate, load_recipe, read_weights, train
from saccade.zoo.pspnet import pspnet
from saccade.zoo.yowo import STRIDE, yowo

SEVERAL = torch.tensor(ANCHORS)


def overlap(a: Tensor, b: Tensor) -> float:
    return float(box_iou(a[None], b[None]))


def loss_by_hand(outputs: Tensor, boxes: Tensor, labels: Tensor, anchors: Tensor) -> tuple[float, list[bool]]:
    """Returns YOLOv2's loss, place by place, and which clips were answered right."""
    total, rights = 0.0, []
    _, _, rows, columns = outputs.shape
    for clip, box, label in zip(outputs.double(), boxes.double(), labels.tolist(), strict=True):
        maps = clip.reshape(len(anchors), -1, rows, columns)
        left, top, right, bottom = (box / STRIDE).tolist()
        there = right > left and bottom > top
        wide, high = right - left, bottom - top
        x, y = (left + right) / 2, (top + bottom) / 2
        column, row = min(int(x), columns - 1), min(int(y), rows - 1)
        laid = [overlap(torch.tensor([0, 0, wide, high]), torch.tensor([0, 0, *each])) for each in anchors.tolist()]
        best = int(np.argmax(laid))
        for a in range(len(anchors)):
            for i in range(rows):
                for j in range(columns):
                    chance = maps[a, 4, i, j].sigmoid()
                    mine = there and (a, i, j) == (best, row, column)
                    total -= THERE * float(chance.log()) if mine else float((1 - chance).log())
        good = False
        if there:
            at = maps[best, :, row, column]
            width, height = (float(at[2 + k].exp() * anchors[best, k]) for k in range(2))
            middle = column + float(at[0].sigmoid()), row + float(at[1].sigmoid())
            offs = [middle[0] - x, middle[1] - y, float(at[2]) - np.log(wide / float(anchors[best, 0]))]
            offs.append(float(at[3]) - np.log(high / float(anchors[best, 1])))
            total += sum(0.5 * off * off if abs(off) < 1 else abs(off) - 0.5 for off in offs)
            total -= float(at[5:].log_softmax(0)[label])
            corners = [middle[k] + sign * size / 2 for sign in (-1, 1) for k, size in ((0, width), (1, height))]
            good = overlap(torch.tensor(corners), box / STRIDE) > FITS and int(at[5:].argmax()) == label
        rights.append(good)
    return total / len(outputs), rights


def test_the_loss_of_localisation_is_yolos_of_the_place_that_holds_the_middle() -> None:
    generator = torch.Generator().manual_seed(3)
    outputs = torch.randn(6, 5 * (5 + 3), 2, 3, generator=generator, dtype=torch.float64)
    low = torch.tensor([[3.0, 8], [40, 2], [64, 20], [0, 0], [90, 60], [30, 31]], dtype=torch.float64)
    size = torch.tensor([[20.0, 40], [15, 50], [30, 30], [0, 0], [5, 3], [3, 4]], dtype=torch.float64)
    boxes, labels = torch.cat([low, low + size], 1), torch.tensor([0, 1, 2, 1, 0, 2])
    loss, right = region_loss(outputs, boxes, labels, anchors=SEVERAL.double())
    by_hand, rights = loss_by_hand(outputs, boxes, labels, SEVERAL.double())
    assert float(loss) == pytest.approx(by_hand, rel=1e-9)
    assert right.tolist() == rights


def test_what_the_loss_teaches_is_what_yowo_decodes() -> None:
    boxes = torch.tensor([[5.0, 8, 25, 61], [33, 0, 60, 50], [0, 0, 0, 0]])
    labels = torch.tensor([2, 0, 1])
    outputs = torch.zeros(3, 5 * (5 + 3), 2, 2, requires_grad=True)
    optimizer = torch.optim.Adam([outputs], 0.2)
    for _ in range(300):
        optimizer.zero_grad()
        loss, right = region_loss(outputs, boxes, labels, anchors=SEVERAL)
        loss.backward()
        optimizer.step()
    assert right.tolist() == [True, True, False]
    found = yowo(classes=3, anchors=ANCHORS).decode(outputs.detach(), score_threshold=0.5)
    assert [len(each) for each in found] == [1, 1, 0]
    for each, box, label in zip(found[:2], boxes, labels, strict=False):
        assert torch.allclose(each.boxes[0], box, atol=1.0)
        assert int(each.labels[0]) == int(label)


def test_clips_end_with_the_frame_whose_box_is_asked_for() -> None:
    frames = torch.arange(2 * 16 * 3 * 2 * 2, dtype=torch.uint8).reshape(2, 16, 3, 2, 2)
    assert seen(frames).shape == (2, 3, 8, 2, 2)
    assert torch.equal(seen(frames)[:, :, -1], pictures(frames[:, -1]))


def test_boxes_are_mirrored_with_the_clip() -> None:
    frames = np.zeros((2, 3, 20, 30), np.uint8)
    frames[:, :, 4:15, 3:9] = 200
    sample = {"frames": frames, "label": np.int64(0), "box": np.array([3, 4, 9, 15], np.float32)}
    mirrored = 0
    for seed in range(12):
        changed = augment_moving(sample, np.random.default_rng(seed))
        bright = changed["frames"][0, 0] > 100
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        assert changed["box"].tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        mirrored += int(columns[0] != 3)
    assert 0 < mirrored < 12
    assert sample["box"].tolist() == [3, 4, 9, 15]


def test_every_part_of_a_puppet_has_a_class_and_what_is_hidden_is_background() -> None:
    assert {class_of(part) for part in PARTS} == set(CLASSES) - {"background"}
    assert [class_of(part) for part in ("neck", "left forearm", "right foot", "prop")] == [
        "head", "arms", "legs", "prop",
    ]  # fmt: skip
    numbers = np.array([[0, 1, -1], [PARTS.index("left hand") + 1, PARTS.index("prop") + 1, -5]], np.int8)
    assert classes_of(numbers).tolist() == [[0, 1, 0], [3, 5, 0]]


def test_pictures_and_classes_are_mirrored_together() -> None:
    classes = np.zeros((6, 8), np.int64)
    classes[2:4, 1:3] = 1
    frame = np.where(classes == 1, 200, 0).astype(np.uint8)[None].repeat(3, 0)
    changes = [augment_parts({"frame": frame, "classes": classes}, np.random.default_rng(seed)) for seed in range(12)]
    for changed in changes:
        assert np.array_equal(changed["frame"][0] > 100, changed["classes"] == 1)
    assert 0 < sum(not np.array_equal(changed["classes"], classes) for changed in changes) < 12


def test_mean_iou_is_that_of_the_sets_of_pixels() -> None:
    rng = np.random.default_rng(0)
    found, truth = rng.integers(0, 4, (2, 5, 7)), rng.integers(1, 5, (2, 5, 7))
    ratios = [
        ((found == k) & (truth == k)).sum() / ((found == k) | (truth == k)).sum()
        for k in range(len(CLASSES))
        if ((found == k) | (truth == k)).any()
    ]
    pairs = confusions(torch.from_numpy(found), torch.from_numpy(truth))
    assert int(pairs[3, 2]) == int(((truth == 3) & (found == 2)).sum())
    assert mean_iou(pairs) == pytest.approx(float(np.mean(ratios)))


def test_a_picture_is_understood_where_more_than_half_of_the_person_is_right() -> None:
    truth = torch.tensor([[[0, 1], [1, 2]], [[0, 1], [1, 2]], [[0, 0], [3, 3]], [[0, 0], [0, 0]]])
    given = torch.tensor([[[5, 1], [1, 0]], [[0, 1], [0, 0]], [[0, 0], [3, 2]], [[0, 0], [0, 0]]])
    scores = F.one_hot(given, 6).movedim(-1, 1).float()
    assert understood(scores, truth).tolist() == [True, False, False, False]


def test_only_the_network_in_front_is_reduced() -> None:
    for model, chosen, others in ((yowo(), body_only, "fuse."), (pspnet(), encoder_only, "head.")):
        names = {name for name, module in model.named_modules() if chosen(name, module)}
        assert names
        assert not any(name.startswith(others) for name in names)


@pytest.mark.usefixtures("few_clips")
@pytest.mark.parametrize(("name", "method", "measured"), [
    ("localisation", "both", "map50"),
    ("segmentation", "channels", "miou"),
])  # fmt: skip
def test_tasks_go_on_from_a_dense_network(name: str, method: str, measured: str, tmp_path: Path) -> None:
    path = f"recipes/{name}.py"
    dense = load_recipe(path, {"steps": 1})
    folder = train(dense, tmp_path / "dense", accelerator="cpu", tensorboard=False).folder
    before = evaluate(dense, read_weights(folder)).metrics
    assert before["macs"] == before["dense_macs"]
    reduced = load_recipe(path, {"steps": 2, "method": method, "start": str(folder)})
    trained = train(reduced, tmp_path / method, accelerator="cpu", tensorboard=False)
    after = evaluate(reduced, read_weights(trained.folder)).metrics
    assert 0 <= after[measured] <= 100
    assert after["dense_macs"] == before["dense_macs"]
    assert 0 < after["overhead"] < 0.2


@pytest.mark.usefixtures("few_clips")
def test_pictures_of_parts_show_a_person() -> None:
    data = recipes.part_pictures.PartPictures("test")
    assert all(0.02 < (data[index]["classes"] > 0).mean() < 0.9 for index in range(len(data)))
