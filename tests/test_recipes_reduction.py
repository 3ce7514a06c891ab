"""The recipe of VA-RED2 and its rivals: every method learns, goes on from a dense network, and learns from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import recipes.act_clips
import recipes.exits
import recipes.film_clips
import recipes.methods
import recipes.moving_clips
import recipes.pose_clips
import recipes.street_clips
from recipes.reduction import clips_of, pointwise_only, rank_correlation
from recipes.reduction_methods import ClipMethod, Stage
from saccade.errors import RecipeError
from saccade.reduce import Reduce
from saccade.reduce.layer import ReducedConv3d
from saccade.train import evaluate, load_recipe, read_weights, train
from saccade.zoo.x3d import x3d


@pytest.mark.usefixtures("few_clips")
@pytest.mark.parametrize("network", ["r2plus1d", "x3d", "i3d"])
def test_reduced_networks_go_on_from_a_dense_one_in_two_stages(network: str, tmp_path: Path) -> None:
    path, options = "recipes/reduction.py", {"network": network}
    recipe = load_recipe(path, {**options, "steps": 1})
    dense = train(recipe, tmp_path / "dense", accelerator="cpu", tensorboard=False)
    found = evaluate(recipe, read_weights(dense.folder)).metrics
    assert found["macs"] == found["dense_macs"]
    for method in ("both", "time", "channels"):
        chosen = {**options, "steps": 2, "method": method, "start": str(tmp_path / "dense")}
        recipe = load_recipe(path, chosen)
        folder = train(recipe, tmp_path / method, accelerator="cpu", tensorboard=False).folder
        reduced = evaluate(recipe, read_weights(folder)).metrics
        assert 0 <= reduced["top1"] <= 100
        assert reduced["least_macs"] <= reduced["macs"] <= reduced["most_macs"]
        assert 0 < reduced["overhead"] < 0.2
        assert reduced["dense_macs"] == found["dense_macs"]


@pytest.mark.usefixtures("few_clips")
def test_rivals_of_reduced_networks_go_on_from_a_dense_one(tmp_path: Path) -> None:
    path = "recipes/reduction.py"
    recipe = load_recipe(path, {"steps": 1})
    dense = evaluate(recipe, read_weights(train(recipe, tmp_path / "dense", tensorboard=False).folder)).metrics
    at_once = {"weights": 0.5, "filters": 0.5, "gating": 1.0, "resolution": 1.0}
    for method, press in at_once.items():
        chosen = {"steps": 3, "method": method, "press": press, "start": str(tmp_path / "dense")}
        recipe = load_recipe(path, chosen)
        trained = train(recipe, tmp_path / method, accelerator="cpu", tensorboard=False)
        found = evaluate(recipe, read_weights(trained.folder)).metrics
        assert found["dense_macs"] == dense["macs"]
        assert 0 <= found["top1"] <= 100
        if method in ("weights", "filters"):
            assert found["macs"] == pytest.approx(0.5 * found["dense_macs"], rel=0.02)
            layers = [layer for layer in trained.model.modules() if isinstance(layer, nn.Conv3d)]
            left = sum(int((layer.weight != 0).sum()) for layer in layers)
            assert left == pytest.approx(0.5 * sum(layer.weight.numel() for layer in layers), rel=0.02)
        else:
            assert found["macs"] <= found["dense_macs"] * 1.01
    for options, ratio in (({"width": "half"}, 0.28), ({"width": "narrow"}, 0.58), ({"stride": 2}, 0.5)):
        recipe = load_recipe(path, {"steps": 1, **options})
        metrics = evaluate(recipe, read_weights(train(recipe, tmp_path / str(ratio), tensorboard=False).folder)).metrics
        assert metrics["macs"] == metrics["dense_macs"] == pytest.approx(ratio * dense["macs"], rel=0.03)


@pytest.mark.parametrize("network", ["tpn", "corrnet"])
def test_pyramids_and_correlations_are_reduced_too(network: str) -> None:
    recipe = load_recipe("recipes/reduction.py", {"network": network, "method": "both"})
    model = recipe.build().train()
    frames = torch.randint(0, 255, (2, 16, 3, 48, 48), dtype=torch.uint8)
    losses = recipe.loss(model, {"frames": frames, "label": torch.tensor([0, 5])})
    assert 1 < losses["macs"] < 1.1  # nothing is left out yet, and gates cost
    losses["loss"].backward()
    assert all(torch.isfinite(value.grad).all() for value in model.parameters() if value.grad is not None)


@pytest.mark.usefixtures("few_clips")
def test_pyramids_and_correlations_are_put_on_a_trained_network(tmp_path: Path) -> None:
    path = "recipes/reduction.py"
    folder = str(train(load_recipe(path, {"steps": 1}), tmp_path / "dense", tensorboard=False).folder)
    body = {name: value for name, value in read_weights(folder).state.items() if ".body." in name}
    for network in ("tpn", "corrnet"):
        fresh = load_recipe(path, {"network": network}).build().state_dict()
        found = load_recipe(path, {"network": network, "trunk": folder}).build().state_dict()
        assert found.keys() == fresh.keys()
        assert not all(torch.equal(fresh[name], value) for name, value in body.items())
        for name, value in found.items():
            assert torch.equal(value, body.get(name, fresh[name])), name
    for options, wrong in (
        ({"network": "i3d"}, "has no body for this network: model.body.layer1"),
        ({"width": "half"}, "expected the dense network it is put on"),
        ({"network": "tpn", "start": folder}, "expected one"),
    ):
        with pytest.raises(RecipeError, match=wrong):
            load_recipe(path, {**options, "trunk": folder}).build()
    bare = train(load_recipe("tests/toy_recipe.py", {}), tmp_path / "bare", tensorboard=False).folder
    with pytest.raises(RecipeError, match=r"nothing in it is called model\.body"):
        load_recipe(path, {"network": "tpn", "trunk": str(bare)}).build()


@pytest.mark.usefixtures("few_clips")
def test_what_goes_on_from_a_dense_network_learns_from_its_answers_and_from_the_labels(tmp_path: Path) -> None:
    recipe = load_recipe("recipes/reduction.py", {"steps": 1})
    folder = train(recipe, tmp_path / "dense", accelerator="cpu", tensorboard=False).folder
    taught = {"frames": torch.randint(0, 255, (3, 16, 3, 48, 48), dtype=torch.uint8), "label": torch.tensor([0, 5, 1])}
    dense = recipe.build()
    read_weights(folder).load_into(dense)
    with torch.no_grad():
        answers = dense.eval()(clips_of(taught["frames"]))[0].double().softmax(1)
    losses = {}
    for share in (0.0, 1.0, 0.3):
        chosen = load_recipe("recipes/reduction.py", {"start": str(folder), "steps": 1, "distill": share})
        model = chosen.build().train()
        losses[share] = chosen.loss(model, taught)["loss"].item()
    with torch.no_grad():
        said = model(clips_of(taught["frames"]))[0].double().log_softmax(1)
    smooth = 0.9 * F.one_hot(taught["label"], 12) + 0.1 / 12
    by_hand = [float(-(target * said).sum(1).mean()) for target in (smooth, answers)]
    assert [losses[0.0], losses[1.0]] == pytest.approx(by_hand, rel=1e-4)
    assert losses[0.3] == pytest.approx(0.7 * losses[0.0] + 0.3 * losses[1.0], rel=1e-5)


@pytest.mark.parametrize(("method", "options"), [("both", (2, 2)), ("time", (2, 1)), ("channels", (1, 2))])
def test_a_half_of_the_method_leaves_the_other_dimension_alone(method: str, options: tuple[int, int]) -> None:
    layers = [layer for layer in load_recipe("recipes/reduction.py", {"method": method}).build().modules()]
    spaces = [layer.space for layer in layers if isinstance(layer, ReducedConv3d)]
    assert len(spaces) > 5
    assert {(space.time, space.channels) for space in spaces} == {options}


def test_the_penalty_waits_for_its_stage_and_then_grows() -> None:
    stage, weights = Stage(steps=20), []
    for step in range(1, 21):
        stage(nn.Identity(), step)
        weights.append(round(stage.now, 4))
    assert weights == [0.0] * 2 + [0.1667, 0.3333, 0.5, 0.6667, 0.8333] + [1.0] * 13


def test_a_method_that_is_none_and_pruning_of_everything_are_refused() -> None:
    with pytest.raises(RecipeError, match="unknown method 'half-width'; expected one of dense, both"):
        ClipMethod(name="half-width", what=Reduce(), efficiency=0.8, press=0.0)
    with pytest.raises(RecipeError, match="prunes 1 of each layer"):
        ClipMethod(name="weights", what=Reduce(), efficiency=0.8, press=1.0)


def test_of_x3d_the_pointwise_convolutions_over_maps_are_reduced() -> None:
    network = x3d("tiny", classes=2)
    chosen = {name for name, module in network.named_modules() if pointwise_only(name, module)}
    assert "body.res2.0.expand.0.0" in chosen
    assert "body.conv5.0.0" in chosen
    assert not any("excite" in name or "depthwise" in name or "stem" in name for name in chosen)


def test_clips_may_be_seen_at_half_the_rate() -> None:
    frames = torch.arange(2 * 16 * 3 * 2 * 2, dtype=torch.uint8).reshape(2, 16, 3, 2, 2)
    assert torch.equal(clips_of(frames, 2), clips_of(frames)[:, :, ::2])
    assert clips_of(frames).shape == (2, 3, 16, 2, 2)


def test_mirrored_clips_are_named_for_what_they_show() -> None:
    sample = {"frames": np.broadcast_to(np.arange(40, 200, 32, dtype=np.uint8), (2, 3, 4, 5)), "label": np.int64(1)}
    labels = set()
    for seed in range(20):
        seen = recipes.moving_clips.augment_moving(sample, np.random.default_rng(seed), mirrored=(0, 7))
        rises = (np.diff(seen["frames"][0, 0, 0].astype(int)) >= 0).all()
        assert rises == (int(seen["label"]) == 1)
        labels.add(int(seen["label"]))
    assert labels == {1, 7}


def test_ranks_are_correlated_and_ties_share_theirs() -> None:
    one = torch.tensor([1.0, 5.0, 5.0, 9.0])
    assert rank_correlation(one, one.exp()) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    assert rank_correlation(one, torch.tensor([1.0, 2.0, 3.0, 4.0])) == pytest.approx(0.9**0.5)
    assert rank_correlation(one, torch.ones(4)) == 0
