"""Model -> plan: what is folded and fused, what runs dense and says so, what is refused, and the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from networks import RandomNetwork
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

import saccade
from saccade.kernels import cpu
from saccade.stream.native import why_unfit

X = torch.linspace(-1, 1, 1 * 4 * 9 * 7).reshape(1, 4, 9, 7)


def check(model: nn.Module, *inputs: Tensor, **kwargs: Tensor) -> saccade.Plan:
    """Asserts that the plan computes what the model does, over three frames, and returns the one in float64."""
    plan = check_in(torch.float64, "reference", 1e-10, model, inputs, kwargs)
    if cpu.native_module():
        check_in(torch.float32, "native", 1e-5, model, inputs, kwargs)
    return plan


def check_in(
    dtype: torch.dtype,
    executor: str,
    rounding: float,
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    kwargs: dict[str, Tensor],
) -> saccade.Plan:
    model = model.to(dtype).eval()
    inputs = tuple(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in inputs)
    kwargs = {name: tensor.to(dtype) for name, tensor in kwargs.items()}
    plan = saccade.make_plan(model, inputs, kwargs=kwargs)
    if executor == "native" and why_unfit(plan):
        return plan
    stream = saccade.Stream(plan, executor=executor)
    for shift in range(3):
        moved = tuple(tensor.roll(shift, -1) for tensor in inputs)
        got, expected = stream(*moved, **kwargs), model(*(tensor.clone() for tensor in moved), **kwargs)
        assert pytree.tree_structure(got) == pytree.tree_structure(expected)
        for a, b in zip(pytree.tree_leaves(got), pytree.tree_leaves(expected), strict=True):
            torch.testing.assert_close(a, b, rtol=10 * rounding, atol=rounding)
    return plan


def with_statistics(model: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return model


def ops(plan: saccade.Plan) -> list[str]:
    return [step.op for step in plan.steps if step.calls]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1, bias=False),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ConvTranspose2d(4, 6, 3, stride=2),
        nn.ConvTranspose2d(4, 6, 2, groups=2, bias=False),
    ],
    ids=str,
)
def test_batch_norm_disappears_into_the_convolution(layer: nn.Module) -> None:
    plan = check(with_statistics(nn.Sequential(layer, nn.BatchNorm2d(6), nn.ReLU())), X)
    assert len(ops(plan)) == 1
    assert ops(plan)[0].endswith("+relu")


def test_batch_norm_disappears_into_a_linear_layer() -> None:
    plan = check(with_statistics(nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.SiLU())), torch.rand(2, 5))
    assert ops(plan) == ["linear+silu"]


def test_batch_norm_before_a_convolution_or_on_a_shared_value_stays() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.conv = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return self.norm(y) + y.tanh()

    assert "affine" in " ".join(ops(check(with_statistics(Net()), X)))


def test_residual_add_and_activation_are_fused() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.a(x))
            return F.relu(self.norm(self.b(y)) + y)

    assert ops(check(with_statistics(Net()), X)) == ["conv2d+relu", "conv2d+add+relu"]


def test_constants_are_folded() -> None:
    class Fusion(nn.Module):
        """A BiFPN's fast normalised fusion."""

        def __init__(self) -> None:
            super().__init__()
            self.weights = nn.Parameter(torch.tensor([0.3, -0.2, 1.1]))
            self.register_buffer("grid", torch.arange(7.0))

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            w = F.relu(self.weights)
            w = w / (w.sum() + 1e-4)
            return x * w[0] + y * w[2] + (self.grid * 2).exp().reshape(1, 1, 1, -1) + torch.arange(9).reshape(-1, 1)

    plan = check(Fusion(), X, X + 1)
    assert all("sum" not in op and "exp" not in op and "div" not in op for op in ops(plan))


def test_shared_modules_several_inputs_outputs_and_keyword_arguments() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor, y: Tensor, *, scale: Tensor) -> dict[str, object]:
            x, y = self.conv(x), self.conv(self.conv(y))
            x += 1
            y[:, 1:3].mul_(2)
            return {"both": [x, (y, x * scale)], "input": scale}

    plan = check(Net(), X, X * 2, scale=torch.rand(1, 4, 1, 1).double())
    assert sum("conv2d" in op for op in ops(plan)) == 3
    names = [step.name for step in plan.steps]
    assert len(set(names)) == len(names)
    assert {"conv", "conv_2", "conv_3"} <= set(names)


def test_keyword_arguments_may_come_in_any_order() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor, *, a: Tensor, b: Tensor) -> Tensor:
            return x * a + b

    plan = saccade.make_plan(Net(), X, kwargs={"a": X + 1, "b": X + 2})
    torch.testing.assert_close(saccade.Stream(plan)(X, b=X + 2, a=X + 1), X * (X + 1) + X + 2)


def test_one_tensor_as_the_example_of_two_arguments_makes_them_no_less_two() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor, y: Tensor, *, z: Tensor) -> Tensor:
            return x - 2 * y + 3 * z

    plan = saccade.make_plan(Net(), (X, X), kwargs={"z": X})
    torch.testing.assert_close(saccade.Stream(plan)(X, X + 1, z=X + 2), 2 * X + 4)


def test_what_happens_to_the_model_later_does_not_reach_the_plan() -> None:
    model = nn.Conv2d(4, 2, 3)
    stream = saccade.Stream(model, X)
    before = stream(X)
    with torch.no_grad():
        model.weight.zero_()
    assert torch.equal(stream.full_pass(X), before)


