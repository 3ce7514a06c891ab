"""Streams of gated convolutions: every gate, form and block against a loop over frames in float64."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from gated_networks import Block, Case, Gated, gated_layers, settled, walking
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import saccade
from saccade.errors import FileFormatError, InputError
from saccade.kernels import cpu
from tests.instruction_sets import EACH_ISA

EXECUTORS = ["reference", *EACH_ISA]
GATES = {
    "norm": {"norm": True, "threshold": 3.0},
    "learned": {"norm": False, "threshold": 1.0},
    "size": {"norm": True, "each": True, "threshold": 1.6},
}


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "reference":
        return "reference"
    monkeypatch.setenv(cpu.ISA_VARIABLE, request.param)
    return "native"


def outputs_of(stream: saccade.Stream, video: list[Tensor]) -> list[Any]:
    return [stream(frame) for frame in video]


def close(case: Case, stream: saccade.Stream) -> None:
    """Asserts that a stream gives what the definition gives."""
    for index, (frame, right) in enumerate(zip(case.video, case.wanted, strict=True)):
        for got, want in zip(pytree.tree_leaves(stream(frame)), pytree.tree_leaves(right), strict=True):
            # float32: sums of up to some hundred terms a layer, a residual once more for every frame.
            allowed = (index + 2) * 64 * torch.finfo(torch.float32).eps * want.abs().max()
            torch.testing.assert_close(got.double(), want, rtol=0, atol=float(allowed), msg=f"frame {index}")


@cache
def block_network(frames: int = 6, every: int | None = None, **what: Any) -> Case:
    def make(seed: int) -> tuple[nn.Module, list[Tensor]]:
        torch.manual_seed(seed)
        return Block(**what), walking(frames, (1, 3, 19, 23), seed=seed)

    return settled(make, every=every)


@pytest.mark.parametrize("block", [1, 2, 4, 8])
@pytest.mark.parametrize("form", ["residual", "refresh"])
@pytest.mark.parametrize("gate", GATES)
def test_networks_equal_the_definition(gate: str, form: str, block: int, executor: str) -> None:
    case = block_network(form=form, block=block, **GATES[gate])
    close(case, saccade.Stream(case.plan, executor=executor))


LAYERS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "pointwise": ({"kernel": 1, "padding": 0}, (1, 8, 7, 9)),
    "stride": ({"stride": 2}, (1, 8, 15, 13)),
    "stride 3 oblong": ({"kernel": (1, 5), "stride": (3, 2), "padding": (0, 3)}, (1, 8, 13, 17)),
    "dilated": ({"dilation": 3, "padding": 4}, (1, 8, 13, 11)),
    "no padding": ({"padding": 0}, (1, 8, 9, 12)),
    "even kernel": ({"kernel": 2, "stride": 2, "padding": 0}, (1, 8, 12, 17)),
    "groups": ({"groups": 4, "out": 12}, (1, 8, 11, 10)),
    "depthwise": ({"groups": 8, "out": 8, "kernel": 5, "padding": 2}, (1, 8, 14, 11)),
    "depthwise, stride": ({"groups": 8, "out": 8, "stride": 2}, (1, 8, 15, 12)),
    "few channels": ({"channels": 3}, (1, 3, 12, 14)),
    "one channel": ({"channels": 1, "out": 1}, (1, 1, 12, 14)),
    "many channels": ({"channels": 37, "out": 41}, (1, 37, 9, 8)),
    "batch": ({}, (3, 8, 9, 12)),
    "tall": ({}, (1, 8, 33, 5)),
    "3d": ({"rank": 3, "kernel": (2, 3, 3), "padding": (1, 1, 1)}, (1, 8, 4, 9, 8)),
    "3d, stride": ({"rank": 3, "stride": (1, 2, 2), "groups": 2}, (2, 8, 3, 9, 11)),
    "1x1 map": ({"kernel": 3, "padding": 1}, (1, 8, 3, 3)),
}


@pytest.mark.parametrize("form", ["residual", "refresh"])
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("layer", LAYERS)
def test_layers_equal_the_definition(layer: str, gate: str, form: str, executor: str) -> None:
    """Awkward windows and sizes, two activations and two sizes of block, a layer behind."""
    for block in (1, 3):
        case = layer_case(layer, gate, form, block)
        close(case, saccade.Stream(case.plan, executor=executor))


@cache
def layer_case(layer: str, gate: str, form: str, block: int) -> Case:
    own, shape = LAYERS[layer]
    settings = {"channels": 8, "out": 10, **own, **GATES[gate], "form": form, "block": block}

    # A second layer reads the first one's change by the other kind of gate.
    rank, out = settings.get("rank", 2), settings["out"]
    behind = {"rank": rank, "kernel": 1, "padding": 0, "form": form, **GATES["learned" if gate == "norm" else "norm"]}

    def make(seed: int) -> tuple[nn.Module, list[Tensor]]:
        torch.manual_seed(seed)
        between = nn.Hardswish() if block == 1 else nn.ReLU()
        return nn.Sequential(Gated(**settings), between, Gated(out, 7, **behind)), walking(5, shape, seed=seed)

    return settled(make)


@pytest.mark.parametrize("form", ["residual", "refresh"])
@pytest.mark.parametrize("norm", [True, False])
def test_a_gate_that_always_fires_gives_the_dense_network(form: str, norm: bool, executor: str) -> None:
    torch.manual_seed(1)
    network = Block(form=form, norm=norm, block=2)
    with torch.no_grad():
        for layer in gated_layers(network):
            layer.phi_bias.fill_(1e6)
    video = walking(6, (1, 3, 17, 14))
    stream = saccade.Stream(network, video[0], executor=executor)
    for index, frame in enumerate(video):
        with torch.no_grad():
            dense = network(frame)
        for got, want in zip(stream(frame), dense, strict=True):
            allowed = (index + 2) * 64 * torch.finfo(torch.float32).eps * want.abs().max()
            torch.testing.assert_close(got, want, rtol=0, atol=float(allowed))


@pytest.mark.parametrize("form", ["residual", "refresh"])
def test_a_gate_with_a_positive_bias_fires_where_nothing_changed(form: str, executor: str) -> None:
    """A refresh brings what was passed over up to date; blocks hold quiet positions that fire for the others."""

    def make(seed: int) -> tuple[nn.Module, list[Tensor]]:
        torch.manual_seed(seed)
        layer = Gated(3, 8, norm=False, form=form, block=2, threshold=-0.05)
        return nn.Sequential(layer, nn.ReLU()), walking(6, (1, 3, 12, 13), seed=seed)

    case = settled(make)
    stream, other = (saccade.Stream(case.plan, executor=name) for name in (executor, "reference"))
    close(case, stream)
    outputs_of(other, case.video)
    # What would add 0 is left out, also where its block fires.
    costs = [
        [(cost.active, cost.executed_macs, cost.gate_macs) for cost in each.step_costs] for each in (stream, other)
    ]
    assert costs[0] == costs[1]
    quiet = stream.plan.dense_macs == stream.cost.executed_macs
    assert quiet == (form == "refresh")


@pytest.mark.parametrize("form", ["residual", "refresh"])
def test_reference_frames_are_whole(form: str, executor: str) -> None:
    case = block_network(8, 3, form=form, **GATES["norm"])
    stream = saccade.Stream(case.plan, executor=executor, reference_every=3)
    close(case, stream)
    stream.reset()
    for index, frame in enumerate(case.video):
        outputs = stream(frame)
        whole = stream.cost.executed_macs == stream.plan.dense_macs
        assert whole == (index % 3 == 0)
        if whole:
            for got, want in zip(outputs, stream.full_pass(frame), strict=True):
                assert torch.equal(got, want)


@pytest.mark.parametrize("every", [0, -1, 2.0, True, "8"])
def test_reference_every_is_checked(every: Any) -> None:
    with pytest.raises(InputError, match="expected a whole number of frames, at least 1"):
        saccade.Stream(nn.Conv2d(3, 4, 1), torch.zeros(1, 3, 4, 4), reference_every=every)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("settings", [{}, {"tolerance": 0.02}, {"threshold": 0.05, "record": "accumulated"}], ids=str)
@pytest.mark.parametrize("form", ["residual", "refresh"])
def test_a_saved_state_goes_on_bit_for_bit(
    form: str, settings: dict[str, Any], precision: str, executor: str, tmp_path: Path
) -> None:
    if precision == "bfloat16" and executor == "reference":
        pytest.skip("the reference executor computes in float32")
    case = block_network(8, form=form, **GATES["norm"])
    plan, video = case.plan, case.video
    settings = {**settings, "executor": executor, **({"precision": precision} if executor == "native" else {})}
    plan.save(tmp_path / "plan")
    stream = saccade.Stream(plan, **settings)
    outputs_of(stream, video[:4])
    before = stream.state.nbytes
    sums = [tensor.nbytes for name, tensor in stream.state.private.items() if name.endswith("/z")]
    assert before >= sum(value.nbytes for value in stream.state.values.values()) + sum(sums) > 0
    assert bool(sums)
    stream.state.save(tmp_path / "state")
    wanted = outputs_of(stream, video[4:])
    again = saccade.Stream(saccade.Plan.load(tmp_path / "plan"), **settings)
    again.state.load(tmp_path / "state")
    assert again.frames == 4
    for one, other in zip(wanted, outputs_of(again, video[4:]), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert again.cost.executed_macs == stream.cost.executed_macs
    assert again.state.nbytes == before
    stream.reset()
    assert (stream.state.private, stream.frames) == ({}, 0)
    if precision == "float32" and not settings.keys() & {"tolerance", "threshold"}:
        close(case, stream)


def test_a_state_passes_from_one_executor_to_the_other(tmp_path: Path) -> None:
    if cpu.native_module() is None:
        pytest.skip("there is no native engine")
    for form in ("residual", "refresh"):
        case = block_network(8, form=form, **GATES["norm"])
        plan, video, wanted = case.plan, case.video, case.wanted
        for first, second in (("native", "reference"), ("reference", "native")):
            stream, other = (saccade.Stream(plan, executor=name) for name in (first, second))
            outputs_of(stream, video[:4])
            stream.state.save(tmp_path / "state")
            other.state.load(tmp_path / "state")
            for got, want in zip(outputs_of(other, video[4:]), wanted[4:], strict=True):
                for a, b in zip(got, want, strict=True):
                    torch.testing.assert_close(a.double(), b, rtol=0, atol=float(1e-4 * b.abs().max()))


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    network = Block(**GATES["norm"])
    video = walking(2, (1, 3, 9, 8))
    stream = saccade.Stream(network, video[0], executor="reference")
    outputs_of(stream, video)
    dropped = stream.state.private.pop("stem/z")
    stream.state.save(tmp_path / "state")
    stream.state.private["stem/z"] = dropped
    with pytest.raises(FileFormatError, match="gated convolutions"):
        stream.state.load(tmp_path / "state")
    assert stream.frames == 2


@pytest.mark.parametrize("gate", GATES)
def test_results_do_not_depend_on_threads_nor_on_the_pool(gate: str, executor: str) -> None:
    if executor != "native":
        pytest.skip("threads are the native executor's")
    torch.manual_seed(4)
    video = walking(4, (1, 3, 41, 38), seed=4)
    plan = saccade.make_plan(Block(**GATES[gate]), video[0])
    streams = [saccade.Stream(plan, executor="native", threads=threads) for threads in (1, 3)]
    with saccade.StreamPool(plan, streams=2, threads=2, executor="native") as pool:
        for frame, other in zip(video, reversed(video), strict=True):
            results = [stream(frame) for stream in streams]
            pooled = pool([frame, other])
            for one, three, both in zip(*results, pooled[0], strict=True):
                assert torch.equal(one, three)
                assert torch.equal(one, both)
            assert streams[0].step_costs == streams[1].step_costs
    assert 0 < streams[0].cost.executed_macs < plan.dense_macs
