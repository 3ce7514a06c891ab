"""What FrameExit is compared with: the mean over frames, frames chosen in one shot, and the size of each frame."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import recipes.exit_rivals
from recipes.exit_rivals import at_random, evenly
from saccade.errors import InputError, RecipeError
from saccade.exits import exit_macs
from saccade.rivals.frame_average import FrameAverage
from saccade.rivals.frame_resolution import FrameResolution, choose
from saccade.rivals.one_shot import OneShot, gumbel_top_k
from saccade.rivals.resolution import resize_frames
from saccade.train import evaluate, load_recipe, read_weights, train
from saccade.zoo.frame_exit import BACKBONES, frame_backbone, frame_exit

FRAMES, SIDE, CLASSES, HIDDEN = 5, 17, 3, 7
SIZES = (17, 12, 8)


class Counted(nn.Module):
    """A backbone that notes the shapes it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2, bias=False)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, frames: Tensor) -> Tensor:
        self.seen.append(tuple(frames.shape))
        maps: Tensor = self.conv(frames)
        return maps


def videos(batch: int, *, frames: int = FRAMES, seed: int = 0) -> Tensor:
    return torch.randn(batch, frames, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def network() -> FrameAverage:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return FrameAverage(Counted(), features=6, classes=CLASSES, hidden=HIDDEN).eval()


def one_shot(*, budget: int = 2) -> OneShot:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = OneShot(network(), budget=budget, example=videos(1), size=16).eval()
    seen(model).clear()
    return model


def by_size() -> FrameResolution:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = FrameResolution(network(), SIZES, example=videos(1), size=16).eval()
    for index, net in enumerate(model.networks):
        nn.init.constant_(net.classifier.bias, index)  # so that sizes differ
        net.backbone.seen.clear()
    return model


def sure(model: FrameResolution, x: Tensor, *, factor: float = 1e4) -> FrameResolution:
    """Returns the model with a policy that is sure of what it chooses, and chooses every option for some of x."""
    last = model.policy.last
    with torch.no_grad():
        last.bias.zero_()
        logits = model.policy(x)
        scale = factor / logits.std((0, 1))
        last.weight.mul_(scale[:, None])
        last.bias.copy_(-scale * logits.mean((0, 1)))
    return model


def seen(model: nn.Module) -> list[tuple[int, ...]]:
    return next(module.seen for module in model.modules() if isinstance(module, Counted))


def conv(side: int, *, kernel: int = 3, padding: int = 0) -> int:
    """Returns the height and width of what a convolution of stride 2 gives."""
    return (side + 2 * padding - kernel) // 2 + 1


def skim_macs() -> int:
    """Returns the macs of one frame of 16x16 through the convolutions of a policy."""
    return 8 * 8 * 27 * 8 + 4 * 4 * 8 * 9 * 16 + 2 * 2 * 16 * 9 * 32


def frame_macs(side: int) -> int:
    """Returns the macs of one frame through backbone and layer."""
    return conv(side) ** 2 * 27 * 6 + 6 * HIDDEN


@pytest.mark.parametrize("frames", [1, 4])
def test_the_mean_of_features_is_the_mean_of_what_frames_say(frames: int) -> None:
    net, x = network(), videos(3, frames=frames)
    each = torch.stack([net(x[:, i : i + 1]) for i in range(frames)])
    torch.testing.assert_close(net(x), each.mean(0), rtol=1e-5, atol=1e-6)
    macs = net.macs(x[:1, 0])
    assert macs.executed(4) == 4 * (frame_macs(SIDE) + HIDDEN) + HIDDEN * CLASSES


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_all_frames_cost_what_they_cost_frame_exit(pooling: str) -> None:
    frame = torch.zeros(1, 3, 64, 64)
    net = FrameAverage(frame_backbone("tiny"), features=BACKBONES["tiny"].features, classes=12, hidden=256)
    exits = frame_exit("tiny", classes=12, frames=10, hidden=256, pooling=pooling)  # type: ignore[arg-type]
    assert net.macs(frame).executed(10) == exit_macs(exits, frame).dense
    for name, value in exits.backbone.state_dict().items():
        assert torch.equal(value, net.backbone.state_dict()[name])


@pytest.mark.parametrize("budget", [1, 3, FRAMES])
def test_the_best_frames_and_no_others_go_through_the_network(budget: int) -> None:
    model, x = one_shot(budget=1), videos(4)
    model.budget = budget
    with torch.no_grad():
        logits, cost = model(x)
        assert seen(model) == [(4 * budget, 3, SIDE, SIDE)]
        scores = model.policy(x)
        for video, order in enumerate(scores.argsort(1, descending=True)):
            best = sorted(order[:budget].tolist())
            assert cost.chosen[video].tolist() == best
            torch.testing.assert_close(logits[video], model.network(x[video : video + 1, best])[0])
    policy = FRAMES * (skim_macs() + 3 * 64 * 32 + 32)
    answer = HIDDEN * CLASSES
    assert cost.overhead.tolist() == [policy] * 4
    assert cost.macs.tolist() == [policy + budget * (frame_macs(SIDE) + HIDDEN) + answer] * 4
    assert cost.dense_macs == FRAMES * (frame_macs(SIDE) + HIDDEN) + answer


def test_scores_go_with_their_frames() -> None:
    model, x = one_shot(), videos(2)
    order = [3, 0, 4, 2, 1]
    with torch.no_grad():
        torch.testing.assert_close(model.policy(x[:, order]), model.policy(x)[:, order], rtol=1e-5, atol=1e-6)
        assert model.policy(x).std(1).min() > 0


def drawn_as(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns what a model says in evaluation, and while training with nothing else in training mode."""
    with torch.no_grad():
        evaluated = model.eval()(x)[0]
        model.training = True
        return evaluated, model(x)[0]


def test_training_and_evaluation_agree_where_the_policy_is_sure() -> None:
    x, shot = videos(6), one_shot()
    with torch.no_grad():
        shot.policy.score[-1].weight.mul_(1e6)  # type: ignore[operator, union-attr]
    for model in (shot, sure(by_size(), x)):
        evaluated, trained = drawn_as(model, x)
        torch.testing.assert_close(trained, evaluated, rtol=1e-4, atol=1e-5)


def plackett_luce(scores: Tensor, budget: int) -> Tensor:
    """Returns how likely each frame is among k drawn one after the other, by all orders there are."""
    weights, found = scores.double().exp(), torch.zeros(len(scores), dtype=torch.float64)
    for order in itertools.permutations(range(len(scores)), budget):
        left, chance = float(weights.sum()), 1.0
        for frame in order:
            chance *= float(weights[frame]) / left
            left -= float(weights[frame])
        found[list(order)] += chance
    return found


@pytest.mark.parametrize("budget", [1, 2, 3])
def test_frames_are_drawn_without_replacement_as_their_scores_say(budget: int) -> None:
    torch.manual_seed(4)
    scores, draws = torch.tensor([0.0, 1.0, -1.0, 0.5]), 20_000
    kept = gumbel_top_k(scores.expand(draws, -1), budget)
    assert ((kept == 0) | (kept == 1)).all()
    assert (kept.sum(1) == budget).all()
    expected = plackett_luce(scores, budget)
    if budget == 1:
        torch.testing.assert_close(expected, scores.double().softmax(0))
    deviation = (expected * (1 - expected) / draws).sqrt()
    assert ((kept.double().mean(0) - expected).abs() <= 4.5 * deviation).all()


def test_the_relaxed_choice_is_k_frames_in_all() -> None:
    torch.manual_seed(5)
    for scale, temperature in ((1.0, 1.0), (100.0, 1.0), (1.0, 0.1)):
        scores = (scale * torch.randn(3, 4)).requires_grad_()
        kept = gumbel_top_k(scores, 4, temperature=temperature)
        torch.testing.assert_close(kept.detach(), torch.ones(3, 4))
        (kept * torch.randn(3, 4)).sum().backward()
        assert scores.grad is not None
        assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize("make", [one_shot, by_size])
def test_the_loss_of_the_classification_trains_the_policy(make: Callable[[], OneShot | FrameResolution]) -> None:
    torch.manual_seed(6)
    model, labels = make().train(), torch.tensor([0, 1, 2, 0])
    nn.functional.cross_entropy(model(videos(4))[0], labels).backward()
    for name, value in model.policy.named_parameters():
        assert value.grad is not None, name
        assert torch.isfinite(value.grad).all()
    first = next(model.policy.parameters()).grad
    assert first is not None
    assert first.abs().max() > 0
    model.zero_grad()
    model.exploring = True
    nn.functional.cross_entropy(model(videos(4))[0], labels).backward()
    assert all(value.grad is None for value in model.policy.parameters())


def test_a_frame_that_tells_the_label_is_found() -> None:
    torch.manual_seed(7)
    model = OneShot(network(), budget=1, example=videos(1), size=16).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    random = torch.Generator().manual_seed(0)

    def draw(batch: int) -> tuple[Tensor, Tensor, Tensor]:
        x = 0.1 * torch.randn(batch, FRAMES, 3, SIDE, SIDE, generator=random)
        labels = torch.randint(0, CLASSES, (batch,), generator=random)
        place = torch.randint(0, FRAMES, (batch,), generator=random)
        x[torch.arange(batch), place, labels] += 1  # one colour for each class
        return x, labels, place

    for _ in range(150):
        x, labels, _ = draw(16)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x)[0], labels).backward()
        optimizer.step()
    model.eval()
    x, labels, place = draw(64)
    with torch.no_grad():
        logits, cost = model(x)
    assert (cost.chosen[:, 0] == place).double().mean() > 0.9
    assert (logits.argmax(1) == labels).double().mean() > 0.9


def test_each_frame_is_run_at_its_size_and_no_other() -> None:
    model, x = by_size(), videos(6)
    sure(model, x)
    with torch.no_grad():
        chosen = choose(model.policy(x))
        logits, cost = model(x)
    assert chosen.unique().tolist() == [0, 1, 2, 3]
    for index, net in enumerate(model.networks):
        count = int((chosen == index).sum())
        assert net.backbone.seen == [(count, 3, SIZES[index], SIZES[index])]  # type: ignore[union-attr]
    policy = FRAMES * (skim_macs() + 3 * 32 * (64 + 32) + 32 * 4)
    by_hand = [frame_macs(side) + HIDDEN * CLASSES for side in SIZES] + [0]
    for video in range(6):
        looked = [(t, k) for t, k in enumerate(chosen[video].tolist()) if k < 3]
        said = [model.networks[k](resize_frames(x[video, t : t + 1], SIZES[k])[:, None])[0] for t, k in looked]
        torch.testing.assert_close(logits[video], torch.stack(said).mean(0), rtol=1e-4, atol=1e-5)
        assert float(cost.macs[video]) == policy + sum(by_hand[k] for k in chosen[video].tolist())
    assert cost.overhead.tolist() == [policy] * 6
    assert cost.dense_macs == FRAMES * (frame_macs(SIDE) + HIDDEN) + HIDDEN * CLASSES
    assert torch.equal(cost.choices.argmax(1), chosen.flatten())
    assert cost.shares.tolist() == [macs / by_hand[0] for macs in by_hand]


def test_of_no_video_all_frames_are_skipped() -> None:
    logits = torch.tensor([[[0.0, 1.0, 5.0], [2.0, 1.0, 4.0]], [[0.0, 1.0, 5.0], [3.0, 1.0, 2.0]]])
    assert choose(logits).tolist() == [[2, 0], [2, 0]]
    model = by_size()
    with torch.no_grad():
        model.policy.last.bias[-1] = 1e6
        for training in (False, True):
            model.training = training
            scores, cost = model(videos(3))
            assert torch.isfinite(scores).all()
            assert (cost.choices[:, -1].reshape(3, FRAMES).sum(1) == FRAMES - 1).all()


def test_the_policy_sees_the_frames_before_and_none_after() -> None:
    model, x = by_size(), videos(1)
    changed = x.clone()
    changed[:, 2] += 1
    with torch.no_grad():
        same = (model.policy(x) == model.policy(changed)).all(2)[0].tolist()
    assert same == [True, True, False, False, False]


def test_a_large_press_chooses_what_costs_nothing() -> None:
    model = by_size().train()
    torch.manual_seed(8)
    cost = model(videos(8))[1]
    assert ((cost.choices == 0) | (cost.choices == 1)).all()
    assert (cost.choices.sum(1) == 1).all()
    cost.expected().backward()
    gradient = model.policy.last.bias.grad
    assert gradient is not None
    assert gradient[0] > 0 > gradient[3]


def test_what_makes_no_choice_is_refused() -> None:
    for budget in (0, FRAMES + 1):
        with pytest.raises(InputError, match=f"the budget is {budget}; expected 1 to 5 frames"):
            one_shot(budget=budget)
    for sizes in ((17,), (8, 17), (17, 17)):
        with pytest.raises(InputError, match="the largest first"):
            FrameResolution(network(), sizes, example=videos(1))
    for make in (
        lambda x: OneShot(network(), budget=1, example=x),
        lambda x: FrameResolution(network(), SIZES, example=x),
    ):
        with pytest.raises(InputError, match="expected one video"):
            make(videos(2))
    for model in (one_shot(), by_size()):
        for wrong in (videos(2, frames=4), videos(0), videos(2)[0]):
            with pytest.raises(InputError, match=r"expected \(B, 5, C, H, W\)"):
                model(wrong)
    with pytest.raises(InputError, match=r"expected \(B, k, ...\)"):
        network()(videos(2)[:, :0])
    with pytest.raises(InputError, match="classes is 0"):
        FrameAverage(nn.Identity(), features=1, classes=0)


def test_frames_are_spread_evenly_or_drawn_once_for_all_counts() -> None:
    assert [list(evenly(count)(0, 20)) for count in (1, 2, 4)] == [[10], [5, 15], [2, 7, 12, 17]]
    for index in range(5):
        most = list(at_random(10)(index, 20))
        assert len(set(most)) == 10
        assert list(at_random(4)(index, 20)) == most[:4]
    assert len({tuple(at_random(3)(index, 20)) for index in range(5)}) > 1


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five made-up videos in place of films and of surveillance clips."""
    rng = np.random.default_rng(0)
    made = [{"frames": rng.integers(0, 256, (8, 3, 32, 32), np.uint8), "label": np.int64(i % 2)} for i in range(5)]
    monkeypatch.setattr(recipes.exit_rivals, "Films", lambda split: made)
    monkeypatch.setattr(recipes.exit_rivals, "Acts", lambda kind, split: made)
    monkeypatch.setattr(recipes.exit_rivals, "SIDE", {"films": 32, "actions": 32})


@pytest.mark.usefixtures("made_up")
def test_rivals_are_trained_and_measured(tmp_path: Path) -> None:
    options = {"frames": 4, "hidden": 8, "batch": 4, "steps": 2, "budget": 2}

    def measured(**more: str) -> dict[str, float]:
        recipe = load_recipe("recipes/exit_rivals.py", {**options, **more})
        folder = train(recipe, tmp_path / more["method"], accelerator="cpu", tensorboard=False).folder
        return dict(evaluate(recipe, read_weights(folder)).metrics)

    average = measured(method="average")
    assert average["uniform-4_macs"] == average["random-4_macs"] == average["dense_macs"]
    for name, count in itertools.product(("uniform", "random"), (1, 2, 3, 4)):
        assert 0 <= average[f"{name}-{count}_top1"] <= 100
    shot = measured(method="one-shot", start=str(tmp_path / "average"))
    assert shot["frames"] == 2
    assert (shot["top1"], shot["macs"]) == (shot["budget-2_top1"], shot["budget-2_macs"])
    assert shot["dense_macs"] == average["dense_macs"]
    policy = shot["macs"] - average["uniform-2_macs"]
    assert policy > 0
    assert shot["budget-3_macs"] == policy + average["uniform-3_macs"]
    sizes = measured(method="resolution", data="actions")
    assert 0 <= sizes["top1"] <= 100
    assert 1 <= sizes["frames"] <= 4
    assert sizes["frames"] == pytest.approx(4 * sum(sizes[f"at-{size}"] for size in (32, 24, 16)))
    assert policy < sizes["macs"] < 1.5 * sizes["dense_macs"]


@pytest.mark.usefixtures("made_up")
def test_policies_choose_at_random_in_the_first_quarter() -> None:
    recipe = load_recipe("recipes/exit_rivals.py", {"method": "one-shot", "steps": 8, "frames": 4, "hidden": 8})
    model, found = recipe.build(), []
    for step in range(1, 9):
        assert recipe.before_step is not None
        recipe.before_step(model, step)
        found.append(model.exploring)
    assert found == [True] * 2 + [False] * 6


def test_a_budget_that_no_video_has_is_refused() -> None:
    with pytest.raises(RecipeError, match="budget is 11; expected 1 to 10"):
        load_recipe("recipes/exit_rivals.py", {"budget": 11})
