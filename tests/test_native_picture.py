"""Native preprocessing: its values against Preprocess and float64, and the law that only what changed is computed."""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_preprocess import picture, preprocesses
from test_preprocess import weights as defined_weights

from saccade.errors import InputError
from saccade.kernels import cpu
from saccade.preprocess import Preprocess
from saccade.stream.picture import Picture, _table
from saccade.video import Frame
from tests.instruction_sets import ISAS, every_isa

Array = npt.NDArray[Any]
pytestmark = pytest.mark.skipif(not ISAS, reason=f"no native module: {cpu.why_missing()}")

FITS = [{"fit": "resize"}, {"fit": "letterbox"}, {"fit": "crop"}, {"fit": "crop", "crop_fraction": 0.875}]
PAIRS = [
    ((1, 1), (1, 1)),
    ((1, 1), (5, 3)),
    ((1, 50), (17, 31)),
    ((50, 1), (31, 17)),
    ((63, 127), (1, 1)),
    ((63, 127), (17, 31)),
    ((17, 31), (63, 127)),
    ((48, 64), (48, 64)),
    ((48, 64), (96, 32)),
    ((127, 5), (127, 64)),
    ((37, 90), (111, 30)),
    ((101, 211), (7, 5)),
]


def matrix(p: Preprocess, source: int, target: int) -> Array:
    """Return torch's weights along one axis, (target, source): what it makes of each single pixel."""
    if source == target:
        return np.eye(source, dtype=np.float32)
    eye = torch.eye(source)[:, None, None]
    return p.resample(eye, (1, target))[:, 0, 0].T.numpy()


def matrices(p: Preprocess, source: tuple[int, int]) -> tuple[Array, Array]:
    """Return the weights of rows and columns for the whole input; padding has none."""
    resized, *corner = p.geometry(source)
    both = []
    for n, target, offset, size in zip(source, resized, corner, p.input_size(source), strict=True):
        full = np.zeros((size, n), np.float32)
        first, last = max(offset, 0), min(offset + target, size)
        full[first:last] = matrix(p, n, target)[first - offset : last - offset]
        both.append(full)
    return both[0], both[1]


def exact(p: Preprocess, frame: Array) -> Array:
    """Return the input of a frame in float64 from torch's float32 weights, (h, w, C)."""
    rows, columns = (m.astype(np.float64) for m in matrices(p, frame.shape[:2]))
    x = frame.astype(np.float64).transpose(2, 0, 1)
    if p.channels == "grey":
        x = (0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2])[None]
    elif p.channels == "bgr":
        x = x[::-1]
    x = (rows @ x @ columns.T).transpose(1, 2, 0)
    if p.interpolation == "bicubic":
        x = x.clip(0, 255)
    inside = np.outer(rows.any(axis=1), columns.any(axis=1))[..., None]
    return np.asarray((np.where(inside, x, p.pad_value) * p.scale - p.mean) / p.std)


def span(p: Preprocess) -> float:
    """Return the width of the range of values the input can have."""
    return 255 * p.scale / min(p.std)


def reach(weights: Array) -> Array:
    """Return which source pixels each output may read: from the first weight to the last, growing along the axis."""
    used = weights != 0
    counts = used.any(axis=1)
    first = np.where(counts, used.argmax(axis=1), weights.shape[1])
    end = np.where(counts, weights.shape[1] - used[:, ::-1].argmax(axis=1), 0)
    first = np.minimum.accumulate(first[::-1])[::-1]
    end = np.maximum.accumulate(end)
    pixels = np.arange(weights.shape[1])
    return np.asarray((pixels >= first[:, None]) & (pixels < end[:, None]) & counts[:, None])


def touched(rows: Array, columns: Array, changed: Array) -> Array:
    """Return which outputs, flat, have a changed pixel in their support."""
    return ((rows.astype(int) @ changed.astype(int) @ columns.T.astype(int)) > 0).ravel()


def channels_last(x: torch.Tensor) -> torch.Tensor:
    return x[0].permute(1, 2, 0)


def fresh(p: Preprocess, frame: Array, isa: str) -> torch.Tensor:
    new = Picture(p, frame.shape[:2], isa)
    new.update(frame)
    return new.rows


# Values


