"""Networks that carry both: positions by `skip`, channels by `reduce`, against a loop over frames in float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from gated_networks import squares, walking
from torch import Tensor, nn

from saccade import Plan, Stream, make_plan, reduce, skip
from saccade.errors import InputError
from saccade.kernels import cpu
from saccade.reduce import Reduce, ReducedModel, efficiency_loss
from saccade.reduce.gate import LEAST
from saccade.skip import ClipModel, InputNorm, Skip, gate_loss

SKIPPED = {"stem": 2.0, "middle": 5.0}  # thresholds, so that some positions fire and some do not
REDUCED = ("wide", "last")
BLOCK = 2


class Network(nn.Module):
    """Layers of either method in turn, a plain one, an add, odd sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.wide = nn.Conv2d(8, 12, 3, padding=1)
        self.middle = nn.Conv2d(12, 12, 3, padding=1, groups=2)
        self.plain = nn.Conv2d(12, 6, 1)
        self.last = nn.Conv2d(6, 9, 3, bias=False)
        self.head = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores of pictures (N, 3, H, W)."""
        x = self.wide(self.stem(x).relu()).relu()
        x = self.plain(self.middle(x).relu() + x).relu()
        return self.head(self.last(x).relu().mean((2, 3)))


class Clips(nn.Module):
    """The same network for clips (B, T, 3, H, W) or pictures."""

    def __init__(self, pictures: nn.Module) -> None:
        super().__init__()
        self.pictures = pictures

    def forward(self, x: Tensor) -> Tensor:
        """Return scores of every picture."""
        return self.pictures(x.flatten(0, -4))


def asks_for(*names: str) -> Any:
    return lambda name, module: name in names


def both(form: str, seed: int) -> tuple[nn.Module, list[Tensor]]:
    """Returns a network that carries both, with gates that disagree about frames, and a video."""
    torch.manual_seed(seed)
    network, video = Network().eval(), walking(7, (1, 3, 19, 23), seed=seed)
    video[-1] = 1.5 * video[-1]
    what = Reduce(time=1, channels=3, overhead=1)
    reduce.convert(network, what, asks_for(*REDUCED), example=video[0])
    for name, threshold in SKIPPED.items():
        skip.convert(network, Skip(InputNorm(threshold), block=BLOCK, form=form), asks_for(name))
    for name in REDUCED:
        gate: Any = network.get_submodule(name).gate
        nn.init.normal_(gate.outer.weight)
        gate.outer.bias.data.mul_(0.1)
        gate.norm.momentum = 1.0  # its statistics become those of the video
    with torch.no_grad():
        network.train()(torch.cat(video))
    return network.eval(), video


class Skipped(nn.Module):
    """Eq. 2, 3 and 5 of Skip-Convolutions for one frame after the other; `rows` holds what each computed."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer, self.rows, self.margin = layer, [], float("inf")
        self.before: tuple[Tensor, Tensor] | None = None

    def convolve(self, x: Tensor, bias: Tensor | None) -> Tensor:
        own = self.layer
        return F.conv2d(x, own.weight, bias, own.stride, own.padding, own.dilation, own.groups)

    def forward(self, x: Tensor) -> Tensor:
        z = self.convolve(x, self.layer.bias)
        fired = touched = torch.ones_like(z[:, :1]) > 0
        if self.before is not None:
            own, (last, old) = self.layer, self.before
            ones = torch.ones(1, 1, *own.kernel_size, dtype=x.dtype)
            size = F.conv2d((x - last).abs().sum(1, keepdim=True), ones, None, own.stride, own.padding)
            self.margin = min(self.margin, float((size - own.what.gate.threshold).abs().min()))
            fired, touched = squares(size > own.what.gate.threshold, BLOCK), size > 0
            fresh = old + self.convolve(x - last, None) if own.what.form == "residual" else z
            z = torch.where(fired, fresh, old)
        self.before = (x, z)
        macs = self.layer.weight.numel()
        added = fired & touched if self.layer.what.form == "residual" else fired  # a stream adds no zeros
        self.rows.append({"share": float(fired.double().mean()), "executed": int(added.sum()) * macs})
        return z


