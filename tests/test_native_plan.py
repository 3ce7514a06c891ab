"""Plans on the native executor: every operator and whole networks, against the reference and the rule itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from native_check import Before, callbacks_of, check_frame, follow, memory_of
from networks import RandomNetwork, moving_square
from operator_cases import CASES, Case, Function, planned
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

import saccade
from saccade.graph import Plan
from saccade.kernels import cpu
from saccade.stream.native import why_unfit
from tests.instruction_sets import EACH_ISA, ISAS

pytestmark = pytest.mark.skipif(cpu.native_module() is None, reason="there is no native engine")
RECORDS = ["reference", "coarse", "accumulated"]
PRECISIONS = ["float32", "bfloat16"]
FITTING = [case for case in CASES if case.name != "cast"]  # that one computes in float64


@pytest.fixture(params=EACH_ISA)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(cpu.ISA_VARIABLE, request.param)
    name: str = request.param
    return name


def same(left: object, right: object) -> bool:
    a, b = pytree.tree_leaves(left), pytree.tree_leaves(right)
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def native(plan: Plan, **settings: Any) -> saccade.Stream:
    return saccade.Stream(plan, executor="native", **settings)


def reference(plan: Plan, **settings: Any) -> saccade.Stream:
    return saccade.Stream(plan, executor="reference", **settings)


def changing(inputs: list[Tensor]) -> Iterator[list[Tensor]]:
    """Frames after the first: one element, a block, everything, nothing, and one element of the last input only."""
    generator = torch.Generator().manual_seed(1)
    frame = inputs
    for change in ("one", "block", "all", "nothing", "one of the last", "negative zeros"):
        frame = [tensor.clone() for tensor in frame]
        for index, tensor in enumerate(frame):
            corner = [int(torch.randint(size, (1,), generator=generator)) for size in tensor.shape]
            if change == "all":
                tensor += torch.randn(tensor.shape, generator=generator)
            elif change == "negative zeros":
                tensor[tensor.abs() < 0.2] = -0.0
            elif change == "one" or (change == "one of the last" and index == len(frame) - 1):
                tensor[tuple(corner)] += 1.5
            elif change == "block":
                tensor[tuple(slice(at, at + 3) for at in corner)] *= -2.0
        yield frame


# --- operator by operator


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", FITTING, ids=lambda case: case.name)
def test_every_operator_follows_the_rule_and_is_exact(case: Case, precision: str, monkeypatch: Any) -> None:
    """On every instruction set; exact is bit for bit a full pass."""
    _, plan, inputs = planned(case)
    for isa in ISAS:
        monkeypatch.setenv(cpu.ISA_VARIABLE, isa)
        stream = native(plan, precision=precision)
        assert stream.isa == isa
        for frame in [inputs, *changing(inputs)]:
            outputs = follow(stream, *frame)
            assert same(outputs, stream.full_pass(*frame)), isa


@pytest.mark.parametrize("case", FITTING, ids=lambda case: case.name)
def test_every_operator_computes_the_positions_the_reference_computes(case: Case) -> None:
    _, plan, inputs = planned(case)
    ours, theirs = native(plan), reference(plan)
    for frame in [inputs, *changing(inputs)]:
        a, b = ours(*frame), theirs(*frame)
        assert pytree.tree_structure(a) == pytree.tree_structure(b)
        assert [(t.shape, t.dtype) for t in pytree.tree_leaves(a)] == [
            (t.shape, t.dtype) for t in pytree.tree_leaves(b)
        ]
        torch.testing.assert_close(a, b)
        for name, mask in theirs.active.items():
            own = ours.active[name]
            if "linear" in name:  # the definition leaves a margin for rounding around each sample
                assert not (own & ~mask).any(), name
            else:
                assert torch.equal(own, mask), name


def test_steps_without_a_form_in_the_engine_run_in_torch_and_say_why() -> None:
    """The whole list: an operator that joins it is noticed here."""
    reasons = {case.name: callbacks_of(native(planned(case)[1])) for case in FITTING}
    found = {name: sorted(set(given.values())) for name, given in reasons.items() if given}
    assert found == {
        "conv2d same": ["its padding is not the same on both sides"],
        "linear": ["its channels do not lie along the last axis"],
        "linear from matmul": ["its channels do not lie along the last axis"],
        "softmax over columns": ["it does not run along the channels"],
        "layer_norm over rows": ["it does not run along the channels"],
        "cumsum": ["no line operation for aten.cumsum.default"],
        "sum": ["it reduces the channels"],
        "mean of all": ["it reduces the channels"],
        "amin": ["it reduces the channels"],
        "flatten": ["it moves data in too many pieces"],
        "squeeze": ["it reduces the channels"],
        "cat with a constant": ["it moves weights along"],
        "cat rows with a constant": ["it moves weights along"],
        "add of lower rank": ["an operand whose channels lie elsewhere"],
        "where": ["it computes with whole numbers"],
        "erf": ["no row operation for aten.erf.default"],
    }


def test_what_does_not_fit_the_engine_is_named() -> None:
    (case,) = (case for case in CASES if case not in FITTING)
    assert "is float64; the native engine computes in float32" in why_unfit(planned(case)[1])


CALLS = {
    "add of nothing": lambda x, y: torch.add(x, y, alpha=0),
    "add scaled": lambda x, y: torch.add(x, y, alpha=-2),
    "sub scaled": lambda x, y: torch.sub(x, y, alpha=3),
    "rsub scaled": lambda x, y: torch.rsub(x, 2.0, alpha=0.5) + y,
    "rsub tensor": lambda x, y: torch.rsub(x, y),
    "epilogue reads the row second": lambda x, y: y.relu() - x.relu() * 2,
    "division both ways": lambda x, y: x.exp() / (y.exp() + 1) / 3 + 1 / x.exp(),
    "square": lambda x, y: x * x + y.square() - (x - y) ** 2,
    "powers": lambda x, y: (x.abs() + 1) ** 1.5 + (y.abs() + 2) ** -1 + x**3,
    "power of a number": lambda x, y: 2.0**x + y,
    "clamp one side": lambda x, y: x.clamp(min=0.1) + y.clamp(max=0.2),
    "clamp by a value": lambda x, y: x.clamp(min=y),
    "minimum": lambda x, y: torch.minimum(x, y),
    "softplus": lambda x, y: F.softplus(x, beta=2, threshold=0.5) + y,
    "celu": lambda x, y: F.celu(x, 0.7) + F.elu(y, 0.3),
    "gelu tanh": lambda x, y: F.gelu(x, approximate="tanh") + F.gelu(y),
    "roots and logs": lambda x, y: (x.abs() + 1).sqrt() + (y.abs() + 1).log() + (x.abs() + 1).rsqrt() - y.neg().abs(),
    "rounding division": lambda x, y: torch.div(x, y.abs() + 1, rounding_mode="floor"),
    "a constant of rows": lambda x, y: x * torch.linspace(0, 1, 9) + y,
    "a constant of channels": lambda x, y: x * torch.linspace(0, 1, 6).view(6, 1, 1) + y,
    "a constant everywhere": lambda x, y: x + torch.linspace(0, 1, 6 * 63).view(6, 7, 9) * y,
    "an operand of one channel": lambda x, y: x * y[:, :1].sigmoid() + y.amax((2, 3), keepdim=True),
    "an operand with fewer positions": lambda x, y: x * y.mean(3, keepdim=True) - y.sum(2, keepdim=True),
    "the result in a wider one": lambda x, y: x[:, :, :1] + y,
    "nothing at all": lambda x, y: (x, y, x[:, :0], torch.ones(2)),
    "empty": lambda x, y: (x[:, :, :0].relu(), y + 1),
    "whole numbers": lambda x, y: ((x > 0).to(torch.int64).sum(1), x.argmax(1), (y > x) | (y > 0)),
    "cat in a cat": lambda x, y: torch.cat([torch.cat([x.relu(), y], 1).sigmoid(), torch.cat([x.tanh(), y], 1)], 1),
    "a cat read by two": lambda x, y: torch.cat([x.relu(), y], 1).exp().sum(1) + torch.cat([y, x.relu()], 1).amax(1),
    "a cat of one value twice": lambda x, y: torch.cat([x.relu()] * 2 + [y], 1) * 2,
    "a cat of one in a cat": lambda x, y: torch.cat([x.relu(), torch.cat([y], 1), torch.cat([y[:, :2]], 1)], 1),
    "a part of a cat returned": lambda x, y: (lambda a: (a, torch.cat([a, y.relu()], 1)))(x.tanh()),
    "a cat of rows in a cat": lambda x, y: torch.cat([torch.cat([x[:, :3], x[:, 3:]], 1).relu(), y], 1)[:, 2:9],
    "views of views": lambda x, y: x.relu()[:, 1:5][:, 1:3].permute(0, 2, 3, 1).reshape(1, 63, 2) + y[0, 0, 0, :2],
    "a constant, moved twice": lambda x, y: F.pad(torch.cat([x, torch.ones(1, 6, 2, 9)], 2), (1, 1))[..., 1:8, 2:] + y,
    "padding with infinity": lambda x, y: F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-float("inf")), 3, 1) + y,
    "padding bf16 does not hold": lambda x, y: F.pad(x, (1, 0), value=0.3)[..., :9] + y,
    "max pool dilated": lambda x, y: F.max_pool2d(x, 3, 1, 1, 2) + y[..., 2:, 2:],
    "average with a divisor": lambda x, y: F.avg_pool2d(x + y, 2, divisor_override=3),
    "a split in three": lambda x, y: sum(part.sum(1) for part in x.split([1, 2, 3], 1)) + y[:, 0],
    "topk": lambda x, y: tuple((x + y).topk(2, 1)),
    "batches of matrices": lambda x, y: torch.einsum("bchw,bcvw->bhv", x, y),
}  # fmt: skip


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", CALLS)
def test_forms_of_calls_that_are_easily_confused(name: str, precision: str) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(1, 6, 7, 9), torch.randn(1, 6, 7, 9)]
    model = Function(CALLS[name])
    plan = saccade.make_plan(model, tuple(inputs))
    stream = native(plan, precision=precision)
    for frame in [inputs, *changing(inputs)]:
        outputs = follow(stream, *frame)
        assert same(outputs, stream.full_pass(*frame))
        if precision == "float32":
            torch.testing.assert_close(outputs, model(*frame), rtol=1e-5, atol=1e-5)


# --- networks


def video(seed: int, size: tuple[int, int]) -> list[Tensor]:
    frames = moving_square(3, size, seed=seed)
    return [*frames, frames[-1], frames[0], -frames[0], *moving_square(2, size, seed=seed, noise=0.05)]


@pytest.fixture(scope="module")
def plans() -> dict[int, Plan]:
    return {}


def plan_of(plans: dict[int, Plan], seed: int, size: tuple[int, int] | None = None) -> Plan:
    if seed not in plans:
        plans[seed] = saccade.make_plan(RandomNetwork(seed), torch.zeros(1, 3, *(size or size_of(seed))))
    return plans[seed]


def size_of(seed: int) -> tuple[int, int]:
    return [(13, 17), (8, 31), (7, 7)][seed % 3]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("record", RECORDS)
def test_networks_are_exact_at_threshold_0(precision: str, record: str, isa: str, plans: dict[int, Plan]) -> None:
    for seed in range(6):
        stream = native(plan_of(plans, seed), threshold=0, record=record, precision=precision)
        partial = 0
        for frame in video(seed, size_of(seed)):
            assert same(stream(frame), stream.full_pass(frame)), seed
            partial += any(0 < cost.active < cost.positions for cost in stream.step_costs)
        assert partial > 1


@pytest.mark.parametrize("seed", range(8))
def test_networks_are_the_model_within_rounding(seed: int, isa: str, plans: dict[int, Plan]) -> None:
    model, plan = RandomNetwork(seed), plan_of(plans, seed)
    exact = RandomNetwork(seed).double()
    streams = {precision: native(plan, precision=precision) for precision in PRECISIONS}
    for frame in video(seed, size_of(seed))[:3]:
        right, torchs = exact(frame.double()), model(frame)
        coarse = in_bfloat16(plan, frame)
        for key in right:
            error = (streams["float32"](frame)[key].double() - right[key]).abs().max()
            own = (torchs[key].double() - right[key]).abs().max()
            assert error <= 3 * own + 1e-6 * right[key].abs().max()
            # As precise as torch is where it stores every value in bfloat16.
            error = (streams["bfloat16"](frame)[key].double() - right[key]).norm()
            own = (coarse[key].double() - right[key]).norm()
            assert 0 < error <= 2 * own, (key, float(error), float(own))


def in_bfloat16(plan: Plan, frame: Tensor) -> Any:
    """What the plan's steps give in torch where every value and weight is rounded to bfloat16 and sums are float32."""
    from saccade.stream.reference import run_step

    values = {plan.inputs[0]: frame.bfloat16().float()}

    def lookup(ref: Any) -> Tensor:
        return plan.weights[ref.name].bfloat16().float() if ref.kind == "weight" else values[ref.name]

    for step in plan.steps:
        if step.calls:
            values[step.outputs[0]] = run_step(step, lookup)[0].bfloat16().float()
    return pytree.tree_unflatten([lookup(ref) for ref in plan.outputs], pytree.treespec_loads(plan.out_spec))


