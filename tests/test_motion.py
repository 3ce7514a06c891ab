"""The histogram of what moves, against its definition in words, square by square in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from saccade.zoo.motion import FEATURES, FLOOR, GREY, HIGHEST, LEVELS, LOWEST, SIDES, MotionHistogram


def definition(clip: Tensor) -> list[float]:
    """The numbers of one clip (3, t, H, W) before the batch norm."""
    first, last = clip[:, 0].double().mean(0), clip[:, -1].double().mean(0)
    found = []
    for side in SIDES:
        means = [
            sum(
                math.log(1 + GREY * abs(float(last[y, x] - first[y, x])))
                for y in range(top, top + side)
                for x in range(left, left + side)
            )
            / side**2
            for top in range(0, first.shape[0] - side + 1, side)
            for left in range(0, first.shape[1] - side + 1, side)
        ]
        for level in range(LEVELS):
            threshold = LOWEST + (HIGHEST - LOWEST) * level / (LEVELS - 1)
            found.append(math.log(sum(max(0.0, mean - threshold) for mean in means) / len(means) + FLOOR))
    return found


@pytest.mark.parametrize(("pictures", "height", "width"), [(3, 29, 17), (2, 14, 14), (5, 16, 45)])
def test_it_is_what_its_words_say(pictures: int, height: int, width: int) -> None:
    torch.manual_seed(pictures)
    clips = torch.randn(2, 3, pictures, height, width)
    clips[1] *= 0.05
    backbone = MotionHistogram().eval()
    backbone.norm.running_var.fill_(1 - backbone.norm.eps)  # so that the norm changes nothing
    found = backbone(clips)
    assert found.shape == (2, FEATURES)
    for clip, numbers in zip(clips, found, strict=True):
        wanted = torch.tensor(definition(clip), dtype=torch.float64)
        torch.testing.assert_close(numbers.double(), wanted, rtol=1e-4, atol=1e-4)


def test_mirrored_clips_and_other_light_without_motion_are_the_same() -> None:
    backbone = MotionHistogram().eval()
    clips = torch.randn(1, 3, 3, 28, 56)
    torch.testing.assert_close(backbone(clips), backbone(clips.flip(-1)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(backbone(clips), backbone(clips.flip(2)), rtol=1e-4, atol=1e-4)
    still = torch.randn(1, 3, 1, 28, 56).expand(1, 3, 3, 28, 56)
    assert (backbone(still) == backbone(torch.zeros(1, 3, 3, 28, 56))).all()
