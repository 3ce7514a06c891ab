"""Dynamic convolutions through torch.export: a plan computes what the network does, on every executor."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade import Stream, make_plan
from saccade.kernels import cpu
from saccade.reduce import Reduce, ReducedModel, convert
from saccade.reduce.policies import Policies
from saccade.zoo.tsn import tsn
from tests.instruction_sets import every_isa

NEAR = 3e-6  # of the largest output


class Clips(nn.Module):
    """A (2+1)D network with awkward layers: replicated padding, dilation, groups, no bias, few and many channels."""

    def __init__(self) -> None:
        super().__init__()
        self.space = nn.Conv3d(3, 10, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        self.norm = nn.BatchNorm3d(10)
        self.time = nn.Conv3d(10, 70, (3, 1, 1), padding=(1, 0, 0), padding_mode="replicate")
        self.grouped = nn.Conv3d(70, 12, 3, (2, 1, 1), 1, groups=2)
        self.depthwise = nn.Conv3d(12, 12, (3, 5, 5), padding=(1, 2, 2), groups=12)
        self.last = nn.Conv3d(12, 7, (1, 3, 3), padding="same", dilation=(1, 2, 1))
        self.head = nn.Linear(7, 5)

    def forward(self, clips: Tensor) -> Tensor:
        """Return logits of clips (B, 3, T, H, W)."""
        x = torch.relu(self.norm(self.space(clips)))
        x = torch.relu(self.grouped(torch.relu(self.time(x))))
        return self.head(torch.relu(self.last(x + self.depthwise(x))).mean((2, 3, 4)))


def network(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    if name == "pictures":
        return tsn("tiny", segments=5), torch.randn(4, 5, 3, 48, 48)
    frames, *size = {"clips": (13, 11, 14), "larger": (7, 44, 40), "wide": (7, 18, 300)}[name]
    model, clips = Clips().eval(), torch.randn(6, 3, frames, *size)
    if name == "wide":  # of so many positions the means are all alike
        clips += torch.randn(6, 3, 1, 1, 1)
    return model, clips


def converted(name: str, what: Reduce) -> tuple[nn.Module, Tensor, Tensor, Policies]:
    """Returns a network with gates that disagree about clips, clips, its outputs in float64, and the policies."""
    model, clips = network(name)
    convert(model, what, example=clips[:1])
    torch.manual_seed(6)  # of the first twelve the one whose outputs a rounding of the clips moves least
    for module in model.modules():
        if hasattr(module, "cheap"):
            gate: Any = module.gate
            nn.init.normal_(gate.outer.weight)
            gate.outer.bias.data.mul_(0.1)
            gate.norm.running_var.fill_(0.05)
            for numbers in module.cheap.parameters():  # off what they start from, a straight line
                numbers.data.add_(torch.randn_like(numbers), alpha=0.3)
            if not module.name.endswith(("depthwise", "conv2")):  # beside those what they read goes on, too
                ends = [n for n in (module.space.time, module.space.channels) if n > 1]
                gate.outer.bias.data[[ends[0] - 1, sum(ends) - 1]] = 12.0  # the last option is always in use
    with torch.no_grad():
        _, policies = ReducedModel(model)(clips)
        outputs, exact = ReducedModel(copy.deepcopy(model).double())(clips.double())
    for one, other in zip(policies.reduced, exact.reduced, strict=True):
        assert all(map(torch.equal, one.largest(), other.largest()))
    apart = torch.cdist(outputs, outputs).fill_diagonal_(torch.inf).min()
    assert apart > 0.002 * outputs.norm(dim=1).mean()  # no clip's outputs are taken for another's
    return model, clips, outputs, policies


def assert_near(found: Tensor, exact: Tensor, note: str = "") -> None:
    """Asserts that outputs are those of float64 but for rounding, which goes by the largest: the others cancel."""
    apart = float((found.double() - exact).abs().max() / exact.abs().max())
    assert apart < NEAR, f"{note} {apart:.1e} of the largest output"


WAYS = [
    Reduce(time=3, channels=3),
    Reduce(cheap_time="copy", overhead=1.0),
    Reduce(time=4, channels=1, cheap_time="scale"),
]


@pytest.mark.parametrize("what", WAYS, ids=str)
@pytest.mark.parametrize("name", ["clips", "larger", "wide", "pictures"])
def test_a_plan_follows_the_gates(name: str, what: Reduce, executor: Any) -> None:
    model, clips, wanted, policies = converted(name, what)
    pairs = {tuple(pair) for use in policies.reduced for pair in torch.stack(use.largest(), 1).tolist()}
    assert len(pairs) > 2
    stream = Stream(make_plan(model, clips[:1]), executor=executor)
    for b, (clip, outputs) in enumerate(zip(clips, wanted, strict=True)):
        stream.reset()  # every step computes every position: the rest of the network costs what it always does
        found = stream(clip[None])
        assert_near(found[0], outputs)
        saved = 0.0
        for use in policies.reduced:
            assert use.cheap_macs is not None
            saved += use.macs * (1 - float(use.share()[b])) - float(use.cheap_macs[b])
        assert stream.cost.dense_macs - stream.cost.executed_macs == pytest.approx(saved)


@pytest.mark.parametrize("time", [0, 1])
@pytest.mark.parametrize("channels", [0, 1])
def test_one_option_alone_with_a_weight(time: int, channels: int, executor: Any) -> None:
    model, clips = network("larger")
    convert(model, Reduce(), example=clips[:1])
    biases = torch.full((2, 2), -1.0)
    biases[0, time], biases[1, channels] = 1.2, 0.9
    for module in model.modules():
        if hasattr(module, "cheap"):
            gate: Any = module.gate
            gate.outer.weight.data.zero_()
            gate.outer.bias.data.copy_(biases.flatten())
    stream = Stream(make_plan(model, clips[:1]), executor=executor)
    with torch.no_grad():
        outputs, policies = ReducedModel(model)(clips[:1])
    assert {tuple(int(each) for each in use.largest()) for use in policies.reduced} == {(time, channels)}
    torch.testing.assert_close(stream(clips[:1]), outputs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["clips", "pictures"])
def test_a_stream_follows_clips_whose_policies_change(name: str, executor: Any) -> None:
    """No reset between them: what the clip before chose, and left out, is not seen in the next."""
    model, clips, wanted, policies = converted(name, Reduce(time=3, channels=3))
    order = [*range(len(clips)), len(clips) - 1, 0]
    chosen = [[tuple(torch.stack(use.largest(), 1)[b].tolist()) for use in policies.reduced] for b in order]
    assert sum(one != other for one, other in itertools.pairwise(chosen)) >= len(clips) - 1
    stream = Stream(make_plan(model, clips[:1]), executor=executor)
    for place, b in enumerate(order):
        assert_near(stream(clips[b : b + 1])[0], wanted[b], f"clip {place}")
        assert (stream.cost.executed_macs == 0) == (place > 0 and order[place - 1] == b)


def test_what_did_not_change_is_not_computed(executor: Any) -> None:
    model, clips, wanted, _ = converted("clips", Reduce())
    stream = Stream(make_plan(model, clips[:1]), executor=executor)
    stream(clips[:1])
    assert_near(stream(clips[:1])[0], wanted[0])
    assert stream.cost.executed_macs == 0


@pytest.mark.parametrize("name", ["larger", "wide"])
def test_threads_and_instruction_sets_agree(name: str) -> None:
    if not cpu.native_module():
        pytest.skip("there is no native engine")
    model, clips, wanted, _ = converted(name, Reduce(time=3, channels=3))
    plan = make_plan(model, clips[:1])
    one = Stream(plan, executor="native", threads=1)
    three = Stream(plan, executor="native", threads=3)
    for clip, outputs in zip(clips, wanted, strict=True):
        found = one(clip[None])
        assert torch.equal(found, three(clip[None]))
        assert_near(found[0], outputs)


@pytest.mark.parametrize("loaded", [False, True])
def test_sums_over_lines_are_those_of_the_value_wherever_it_comes_from(loaded: bool, tmp_path: Path) -> None:
    """A dynamic convolution sums its lines along the way; what was loaded is summed again where that is asked for."""
    if not cpu.native_module():
        pytest.skip("there is no native engine")
    model, clips, _, _ = converted("larger", Reduce())
    plan = make_plan(model, clips[:1])
    stream = Stream(plan, executor="native")
    wanted = stream(clips[:1])
    if loaded:
        stream.state.save(tmp_path / "state")
        stream = Stream(plan, executor="native")
        stream(clips[1:2])
        stream.state.load(tmp_path / "state")
    makers = {step.outputs[0]: step for step in plan.steps}
    sums = [s for s in plan.steps if s.name.endswith("sum") and "dynamic" in makers[s.calls[0].values()[0]].name]
    assert len(sums) > 3
    forced = {step.outputs[0]: plan.values[step.outputs[0]].full_mask(True) for step in sums}
    done = stream._executor.run(stream.state, [clips[:1]], stream.settings, forced=forced)
    assert torch.equal(plan.structured(done.outputs), wanted)
    for step in sums:
        value, found = (stream.state.values[name] for name in (step.calls[0].values()[0], step.outputs[0]))
        torch.testing.assert_close(found.flatten(), value.double().sum(-1).flatten().float(), rtol=1e-4, atol=1e-4)


@every_isa
def test_every_instruction_set_follows_the_gates(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cpu.ISA_VARIABLE, isa)
    model, clips, wanted, _ = converted("clips", Reduce(time=3, channels=3))
    stream = Stream(make_plan(model, clips[:1]), executor="native")
    for clip, outputs in zip(clips, wanted, strict=True):
        assert_near(stream(clip[None])[0], outputs)


def test_one_clip_is_exported_at_a_time() -> None:
    model, clips, _, _ = converted("clips", Reduce())
    with pytest.raises(Exception, match="got 6 clips; one is exported at a time"):
        make_plan(model, clips)
