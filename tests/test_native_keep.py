"""Keep of the native engine, on every instruction set of this machine: what is written, and what is announced."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from saccade.kernels import cpu
from saccade.masks import ValueSpec
from saccade.stream.gate import Gate
from saccade.stream.record import AccumulatedRecord, CoarseRecord, Record, ReferenceRecord
from tests.instruction_sets import every_isa
from tests.native_rows import (
    ACCUMULATED,
    ANNOUNCE_ALL,
    EXACT,
    REFERENCE,
    Kept,
    indices,
    keep_rows,
    native,
    padded,
)

pytestmark = pytest.mark.skipif(native is None, reason=f"no native module: {cpu.why_missing()}")

CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130)
FORMS = {"all": ANNOUNCE_ALL, "exact": EXACT, "reference": REFERENCE, "accumulated": ACCUMULATED}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
F32, BF16 = torch.float32, torch.bfloat16
POSITIONS = 90
NAN = math.nan


def distance(kept: Kept, p: int, new: Tensor) -> float:
    """Returns how far a position is from what it is compared with, in float64; accumulated: the whole sum."""
    before = kept.record[p] if kept.form == REFERENCE else kept.value[p]
    weights = 1 / len(new) if kept.weights is None else kept.weights.double()
    moved = float((weights * (new.double() - before.double()).square()).sum().sqrt())
    return moved + float(kept.record[p]) if kept.form == ACCUMULATED else moved


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(torch.int16 if tensor.dtype == BF16 else torch.int32)


def define(kept: Kept, positions: Tensor, rows: Tensor) -> int:
    """The rule of kernels.h, one position after the other. Returns how many are announced."""
    count = 0
    for p, row in zip(positions.tolist(), rows, strict=True):
        new = row.to(kept.value.dtype)
        moved = distance(kept, p, new)
        told = kept.first or kept.form == ANNOUNCE_ALL or not moved <= kept.threshold
        if kept.form == EXACT and not kept.first:
            told = not torch.equal(bits(new), bits(kept.value[p]))
        kept.value[p] = new
        if kept.form == ACCUMULATED:
            kept.record[p] = 0.0 if told else moved
        elif kept.form == REFERENCE and told:
            kept.record[p] = new.to(kept.record.dtype)
        if told:
            kept.announced[p] = 1
            count += 1
    return count


def make(form: int, channels: int, types: tuple[torch.dtype, torch.dtype] = (F32, F32), gap: int = 0) -> Kept:
    """Returns a value and its record with `gap` numbers between the rows of either."""
    made = torch.Generator().manual_seed(channels + gap)
    value, rows = (torch.randn(POSITIONS, channels + gap, generator=made).to(dtype)[:, :channels] for dtype in types)
    record = torch.rand(POSITIONS, generator=made) if form == ACCUMULATED else rows
    announced = torch.randint(0, 2, (POSITIONS,), generator=made, dtype=torch.uint8)
    return Kept(form, value, record, announced)


def weigh(kept: Kept, channels: int) -> None:
    kept.weights = torch.rand(channels)
    kept.weights[1::3] = 0.0


def some_positions() -> Tensor:
    """Returns ascending positions: stretches, gaps, and single ones."""
    chosen = torch.rand(POSITIONS, generator=torch.Generator().manual_seed(1)) < 0.6
    chosen[40:76] = True
    return indices(chosen.nonzero()[:, 0])


def fresh_rows(kept: Kept, positions: Tensor, seed: int = 0) -> Tensor:
    """Returns new rows: a quarter as they were, the others a little, more and far from it."""
    made = torch.Generator().manual_seed(seed)
    rows = kept.value[positions.long()].float()
    step = torch.tensor([0.0, 0.003, 0.1, 2.0])[torch.randint(0, 4, (len(positions), 1), generator=made)]
    return rows + step * torch.randn(rows.shape, generator=made)


def clear_threshold(kept: Kept, positions: Tensor, rows: Tensor) -> float:
    """Returns a threshold that about half of the positions pass, none so narrowly that rounding decides."""
    moved = [distance(kept, p, row.to(kept.value.dtype)) for p, row in zip(positions.tolist(), rows, strict=True)]
    ordered = sorted(moved)[len(moved) // 3 : 2 * len(moved) // 3]
    low, high = max(itertools.pairwise(ordered), key=lambda pair: pair[1] - pair[0])
    assert high - low > 1e-4 * high
    return (low + high) / 2


def check_same(kept: Kept, expected: Kept) -> None:
    """The same bits everywhere, gaps and untouched positions included; sums of distances up to their rounding."""
    if kept.form == ACCUMULATED:
        assert torch.equal(kept.record == 0, expected.record == 0)
        torch.testing.assert_close(kept.record, expected.record, rtol=1e-5, atol=0)
        kept.record = expected.record
    for mine, theirs in zip(kept.memory(), expected.memory(), strict=True):
        assert torch.equal(mine, theirs)


@every_isa
@every_form
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("types", [(F32, F32), (F32, BF16), (BF16, BF16), (BF16, F32)], ids=str)
def test_keep_does_what_its_definition_says(
    isa: str, form: int, weighted: bool, types: tuple[torch.dtype, torch.dtype]
) -> None:
    for channels, gap in itertools.product(CHANNELS, (0, 3)):
        kept = make(form, channels, types, gap)
        if weighted:
            weigh(kept, channels)
        for positions in (torch.arange(POSITIONS, dtype=torch.int32), some_positions()):
            rows = fresh_rows(kept, positions)
            kept.threshold = clear_threshold(kept, positions, rows)
            expected = kept.clone()
            count = define(expected, positions, rows)
            if form in (REFERENCE, ACCUMULATED):
                assert 0 < count < len(positions)
            for ld, beyond in ((None, NAN), (channels, 0.0), (padded(channels) + 64, 1e30)):
                mine = kept.clone()
                assert keep_rows(isa, mine, positions, rows, ld, beyond) == count, channels
                check_same(mine, expected)


@every_isa
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("kind", [ReferenceRecord, CoarseRecord, AccumulatedRecord])
def test_keep_announces_as_the_reference_executor(isa: str, channels: int, kind: type[Record]) -> None:
    form = ACCUMULATED if kind is AccumulatedRecord else REFERENCE
    kept = make(form, channels, (F32, BF16 if kind is CoarseRecord else F32))
    weigh(kept, channels)
    spec = ValueSpec((POSITIONS, channels), "float32", channel_axis=1)
    positions = torch.arange(POSITIONS, dtype=torch.int32)
    rows = fresh_rows(kept, positions)
    kept.threshold = clear_threshold(kept, positions, rows)
    record = kind(kept.record.clone().reshape(POSITIONS, -1))  # type: ignore[call-arg]
    gate = Gate(kept.threshold, kept.weights)
    told, record = record.update(kept.value.clone(), rows, spec.full_mask(True), gate, spec)
    kept.announced.zero_()
    keep_rows(isa, kept, positions, rows)
    assert torch.equal(kept.announced.bool(), told[:, 0])
    torch.testing.assert_close(kept.record.reshape(POSITIONS, -1), record.tensor(), rtol=1e-5, atol=0)


@every_isa
@every_form
@pytest.mark.parametrize("channels", CHANNELS)
def test_at_threshold_0_a_change_is_announced(isa: str, form: int, channels: int) -> None:
    kept = make(form, channels)
    kept.record = torch.zeros(POSITIONS) if form == ACCUMULATED else kept.value.clone()
    positions = some_positions()
    rows = kept.value[positions.long()]
    rows[::2, -1] += 1e-3
    expected = kept.clone()
    assert define(expected, positions, rows) == (len(rows) if form == ANNOUNCE_ALL else len(rows[::2]))
    keep_rows(isa, kept, positions, rows)
    check_same(kept, expected)


@every_isa
@every_form
@pytest.mark.parametrize("types", [(F32, F32), (F32, BF16), (BF16, BF16)], ids=str)
def test_the_first_frame_announces_and_records_everything(
    isa: str, form: int, types: tuple[torch.dtype, torch.dtype]
) -> None:
    for channels in CHANNELS:
        kept = make(form, channels, types, gap=2)
        kept.threshold, kept.first = 1e9, True
        positions = some_positions()
        rows = fresh_rows(kept, positions)
        expected = kept.clone()
        define(expected, positions, rows)
        assert keep_rows(isa, kept, positions, rows) == len(positions)
        check_same(kept, expected)


@every_isa
@every_form
@pytest.mark.parametrize("channels", CHANNELS)
def test_a_position_has_the_same_bits_in_any_split(isa: str, form: int, channels: int) -> None:
    kept = make(form, channels)
    weigh(kept, channels)
    positions = some_positions()
    rows = fresh_rows(kept, positions)
    kept.threshold = clear_threshold(kept, positions, rows)
    whole = kept.clone()
    count = keep_rows(isa, whole, positions, rows)
    for length, ld in ((1, None), (1, channels), (5, None), (33, channels)):
        split, total = kept.clone(), 0
        for at in range(0, len(positions), length):
            total += keep_rows(isa, split, positions[at : at + length], rows[at : at + length], ld)
        assert total == count
        for mine, theirs in zip(split.memory(), whole.memory(), strict=True):
            assert torch.equal(mine, theirs)
    assert keep_rows(isa, whole, positions[:0], rows[:0]) == 0


@every_isa
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_exact_tells_bits_apart(isa: str, channels: int, dtype: torch.dtype) -> None:
    """0.0 from -0.0, and nothing else: neither equal NaNs, nor what the value's type rounds away. In any channel."""
    for channel in {0, channels // 2, channels - 1}:
        kept = make(EXACT, channels, (dtype, dtype))
        kept.announced.zero_()
        kept.value[:4, channel] = torch.tensor([0.0, NAN, 1.0, 1.0], dtype=dtype)
        rows = kept.value[:4].float().clone()
        rows[0, channel] = -0.0
        rows[2, channel] = 1.0 + 2.0**-20
        rows[3, channel] = 1.0 + 2.0**-7
        expected = [1, 0, int(dtype == F32), 1]
        assert keep_rows(isa, kept, indices([0, 1, 2, 3]), rows) == sum(expected)
        assert kept.announced[:4].tolist() == expected


@every_isa
@pytest.mark.parametrize("form", [REFERENCE, ACCUMULATED])
@pytest.mark.parametrize("channels", CHANNELS)
def test_what_is_not_a_number_is_announced(isa: str, form: int, channels: int) -> None:
    """As is an infinite change; zeros of either sign are not told apart, and a weight of 0 hides a channel."""
    for channel in {0, channels // 2, channels - 1}:
        kept = make(form, channels)
        kept.record = torch.zeros(POSITIONS) if form == ACCUMULATED else kept.value.clone()
        compared = kept.value if form == ACCUMULATED else kept.record
        compared[:5, channel] = torch.tensor([0.0, NAN, 1.0, math.inf, -0.0])
        rows = compared[:5].clone()
        rows[:, channel] = torch.tensor([NAN, NAN, math.inf, math.inf, 0.0])
        kept.announced.zero_()
        kept.threshold = 1e30
        hidden = kept.clone()
        assert keep_rows(isa, kept, indices([0, 1, 2, 3, 4]), rows) == 4
        assert kept.announced[:5].tolist() == [1, 1, 1, 1, 0]
        if form == ACCUMULATED:
            assert kept.record[:5].tolist() == [0.0] * 5
        hidden.weights = torch.ones(channels)
        hidden.weights[channel] = 0.0
        hidden.threshold, rows = 0.0, compared[:5].clone()
        rows[:, channel] = 5.0
        compared[:5, channel] = hidden.value[:5, channel] = 1.0
        hidden.record = torch.zeros(POSITIONS) if form == ACCUMULATED else compared.clone()
        assert keep_rows(isa, hidden, indices([0, 1, 2, 3, 4]), rows) == 0


@every_isa
@pytest.mark.parametrize("form", [REFERENCE, ACCUMULATED])
@pytest.mark.parametrize("channels", [1, 2, 4, 16, 64])
@pytest.mark.parametrize("threshold", [2.0**-20, 0.5, 0.3, 1e-30, 1e-22, 3e18, 1e25])
def test_a_threshold_is_passed_by_more_than_itself(isa: str, form: int, channels: int, threshold: float) -> None:
    """As sqrt(mean of squares) in float32 decides, which knows no squares below 1e-45 and above 3e38."""
    kept = make(form, channels)
    kept.threshold = float(torch.tensor(threshold))
    steps = torch.tensor(threshold) * torch.tensor([0.0, 0.5, 1 - 2.0**-22, 1.0, 1 + 2.0**-22, 2.0, 1e6])
    kept.value[:], kept.record[:] = 0.0, 0.0
    rows = steps.reshape(-1, 1).expand(-1, channels).contiguous()
    expected = ~(rows.square().mean(1).sqrt() <= kept.threshold)
    kept.announced.zero_()
    keep_rows(isa, kept, torch.arange(len(steps), dtype=torch.int32), rows)
    assert kept.announced[: len(steps)].tolist() == expected.tolist()


@every_isa
@pytest.mark.parametrize("channels", [1, 6, 40])
def test_accumulated_announces_once_the_sum_is_past_the_threshold(isa: str, channels: int) -> None:
    kept = make(ACCUMULATED, channels)
    kept.value[:], kept.record[:], kept.threshold = 0.0, 0.0, 1.1
    told = []
    for frame in range(9):
        kept.announced.zero_()
        rows = torch.full((2, channels), 0.5 * (-1) ** frame)
        rows[1] = 0.5
        keep_rows(isa, kept, indices([3, 7]), rows)
        told.append(kept.announced[[3, 7]].tolist())
    # Position 3 moves by 0.5 and then by 1 again and again, position 7 once.
    assert told == [[0, 0], [1, 0], [0, 0], [1, 0], [0, 0], [1, 0], [0, 0], [1, 0], [0, 0]]
    assert kept.record[[3, 7]].tolist() == pytest.approx([1.0, 0.5])
