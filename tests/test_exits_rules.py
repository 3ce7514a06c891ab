"""Exit rules against their definitions, one video at a time against all of them, and the ledger by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from exits_definition import small
from torch import Tensor

from saccade.errors import InputError
from saccade.exits import (
    Confidence,
    ExitMacs,
    ExitRule,
    ExitState,
    FixedBudget,
    FrameExit,
    LearnedGate,
    Oracle,
    Outputs,
    Seen,
    classify_video,
    decide,
    exit_macs,
    visiting_order,
)
from saccade.graph.mac_counter import count_macs

RANDOM = torch.Generator().manual_seed(0)
VIDEOS = torch.randn(40, 4, 3, 5, 4, dtype=torch.float64, generator=RANDOM)
VIDEOS += torch.randn(40, 4, 3, 1, 1, dtype=torch.float64, generator=RANDOM)
LABELS = torch.randint(0, 3, (40,), generator=torch.Generator().manual_seed(1))
SEVERAL = (torch.rand(40, 3, generator=torch.Generator().manual_seed(2)) < 0.5).double()


class Settled(ExitRule):
    """A rule of one's own: z has hardly moved."""

    def stop(self, seen: Seen) -> Tensor:
        if seen.before is None:
            return torch.zeros(len(seen.z), dtype=torch.bool)
        return (seen.z - seen.before).abs().amax(1) < 1.0


RULES: dict[str, ExitRule] = {
    "settled": Settled(),
    "gate": LearnedGate(),
    "gate 0.6": LearnedGate(0.6),
    "probability": Confidence(0.9),
    "entropy": Confidence(0.3, "entropy"),
    "never": Confidence(2.0),
    "budget 1": FixedBudget(1),
    "budget 3": FixedBudget(3),
    "budget 9": FixedBudget(9),
    "oracle": Oracle(LABELS),
    "oracle by loss": Oracle(LABELS, beta=0.1),
}


def of_one(rule: ExitRule, number: int) -> ExitRule:
    return Oracle(rule.labels[number : number + 1], rule.beta) if isinstance(rule, Oracle) else rule


def plain(p: list[float]) -> float:
    return -sum(x * math.log(x) for x in p if x > 0)


def stops(name: str, outputs: Outputs, video: int, t: int, multi_label: bool) -> bool:
    """Whether a video is left after frame t, in Python's floats."""
    logits, rule = outputs.logits[video, t - 1].tolist(), RULES[name]
    odds = [math.exp(x) for x in logits]
    p = [x / (1 + x) for x in odds] if multi_label else [x / sum(odds) for x in odds]
    if isinstance(rule, LearnedGate):
        return 1 / (1 + math.exp(-float(outputs.gate_logits[video, t - 1]))) >= rule.threshold
    if isinstance(rule, FixedBudget):
        return t >= rule.frames
    if isinstance(rule, Oracle):
        label = int(LABELS[video])
        return p.index(max(p)) == label if rule.beta is None else -math.log(p[label]) <= rule.beta * math.exp(t / 2)
    if isinstance(rule, Settled):
        z = outputs.z[video].tolist()
        return t > 1 and all(abs(a - b) < 1 for a, b in zip(z[t - 1], z[t - 2], strict=True))
    assert isinstance(rule, Confidence)
    if rule.measure == "probability":
        return (sum(max(x, 1 - x) for x in p) / 3 if multi_label else max(p)) >= rule.threshold
    return (sum(plain([x, 1 - x]) for x in p) / 3 if multi_label else plain(p)) <= rule.threshold


