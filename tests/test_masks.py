"""Masks over positions against their definition, element by element."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from saccade.kernels.geometry import axis_after_reshape, dimension_groups
from saccade.masks import ValueSpec, along, broadcast, on_axis, resize_support


def elements(mask: Tensor, spec: ValueSpec) -> set[tuple[int, ...]]:
    """Every element of the value that lies in a set position."""
    found = set()
    for index in itertools.product(*map(range, spec.shape)):
        at = tuple(0 if axis == spec.channel_axis else i for axis, i in enumerate(index))
        if mask[at]:
            found.add(index)
    return found


@st.composite
def specs(draw: st.DrawFn) -> ValueSpec:
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    return ValueSpec(shape, "float32", draw(st.one_of(st.none(), st.integers(0, len(shape) - 1))))


def random_mask(spec: ValueSpec, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(spec.mask_shape, generator=generator) < 0.3


@given(specs(), st.integers(0, 99), st.data())
def test_on_axis_sets_exactly_the_positions_that_hold_a_set_element(
    spec: ValueSpec, seed: int, data: st.DataObject
) -> None:
    mask = random_mask(spec, seed)
    axis = data.draw(st.one_of(st.none(), st.integers(0, len(spec.shape) - 1)))
    other = ValueSpec(spec.shape, spec.dtype, axis)
    expected = {tuple(0 if k == axis else i for k, i in enumerate(index)) for index in elements(mask, spec)}
    got = on_axis(mask, spec, axis)
    assert tuple(got.shape) == other.mask_shape
    assert {tuple(index) for index in got.nonzero().tolist()} == expected


@settings(max_examples=200)
@given(specs(), st.integers(0, 99), st.data())
def test_broadcast_sets_exactly_the_outputs_that_read_a_set_element(
    out: ValueSpec, seed: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(0, len(out.shape)))
    shape = tuple(data.draw(st.sampled_from([1, size])) for size in out.shape[len(out.shape) - rank :])
    axis = data.draw(st.one_of(st.none(), st.integers(0, rank - 1))) if rank else None
    spec = ValueSpec(shape, "float32", axis)
    mask = random_mask(spec, seed)
    read = elements(mask, spec) if rank else ({()} if bool(mask) else set())
    expected = set()
    for index in itertools.product(*map(range, out.shape)):
        source = tuple(0 if size == 1 else i for size, i in zip(shape, index[len(index) - rank :], strict=True))
        if source in read:
            expected.add(tuple(0 if k == out.channel_axis else i for k, i in enumerate(index)))
    got = broadcast(mask, spec, out)
    assert tuple(got.shape) == out.mask_shape
    assert {tuple(index) for index in got.nonzero().tolist()} == expected


def test_along_sets_whole_lines() -> None:
    mask = torch.zeros(1, 1, 3, 4, dtype=torch.bool)
    mask[0, 0, 1, 2] = True
    assert along(mask, [3]).flatten().tolist() == [False, True, False]
    assert along(mask, [2, 3]).item() is True


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("in_size", [1, 2, 5, 9, 64])
@pytest.mark.parametrize("out_size", [1, 2, 3, 7, 10, 128])
def test_resize_support_covers_what_torch_reads(in_size: int, out_size: int, align: bool) -> None:
    """The weights of torch's own interpolation are read off unit vectors; none may be outside the support."""
    units = torch.eye(in_size)[None]
    weights = F.interpolate(units, size=out_size, mode="linear", align_corners=align)[0].T
    support = resize_support(in_size, out_size, align_corners=align, scale=None)
    assert tuple(support.shape) == (out_size, in_size)
    assert not ((weights != 0) & ~support).any()
    assert support.sum(1).max() <= 3


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.data())
def test_dimension_groups_partition_a_reshape(source: list[int], data: st.DataObject) -> None:
    flat = 1
    for size in source:
        flat *= size
    divisor = data.draw(st.sampled_from([d for d in range(1, flat + 1) if flat % d == 0]))
    target = [divisor, flat // divisor]
    groups = dimension_groups(source, target)
    assert [axis for left, _ in groups for axis in left] == list(range(len(source)))
    assert [axis for _, right in groups for axis in right] == list(range(len(target)))
    for left, right in groups:
        a = b = 1
        for axis in left:
            a *= source[axis]
        for axis in right:
            b *= target[axis]
        assert a == b


@pytest.mark.parametrize(
    ("source", "target", "axis", "expected"),
    [
        ((1, 8, 5, 6), (1, 8, 30), 1, 1),
        ((1, 8, 5, 6), (1, 240), 1, 1),
        ((1, 5, 6, 8), (1, 60, 4), 3, 2),
        ((1, 8, 5, 6), (1, 2, 4, 5, 6), 1, 2),
        ((1, 6, 1, 1), (1, 6), 1, 1),
        ((3, 5), (15,), None, None),
    ],
)
def test_the_channel_axis_is_followed_through_a_reshape(
    source: tuple[int, ...], target: tuple[int, ...], axis: int | None, expected: int | None
) -> None:
    assert axis_after_reshape(source, target, axis) == expected


def test_a_channel_axis_outside_the_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"channel axis 4 is outside the shape \(1, 2\)"):
        ValueSpec((1, 2), "float32", 4)
