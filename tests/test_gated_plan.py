"""Gated convolutions in plans: folding, fusion, names, the ledger, files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gated_networks import Block, Gated, gated_layers, walking
from torch import Tensor, nn

import saccade
from saccade.kernels import cpu

EXECUTORS = ["reference", *(["native"] if cpu.native_module() else [])]


def test_batch_norms_fold_and_epilogues_fuse() -> None:
    """The gate's own weights stay as they are: they read changes of the input."""
    network = Block(norm=False)
    plan = saccade.make_plan(network, torch.zeros(1, 3, 9, 8))
    ops = {step.name: step.op for step in plan.steps}
    assert ops["stem"] == "gated_conv+silu"
    assert ops["first"] == "gated_conv+relu"
    assert ops["second"] == "gated_conv+add+relu"
    assert "addcmul" not in str(ops)
    call = next(step.calls[0] for step in plan.steps if step.name == "first")
    scale = network.norm.weight / (network.norm.running_var + network.norm.eps).sqrt()
    folded = plan.weights[call.arguments["weight"].name]
    torch.testing.assert_close(folded, network.first.weight * scale.reshape(-1, 1, 1, 1))
    assert torch.equal(plan.weights[call.arguments["gate_weight"].name], network.first.phi)


def test_a_plan_counts_the_networks_macs_and_shows_its_gates() -> None:
    plan = saccade.make_plan(Block(norm=True, block=4, form="refresh"), torch.zeros(1, 3, 9, 8))
    first = next(step for step in plan.steps if step.name == "first")
    assert first.macs == 9 * 8 * (8 * 8 * 9 + 8)  # the convolution, and an activation
    assert "refresh where the size of the change says so, 4x4" in str(plan)
    assert plan.sparse_macs_share == 1
    gated = [step.name for step in plan.steps if step.op.startswith("gated")]
    assert gated == ["stem", "first", "second", "down", "down_2"]


def test_weights_computed_at_run_time_leave_a_step_dense() -> None:
    class Hyper(nn.Module):
        def forward(self, x: Tensor, w: Tensor) -> Tensor:
            return torch.ops.saccade.gated_convolution(
                x, w, None, [1, 1], [0, 0], [1, 1], 1, torch.ones(1, 1, 1, 1), torch.ones(1), True, 1, "residual"
            )

    x, w = torch.randn(1, 3, 4, 5), torch.randn(2, 3, 1, 1)
    stream = saccade.Stream(Hyper(), (x, w))
    assert "weights are computed at run time" in str(stream.plan)
    for frame in (x, 2 * x):
        torch.testing.assert_close(stream(frame, w), torch.conv2d(frame, w))


def test_a_plan_loads_in_a_process_that_has_not_seen_the_operator(tmp_path: Path) -> None:
    network, frame = Block(norm=True), torch.rand(1, 3, 9, 8)
    saccade.make_plan(network, frame).save(tmp_path / "plan")
    torch.save((frame, network(frame)[0].detach()), tmp_path / "frame.pt")
    code = (
        f"import torch, saccade; x, y = torch.load({str(tmp_path / 'frame.pt')!r}); "
        f"print(torch.allclose(saccade.Stream(saccade.Plan.load({str(tmp_path / 'plan')!r}))(x)[0], y, atol=1e-5))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_an_exported_program_makes_the_same_plan() -> None:
    network, frame = Block(norm=False), torch.rand(1, 3, 9, 8)
    program = torch.export.export(network, (frame,))
    assert [step.op for step in saccade.make_plan(program).steps] == [
        step.op for step in saccade.make_plan(network, frame).steps
    ]


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("form", ["residual", "refresh"])
@pytest.mark.parametrize("norm", [True, False])
def test_the_ledger_counts_what_fired_and_what_deciding_cost(norm: bool, form: str, executor: str) -> None:
    """Counted again from masks, one layer, windows of 3 x 3."""
    torch.manual_seed(5)
    layer = Gated(4, 16, norm=norm, form=form, threshold=0.8)
    video = walking(7, (1, 4, 11, 10))
    stream = saccade.Stream(layer, video[0], executor=executor)
    layer.double()
    seen = 0
    for index, frame in enumerate(video):
        stream(frame)
        fired, layer.call = layer.fired, 0
        with torch.no_grad():
            layer(frame.double())
        (cost,) = (cost for cost in stream.step_costs if cost.dense_macs)
        assert cost.dense_macs == 110 * 16 * 36
        if index == 0:
            assert (cost.executed_macs, cost.gate_macs, cost.active) == (cost.dense_macs, 0, 110)
            continue
        changed = (frame != video[index - 1]).any(1, keepdim=True)
        touched = int((torch.conv2d(changed.float(), torch.ones(1, 1, 3, 3), padding=1) > 0).sum())
        assert cost.executed_macs == (layer.fired - fired) * 16 * 36
        assert cost.active == layer.fired - fired
        deciding = int(changed.sum()) * 4 + touched * 9 if norm else touched * 36
        assert cost.gate_macs == (deciding + 110 if touched else 0)
        assert stream.cost.gate_macs == cost.gate_macs + stream.step_costs[0].gate_macs
        seen += 0 < cost.active < touched
    assert seen > 2


@pytest.mark.parametrize("executor", EXECUTORS)
def test_thresholds_leave_no_drift(executor: str) -> None:
    """What a gated convolution adds up is what its input announced: with gates that always fire, however many small
    changes were passed over, the sum is that of the values announced last."""
    torch.manual_seed(2)
    network = nn.Sequential(Gated(3, 16, norm=True), nn.ReLU(), Gated(16, 16, norm=True))
    with torch.no_grad():
        for layer in gated_layers(network):
            layer.phi_bias.fill_(1.0)
    generator = torch.Generator().manual_seed(0)
    frame = torch.rand(1, 3, 12, 9, generator=generator)
    for record in ("reference", "coarse", "accumulated"):
        stream = saccade.Stream(network, frame, threshold=0.02, executor=executor, record=record)
        passed = 0
        for _ in range(40):
            frame = frame + 0.01 * torch.randn(frame.shape, generator=generator)
            got = stream(frame)
            passed += sum(cost.announced < cost.active for cost in stream.step_costs[:2])
        with torch.no_grad():
            want = network(frame)
        assert passed > 20
        # |x - a| <= 0.02 (RMS) at every position, through two layers of small gain; a drift would be 6 times larger.
        assert float((got - want).abs().max()) < 0.25
