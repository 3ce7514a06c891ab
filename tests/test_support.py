"""Every operator with a sparse form: its active positions against what really changes, and its values."""

from __future__ import annotations

import copy

import pytest
import torch
from operator_cases import CASES, Case, planned

import saccade
from saccade.kernels.table import RULES
from saccade.masks import on_axis

# Operators torch.export says by others before a plan is made; they appear only in programs exported elsewhere.
ALIASES = {
    "rsub": "sub", "celu": "elu", "clamp_min": "clamp", "clamp_max": "clamp",
    "narrow": "slice", "constant_pad_nd": "pad", "numpy_T": "permute", "movedim": "permute",
    "reflection_pad1d": "pad", "reflection_pad2d": "pad", "reflection_pad3d": "pad",
    "replication_pad1d": "pad", "replication_pad2d": "pad", "replication_pad3d": "pad",
    "_upsample_nearest_exact1d": "_upsample_nearest_exact2d", "_upsample_nearest_exact3d": "_upsample_nearest_exact2d",
    "minimum": "maximum", "exp": "pow", "sqrt": "pow", "neg": "erf", "abs": "erf", "mean": "sum",
    "adaptive_avg_pool2d": "_adaptive_avg_pool2d",
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_values_equal_the_model_and_every_step_is_sparse(case: Case) -> None:
    model, plan, inputs = planned(case)
    got = saccade.Stream(plan, executor="reference")(*inputs)
    expected = model(*inputs)
    assert got.dtype == expected.dtype
    torch.testing.assert_close(got, expected)
    assert [step.reason for step in plan.steps if step.form == "dense"] == []
    used = {call.base for step in plan.steps for call in step.calls}
    assert used & {ALIASES.get(name, name) for name in case.operators} | used & set(case.operators), (
        f"{case.operators} expected, plan has {used}"
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_changed_output_is_active(case: Case) -> None:
    """Changes single elements of every input: no output outside the active mask may change by any bit."""
    _, plan, inputs = planned(case)
    generator = torch.Generator().manual_seed(1)
    for index, tensor in enumerate(inputs):
        for _ in range(6):
            changed = [each.clone() for each in inputs]
            at = tuple(int(torch.randint(size, (1,), generator=generator)) for size in tensor.shape)
            changed[index][at] += 1.5
            stream = saccade.Stream(plan, executor="reference")
            before = stream(*inputs)
            after = stream(*changed)
            assert torch.equal(after, stream.full_pass(*changed))
            last = plan.steps[-1]
            spec = plan.values[last.outputs[0]]
            differs = on_axis((before != after), plan_elementwise(spec), spec.channel_axis)
            assert not (differs & ~stream.active[last.name]).any()


def plan_elementwise(spec: saccade.masks.ValueSpec) -> saccade.masks.ValueSpec:
    return saccade.masks.ValueSpec(spec.shape, spec.dtype, None)


@pytest.mark.parametrize("case", [case for case in CASES if "conv" in case.name], ids=lambda case: case.name)
def test_convolutions_compute_nothing_that_cannot_change(case: Case) -> None:
    """The active mask is exactly where the gradient of the output reaches the changed position."""
    model, plan, inputs = planned(case)
    x = inputs[0].clone().requires_grad_()
    out = copy.deepcopy(model).double()(x.double())
    stream = saccade.Stream(plan, executor="reference")
    stream(*inputs)
    spec_in, spec_out = plan.values[plan.inputs[0]], plan.values[plan.steps[-1].outputs[0]]
    at = tuple(size // 2 for size in x.shape)
    reads = torch.zeros(spec_out.shape, dtype=torch.bool)
    for where in torch.nonzero(torch.ones(spec_out.shape)).tolist():
        (gradient,) = torch.autograd.grad(out[tuple(where)], x, retain_graph=True)
        touched = on_axis(gradient != 0, plan_elementwise(spec_in), spec_in.channel_axis)
        position = list(at)
        position[spec_in.channel_axis] = 0
        reads[tuple(where)] = touched[tuple(position)]
    changed = inputs[0].clone()
    changed[at] += 1
    stream(changed)
    expected = on_axis(reads, plan_elementwise(spec_out), spec_out.channel_axis)
    assert torch.equal(stream.active[plan.steps[-1].name], expected)


def test_every_operator_with_a_rule_has_a_case() -> None:
    covered = {operator for case in CASES for operator in case.operators}
    listed = {ALIASES.get(name, name) for rule in RULES for name in rule.operators}
    assert listed - covered == set()
