"""What the tests of native convolution share: a convolution as data, torch's results for it, and the native one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.native_producers import NATIVE, UNTOUCHED, padded, three, to_rows

PLAIN = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@dataclass(frozen=True)
class Case:
    """A convolution over a map. `channels` are those of its input and its output."""

    size: tuple[int, ...]
    channels: tuple[int, int]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    batch: int = 1
    transposed: bool = False
    extra: tuple[int, ...] = (0, 0, 0)  # output_padding of a transposed one

    @property
    def out(self) -> list[int]:
        axes = zip(self.size, self.kernel, self.stride, self.pad, self.dilation, self.extra, strict=False)
        if self.transposed:
            return [(n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, s, p, d, e in axes]
        return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d, _ in axes]

    @property
    def positions(self) -> int:
        return self.batch * torch.Size(self.out).numel()

    @property
    def name(self) -> str:
        words = ["transposed"] * self.transposed + [f"{self.channels[0]}-{self.channels[1]}"]
        named = {"k": self.kernel, "s": self.stride, "p": self.pad, "d": self.dilation, "e": self.extra}
        for letter, values in {"": self.size, **named}.items():
            if letter in ("", "k") or set(values) - {0 if letter in ("p", "e") else 1}:
                words.append(letter + "x".join(map(str, values)))
        return " ".join(words + [f"g{self.groups}"] * (self.groups > 1) + [f"b{self.batch}"] * (self.batch > 1))

    def numbers(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
        """Returns input in `dtype`, weight and bias in float32, always the same."""
        generator = torch.Generator().manual_seed(sum(self.channels) + sum(self.size))
        into, out = self.channels
        shape = (into, out // self.groups) if self.transposed else (out, into // self.groups)
        x = torch.randn(self.batch, into, *self.size, generator=generator).to(dtype)
        weight = torch.randn(*shape, *self.kernel, generator=generator)
        return x, weight, torch.randn(out, generator=generator)

    def torch(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Returns torch's result."""
        rank = len(self.size)
        if self.transposed:
            extra = self.extra[:rank]
            given = (self.stride, self.pad, extra, self.groups, self.dilation)
            return TRANSPOSED[rank](x, weight, bias, *given)
        return PLAIN[rank](x, weight, bias, self.stride, self.pad, self.dilation, self.groups)


def case(
    size: Sequence[int],
    into: int,
    out: int,
    kernel: int | Sequence[int] = 1,
    stride: int | Sequence[int] = 1,
    pad: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    extra: int | Sequence[int] = 0,
    **others: int,
) -> Case:
    """Returns the case; one number is that number along every axis."""
    axes = [(each,) * len(size) if isinstance(each, int) else tuple(each) for each in (kernel, stride, pad, dilation)]
    extra = (extra,) * len(size) if isinstance(extra, int) else tuple(extra)
    return Case(tuple(size), (into, out), *axes, extra=extra, **others)


class Native:
    """A packed convolution of one instruction set and its input rows.

    Args:
        isa: the instruction set.
        case: the convolution.
        x: its input; the type of the arithmetic is that of its numbers.
        weight: in torch's layout, float32; where x is bfloat16 the module rounds it.
        bias: one per output channel, or None.
        before: channels of wider rows that come before the ones read; they hold NaN.
        behind: and how many come behind.
    """

    def __init__(
        self, isa: str, case: Case, x: Tensor, weight: Tensor, bias: Tensor | None, before: int = 0, behind: int = 0
    ) -> None:
        self.case = case
        rows = to_rows(x)
        count, channels = rows.shape
        self.stride = before + channels + behind
        # Without wider rows the storage ends with the last channel of the last row.
        self.storage = torch.full((count, self.stride), float("nan"), dtype=x.dtype)
        self.storage[:, before : before + channels] = rows
        self.data = self.storage.data_ptr() + before * x.element_size()
        self.packed = NATIVE.PackedConvolution(
            isa,
            batch=case.batch,
            in_size=three(case.size),
            out_size=three(case.out),
            kernel=three(case.kernel),
            stride=three(case.stride),
            pad=three(case.pad, 0),
            dilation=three(case.dilation),
            in_channels=case.channels[0],
            out_channels=case.channels[1],
            groups=case.groups,
            transposed=case.transposed,
            bf16=x.dtype == torch.bfloat16,
            weight=weight.data_ptr(),
            bias=0 if bias is None else bias.data_ptr(),
        )

    def __call__(self, positions: Tensor, prefix: int | None = None) -> Tensor:
        """Returns (positions, prefix) and checks that nothing around what may be written was."""
        prefix = self.case.channels[1] if prefix is None else prefix
        positions = positions.int().contiguous()
        ld, guard = padded(self.case.channels[1]) + 64, 2
        out = torch.full((len(positions) + 2 * guard, ld), UNTOUCHED)
        self.packed.run(
            rows=self.data,
            stride=self.stride,
            positions=positions.data_ptr(),
            count=len(positions),
            prefix=prefix,
            out=out.data_ptr() + guard * ld * 4,
            ld=ld,
        )
        inner = out[guard : guard + len(positions)]
        assert (out[:guard] == UNTOUCHED).all()
        assert (out[guard + len(positions) :] == UNTOUCHED).all()
        assert (inner[:, padded(prefix) :] == UNTOUCHED).all()
        assert not (inner[:, :prefix] == UNTOUCHED).any()
        return inner[:, :prefix].clone()


def bits(x: Tensor) -> Tensor:
    """Returns float32 numbers as what they are made of, so that -0 is not 0."""
    return x.contiguous().view(torch.int32)


def worst_errors(case: Case, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns how far summing in float32 can be from the exact result, in any order of the sum.

    n products and n - 1 sums, each rounded to half an epsilon, are off by at most n * epsilon of the sum of magnitudes
    (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1, with room for a bias and second-order terms).
    """
    magnitudes = case.torch(x.double().abs(), weight.double().abs(), None if bias is None else bias.double().abs())
    terms = weight[0].numel() if not case.transposed else weight[:, 0].numel() // case.groups
    return to_rows(magnitudes) * (terms + 2) * torch.finfo(torch.float32).eps