@every_isa
@pytest.mark.parametrize("fit", FITS, ids=lambda fit: "-".join(map(str, fit.values())))
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("channels", ["rgb", "bgr", "grey"])
def test_values_are_those_of_preprocess_to_rounding(
    isa: str, fit: dict[str, Any], interpolation: Any, antialias: bool, channels: Any
) -> None:
    several = channels != "grey"
    worst = theirs = 0.0
    for source, size in PAIRS:
        p = Preprocess(
            size=size,
            **fit,
            interpolation=interpolation,
            antialias=antialias,
            channels=channels,
            mean=(0.485, 0.456, 0.406) if several else (0.5,),
            std=(0.229, 0.224, 0.225) if several else (0.25,),
            pad_value=(114.0, 0.0, 255.0) if several else 114.0,
        )
        frame = picture(*source)
        got, torchs = fresh(p, frame, isa), channels_last(p(frame))
        assert (got.dtype, got.shape) == (torch.float32, (*size, p.channel_count))
        assert (got - torchs).abs().max() <= 2e-6 * span(p)
        truth = exact(p, frame)
        worst = max(worst, np.abs(got.numpy() - truth).max() / span(p))
        theirs = max(theirs, np.abs(torchs.numpy() - truth).max() / span(p))
    assert worst <= 2 * theirs


@settings(max_examples=200)
@given(preprocesses(), st.tuples(st.integers(1, 80), st.integers(1, 80)), st.sampled_from(ISAS or ("none",)))
def test_values_are_those_of_preprocess_whatever_the_settings(p: Preprocess, source: tuple[int, int], isa: str) -> None:
    frame = picture(*source)
    worst = np.abs(fresh(p, frame, isa).numpy() - channels_last(p(frame)).numpy()).max()
    assert worst <= 2e-6 * (span(p) + max(map(abs, p.mean)) / min(p.std))


@every_isa
@pytest.mark.parametrize("channels", ["rgb", "bgr", "grey"])
@pytest.mark.parametrize("fields", [{}, {"mean": (0.3,), "std": (0.7,)}, {"size": (80, 90), "fit": "letterbox"}])
@pytest.mark.parametrize("width", [1, 5, 16, 21, 43, 90])
def test_at_the_sources_size_the_bits_are_those_of_preprocess(
    isa: str, channels: Any, fields: dict[str, Any], width: int
) -> None:
    p = Preprocess(channels=channels, **fields)
    frame = picture(80, 90)[:, :width] if fields.get("fit") is None else picture(80, 90)
    assert torch.equal(fresh(p, frame, isa), channels_last(p(frame)))


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_tables_hold_torchs_weights_to_the_bit(interpolation: Any, antialias: bool) -> None:
    p = Preprocess(interpolation=interpolation, antialias=antialias)
    sizes = [1, 2, 3, 5, 16, 31, 90, 211, 640]
    for source, target in itertools.product(sizes, sizes):
        table: Any = _table(p, source, target, slice(0, target))
        got = np.zeros((target, source), np.float32)
        dense = np.reshape(np.array(table["weights"], np.float32), (target, table["taps"]))
        for i, (start, weights) in enumerate(zip(table["start"], dense, strict=True)):
            got[i, start : start + table["taps"]] = weights
        want = matrix(p, source, target)
        np.testing.assert_array_equal(got, want)
        pixels = np.arange(source)
        inside = (pixels >= np.c_[table["first"]]) & (pixels < np.c_[table["end"]])
        np.testing.assert_array_equal(inside, reach(want))
        if interpolation != "bicubic":  # of which an interior weight can be 0
            np.testing.assert_array_equal(inside, want != 0)


def test_torchs_weights_are_those_of_the_definition() -> None:
    """So that the float64 truth above is not only torch's own opinion of itself."""
    for interpolation, antialias in itertools.product(["bilinear", "bicubic", "nearest"], [True, False]):
        p = Preprocess(interpolation=interpolation, antialias=antialias)  # type: ignore[arg-type]
        for source, target in itertools.product([1, 5, 31, 90], [1, 3, 16, 90]):
            want = defined_weights(source, target, interpolation, antialias)
            np.testing.assert_allclose(matrix(p, source, target), want, atol=1e-4)