SETTINGS = [{"threshold": 0.03}, {"threshold": 0.3}, {"tolerance": 0.02}, {"tolerance": 0.2}, {"threshold": 0.0}]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_every_step_of_a_network_follows_the_rule(
    setting: dict[str, float], record: str, precision: str, plans: dict[int, Plan]
) -> None:
    partial = quiet = 0
    for seed in (0, 1, 4):
        stream = native(plan_of(plans, seed), record=record, precision=precision, **setting)
        for frame in moving_square(5, size_of(seed), noise=0.02):
            follow(stream, frame)
            partial += sum(0 < cost.active < cost.positions for cost in stream.step_costs)
            quiet += sum(0 < cost.announced < cost.active for cost in stream.step_costs)
    assert partial > 10 or setting == {"threshold": 0.0}
    assert quiet > 10 or setting == {"threshold": 0.0}


@pytest.mark.parametrize("isa_name", EACH_ISA)
def test_every_instruction_set_follows_the_rule(isa_name: str, plans: dict[int, Plan], monkeypatch: Any) -> None:
    monkeypatch.setenv(cpu.ISA_VARIABLE, isa_name)
    for record in RECORDS:
        for precision in PRECISIONS:
            stream = native(plan_of(plans, 3), record=record, precision=precision, tolerance=0.05)
            for frame in moving_square(3, size_of(3), noise=0.02):
                follow(stream, frame)


