"""Trained networks on real clips: exact at threshold 0, near the original program at a tolerance."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from assets import require_asset
from torch.utils import _pytree as pytree

import saccade
from benchmarks.assets import CLIPS, NETWORKS
from saccade.evaluate.agreement import relative_error
from saccade.zoo import load_model

QUICK = {("rfb640", "car-detection.mp4"), ("rfb640", "dashcam-highway.mp4")}
PAIRS = [
    pytest.param(network, clip, marks=() if (network, clip) in QUICK else pytest.mark.slow)
    for network in NETWORKS
    for clip in CLIPS
]


@pytest.mark.parametrize(("network", "clip"), PAIRS)
def test_a_real_clip_is_followed_exactly_and_within_a_tolerance(network: str, clip: str) -> None:
    loaded = load_model(str(require_asset(f"models/{network}.pt2")))
    reference = loaded.as_callable()
    plan = saccade.make_plan(loaded.model, loaded.example, preprocess=loaded.preprocess)
    exact, near = saccade.Stream(plan, threshold=0), saccade.Stream(plan, tolerance=0.003, record="accumulated")
    with saccade.read_video(require_asset(f"videos/{clip}"), start=100) as reader:
        for frame in islice(reader, 4):
            x = plan.preprocess(frame)
            got, full = pytree.tree_leaves(exact(x)), pytree.tree_leaves(exact.full_pass(x))
            assert all(torch.equal(a, b) for a, b in zip(got, full, strict=True))
            with torch.no_grad():
                wanted = pytree.tree_leaves(reference(x))
            assert relative_error(got, wanted) < 1e-5
            assert relative_error(pytree.tree_leaves(near(x)), wanted) < 0.02
    assert near.cost.executed_macs <= exact.cost.executed_macs
