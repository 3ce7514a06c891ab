"""The recipes: what they do to clips and their labels, and that every method trains and is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import recipes.act_clips
import recipes.exits
import recipes.film_clips
import recipes.kept_samples
import recipes.methods
import recipes.moving_clips
import recipes.pose_clips
import recipes.street_clips
from recipes.methods import METHODS, Method, Pressure, Ran, freeze_norms, parameter_groups, wide
from recipes.pose_clips import cut, light, mirror, turn
from saccade.errors import RecipeError
from saccade.graph.conversion import Converted
from saccade.reduce import efficiency_loss
from saccade.skip import ClipModel, Gumbel, Skip, SkipConv2d, convert, gate_loss
from saccade.train import evaluate, load_recipe, read_weights, train
from saccade.zoo.hrnet_pose import hrnet_pose


def dot_clip(x: float, y: float, *, height: int = 40, width: int = 60) -> dict[str, np.ndarray]:
    """Returns a clip whose one joint is a bright dot at (x, y)."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    dot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)
    return {
        "frames": np.broadcast_to(dot, (2, 3, height, width)).round().astype(np.uint8),
        "joints": np.full((2, 1, 2), (x, y), np.float32),
        "visible": np.ones((2, 1), bool),
        "box": np.full((2, 4), (x - 3, y - 2, x + 3, y + 2), np.float32),
    }


def centre(frames: np.ndarray) -> np.ndarray:
    """Returns the centre of brightness (x, y) of the first frame."""
    weight = frames[0, 0].astype(float)
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


@pytest.mark.parametrize("angle", [0.0, 0.5, -1.2, 3.0])
@pytest.mark.parametrize("scale", [0.8, 1.0, 1.3])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -2.0)])
def test_joints_turn_with_the_picture(angle: float, scale: float, shift: tuple[float, float]) -> None:
    turned = turn(dot_clip(33.0, 17.0), angle=angle, scale=scale, shift=shift)
    assert turned["visible"].all()
    np.testing.assert_allclose(centre(turned["frames"]), turned["joints"][0, 0], atol=0.15)


def test_joints_out_of_the_picture_are_not_visible() -> None:
    assert not turn(dot_clip(33.0, 17.0), angle=0.0, scale=1.0, shift=(30.0, 0.0))["visible"].any()


def test_joints_and_boxes_are_mirrored_with_the_picture() -> None:
    clip = dot_clip(20.0, 17.0)
    clip["joints"] = np.concatenate([clip["joints"], clip["joints"] + 5], 1)
    clip["visible"] = np.array([[True, False]] * 2)
    seen = mirror(clip, (1, 0))
    assert np.allclose(centre(seen["frames"]), (40.0, 17.0), atol=0.05)
    assert seen["joints"][0].tolist() == [[35.0, 22.0], [40.0, 17.0]]
    assert seen["visible"][0].tolist() == [False, True]
    assert seen["box"][0].tolist() == [37.0, 15.0, 43.0, 19.0]


def test_a_clip_is_consecutive_frames_with_their_labels() -> None:
    rng = np.random.default_rng(0)
    sample = {"frames": np.arange(9), "joints": np.arange(9), "action": np.int64(3)}
    starts = set()
    for _ in range(100):
        piece = cut(sample, rng, clip=4, per_frame=("frames", "joints"))
        assert piece["frames"].tolist() == list(range(piece["frames"][0], piece["frames"][0] + 4))
        assert np.array_equal(piece["frames"], piece["joints"])
        assert piece["action"] == 3
        starts.add(int(piece["frames"][0]))
    assert starts == set(range(6))


def test_light_is_the_same_in_every_frame() -> None:
    lit = light(dot_clip(30.0, 20.0), np.random.default_rng(1))["frames"]
    assert np.array_equal(lit[0], lit[1])


def test_pressure_grows_over_the_first_half_and_holds_norms_still() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2)).train()
    pressure = Pressure(0.4, steps=10)
    weights = []
    for step in range(1, 11):
        pressure(network, step)
        weights.append(round(pressure.now, 6))
    assert weights == [0.0, 0.08, 0.16, 0.24, 0.32, 0.4, 0.4, 0.4, 0.4, 0.4]
    assert not network[0].training


def test_gates_have_a_rate_of_their_own() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, 1, 1))
    convert(network, Skip(Gumbel()), where=lambda name, conv: name == "0")
    others, gates = parameter_groups(network, rate=1.0, gate_rate=2.0)
    assert {id(p) for p in gates["params"]} == {id(p) for p in network[0].gate.parameters()}
    assert len(others["params"]) == 4
    assert (others["lr"], gates["lr"]) == (1.0, 2.0)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"unknown method 'prune'; expected one of dense, gumbel"):
        Method(name="prune")


