"""Losses and pseudo-labels against their equations, number by number (float64)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from saccade.errors import InputError
from saccade.exits import Outputs, classification_losses, exit_losses, exit_thresholds, gate_loss, pseudo_labels

RANDOM = torch.Generator().manual_seed(4)
LOGITS = 3 * torch.randn(7, 5, 4, dtype=torch.float64, generator=RANDOM)
GATES = 2 * torch.randn(7, 5, dtype=torch.float64, generator=RANDOM)
INDICES = torch.tensor([0, 3, 2, 1, 1, 0, 3])
SEVERAL = (torch.rand(7, 4, generator=RANDOM) < 0.4).double()


def loss_of(logits: list[float], label: int | list[float]) -> float:
    """The cross entropy, or the mean binary cross entropy over the classes."""
    if isinstance(label, int):
        return math.log(sum(math.exp(x) for x in logits)) - logits[label]
    chances = [1 / (1 + math.exp(-x)) for x in logits]
    terms = [-(y * math.log(p) + (1 - y) * math.log(1 - p)) for p, y in zip(chances, label, strict=True)]
    return sum(terms) / len(terms)


@pytest.mark.parametrize("labels", [INDICES, SEVERAL, SEVERAL.bool()], ids=["one", "several", "bool"])
@pytest.mark.parametrize("beta", [1e-6, 1e-2, 0.1, 0.5])
def test_all_losses_by_brute_force(labels: Tensor, beta: float) -> None:
    wanted = labels.tolist()
    each = [[loss_of(LOGITS[b, t].tolist(), wanted[b]) for t in range(5)] for b in range(7)]
    exits = [[int(each[b][t - 1] <= beta * math.exp(t / 2)) for t in range(1, 6)] for b in range(7)]
    gate = 0.0
    for b in range(7):
        for t in range(5):
            p = 1 / (1 + math.exp(-float(GATES[b, t])))
            gate -= math.log(p if exits[b][t] else 1 - p) / 35
    torch.testing.assert_close(classification_losses(LOGITS, labels), torch.tensor(each, dtype=torch.float64))
    assert pseudo_labels(classification_losses(LOGITS, labels), beta=beta).int().tolist() == exits
    outputs = Outputs(LOGITS, GATES, torch.zeros(7, 5, 2))
    classification = sum(map(sum, each)) / 35
    for stage, total in (("classifiers", classification), ("gates", gate), ("all", classification + gate)):
        losses = exit_losses(outputs, labels, beta=beta, stage=stage)  # type: ignore[arg-type]
        found = {name: float(value) for name, value in losses.items()}
        share = sum(map(sum, exits)) / 35
        assert found == pytest.approx({"loss": total, "classification": classification, "gate": gate, "exits": share})


def test_some_exit_and_some_do_not() -> None:
    """What the test above compares is not all the same."""
    shares = [float(pseudo_labels(classification_losses(LOGITS, INDICES), beta=b).double().mean()) for b in (1e-2, 0.1)]
    assert 0 < shares[0] < shares[1] < 1


def test_thresholds_grow_with_the_frames_seen() -> None:
    wanted = [1e-3 * math.exp(t / 2) for t in (1, 2, 3)]
    assert exit_thresholds(3, beta=1e-3).tolist() == pytest.approx(wanted, rel=1e-14)
    losses = torch.full((1, 3), wanted[1], dtype=torch.float64)
    assert pseudo_labels(losses + 1e-12, beta=1e-3).tolist() == [[False, False, True]]
    assert pseudo_labels(losses - 1e-12, beta=1e-3).tolist() == [[False, True, True]]


def test_pseudo_labels_pass_no_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    outputs = Outputs(logits, GATES.clone().requires_grad_(), torch.zeros(7, 5, 2))
    losses = exit_losses(outputs, INDICES, beta=0.1)
    assert torch.autograd.grad(losses["gate"], logits, allow_unused=True, retain_graph=True)[0] is None
    alone = torch.autograd.grad(losses["classification"], logits, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(losses["loss"], logits)[0], alone)


def test_large_logits_stay_finite() -> None:
    outputs = Outputs(1e4 * LOGITS.float(), 1e4 * GATES.float(), torch.zeros(7, 5, 2))
    for labels in (INDICES, SEVERAL):
        assert all(value.isfinite() for value in exit_losses(outputs, labels, beta=1e-3).values())
    assert float(gate_loss(torch.tensor([[1e4]]), torch.tensor([[True]]))) == 0


def test_wrong_requests_are_named() -> None:
    with pytest.raises(InputError, match=r"got labels torch.int64 \(6,\) for logits \(7, 5, 4\); expected class"):
        classification_losses(LOGITS, INDICES[:6])
    with pytest.raises(InputError, match=r"got labels torch.float32 \(7,\)"):
        classification_losses(LOGITS, INDICES.float())
    with pytest.raises(InputError, match="got labels 0 to 4; expected 0 to 3"):
        classification_losses(LOGITS, INDICES + (INDICES == 3))
    with pytest.raises(InputError, match=r"got logits \(7, 4\)"):
        classification_losses(LOGITS[:, 0], INDICES)
    with pytest.raises(InputError, match="beta is 0"):
        exit_losses(Outputs(LOGITS, GATES, LOGITS), INDICES, beta=0)
