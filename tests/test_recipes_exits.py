"""The recipe of FrameExit: two stages, other videos and orders, and what is visited while it learns."""

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
from recipes.pose_clips import pictures
from saccade.errors import RecipeError
from saccade.exits import LearnedGate, classify_video, exit_macs, visiting_order
from saccade.train import evaluate, load_recipe, read_weights, train


@pytest.mark.usefixtures("few_clips")
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


@pytest.mark.usefixtures("few_clips")
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