class Reduced(nn.Module):
    """Eq. 1, 4, 5 and 8 of VA-RED2 for one frame, channels only; `rows` holds what each computed."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer, self.rows, self.margin = layer, [], float("inf")
        self.before: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        own, gate = self.layer, self.layer.gate
        still, self.before = self.before is not None and torch.equal(x, self.before), x
        whole = F.conv2d(x, own.weight, own.bias, own.stride, own.padding)
        hidden = gate.inner.weight[:, :, 0] @ x[0].mean((1, 2))
        hidden = (hidden - gate.norm.running_mean) / (gate.norm.running_var + gate.norm.eps).sqrt()
        hidden = torch.tanh(hidden * gate.norm.weight + gate.norm.bias)
        scores = gate.outer.weight[:, :, 0] @ hidden + gate.outer.bias
        self.margin = min(self.margin, float(scores.abs().min()))
        weights = torch.tanh(scores).clamp_min(0)
        weights[-1] = torch.maximum(weights[-1], LEAST - weights[:-1].sum())
        result, used = torch.zeros_like(whole), [k for k, weight in enumerate(weights) if weight > 0]
        plane, executed = whole[0, 0].numel(), 0
        for k in used:
            kept = -(-own.out_channels // 2**k)
            maps = [whole[0, c] for c in range(kept)]
            for c in range(kept, own.out_channels):
                taps = own.cheap.filters[k - 1][c - kept, 0]
                maps.append(
                    F.conv2d(maps[(c - kept) % kept][None, None], taps[None], padding=taps.shape[-1] // 2)[0, 0]
                )
                executed += taps.numel() * plane
            result = result + weights[k] * torch.stack(maps)
            executed += kept * own.weight[0].numel() * plane if k == used[0] else 0
        share = executed / (own.weight.numel() * plane)
        self.rows.append({"share": share, "executed": 0 if still else executed, "first": used[0] if used else None})
        return result


def define(network: nn.Module, video: list[Tensor]) -> tuple[list[Tensor], dict[str, Any]]:
    """Returns the network's outputs for every frame by definition, and the layers that hold what was computed."""
    exact: Any = copy.deepcopy(network).double()
    layers: dict[str, Any] = {name: Skipped(getattr(exact, name)) for name in SKIPPED}
    layers |= {name: Reduced(getattr(exact, name)) for name in REDUCED}
    for name, layer in layers.items():
        setattr(exact, name, layer)
    with torch.no_grad():
        return [exact(frame.double()) for frame in video], layers


def settled(form: str) -> tuple[nn.Module, list[Tensor], list[Tensor], dict[str, Any]]:
    """Returns the first network whose decisions no rounding can turn, which differ from frame to frame."""
    for seed in range(100):
        network, video = both(form, seed)
        wanted, layers = define(network, video)
        changes = [len({row["first"] for row in layers[name].rows}) > 1 for name in REDUCED]
        parts = []
        for name in SKIPPED:
            parts.append(any(0 < row["share"] < 1 for row in layers[name].rows))
        if min(layer.margin for layer in layers.values()) > 1e-4 and all(changes) and all(parts):
            return network, video, wanted, layers
    raise AssertionError("none of a hundred networks has gates that decide differently from frame to frame")


def steps_of(plan: Plan) -> dict[str, int]:
    """Returns the row of the step that computes each converted layer."""
    rows = {}
    for row, step in enumerate(plan.steps):
        if step.calls and step.calls[0].target.startswith("saccade."):
            rows[step.source] = row
    return rows


@pytest.mark.parametrize("form", ["residual", "refresh"])
def test_a_stream_gives_the_definition_and_one_ledger(form: str, executor: str) -> None:
    network, video, wanted, layers = settled(form)
    stream = Stream(make_plan(network, video[0]), executor=executor)
    plan, rows = stream.plan, steps_of(stream.plan)
    assert sorted(rows) == sorted((*SKIPPED, *REDUCED))
    assert plan.dense_macs == make_plan(Network(), video[0]).dense_macs  # gates are not the network's
    for index, (frame, right) in enumerate(zip(video, wanted, strict=True)):
        torch.testing.assert_close(stream(frame).double(), right, rtol=1e-4, atol=1e-5, msg=f"frame {index}")
        for name, row in rows.items():
            cost, spent = stream.step_costs[row], layers[name].rows[index]["executed"]
            convolution = layers[name].layer.weight.numel() * cost.positions
            epilogue = (cost.dense_macs - convolution) * cost.active // cost.positions
            assert cost.executed_macs == spent + epilogue, (name, index)
        deciding = [cost for cost in stream.step_costs if cost.name in plan.deciding]
        assert all(cost.dense_macs == cost.executed_macs == 0 for cost in deciding)
        if index == 0:
            gates: Any = [network.get_submodule(name) for name in REDUCED]
            inputs = [plan.values[plan.steps[rows[name]].calls[0].arguments["x"].name].numel for name in REDUCED]
            asked = sum(layer.gate.macs(count) for layer, count in zip(gates, inputs, strict=True))
            assert asked <= stream.cost.gate_macs < 1.5 * asked  # and the activations, and means in two steps
        for kind in ("dense_macs", "executed_macs", "gate_macs"):
            assert getattr(stream.cost, kind) == sum(getattr(cost, kind) for cost in stream.step_costs)
    assert 0 < stream.cost.executed_macs < plan.dense_macs


def test_executors_agree_where_small_changes_are_passed_over() -> None:
    """With a tolerance weights of options are announced or not: what they choose holds until they are."""
    if not cpu.native_module():
        pytest.skip("there is no native engine")
    network, video, _, _ = settled("residual")
    plan = make_plan(network, video[0])
    streams = [Stream(plan, executor=name, tolerance=0.05, record="reference") for name in ("native", "reference")]
    passed = 0
    for frame in video:
        one, other = (stream(frame) for stream in streams)
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        costs = [
            [(cost.active, cost.announced, cost.executed_macs, cost.gate_macs) for cost in stream.step_costs]
            for stream in streams
        ]
        assert costs[0] == costs[1]
        passed += sum(cost.announced < cost.active for cost in streams[0].step_costs)
    assert passed > 10