# The law


@st.composite
def edits(draw: st.DrawFn, height: int, width: int) -> Array:
    """Return which pixels of a frame change."""
    changed = np.zeros((height, width), bool)
    kind = draw(st.sampled_from(["nothing", "everything", "corner", "rectangles", "noise"]))
    if kind == "everything":
        changed[:] = True
    elif kind == "corner":
        changed[draw(st.sampled_from([0, -1])), draw(st.sampled_from([0, -1]))] = True
    elif kind == "rectangles":
        for _ in range(draw(st.integers(1, 4))):
            top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
            changed[top : top + draw(st.integers(1, height)), left : left + draw(st.integers(1, 9))] = True
    elif kind == "noise":
        share = draw(st.sampled_from([0.002, 0.05, 0.5]))
        changed = np.random.default_rng(draw(st.integers(0, 99))).random((height, width)) < share
    return changed


def edited(frame: Array, changed: Array, step: int) -> Array:
    """Return the frame with one channel of each changed pixel different, another from pixel to pixel."""
    after = frame.copy()
    ys, xs = np.nonzero(changed)
    after[ys, xs, (ys + xs + step) % 3] ^= np.uint8(1 << step % 8)
    return after


@settings(max_examples=300)
@given(preprocesses(), st.integers(1, 40), st.integers(1, 130), st.sampled_from(ISAS or ("none",)), st.data())
def test_after_any_frames_the_rows_are_those_of_the_last_alone(
    p: Preprocess, height: int, width: int, isa: str, data: st.DataObject
) -> None:
    rows, columns = map(reach, matrices(p, (height, width)))
    followed = Picture(p, (height, width), isa)
    frame = picture(height, width)
    assert followed.update(frame) == followed.mask.sum() == followed.mask.numel()
    for step in range(data.draw(st.integers(1, 4))):
        changed = data.draw(edits(height, width))
        frame = edited(frame, changed, step)
        count = followed.update(frame)
        want = touched(rows, columns, changed)
        np.testing.assert_array_equal(followed.mask.numpy(), want)
        assert count == want.sum()
        assert torch.equal(followed.rows, fresh(p, frame, isa))


WIDE = [
    Preprocess(size=(6, 300)),
    Preprocess(size=(12, 131), mean=(0.4,), std=(0.2,)),
    Preprocess(size=(3, 17), channels="bgr"),
    Preprocess(size=(16, 700), interpolation="bicubic"),
    Preprocess(size=(12, 600), channels="grey"),
]


@every_isa
@pytest.mark.parametrize("p", WIDE, ids=lambda p: f"{p.size[0]}x{p.size[1]}")
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.999])
def test_noise_of_any_density_is_found_where_it_is(isa: str, p: Preprocess, share: float) -> None:
    """Wide enough that a row has more runs of changes than are followed one by one."""
    frame = picture(12, 600)
    rows, columns = map(reach, matrices(p, (12, 600)))
    followed = Picture(p, (12, 600), isa)
    followed.update(frame)
    generator = np.random.default_rng(3)
    for step in range(4):
        changed = generator.random((12, 600)) < share
        frame = edited(frame, changed, step)
        followed.update(frame)
        np.testing.assert_array_equal(followed.mask.numpy(), touched(rows, columns, changed))
        assert torch.equal(followed.rows, fresh(p, frame, isa))


