"""Known networks: at least 99 % of the macs are in steps with a sparse form, and the plan computes the network."""

from __future__ import annotations

import pytest
import torch
from assets import require_asset
from torch.utils import _pytree as pytree

import saccade
from benchmarks.assets import NETWORKS
from benchmarks.coverage import NAMED
from saccade.errors import MissingExtraError
from saccade.zoo import LoadedModel, load_model

# What the field counts for these networks at these sizes, in 1e9 macs (convolutions and linear layers only).
PUBLISHED = {"timm:resnet101": 7.8, "timm:mobilenetv2_100": 0.30, "timm:tf_efficientnet_b3": 1.8}


def load(name: str) -> LoadedModel:
    try:
        return load_model(name)
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", NAMED)
def test_named_networks_run_sparse(name: str) -> None:
    loaded = load(name)
    plan = saccade.make_plan(loaded.model, loaded.example, name=name)
    assert plan.sparse_macs_share >= 0.99, [(step.name, step.reason) for step in plan.steps if step.form == "dense"]
    if name in PUBLISHED:
        assert plan.dense_macs / 1e9 == pytest.approx(PUBLISHED[name], rel=0.05)
    torch.manual_seed(0)
    x = torch.rand_like(loaded.example[0])
    got = pytree.tree_leaves(saccade.Stream(plan)(x))
    with torch.no_grad():
        expected = pytree.tree_leaves(loaded.as_callable()(x))
    for a, b in zip(got, expected, strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    "vit_tiny_patch16_224 convnext_atto densenet121 regnety_002 swin_tiny_patch4_window7_224 ghostnet_100 inception_v3 "
    "mixnet_s edgenext_xx_small coatnet_nano_rw_224 nfnet_l0 resnest14d dla34 mobilenetv4_conv_small efficientvit_b0 "
    "repvgg_a0 xception41 selecsls42 tresnet_m lcnet_050 fastvit_t8 mobileone_s0 cspresnet50 vovnet39a".split(),
)
def test_plans_of_many_architectures_compute_the_network(name: str) -> None:
    loaded = load(f"timm:{name}")
    stream = saccade.Stream(loaded.model, loaded.example)
    torch.manual_seed(0)
    x = torch.rand_like(loaded.example[0])
    with torch.no_grad():
        expected = loaded.as_callable()(x)
    assert float((stream(x) - expected).norm() / expected.norm()) < 1e-4
    changed = x.clone()
    changed[..., 5:9, 7:8] = 0
    assert torch.equal(stream(changed), stream.full_pass(changed))


@pytest.mark.parametrize("name", list(NETWORKS))
def test_trained_networks_run_sparse(name: str) -> None:
    plan = saccade.make_plan(require_asset(f"models/{name}.pt2"))
    assert plan.sparse_macs_share >= 0.99
    assert plan.dense_macs > 4e8
