"""The shipped street detector: size, weights, and decoding against plain definitions."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from saccade.data.street import CLASSES, StreetConfig, encode_and_decode, render_street
from saccade.errors import FileFormatError, InputError
from saccade.evaluate.detection import Detections, matched_f1
from saccade.zoo.street_detector import WEIGHTS, StreetDetector, decode, nms, street_detector


@pytest.fixture(scope="module")
def model() -> StreetDetector:
    return street_detector()


def test_it_is_small(model: StreetDetector) -> None:
    assert sum(p.numel() for p in model.parameters()) <= 1_000_000
    assert WEIGHTS.stat().st_size <= 4 * 2**20
    macs = 0

    def count(layer: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        macs += output.numel() * layer.weight[0].numel()  # type: ignore[operator, index]

    hooks = [layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)]
    with torch.inference_mode():
        outputs = model(torch.zeros(1, 3, 256, 448))
    for hook in hooks:
        hook.remove()
    assert 0.3e9 < macs < 0.6e9
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "scores": (1, len(CLASSES), 32, 56),
        "boxes": (1, 4, 32, 56),
    }


@pytest.mark.parametrize("seed", [900_001, 900_002])
def test_it_finds_the_vehicles_of_a_street_it_never_saw(model: StreetDetector, seed: int) -> None:
    video = encode_and_decode(render_street(StreetConfig(seed=seed, frames=3)))
    frames = torch.from_numpy(video.frames).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        found = decode(model(frames))
    truth = []
    for label in video.labels:
        shown = label.visible > 0.4
        boxes, classes = torch.from_numpy(label.boxes[shown]), torch.from_numpy(label.classes[shown])
        truth.append(Detections(boxes, torch.ones(len(boxes)), classes))
    assert sum(map(len, truth)) >= 6
    assert matched_f1(found, truth) > 0.8


def test_the_record_fits_the_weights() -> None:
    about = json.loads(WEIGHTS.with_suffix(".json").read_text())
    assert about["parameters"] == sum(p.numel() for p in StreetDetector().parameters())
    assert len(set(about["seeds"].values())) == 4
    with WEIGHTS.with_suffix(".log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert int(rows[-1]["step"]) == about["arguments"]["steps"]
    assert float(rows[-1]["peak_loss"]) < float(rows[0]["peak_loss"])
    assert about["test"]["static"]["ap50"] >= 0.9


def test_a_local_change_stays_local(model: StreetDetector) -> None:
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 32, 1024)
    other = picture.clone()
    other[..., :8] = 0
    with torch.inference_mode():
        before, after = model(picture), model(other)
    for name in before:
        assert not torch.equal(before[name][..., :1], after[name][..., :1])
        torch.testing.assert_close(before[name][..., 60:], after[name][..., 60:], rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(1, 3, 255, 448), (1, 3, 256, 450), (1, 1, 256, 448), (3, 256, 448)])
def test_other_sizes_are_refused(model: StreetDetector, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected \(B, 3, H, W\) with H and W multiples of 32"):
        model(torch.zeros(shape))


def brute_nms(boxes: list[list[float]], scores: list[float], labels: list[int], limit: float) -> list[int]:
    """Take the best of what is left, strike out what overlaps it, repeat."""
    left, kept = list(range(len(boxes))), []
    while left:
        best = max(left, key=lambda i: (scores[i], -i))
        kept.append(best)
        left = [i for i in left if i != best and not (labels[i] == labels[best] and over(boxes, i, best, limit))]
    return kept


def over(boxes: list[list[float]], i: int, j: int, limit: float) -> bool:
    a, b = boxes[i], boxes[j]
    both = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return union > 0 and both / union > limit


@pytest.mark.parametrize("count", [0, 1, 2, 63, 127])
@pytest.mark.parametrize("limit", [0.0, 0.3, 0.51])
def test_nms_is_the_plain_definition(count: int, limit: float) -> None:
    rng = np.random.default_rng(count)
    corner = rng.integers(0, 40, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 20, (count, 2))], axis=1).astype(np.float32)
    boxes[1::7] = boxes[: len(boxes[1::7])]  # some boxes twice
    scores = np.round(rng.random(count), 1).astype(np.float32)  # and many equal scores
    labels = rng.integers(0, 3, count)
    kept = nms(*map(torch.from_numpy, (boxes, scores, labels)), iou_threshold=limit)
    assert kept.tolist() == brute_nms(boxes.tolist(), scores.tolist(), labels.tolist(), limit)


@pytest.mark.parametrize(("h", "w", "classes"), [(1, 1, 1), (4, 7, 3), (5, 3, 4)])
def test_decode_is_the_plain_definition(h: int, w: int, classes: int) -> None:
    torch.manual_seed(h)
    outputs = {"scores": torch.randn(2, classes, h, w), "boxes": torch.randn(2, 4, h, w) * 0.7}
    for frame, found in enumerate(decode(outputs, score_threshold=0.5, iou_threshold=0.3)):
        boxes, scores, labels = [], [], []
        for k in range(classes):
            for row in range(h):
                for column in range(w):
                    score = 1 / (1 + math.exp(-float(outputs["scores"][frame, k, row, column])))
                    if score < 0.5:
                        continue
                    left, top, right, bottom = (8 * math.exp(v) for v in outputs["boxes"][frame, :, row, column])
                    x, y = 8 * column + 4, 8 * row + 4
                    boxes.append([max(0, x - left), max(0, y - top), min(8 * w, x + right), min(8 * h, y + bottom)])
                    scores.append(score)
                    labels.append(k)
        kept = brute_nms(boxes, scores, labels, 0.3)
        assert found.labels.tolist() == [labels[i] for i in kept]
        torch.testing.assert_close(
            found.boxes, torch.tensor([boxes[i] for i in kept], dtype=torch.float32).reshape(-1, 4)
        )
        torch.testing.assert_close(found.scores, torch.tensor([scores[i] for i in kept], dtype=torch.float32))


def test_nothing_above_the_threshold_is_nothing_found() -> None:
    outputs = {"scores": torch.full((2, 4, 3, 5), -9.0), "boxes": torch.zeros(2, 4, 3, 5)}
    assert [len(found) for found in decode(outputs)] == [0, 0]


def test_weights_that_do_not_fit_are_told(tmp_path: Path) -> None:
    missing, damaged, foreign = (tmp_path / name for name in ("none", "damaged", "foreign"))
    with pytest.raises(FileFormatError, match="none is missing; expected the street detector's weights"):
        street_detector(weights=missing)
    damaged.write_bytes(WEIGHTS.read_bytes()[:5000])
    with pytest.raises(FileFormatError, match=r"damaged is no safetensors file.*reinstall saccade"):
        street_detector(weights=damaged)
    damaged.write_bytes(b"not a weights file")
    with pytest.raises(FileFormatError, match="damaged is no safetensors file"):
        street_detector(weights=damaged)
    save_file({"fc.weight": torch.zeros(3, 3)}, foreign)
    with pytest.raises(FileFormatError, match=r"holds another network: \d+ tensors differ.*expected"):
        street_detector(weights=foreign)
    state = StreetDetector().state_dict()
    state["score.bias"] = torch.zeros(7)
    save_file(state, foreign)
    message = r"1 tensors differ, the first is score.bias: got \(7,\), expected \(4,\)"
    with pytest.raises(FileFormatError, match=message):
        street_detector(weights=foreign)


def test_without_weights_it_is_random_and_ready(tmp_path: Path) -> None:
    torch.manual_seed(1)
    fresh = street_detector(pretrained=False)
    assert not fresh.training
    saved = tmp_path / "saved.safetensors"
    save_file(fresh.state_dict(), saved)
    again = street_detector(weights=saved)
    for name, value in fresh.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