class Whole(nn.Module):
    """A network whose numbers are whole and small: every order of summing gives the same bits."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.a = nn.Conv2d(4, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2)
        self.c = nn.Conv2d(8, 8, 5, padding=4, dilation=2, groups=8)
        self.d = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.e = nn.Conv2d(8, 4, 1)
        for parameter in self.parameters():
            parameter.data = torch.randint(-1, 2, parameter.shape, generator=generator).float()
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        a = self.a(x).relu()
        b = F.relu6(self.c(self.b(a)) / 4)
        up = self.d(F.max_pool2d(b, 3, 1, 1))
        both = torch.cat([a, up], 1)
        shuffled = F.channel_shuffle(both, 2)
        e = self.e(shuffled) - x
        low = F.avg_pool2d(e, 2)
        back = F.interpolate(low, scale_factor=2) + F.pad(low, (0, 8, 6, 0), value=2.0)
        return {"e": e, "pooled": back.clamp(-8, 8).sum((2, 3)), "rows": back.permute(0, 2, 3, 1).flatten(1, 2)}


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("scale", [0.37, 1.37, 4.37])
def test_decisions_are_the_references_where_arithmetic_is_exact(
    scale: float, record: str, isa: str, plans: dict[int, Plan]
) -> None:
    """Values, masks, costs and records equal over many frames, thresholds and channel weights among them."""
    plan = plans.setdefault(-1, saccade.make_plan(Whole(), torch.zeros(1, 4, 12, 16)))
    generator = torch.Generator().manual_seed(3)
    kept = sorted(plan.kept & plan.consumed)
    gates: dict[str, Any] = {name: scale * (0.5 + 0.25 * (index % 4)) for index, name in enumerate(kept)}
    gates[kept[1]] = saccade.Gate(
        scale, torch.tensor([1.0, 0.0, 0.5, 0.25, 2.0, 0.5, 0.5, 1.0])[: plan.values[kept[1]].channels]
    )
    gates[kept[-1]] = 0.0
    ours, theirs = (make(plan, threshold=gates, record=record) for make in (native, reference))
    assert callbacks_of(ours) == {}
    frame = torch.randint(-3, 4, (1, 4, 12, 16), generator=generator).float()
    partial = quiet = 0
    for _ in range(12):
        assert same(ours(frame), theirs(frame))
        for name, mask in theirs.active.items():
            assert torch.equal(ours.active[name], mask), name
        for a, b in zip(ours.step_costs, theirs.step_costs, strict=True):
            assert (a.active, a.announced, a.executed_macs, a.gate_macs) == (
                b.active, b.announced, b.executed_macs, b.gate_macs,
            ), a.name  # fmt: skip
            partial += 0 < a.active < a.positions
            quiet += 0 < a.announced < a.active
        assert same(ours.state.values, theirs.state.values)
        for name, held in ours.state.records.items():
            if theirs.state.gates[name].threshold > 0:
                expected = theirs.state.records[name].tensor()
                if record == "accumulated":  # its numbers are roots
                    torch.testing.assert_close(held.tensor(), expected, rtol=1e-6, atol=0)
                else:
                    assert torch.equal(held.tensor(), expected), name
        y, x = (int(torch.randint(size, (1,), generator=generator)) for size in (12, 16))
        frame = frame.clone()
        frame[:, :, y : y + 3, x : x + 4] += torch.randint(-2, 3, (1, 4, 1, 1), generator=generator)
    assert partial > 50
    assert quiet > 5


def test_results_do_not_depend_on_the_number_of_threads(isa: str, plans: dict[int, Plan]) -> None:
    """More positions than one piece of work holds, so that every thread has some."""
    for seed, precision in ((1, "float32"), (4, "bfloat16")):
        plan = plans.setdefault(100 + seed, saccade.make_plan(RandomNetwork(seed), torch.zeros(1, 3, 40, 37)))
        streams = [native(plan, tolerance=0.01, precision=precision, threads=threads) for threads in (1, 3)]
        assert [stream.threads for stream in streams] == [1, 3]
        for frame in moving_square(4, (40, 37), noise=0.004):
            results = [stream(frame) for stream in streams]
            assert same(results[0], results[1])
            assert same(streams[0].state.values, streams[1].state.values)
            assert streams[0].step_costs == streams[1].step_costs
            assert same(dict(streams[0].active), dict(streams[1].active))


# --- how much is computed


def test_where_a_value_is_announced_everywhere_no_list_is_made() -> None:
    """Unless an output reads nothing but padding. What follows is exact all the same, and the ledger says so."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 3, padding=1), nn.Conv2d(2, 2, 1, padding=1)
    plan = saccade.make_plan(nn.Sequential(*layers), torch.zeros(1, 3, 10, 10))
    stream, frame = native(plan), torch.rand(1, 3, 10, 10)
    stream(frame)
    forms = {}
    for changed in (99, 100, 100):
        frame = frame.clone()
        frame.view(1, 3, 100)[:, :, :changed] += 1
        before = Before.of(stream)
        assert same(stream(frame), stream.full_pass(frame))
        check_frame(stream, before)
        forms[changed] = [(cost.form, cost.active, cost.announced) for cost in stream.step_costs[1:]]
    assert forms[99] == [("positions", 99, 99), ("positions", 100, 100), ("positions", 100, 100)]
    assert forms[100] == [("whole", 100, 100), ("whole", 100, 100), ("positions", 100, 100)]


