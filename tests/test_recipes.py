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
import recipes.methods
import recipes.moving_clips
import recipes.pose_clips
import recipes.street_clips
from recipes.exits import augment_visits, visited
from recipes.film_clips import Films
from recipes.methods import METHODS, Method, Pressure, freeze_norms, parameter_groups
from recipes.pose_clips import cut, light, mirror, pictures, turn
from recipes.reduction import clips_of, pointwise_only, rank_correlation
from recipes.reduction_methods import ClipMethod, Stage
from saccade.errors import RecipeError
from saccade.exits import LearnedGate, classify_video, exit_macs, visiting_order
from saccade.reduce import Reduce
from saccade.skip import Gumbel, Skip, convert
from saccade.train import evaluate, load_recipe, read_weights, train
from saccade.zoo.x3d import x3d


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
            early.append(recipes.pose_clips.kept(tmp_path / "clips", lambda: make(1))["x"])
        return [{"x": np.full(1000, value)}] * 50

    late = recipes.pose_clips.kept(tmp_path / "clips", lambda: make(2))["x"]
    assert (early[0] == 1).all()
    assert (late == 2).all()
    assert sorted(path.name for path in (tmp_path / "clips").iterdir()) == ["done", "x.npy"]


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few scenes in place of hundreds, kept for all tests of this file."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    for module in (recipes.pose_clips, recipes.street_clips):
        monkeypatch.setattr(module, "CACHE", cache)
        monkeypatch.setattr(module, "SCENES", {"train": 16, "test": 2})
        monkeypatch.setattr(module, "FRAMES", {"train": 8, "test": 5})
    monkeypatch.setattr(recipes.methods, "EXAMPLES", 1)
    monkeypatch.setattr(recipes.methods, "SHARES", (0.4,))
    monkeypatch.setattr(recipes.act_clips, "CACHE", cache)
    monkeypatch.setattr(recipes.act_clips, "SCENES", {"train": 4, "test": 3})
    monkeypatch.setattr(recipes.moving_clips, "CACHE", cache)
    monkeypatch.setattr(recipes.moving_clips, "CLIPS", {"train": 12, "validation": 4, "test": 7})
    monkeypatch.setattr(recipes.film_clips, "CACHE", cache)
    monkeypatch.setattr(recipes.film_clips, "FRAMES", 4)
    monkeypatch.setattr(recipes.film_clips, "FILMS", {"train": 5, "validation": 4, "test": 12})


@pytest.mark.usefixtures("small")
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
        assert bool(weights) == (method in ("gumbel", "magnitude", "frames", "spatial-svd+magnitude", "l0"))
        assert all(torch.isfinite(value).all() for value in weights.values())


def test_frozen_norms_are_the_batch_norms_only() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(), nn.LayerNorm(2)).train()
    freeze_norms(network)
    assert [module.training for module in network] == [False, True, True]


@pytest.mark.usefixtures("small")
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


@pytest.mark.usefixtures("small")
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


def test_the_penalty_waits_for_its_stage() -> None:
    stage, weights = Stage(steps=10), []
    for step in range(1, 11):
        stage(nn.Identity(), step)
        weights.append(stage.now)
    assert weights == [0.0] * 4 + [1.0] * 6


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