@every_isa
@pytest.mark.parametrize("source", [(20, 90), (21, 171)])
@pytest.mark.parametrize("fields", [{}, {"size": (31, 130)}, {"size": (9, 37)}, {"size": (64, 64), "fit": "letterbox"}])
def test_what_did_not_change_is_not_computed(isa: str, source: tuple[int, int], fields: dict[str, Any]) -> None:
    p = Preprocess(**fields)
    rows, columns = map(reach, matrices(p, source))
    followed = Picture(p, source, isa)
    frame = picture(*source)
    followed.update(frame)
    height, width = source
    for y, x in itertools.product([0, 1, height // 2, height - 1], [0, 20, 21, 22, width // 2, width - 2, width - 1]):
        for channel in range(3):
            frame[y, x, channel] ^= 1
            followed.rows.fill_(math.nan)
            count = followed.update(frame)
            want = np.outer(rows[:, y], columns[:, x]).ravel()
            np.testing.assert_array_equal(followed.mask.numpy(), want)
            written = ~followed.rows.isnan().any(dim=2).flatten().numpy()
            np.testing.assert_array_equal(written, want)
            assert count == want.sum()


@every_isa
def test_changes_far_apart_leave_what_is_between(isa: str) -> None:
    p = Preprocess()
    followed = Picture(p, (2, 200), isa)
    frame = picture(2, 200)
    followed.update(frame)
    frame[0, [3, 12, 150]] ^= 1
    followed.rows.fill_(math.nan)
    assert followed.update(frame) == 3
    written = ~followed.rows.isnan().any(dim=2).numpy()
    assert written[0, [3, 12, 150]].all()
    assert not written[0, 12 + 8 : 150 - 7].any()  # columns are computed in eights
    assert not written[0, 150 + 8 :].any()
    assert not written[1].any()


@every_isa
@pytest.mark.parametrize("fit", FITS, ids=lambda fit: "-".join(map(str, fit.values())))
def test_an_equal_frame_costs_no_position_and_a_reset_all(isa: str, fit: dict[str, Any]) -> None:
    p = Preprocess(size=(32, 40), **fit, pad_value=9.0)
    followed = Picture(p, (63, 127), isa)
    frame = picture(63, 127)
    assert followed.update(frame) == 32 * 40
    kept = followed.rows.clone()
    for _ in range(2):
        assert followed.update(frame.copy()) == 0
        assert not followed.mask.any()
    followed.reset()
    followed.rows[...] = math.nan
    assert followed.update(frame) == 32 * 40
    assert followed.mask.all()
    inside = ~followed.rows.isnan()
    assert torch.equal(followed.rows[inside], kept[inside])
    assert inside.all() if fit["fit"] != "letterbox" else not inside.all(), "padding is written once, by Python"


def test_what_a_crop_cuts_away_is_neither_kept_nor_looked_at() -> None:
    whole = Picture(Preprocess(size=(100, 100)), (400, 400))
    crop = Picture(Preprocess(size=(100, 100), fit="crop", crop_fraction=0.25), (400, 400))
    assert 400 * 400 * 3 < whole.nbytes < 400 * 400 * 3 + 100 * 100 * 13 + 60_000
    assert 100 * 100 * 16 < crop.nbytes < 100 * 100 * 16 + 40_000
    frame = picture(400, 400)
    crop.update(frame)
    frame[:149] ^= 255
    frame[:, 251:] ^= 255
    assert crop.update(frame) == 0
    frame[150, 249] ^= 1
    assert crop.update(frame) == 1


def test_pictures_in_several_threads_do_not_mix() -> None:
    p = Preprocess(size=(64, 96), mean=(0.5,), std=(0.2,))
    frames = [picture(120, 160, seed) for seed in range(12)]

    def follow(offset: int) -> list[torch.Tensor]:
        followed = Picture(p, (120, 160))
        results = []
        for frame in frames[offset:]:
            followed.update(frame)
            results.append(followed.rows.clone())
        return results

    with ThreadPoolExecutor(4) as pool:
        for offset, results in enumerate(pool.map(follow, range(8))):
            alone = follow(offset)
            assert all(torch.equal(a, b) for a, b in zip(results, alone, strict=True))


# What is taken for a frame


@every_isa
def test_every_kind_of_frame_gives_the_same_and_is_left_as_it_was(isa: str) -> None:
    p = Preprocess(size=(17, 31), channels="bgr", mean=(0.5,))
    frame = picture(20, 30)
    kept = frame.copy()
    read_only = frame.copy()
    read_only.flags.writeable = False
    planes = torch.from_numpy(frame).permute(2, 0, 1).contiguous()
    kinds = [
        frame,
        Frame(frame, 0, 0.0),
        torch.from_numpy(frame),
        read_only,
        np.asfortranarray(frame),
        frame[::-1].copy()[::-1],  # negative strides
        frame[:, ::-1].copy()[:, ::-1],
        np.concatenate([frame, frame], axis=1)[:, :30],
        np.repeat(frame, 2, axis=1)[:, ::2],
        np.repeat(frame, 2, axis=0)[::2],
        planes.permute(1, 2, 0),
    ]
    want = fresh(p, frame, isa)
    followed = Picture(p, (20, 30), isa)
    for index, kind in enumerate(kinds):
        assert followed.update(kind) == (0 if index else 17 * 31)
        assert torch.equal(followed.rows, want)
        new = Picture(p, (20, 30), isa)
        new.update(kind)
        assert torch.equal(new.rows, want)
    assert np.array_equal(frame, kept)


def test_frames_of_one_column_or_row_with_odd_strides() -> None:
    p = Preprocess(size=(5, 4))
    for source in [(9, 1), (1, 9), (1, 1)]:
        large = picture(18, 18)
        part = large[: source[0] * 2 : 2, : source[1] * 2 : 2]
        assert torch.equal(fresh(p, part, ISAS[0]), fresh(p, part.copy(), ISAS[0]))
    one_row = torch.from_numpy(picture(1, 9)).expand(6, 9, 3)  # a stride of 0
    assert torch.equal(fresh(p, one_row, ISAS[-1]), fresh(p, one_row.contiguous(), ISAS[-1]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ([[[0, 0, 0]]], r"a Frame, a numpy array or a tensor of \(H, W, 3\) uint8, got list"),
        (np.zeros((6, 8, 3), np.float32), "uint8 in 0..255, got float32"),
        (np.zeros((8, 6, 3), np.uint8), "a frame of 8x6 pixels, expected 6x8; make a new picture for another source"),
        (torch.zeros(6, 8, 3, dtype=torch.uint8, device="meta"), r"a frame on meta.*move it with \.cpu\(\)"),
    ],
)
def test_what_is_no_frame_of_the_source_is_refused_and_changes_nothing(frame: Any, message: str) -> None:
    followed = Picture(Preprocess(size=(4, 4)), (6, 8))
    good = picture(6, 8)
    with pytest.raises(InputError, match=message):
        followed.update(frame)
    followed.update(good)
    kept = followed.rows.clone()
    with pytest.raises(InputError, match=message):
        followed.update(frame)
    assert torch.equal(followed.rows, kept)
    assert followed.mask.all()
    assert followed.update(good) == 0


def test_a_set_this_machine_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match="'avx3'"):
        Picture(Preprocess(), (4, 4), "avx3")
    with pytest.raises(ValueError, match="source_size"):
        Picture(Preprocess(), (0, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"taps": 2}, "parts do not fit"),
        ({"start": [0, 1, 9]}, "beyond the source"),
        ({"start": [0, 1, -1]}, "beyond the source"),
        ({"end": [1, 2, 5]}, "not inside its taps"),
        ({"first": [0, 0, 2]}, "not inside its taps"),
        ({"start": [0, 2, 1], "first": [0, 2, 1], "end": [1, 3, 2]}, "falls"),
    ],
)
def test_impossible_tables_are_refused(change: dict[str, Any], message: str) -> None:
    module: Any = cpu.native_module()
    good = {"taps": 1, "start": [0, 1, 2], "first": [0, 1, 2], "end": [1, 2, 3], "weights": [1.0] * 3}
    out, mask = torch.zeros(3, 3, 3), torch.zeros(9, dtype=torch.uint8)
    settings: dict[str, Any] = {
        "source": (3, 3),
        "size": (3, 3),
        "corner": (0, 0),
        "rows": module.AxisTable(**good),
        "columns": module.AxisTable(**good),
        "order": 0,
        "clip": False,
        "luma": (0.0, 0.0, 0.0),
        "scale": 1.0,
        "mean": [0.0] * 3,
        "deviation": [1.0] * 3,
        "out": out.data_ptr(),
        "mask": mask.data_ptr(),
    }
    module.Picture(ISAS[0], **settings)
    for axis in ("rows", "columns"):
        with pytest.raises(ValueError, match=message):
            module.Picture(ISAS[0], **settings | {axis: module.AxisTable(**good | change)})
    with pytest.raises(ValueError, match="not inside the output"):
        module.Picture(ISAS[0], **settings | {"corner": (0, 1)})
    with pytest.raises(ValueError, match="one number per channel"):
        module.Picture(ISAS[0], **settings | {"order": 2})
