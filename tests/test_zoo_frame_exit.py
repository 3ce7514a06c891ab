"""FrameExit on the backbones of its paper: what they cost, and that each is one."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from saccade.errors import ModelError
from saccade.exits import FrameExit, LearnedGate, classify_video, exit_macs
from saccade.graph.mac_counter import count_macs
from saccade.zoo import load_model
from saccade.zoo.frame_exit import BACKBONES, frame_exit

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")


@pytest.mark.parametrize(
    ("backbone", "giga"),
    [
        ("resnet50", 4.12),
        ("x3d-s", 1.96),
        ("efficientnet-b3", 0.97),
        ("mobilenetv3-small", 0.0565),
        ("shufflenetv2", 0.145),
        ("tiny", 0.019),
        ("x3d-tiny", 0.119),
    ],
)
def test_a_frame_costs_what_the_paper_and_the_docs_say(backbone: str, giga: float) -> None:
    """Section 4.1: 4.12 G for a frame of ResNet-50 and 1.96 for a clip of X3D-S."""
    with torch.device("meta"):
        model = frame_exit(backbone, classes=3, frames=2)
    macs = exit_macs(model, torch.zeros(1, *BACKBONES[backbone].size, device="meta"))
    assert macs.frame == pytest.approx(giga * 1e9, rel=0.01)
    video = torch.zeros(1, 2, *BACKBONES[backbone].size, device="meta")
    assert model(video).logits.shape == (1, 2, 3)


def test_the_papers_efficientnet_is_that_of_300_pixels() -> None:
    """1.8 G, as section 4.1 says; at the 224 pixels it names a frame costs half."""
    with torch.device("meta"):
        network = frame_exit("efficientnet-b3", classes=2, frames=1).backbone
    assert count_macs(network, torch.zeros(1, 3, 300, 300, device="meta")) == pytest.approx(1.8e9, rel=0.02)


def test_tiny_answers_by_name_and_is_the_same_every_time() -> None:
    loaded, again = load_model("frameexit:tiny"), frame_exit("tiny")
    assert isinstance(loaded.model, FrameExit)
    assert loaded.example[0].shape == (1, 10, 3, 112, 112)
    assert loaded.preprocess is not None
    for (name, one), (_, other) in zip(loaded.model.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(one, other), name
    frames = torch.randn(10, 3, 48, 40)
    found = classify_video(again, frames, LearnedGate(), macs=exit_macs(again, frames[:1]))
    assert found.scores.shape == (1, 200)


def test_wrong_requests_are_named() -> None:
    with pytest.raises(ModelError, match=r"no backbone 'resnet-50'.*Did you mean frameexit:resnet50"):
        frame_exit("resnet-50")
    with pytest.raises(ModelError, match="no pretrained backbone 'tiny'"):
        load_model("frameexit:tiny@pretrained")
    with pytest.raises(ModelError, match="got 0 classes"):
        frame_exit(classes=0)