def test_forms_say_how_each_step_was_computed() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            x = self.conv(x)
            return torch.cat([x, y], 1).flip(3), x.erf()

    torch.manual_seed(0)
    x, y = torch.rand(1, 3, 9, 9), torch.rand(1, 1, 9, 9)
    stream = native(saccade.make_plan(Net(), (x, y)), profile=True)
    stream(x, y)
    assert len(stream.step_seconds) == len(stream.plan.steps)
    assert all(second >= 0 for second in stream.step_seconds)

    def forms() -> dict[str, str]:
        return {step.op: cost.form for step, cost in zip(stream.plan.steps[2:], stream.step_costs[2:], strict=True)}

    assert forms() == {"conv2d": "whole", "cat": "moved", "flip": "moved", "erf": "torch"}
    x = x.clone()
    x[..., 0, 0] += 1
    stream(x, y)
    assert forms() == {"conv2d": "positions", "cat": "moved", "flip": "moved", "erf": "torch"}
    stream(x, y + 1)
    assert forms() == {"conv2d": "skipped", "cat": "moved", "flip": "moved", "erf": "skipped"}
    stream(x, y + 1)
    assert set(forms().values()) == {"skipped"}
    assert stream.cost.executed_macs == 0


def test_a_concatenation_of_what_lies_in_it_copies_nothing() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return torch.cat([x.relu(), torch.cat([y.tanh(), x], 1), y.sigmoid()], 1).exp()

    x, y = torch.rand(1, 3, 5, 4), torch.rand(1, 2, 5, 4)
    stream = native(saccade.make_plan(Net(), (x, y)))
    follow(stream, x, y)
    memory = memory_of(stream).values
    cats = [step.outputs[0] for step in stream.plan.steps if step.op == "cat"]
    storages = {memory[name].untyped_storage().data_ptr() for name in memory if "exp" not in name}
    inside = memory[cats[-1]].untyped_storage().data_ptr()
    assert {memory[name].untyped_storage().data_ptr() for name in cats} == {inside}
    assert storages <= {inside, memory[stream.plan.inputs[1]].untyped_storage().data_ptr()}


def test_streams_of_a_plan_share_its_weights() -> None:
    plan = saccade.make_plan(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 9, 9))
    a, b, c = native(plan), native(plan), native(plan, precision="bfloat16")
    assert a._executor.compiled is b._executor.compiled
    assert a._executor.compiled is not c._executor.compiled