@pytest.mark.parametrize("multi_label", [False, True])
@torch.no_grad()
def test_videos_are_left_where_the_definition_says(multi_label: bool) -> None:
    model = small(multi_label=multi_label)
    outputs, macs = model(VIDEOS), exit_macs(model, VIDEOS[:1, 0])
    for name, rule in RULES.items():
        if multi_label and isinstance(rule, Oracle):
            continue
        got = decide(model, outputs, rule, macs=macs)
        wanted = [
            next((t for t in (1, 2, 3) if stops(name, outputs, video, t, multi_label)), 4)
            for video in range(len(VIDEOS))
        ]
        assert got.frames.tolist() == wanted, name
        logits = torch.stack([outputs.logits[k, t - 1] for k, t in enumerate(wanted)])
        scores = logits.sigmoid() if multi_label else logits.softmax(1)
        torch.testing.assert_close(got.scores, scores, rtol=1e-14, atol=1e-14)
        spread = 1 if name.startswith(("budget", "never")) else 3
        assert len(set(wanted)) >= spread, f"{name}: too few different exits to tell anything"


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("pooling", ["max", "lstm", "none"])
@torch.no_grad()
def test_one_at_a_time_is_all_together(name: str, pooling: str) -> None:
    model, rule = small(pooling), RULES[name]
    macs = exit_macs(model, VIDEOS[:1, 0])
    together = decide(model, model(VIDEOS), rule, macs=macs)
    for number in range(0, len(VIDEOS), 3):
        alone = classify_video(model, VIDEOS[number], of_one(rule, number), macs=macs)
        assert int(alone.frames) == int(together.frames[number])
        assert int(alone.executed_macs) == int(together.executed_macs[number])
        assert int(alone.gate_macs) == int(together.gate_macs[number])
        torch.testing.assert_close(alone.scores[0], together.scores[number], rtol=1e-11, atol=1e-12)


@torch.no_grad()
def test_what_is_decided_about_a_video_does_not_depend_on_the_others_even_at_a_tie() -> None:
    """The thresholds are numbers that occur, in float32: any difference in rounding would turn a decision."""
    model = small().float()
    outputs = model(VIDEOS.float())
    seen = model.recall(outputs, ExitState())
    entropies = torch.special.entr(seen.scores).sum(1)
    for number in range(len(VIDEOS)):
        alone = model.recall(Outputs(*(x[number : number + 1] for x in outputs)), ExitState())
        for rule in (
            Confidence(float(seen.scores.amax(1)[number])),
            Confidence(float(entropies[number]), "entropy"),
            LearnedGate(float(seen.gate_logits.sigmoid()[number])),
        ):
            assert bool(rule.stop(alone))
            assert bool(rule.stop(seen)[number])


@pytest.mark.parametrize("length", [1, 2, 4])
@torch.no_grad()
def test_videos_that_end_early(length: int) -> None:
    model, videos = small(), VIDEOS[:10, :length]
    macs = exit_macs(model, videos[:1, 0])
    for rule in (LearnedGate(0.95), Confidence(0.9), Confidence(2.0), FixedBudget(9)):
        together = decide(model, model(videos), rule, macs=macs)
        assert together.frames.max() == length or not isinstance(rule, FixedBudget)
        for number, video in enumerate(videos):
            alone = classify_video(model, iter(video), rule, macs=macs)
            assert int(alone.frames) == int(together.frames[number])
            assert int(alone.macs) == int(together.macs[number])


def test_no_frame_is_asked_for_that_is_not_looked_at() -> None:
    model, given = small().train(), []
    macs = exit_macs(model, VIDEOS[:1, 0])

    def frames() -> Iterator[Tensor]:
        for t, frame in enumerate(VIDEOS[0]):
            given.append(t)
            yield frame

    found = classify_video(model, frames(), FixedBudget(2), macs=macs)
    assert given == [0, 1]
    assert int(found.frames) == 2
    assert not found.scores.requires_grad
    assert all(module.training for module in model.modules())
    given.clear()
    classify_video(model, frames(), FixedBudget(9), macs=macs)
    assert given == [0, 1, 2, 3]
    with pytest.raises(InputError, match="a video without frames"):
        classify_video(model, [], FixedBudget(1), macs=macs)