def test_in_place_operations_do_not_reach_the_callers_tensor() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.add_(1).relu_()

    stream = saccade.Stream(Net(), X.clone())
    frame = X.clone()
    torch.testing.assert_close(stream(frame), (X + 1).relu())
    assert torch.equal(frame, X)


@pytest.mark.parametrize("where", ["view before", "view after", "alias", "chain", "cast"])
def test_writes_through_views_are_seen(where: str) -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = x + 1
            if where == "view before":
                part = y[:, 1]
                y.mul_(3)
                return y, part * 2
            if where == "view after":
                y.mul_(3)
                y[:, :2].add_(1)
                return y, y.flatten(1)
            if where == "alias":
                z = F.dropout(y, 0.5, self.training)
                z += 5
                return y * 2, z
            if where == "cast":
                z = y.half() * 1
                z += y
                return z * 1.1, y
            z = y.mul_(2).relu_()
            z.sub_(1)
            return y, z

    check(Net(), X)


def test_unknown_operators_run_dense_say_why_and_are_exact() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.after = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = F.instance_norm(self.before(x))
            best, where = y.topk(2, 1)
            return self.after(y), best + where

    plan = check(Net(), X)
    dense = [step for step in plan.steps if step.form == "dense"]
    assert [step.op for step in dense] == ["instance_norm", "topk"]
    assert dense[0].reason == "no sparse form for aten.instance_norm.default"
    assert 0 < plan.sparse_macs_share < 1
    stream = saccade.Stream(plan, tolerance=0.01, executor="reference")
    stream(X.double())
    stream(X.double())
    assert stream.cost.executed_macs == 0
    changed = X.double()
    changed[0, 0, 0, 0] += 1
    stream(changed)
    assert {cost.name: cost.active for cost in stream.step_costs}[dense[0].name] == 63


def test_a_native_dropout_outside_training_is_idle() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.native_dropout(x, 0.5, False)[0] * 2

    check(Net(), X)


def test_convolution_with_weights_computed_from_the_input_runs_dense() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, x[:, :, :3, :3])

    plan = check(Net(), X)
    assert [s.reason for s in plan.steps if s.form == "dense"] == ["its weights are computed at run time"]


def test_a_hand_count_of_macs() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=1),  # 6 x 5 x 4 outputs, 4 x 9 each
        nn.ReLU(),  # 120
        nn.Conv2d(6, 6, 3, groups=6),  # 6 x 3 x 2 outputs, 9 each
        nn.ConvTranspose2d(6, 2, 2, stride=2),  # 36 inputs, 2 x 4 each
        nn.MaxPool2d(2),  # 2 x 3 x 2 outputs, 4 each
        nn.Flatten(),
        nn.Linear(12, 5),  # 60
    )
    expected = 120 * 36 + 120 + 36 * 9 + 36 * 8 + 12 * 4 + 60
    assert check(model, X).dense_macs == expected


def test_products_of_two_values_run_dense_and_are_counted_exactly() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return x @ y, F.scaled_dot_product_attention(x[None], x[None], x[None])

    plan = check(Attention(), torch.rand(2, 5, 6), torch.rand(2, 6, 7))
    assert {step.op: step.macs for step in plan.steps if step.form == "dense"} == {
        "matmul": 2 * 5 * 6 * 7,
        "scaled_dot_product_attention": 2 * (2 * 5 * 6 * 5),
    }


def test_an_unbatched_picture_has_its_channels_first() -> None:
    plan = saccade.make_plan(nn.Conv2d(4, 2, 3).eval(), torch.zeros(4, 9, 7))
    assert plan.values[plan.inputs[0]].channel_axis == 0
    assert plan.values[plan.steps[-1].outputs[0]].mask_shape == (1, 7, 5)


def test_a_name_taken_over_from_a_value_that_is_gone_means_the_new_value() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            a = F.adaptive_avg_pool2d(x, (3, 2))
            b = F.adaptive_avg_pool2d(a, (1, 2))
            F.adaptive_avg_pool2d(a, (2, 1))
            return b.softmax(3)

    plan = check(Net(), X)
    assert [plan.values[step.outputs[0]].shape[2:] for step in plan.steps[1:3]] == [(3, 2), (1, 2)]


def test_programs_from_files_with_fixed_and_dynamic_shapes(tmp_path: Path) -> None:
    model = RandomNetwork(2)
    x = torch.rand(1, 3, 13, 17)
    height = torch.export.Dim("height", min=4, max=64)
    conv = nn.Conv2d(3, 2, 3, padding=1).eval()
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "fixed.pt2")
    torch.export.save(torch.export.export(conv, (x,), dynamic_shapes={"input": {2: height}}), tmp_path / "dynamic.pt2")
    for path, reference in (("fixed.pt2", model), ("dynamic.pt2", conv)):
        plan = saccade.make_plan(tmp_path / path)
        assert plan.name == path.split(".")[0]
        got, expected = saccade.Stream(plan)(x), reference(x)
        for a, b in zip(pytree.tree_leaves(got), pytree.tree_leaves(expected), strict=True):
            torch.testing.assert_close(a, b)


def test_the_plan_prints_readably() -> None:
    plan = saccade.make_plan(RandomNetwork(0), torch.zeros(1, 3, 13, 17), name="small")
    assert str(plan).startswith("Plan small:")
    assert all(step.name in str(plan) for step in plan.steps)
    assert plan.dense_macs == sum(step.macs for step in plan.steps) > 0
