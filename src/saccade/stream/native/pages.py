"""Memory for what a stream keeps, on large pages where the system has them.

The values of a network of clips are hundreds of megabytes that every clip walks through once, and on pages of 4 KB the
processor spends a part of its time looking up where they lie (LOG.md).
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

LARGE = 2 << 20  # bytes of a large page on x86-64 and on most arm64
LINE = 64  # bytes of a cache line


def empty(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns a tensor (count,) of any numbers, from a cache line's begin on; on large pages if it fills one."""
    size = count * dtype.itemsize
    if size < LARGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(count, dtype=dtype)
    pages = mmap.mmap(-1, size + LARGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # lives as long as the tensor
    with suppress(OSError):  # a kernel without them; the memory is as good, only slower
        pages.madvise(mmap.MADV_HUGEPAGE)
    whole = torch.frombuffer(pages, dtype=torch.uint8)
    begin = -whole.data_ptr() % LARGE
    return whole[begin : begin + size].view(dtype)


def empties(counts: Sequence[int], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Returns tensors of any numbers, one after the other in one piece of memory, each from a cache line's begin on."""
    line = LINE // dtype.itemsize
    rounded = [-(-count // line) * line for count in counts]
    parts = empty(sum(rounded), dtype).split(rounded)
    return [part[:count] for part, count in zip(parts, counts, strict=True)]