def test_nothing_of_a_plan_with_both_runs_in_torch() -> None:
    if not cpu.native_module():
        pytest.skip("there is no native engine")
    network, video = both("refresh", 0)
    stream = Stream(make_plan(network, video[0]), executor="native")
    stream(video[0])
    assert {cost.name for cost in stream.step_costs if cost.form == "torch"} == set()


@pytest.mark.parametrize("form", ["residual", "refresh"])
def test_clips_give_the_definition_and_one_ledger(form: str) -> None:
    network, video, wanted, layers = settled(form)
    exact = copy.deepcopy(network).double()
    with torch.no_grad():
        found, firing = ClipModel(exact)(torch.stack(video, 1).double())
    for index, right in enumerate(wanted):
        torch.testing.assert_close(found[:, index], right, rtol=1e-9, atol=1e-9)
    assert [call.name for call in firing.calls] == ["stem", "wide", "middle", "plain", "last", "head"]
    assert [call.name for call in firing.calls if call.gated] == list(SKIPPED)
    for call in firing.calls:
        shares = [row["share"] for row in layers[call.name].rows] if call.name in layers else [1.0] * len(video)
        assert call.share[0].tolist() == pytest.approx(shares)
    dense = sum(call.macs for call in firing.calls)
    with torch.no_grad():
        _, plain = ClipModel(Network())(torch.stack(video, 1))
    assert firing.dense_macs == plain.dense_macs == dense


def test_both_losses_reach_their_gates() -> None:
    network, video = both("refresh", 1)
    for name in SKIPPED:
        skip.convert(network, Skip(skip.Gumbel(magnitude=True)), asks_for(name))
    network.train()
    clip = torch.stack(video[:4], 1)
    (scores, policies), firing = ClipModel(ReducedModel(network))(torch.cat([clip, clip + 0.1]))
    assert scores.shape == (2, 4, 4)
    assert policies.batch == 8
    correct = torch.ones(8, dtype=torch.bool)
    (scores.square().mean() + gate_loss(firing) + efficiency_loss(policies, correct=correct)).backward()
    for name, part in [(name, "gate.weight") for name in SKIPPED] + [(name, "gate.outer.weight") for name in REDUCED]:
        assert network.get_submodule(name).get_parameter(part).grad.abs().max() > 0  # type: ignore[union-attr]


def test_layers_over_time_share_a_clips_macs_between_its_frames() -> None:
    torch.manual_seed(0)
    network = Clips(Network()).eval()
    clip = torch.randn(1, 8, 3, 19, 23)
    reduce.convert(network, Reduce(), asks_for("pictures.wide"), example=clip[:, :4])
    skip.convert(network, Skip(InputNorm(2.0)), asks_for("pictures.stem"))
    with torch.no_grad():
        _, firing = ClipModel(network)(clip)
        _, policies = ReducedModel(network)(clip.reshape(2, 4, 3, 19, 23))
    (call,) = (call for call in firing.calls if call.name == "pictures.wide")
    (use,) = policies.reduced
    assert use.cheap_macs is not None
    wanted = (use.macs * use.share() + use.cheap_macs).repeat_interleave(4) / 4
    torch.testing.assert_close((call.macs * call.share)[0], wanted)
    assert float((call.gate_macs * call.decided).sum()) == 2 * use.gate_macs
    with pytest.raises(InputError, match="takes 4 pictures together, and the clip has 6 frames"):
        ClipModel(network)(clip[:, :6].repeat(2, 1, 1, 1, 1))


def test_a_layer_carries_one_method() -> None:
    network, video = both("residual", 0)
    before = dict(network.named_modules())
    with pytest.raises(InputError, match=r"wide was converted by reduce, and a layer carries one method.*leave it out"):
        skip.convert(network, Skip(InputNorm(1.0)), asks_for("wide", "plain"))
    with pytest.raises(InputError, match="stem was converted by skip, and a layer carries one method"):
        reduce.convert(network, Reduce(), asks_for("stem", "plain"), example=video[0])
    assert dict(network.named_modules()) == before  # nothing was changed
    done = skip.convert(network, Skip(InputNorm(1.0)))  # whatever can be
    assert sorted(done.converted) == ["middle", "plain", "stem"]
    assert dict(done.left) == {
        "wide": "it carries reduce",
        "last": "it carries reduce",
        "head": "a linear layer has no positions in space",
    }
    for convert in (
        lambda: skip.convert(before["wide"], Skip(InputNorm(1.0))),
        lambda: reduce.convert(before["stem"], Reduce(), example=video[0]),
    ):
        with pytest.raises(InputError, match="cannot be replaced in place"):
            convert()