def test_the_ledger_by_hand() -> None:
    model = small()
    macs = exit_macs(model, VIDEOS[:1, 0])
    backbone, head, pooling, classifier = 5 * 27 * 3 * 2, 5 * 6, 6, 6 * 3
    first, later = 6 * 4 + 4 * 4 + 4, 2 * (6 * 4 + 4 * 4) + 8
    assert macs == ExitMacs(backbone, head, pooling, classifier, (first, later, later, later))
    frame = backbone + head + pooling
    assert macs.dense == 4 * frame + classifier
    outputs = model(VIDEOS)
    for rule, of_gates, of_classifiers in ((LearnedGate(), 1, 0), (Confidence(0.9), 0, 1), (FixedBudget(3), 0, 0)):
        found = decide(model, outputs, rule, macs=macs)
        for frames, executed, gate, total in zip(
            found.frames.tolist(), found.executed_macs, found.gate_macs, found.macs, strict=True
        ):
            assert int(executed) == frames * frame + classifier
            gates = [first, later, later][:frames]  # nothing is decided after the last frame
            assert int(gate) == of_gates * sum(gates) + of_classifiers * (frames - 1) * classifier
            assert int(total) == int(executed) + int(gate)


@torch.no_grad()
def test_the_ledger_counts_what_torch_runs() -> None:
    for pooling in ("max", "lstm", "none"):
        model = small(pooling)
        macs = exit_macs(model, VIDEOS[:1, 0])
        uncounted = macs.pooling if pooling == "max" else 0  # comparing is no product of matrices
        for rule in (LearnedGate(), Confidence(0.9), FixedBudget(2)):
            for video in VIDEOS[:6]:
                found: list[Any] = []
                ran = count_macs(
                    lambda v, r=rule, m=model, s=macs, f=found: f.append(classify_video(m, v, r, macs=s)), video
                )
                assert ran == int(found[0].macs) - int(found[0].frames) * uncounted


@torch.no_grad()
def test_without_pooling_predictions_are_averaged() -> None:
    model = small("none")
    outputs, macs = model(VIDEOS), exit_macs(model, VIDEOS[:1, 0])
    for frames in (1, 3, 4):
        found = decide(model, outputs, FixedBudget(frames), macs=macs)
        torch.testing.assert_close(found.scores, outputs.logits[:, :frames].softmax(2).mean(1))
        assert found.executed_macs.tolist() == [frames * (macs.frame + macs.classifier)] * len(VIDEOS)
        assert not found.gate_macs.any()


@torch.no_grad()
def test_the_oracle_is_never_worse_than_any_classifier() -> None:
    model = small()
    outputs, macs = model(VIDEOS), exit_macs(model, VIDEOS[:1, 0])
    right = decide(model, outputs, Oracle(LABELS), macs=macs).scores.argmax(1) == LABELS
    each = outputs.logits.argmax(2) == LABELS[:, None]
    assert torch.equal(right, each.any(1))
    by_loss = decide(small(multi_label=True), outputs, Oracle(SEVERAL, beta=0.3), macs=macs)
    assert len(by_loss.frames.unique()) > 2


def test_the_order_is_the_models() -> None:
    for order in ("coarse-to-fine", "sequential"):
        model = small(order=order)
        assert model.positions(4) == visiting_order(4, order)  # type: ignore[arg-type]
    assert {small(order="random").positions(4, seed=k) for k in range(9)} > {small(order="random").positions(4, seed=0)}


def test_wrong_requests_are_named() -> None:
    class Wrong(ExitRule):
        def stop(self, seen: Seen) -> Tensor:
            return seen.gate_logits

    model: FrameExit = small()
    macs = exit_macs(model, VIDEOS[:1, 0])
    with pytest.raises(
        InputError, match=r"Wrong.stop returned torch.float64 \(1,\) for 1 videos; expected bool \(1,\)"
    ):
        classify_video(model, VIDEOS[0], Wrong(), macs=macs)
    with pytest.raises(InputError, match="40 labels for 1 videos"):
        classify_video(model, VIDEOS[0], Oracle(LABELS), macs=macs)
    with pytest.raises(InputError, match="give beta to stop by the loss"):
        Oracle(SEVERAL)
    with pytest.raises(InputError, match="threshold is 1"):
        LearnedGate(1)
    with pytest.raises(InputError, match="measure is 'margin'; expected one of probability, entropy"):
        Confidence(0.5, "margin")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="frames is 0"):
        FixedBudget(0)