def test_samples_made_by_two_processes_at_once_stay_whole(tmp_path: Path) -> None:
    early: list[np.ndarray] = []

    def make(value: int) -> list[dict[str, np.ndarray]]:
        if value == 2:  # the other process was faster, and reads what it made while this one writes
            early.append(recipes.kept_samples.kept(tmp_path / "clips", lambda: make(1))["x"])
        return [{"x": np.full(1000, value)}] * 50

    late = recipes.kept_samples.kept(tmp_path / "clips", lambda: make(2))["x"]
    assert (early[0] == 1).all()
    assert (late == 2).all()
    assert sorted(path.name for path in (tmp_path / "clips").iterdir()) == ["done", "x.npy"]


@pytest.mark.usefixtures("few_clips")
@pytest.mark.parametrize(
    ("file", "options", "accuracy"),
    [
        ("pose", {"clip": 4}, "pck@0.2"),
        ("detection", {"clip": 4}, "ap"),
        ("classification", {"segments": 6}, "top1"),
    ],
)
def test_every_method_goes_on_from_a_dense_network(file: str, options: dict, accuracy: str, tmp_path: Path) -> None:
    path = f"recipes/{file}.py"
    dense = train(load_recipe(path, {**options, "steps": 1}), tmp_path / "dense", accelerator="cpu", tensorboard=False)
    assert dense.record["recipe"].endswith("dense")
    methods = [name for name in METHODS if name != "dense" and (file == "pose" or name in ("gumbel", "magnitude"))]
    for method in methods:
        chosen = {**options, "steps": 1, "method": method, "beta": 0.1, "start": str(tmp_path / "dense")}
        recipe = load_recipe(path, chosen)
        trained = train(recipe, tmp_path / method, accelerator="cpu", tensorboard=False)
        found = evaluate(recipe, read_weights(trained.folder)).metrics
        assert 0 <= found[accuracy] <= 100
        assert found["macs"] > 0
        weights = {name: value for name, value in trained.model.state_dict().items() if "gate." in name}
        assert bool(weights) == (method not in ("spatial-svd", "weight-svd"))
        assert all(torch.isfinite(value).all() for value in weights.values())


def test_positions_and_channels_are_left_out_by_layers_of_their_own() -> None:
    pictures = torch.randn(4, 3, 64, 64)
    how = Method(name="magnitude+reduce", beta=0.3, form="refresh")
    run = ClipModel(hrnet_pose("tiny", joints=3))
    dense = {name for name, layer in run.model.named_modules() if wide(name, layer)}
    run.model = how.apply(run.model, pictures)
    network = run.model.model
    kinds = {name: type(layer).__name__ for name, layer in network.named_modules() if isinstance(layer, Converted)}
    assert {name for name, kind in kinds.items() if kind == "ReducedConv2d"} == dense
    assert set(kinds.values()) == {"ReducedConv2d", "SkipConv2d"}
    assert all(layer.what.gate.magnitude for layer in network.modules() if isinstance(layer, SkipConv2d))
    ran = Ran.of(run.train()(pictures[None]))
    assert ran.outputs.shape == (1, 4, 3, 16, 16)
    assert ran.policies is not None
    both = gate_loss(ran.firing) + efficiency_loss(ran.policies, torch.ones(4, dtype=torch.bool))
    torch.testing.assert_close(how.penalty(run, ran), both)
    freeze_norms(run)
    norms = {
        name: layer.training
        for name, layer in run.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
    }
    assert (
        {name for name, training in norms.items() if training} == {name for name in norms if ".gate." in name} != set()
    )


def test_every_layer_of_a_reduced_network_is_pressed_on() -> None:
    how, run = Method(name="reduce", beta=0.3), ClipModel(hrnet_pose("tiny", joints=3))
    run.model = how.apply(run.model, torch.randn(2, 3, 64, 64))
    for name, value in run.named_parameters():
        if name.endswith("gate.outer.weight"):  # what a layer gives does not pull on the gates behind it, too
            nn.init.zeros_(value)
    how.penalty(run, Ran.of(run.train()(torch.randn(1, 2, 3, 64, 64)))).backward()
    pulls = [value.grad for name, value in run.named_parameters() if name.endswith("gate.outer.bias")]
    assert len(pulls) > 10
    assert all(pull is not None and pull[0] > 0 for pull in pulls)  # "all" is pulled down


def test_frozen_norms_are_the_batch_norms_only() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(), nn.LayerNorm(2)).train()
    freeze_norms(network)
    assert [module.training for module in network] == [False, True, True]
