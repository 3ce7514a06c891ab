"""Native masks: what a window spreads, unions, and lists of set positions; against the rules and brute force."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from saccade.kernels.call import Ref, make_call
from saccade.kernels.rule import Scope
from saccade.kernels.window import CONVOLUTION, POOLING
from saccade.masks import ValueSpec
from tests.instruction_sets import ISAS, every_isa
from tests.native_producers import NATIVE, three

GUARD = 64  # bytes around a mask that nobody may touch


@dataclass(frozen=True)
class Window:
    """A window over a map; of a transposed convolution `size` is its own input."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool = False
    extra: tuple[int, ...] = (0, 0, 0)
    batch: int = 1

    @property
    def out(self) -> list[int]:
        axes = zip(self.size, self.kernel, self.stride, self.pad, self.dilation, self.extra, strict=False)
        if self.transposed:
            return [(n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, s, p, d, e in axes]
        return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d, _ in axes]


def random_mask(*shape: int, share: float, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


def dilate(isa: str, window: Window, mask: Tensor, before: Tensor | None = None) -> Tensor:
    shape = (window.batch, 1, *window.out)
    count = math.prod(shape)
    storage = torch.full((count + 2 * GUARD,), 77, dtype=torch.uint8)
    out = storage[GUARD : GUARD + count]
    out.copy_(torch.zeros(count, dtype=torch.uint8) if before is None else before.flatten())
    mask = mask.contiguous().clone()
    NATIVE.dilate(
        isa,
        transposed=window.transposed,
        batch=window.batch,
        in_size=three(window.size),
        out_size=three(window.out),
        kernel=three(window.kernel),
        stride=three(window.stride),
        pad=three(window.pad, 0),
        dilation=three(window.dilation),
        mask=mask.data_ptr(),
        out=out.data_ptr(),
    )
    assert (storage[:GUARD] == 77).all()
    assert (storage[GUARD + count :] == 77).all()
    assert out.max() <= 1
    return out.reshape(shape).bool()


def rule_of_a_convolution(window: Window, mask: Tensor) -> Tensor:
    rank = len(window.size)
    overload = "input" if window.transposed and rank > 1 else "default"
    name = f"aten.conv{'_transpose' if window.transposed else ''}{rank}d.{overload}"
    given = {"stride": list(window.stride), "padding": list(window.pad), "dilation": list(window.dilation)}
    if window.transposed:
        given["output_padding"] = list(window.extra[:rank])
    call = make_call(name, Ref("value", "x"), Ref("weight", "w"), **given)
    scope = Scope({"x": ValueSpec((window.batch, 1, *window.size), "float32", 1)}, {"w": (1, 1, *window.kernel)})
    out = ValueSpec((window.batch, 1, *window.out), "float32", 1)
    return CONVOLUTION.support(call, {"x": mask}, scope, out)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    rank = draw(st.integers(1, 3))
    transposed = draw(st.booleans())
    largest = (80, 20, 9)[rank - 1]
    size, kernel, stride, pad, dilation, extra = [], [], [], [], [], []
    for _ in range(rank):
        kernel.append(draw(st.integers(1, 5)))
        stride.append(draw(st.integers(1, 4)))
        dilation.append(draw(st.integers(1, 3)))
        extent = (kernel[-1] - 1) * dilation[-1] + 1
        if transposed:
            size.append(draw(st.integers(1, largest)))
            made = (size[-1] - 1) * stride[-1] + extent
            pad.append(draw(st.integers(0, min(4, (made - 1) // 2))))
            extra.append(draw(st.integers(0, max(stride[-1], dilation[-1]) - 1)))
        else:
            pad.append(draw(st.integers(0, 5)))
            extra.append(0)
            size.append(draw(st.integers(max(1, extent - 2 * pad[-1]), largest + extent)))
    return Window(
        *(tuple(each) for each in (size, kernel, stride, pad, dilation)),
        transposed,
        tuple(extra),
        draw(st.integers(1, 2)),
    )


@given(windows(), st.sampled_from([0.0, 0.02, 0.3, 1.0]), st.integers(0, 9))
def test_dilate_is_the_support_of_a_convolution(window: Window, share: float, seed: int) -> None:
    mask = random_mask(window.batch, 1, *window.size, share=share, seed=seed)
    expected = rule_of_a_convolution(window, mask)
    for isa in ISAS:
        assert torch.equal(dilate(isa, window, mask), expected), isa


WIDE = [
    Window((1, 4096), (1, 3), (1, 1), (0, 1), (1, 1)),
    Window((2, 8192), (3, 3), (1, 1), (1, 1), (1, 1)),
    Window((2, 20011), (1, 7), (1, 1), (0, 3), (1, 2)),
    Window((2, 20011), (1, 3), (1, 2), (0, 1), (1, 1)),
    Window((1, 20011), (1, 3), (1, 3), (0, 0), (1, 5)),
    Window((2, 9001), (3, 4), (1, 2), (1, 1), (1, 1), True),
    Window((1, 9001), (1, 3), (1, 3), (0, 2), (1, 3), True),
    Window((30000,), (3,), (1,), (0,), (9000,)),
    Window((30000,), (3,), (1,), (0,), (9000,), True),
    Window((6000,), (5000,), (1,), (2000,), (1,)),
    Window((300,), (5000,), (2,), (2000,), (1,), True),
    Window((9000,), (2,), (8500,), (0,), (3,)),
    Window((5000, 3), (3, 3), (1, 1), (1, 1), (1, 1)),
    Window((5, 70, 70), (5, 5, 5), (1, 1, 1), (2, 2, 2), (1, 1, 1)),
]


@every_isa
@pytest.mark.parametrize("window", WIDE, ids=lambda window: f"{window.size} by {window.kernel}")
def test_dilate_takes_maps_of_any_size(isa: str, window: Window) -> None:
    positions = math.prod(window.size)
    for share in (3 / positions, 0.2):
        mask = random_mask(1, 1, *window.size, share=share)
        assert torch.equal(dilate(isa, window, mask), rule_of_a_convolution(window, mask))


@every_isa
def test_dilate_of_one_position_is_what_its_definition_says(isa: str) -> None:
    window = Window((9, 11), (3, 2), (2, 1), (1, 1), (2, 3))
    for y, x in itertools.product(range(9), range(11)):
        mask = torch.zeros(1, 1, 9, 11, dtype=torch.bool)
        mask[0, 0, y, x] = True
        expected = torch.zeros(1, 1, *window.out, dtype=torch.bool)
        for oy, ox, ky, kx in itertools.product(*map(range, (*window.out, *window.kernel))):
            if oy * 2 - 1 + ky * 2 == y and ox - 1 + kx * 3 == x:
                expected[0, 0, oy, ox] = True
        assert torch.equal(dilate(isa, window, mask), expected)


@every_isa
def test_dilate_adds_to_what_was_set_before(isa: str) -> None:
    for kernel, pad in ((1, 0), (3, 1)):
        window = Window((33, 65), (kernel, kernel), (1, 1), (pad, pad), (1, 1), batch=2)
        mask, before = random_mask(2, 1, 33, 65, share=0.05), random_mask(2, 1, 33, 65, share=0.3, seed=1)
        assert torch.equal(dilate(isa, window, mask, before), rule_of_a_convolution(window, mask) | before)


@every_isa
@pytest.mark.parametrize("size", [(13, 17), (6, 7), (64, 64), (1, 1)])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (3, 3, 1), (5, 1, 2)])
def test_dilate_is_the_support_of_pooling_with_sizes_rounded_up(
    isa: str, size: tuple[int, int], kernel: int, stride: int, pad: int
) -> None:
    if size == (1, 1) and pad == 0:
        pytest.skip("torch has no output here")
    mask = random_mask(1, 1, *size, share=0.1)
    spec = ValueSpec((1, 1, *size), "float32", 1)
    shape = F.max_pool2d(mask.float(), kernel, stride, pad, ceil_mode=True).shape
    call = make_call("aten.max_pool2d.default", Ref("value", "x"), [kernel], [stride], [pad], ceil_mode=True)
    expected = POOLING.support(call, {"x": mask}, Scope({"x": spec}, {}), ValueSpec(tuple(shape), "float32", 1))

    class Rounded(Window):
        @property
        def out(self) -> list[int]:
            return list(shape[2:])

    window = Rounded(size, (kernel, kernel), (stride, stride), (pad, pad), (1, 1))
    assert torch.equal(dilate(isa, window, mask), expected)


COUNTS = (0, 1, 7, 8, 9, 15, 16, 31, 33, 63, 64, 65, 127, 128, 129, 1000, 4097)
SHARES = (0.0, 0.01, 0.3, 0.97, 1.0)


@every_isa
def test_mask_or_is_the_union(isa: str) -> None:
    for count, share in itertools.product(COUNTS, SHARES):
        mask, before = random_mask(count, share=share), random_mask(count, share=0.2, seed=1)
        storage = torch.full((count + 2 * GUARD,), 77, dtype=torch.uint8)
        storage[GUARD : GUARD + count] = before
        NATIVE.mask_or(isa, mask=mask.data_ptr(), out=storage.data_ptr() + GUARD, count=count)
        expected = torch.full_like(storage, 77)
        expected[GUARD : GUARD + count] = mask | before
        assert torch.equal(storage, expected)


def maps(count: int, size: int) -> dict[str, Tensor]:
    index = torch.arange(count)
    generator = torch.Generator().manual_seed(count)
    shuffled = torch.randint(-1, size, (count,), generator=generator)
    named = {
        "shifted": index - 5,
        "thinned": index * 2,
        "doubled": index // 2,
        "reversed": size - 1 - index,
        "with gaps": torch.where(index % 90 < 20, -1, index // 3),
        "shuffled": shuffled,
        "nothing": torch.full((count,), -1),
        "all one": torch.full((count,), size - 1),
    }
    return {name: torch.where((each < 0) | (each >= size), -1, each).int() for name, each in named.items()}


@every_isa
def test_mask_or_map_follows_the_map(isa: str) -> None:
    for count, share in itertools.product(COUNTS, SHARES):
        for size in (1, 63, 200, 5000):
            mask = random_mask(size, share=share)
            before = random_mask(count, share=0.2, seed=1)
            for name, map_ in maps(count, size).items():
                storage = torch.full((count + 2 * GUARD,), 77, dtype=torch.uint8)
                storage[GUARD : GUARD + count] = before
                NATIVE.mask_or_map(
                    isa, mask=mask.data_ptr(), map=map_.data_ptr(), out=storage.data_ptr() + GUARD, count=count
                )
                expected = torch.full_like(storage, 77)
                expected[GUARD : GUARD + count] = before | (mask[map_.long().clamp(min=0)] & (map_ >= 0))
                assert torch.equal(storage, expected), name


@every_isa
def test_collect_lists_what_is_set(isa: str) -> None:
    for count, share in itertools.product(COUNTS, SHARES):
        mask = random_mask(count, share=share)
        expected = mask.nonzero().flatten().int()
        positions = torch.full((count + GUARD,), -7, dtype=torch.int32)
        found = NATIVE.collect(isa, mask=mask.data_ptr(), count=count, positions=positions.data_ptr())
        assert found == len(expected)
        assert torch.equal(positions[:found], expected)
        assert (positions[count:] == -7).all()


@every_isa
def test_collect_finds_a_single_position_anywhere(isa: str) -> None:
    positions = torch.empty(200, dtype=torch.int32)
    for at in range(200):
        mask = torch.zeros(200, dtype=torch.bool)
        mask[at] = True
        assert NATIVE.collect(isa, mask=mask.data_ptr(), count=200, positions=positions.data_ptr()) == 1
        assert positions[0] == at
