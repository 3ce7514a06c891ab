"""Memory on large pages: sizes, alignment, that parts are apart, and how many pages the system hands out."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch

from saccade.stream.native import pages


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("counts", [[3], [1, 16, 17, 5], [pages.LARGE, 1, 3 * pages.LARGE // 4 + 5], []])
def test_parts_are_apart_and_begin_a_cache_line(counts: list[int], dtype: torch.dtype) -> None:
    parts = pages.empties(counts, dtype)
    assert [part.numel() for part in parts] == counts
    for number, part in enumerate(parts):
        assert part.dtype == dtype
        assert part.data_ptr() % pages.LINE == 0
        part.fill_(number)
    assert [set(part.unique().tolist()) for part in parts] == [{float(number)} for number in range(len(counts))]


def test_what_fills_a_large_page_begins_one_and_lives_as_long_as_its_views() -> None:
    held = pages.empty(3 * pages.LARGE // 4 + 7)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        assert held.data_ptr() % pages.LARGE == 0
    view = held.fill_(2)[-7:]
    del held
    assert view.tolist() == [2] * 7


def test_the_system_is_asked_for_large_pages() -> None:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not setting.exists() or "[never]" in setting.read_text():
        pytest.skip("this system has no large pages to give")
    held = pages.empty(8 * pages.LARGE)
    found = [line for line in smaps_of(held.data_ptr()) if line.startswith("VmFlags:")]
    assert found
    assert all(" hg" in line for line in found)


def smaps_of(address: int) -> list[str]:
    """Returns what the system says of the mapping an address lies in."""
    lines, inside = [], False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split(" ", 1)[0]
        if "-" in head and ":" not in head:
            first, last = (int(part, 16) for part in head.split("-"))
            inside = first <= address < last
        elif inside:
            lines.append(line)
    return lines