@pytest.mark.usefixtures("small")
def test_exits_are_learned_in_two_stages_and_again_for_another_beta(tmp_path: Path) -> None:
    path, options = "recipes/exits.py", {"frames": 4, "hidden": 16, "batch": 2, "steps": 4}
    recipe = load_recipe(path, options)
    first = train(recipe, tmp_path / "first", accelerator="cpu", tensorboard=False)
    found = evaluate(recipe, read_weights(first.folder)).metrics
    budgets = [found[f"budget-{count}_top1"] for count in (1, 2, 3, 4)]
    assert [found[f"budget-{count}_frames"] for count in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert found["budget-4_macs"] == found["dense_macs"]
    assert found["oracle_top1"] >= max(budgets)
    assert found["gate-0.3_frames"] <= found["frames"] <= found["gate-0.9_frames"]
    assert found["confidence-0.5_frames"] <= found["confidence-0.99_frames"]
    for key in ("top1", "frames"):  # four films of each difficulty, all of one length
        assert sum(found[f"{key}_{name}"] for name in ("easy", "medium", "hard")) / 3 == pytest.approx(found[key])
        assert found[f"{key}_40-frames"] == pytest.approx(found[key])
    one_by_one = looked_at(first.model)
    assert found["frames"] == pytest.approx(np.mean([frames for frames, _, _ in one_by_one]))
    assert found["top1"] == pytest.approx(100 * np.mean([right for _, right, _ in one_by_one]))
    assert found["macs"] == pytest.approx(np.mean([macs for _, _, macs in one_by_one]))

    again = load_recipe(path, {**options, "start": str(first.folder), "beta": 10.0})
    second = train(again, tmp_path / "second", accelerator="cpu", tensorboard=False)
    for name, value in first.model.state_dict().items():
        same = torch.equal(value, second.model.state_dict()[name])
        assert same != name.startswith("gates."), name
    anew = evaluate(again, read_weights(second.folder)).metrics
    assert anew["beta"] == 10
    assert [anew[f"budget-{count}_top1"] for count in (1, 2, 3, 4)] == budgets
    # The gates begin as they were drawn, not as they were learned for the other beta.
    begun, drawn = again.build(), recipe.build()
    for name, value in begun.gates.state_dict().items():
        assert torch.equal(value, drawn.gates.state_dict()[name])


def looked_at(model: nn.Module) -> list[tuple[int, bool, int]]:
    """Returns frames, whether the answer is right, and macs of every film of the test split, one by one."""
    data, found = Films("test"), []
    macs = exit_macs(model, torch.zeros(1, 3, 64, 64))
    for index in range(len(data)):
        shown = pictures(visited(model, torch.from_numpy(data[index]["frames"]), seed=index))
        exits = classify_video(model, iter(shown), LearnedGate(), macs=macs)
        right = int(exits.scores.argmax()) == int(data[index]["label"])
        found.append((int(exits.frames), right, int(exits.macs)))
    return found


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "options",
    [{"order": "random", "pooling": "none"}, {"data": "actions"}, {"data": "actions", "backbone": "motion"}],
)
def test_exits_are_learned_from_other_videos_and_in_other_orders(
    options: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    clips = [{"frames": rng.integers(0, 256, (25, 3, 32, 32), np.uint8), "label": np.int64(i % 2)} for i in range(4)]
    short = [{"frames": rng.integers(0, 256, (12, 3, 3, 32, 32), np.uint8), "label": each["label"]} for each in clips]
    monkeypatch.setattr(recipes.exits, "Acts", lambda kind, split: clips)
    monkeypatch.setattr(recipes.exits, "Moments", lambda split, *, clip, size: short)
    recipe = load_recipe("recipes/exits.py", {"frames": 3, "hidden": 8, "batch": 2, "steps": 2, **options})
    trained = train(recipe, tmp_path / "out", accelerator="cpu", tensorboard=False)
    found = evaluate(recipe, read_weights(trained.folder)).metrics
    assert 0 <= found["top1"] <= 100
    assert 0 < found["map"] <= 100
    assert 1 <= found["frames"] <= 3
    gates = 1.1 if "backbone" not in options else 100  # theirs are many beside a backbone's that has none
    assert 0 < found["macs"] <= gates * found["dense_macs"]
    assert ("top1_hard" in found) == (options.get("data") != "actions")


@pytest.mark.parametrize(("frames", "order"), [(10, "coarse-to-fine"), (4, "sequential"), (16, "random")])
def test_training_visits_one_frame_of_each_part(frames: int, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes.exits, "light", lambda sample, rng: sample)
    sample = {"frames": np.arange(20, dtype=np.uint8).repeat(12).reshape(20, 3, 2, 2), "label": np.int64(2)}
    offsets = set()
    for seed in range(40):
        seen = augment_visits(sample, np.random.default_rng(seed), frames=frames, order=order)  # type: ignore[arg-type]
        numbers = seen["frames"][:, 0, 0, 0].astype(int)
        parts = (numbers * frames // 20).tolist()
        if order == "random":
            assert len(set(numbers)) == frames
        else:
            assert parts == list(visiting_order(frames, order))  # type: ignore[arg-type]
            offsets.add(tuple(np.unique(numbers - np.array(parts) * 20 // frames)))
        assert seen["label"] == 2
    assert order == "random" or offsets == {(offset,) for offset in range(20 // frames)}


def test_a_beta_that_never_exits_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"beta is 0.0; expected more than 0"):
        load_recipe("recipes/exits.py", {"beta": 0.0})
