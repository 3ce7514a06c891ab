"""Preprocess: against its definition in numpy, the law that a change stays local, boxes back, and files."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.errors import InputError
from saccade.preprocess import Preprocess
from saccade.video import Frame

Array = npt.NDArray[Any]

# The definition: separable resampling in float64, one row of weights per output pixel.


def triangle(x: Array) -> Array:
    return np.maximum(0, 1 - np.abs(x))


def cubic(a: float) -> Callable[[Array], Array]:
    """Keys' kernel; a = -0.5 when antialiasing (as PIL), -0.75 otherwise (as OpenCV)."""

    def kernel(x: Array) -> Array:
        x = np.abs(x)
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
        return np.where(x < 1, near, np.where(x < 2, far, 0))

    return kernel


def weights(source: int, target: int, interpolation: str, antialias: bool, stretch: float = 1.0) -> Array:
    """Return (target, source): how much of each source pixel is in each target pixel, along one axis.

    `stretch` widens the kernel, to ask what it could possibly touch.
    """
    matrix = np.zeros((target, source))
    if source == target:
        return np.eye(source)
    ratio = source / target
    for i in range(target):
        centre = (i + 0.5) * ratio
        if interpolation == "nearest":  # in float32, which decides where the centre is between two pixels
            centre = np.float32(i + 0.5) * np.float32(ratio)
            matrix[i, min(int(centre), source - 1)] = 1
        elif antialias:  # the kernel grows with the ratio; what falls outside the source is left out
            kernel = triangle if interpolation == "bilinear" else cubic(-0.5)
            matrix[i] = kernel((np.arange(source) + 0.5 - centre) / max(ratio, 1) / stretch)
            matrix[i] /= matrix[i].sum()
        else:  # the kernel has its own size; what falls outside takes the edge's value
            before = math.floor(centre - 0.5)
            reach = np.arange(before - 2, before + 4)  # one further each way than there are weights, unless stretched
            kernel = triangle if interpolation == "bilinear" else cubic(-0.75)
            for j, weight in zip(reach, kernel((reach + 0.5 - centre) / stretch), strict=True):
                matrix[i, min(max(j, 0), source - 1)] += weight
    return matrix


def axes(p: Preprocess, height: int, width: int, stretch: float = 1.0) -> tuple[Array, Array]:
    """Return the row and column weights from a source to the whole input; padding has none."""
    (rows, columns), top, left = p.geometry((height, width))
    h, w = p.input_size((height, width))
    out = []
    for source, resized, offset, size in ((height, rows, top, h), (width, columns, left, w)):
        matrix = np.zeros((size, source))
        inner = weights(source, resized, p.interpolation, p.antialias, stretch)
        first, last = max(offset, 0), min(offset + resized, size)
        matrix[first:last] = inner[first - offset : last - offset]
        out.append(matrix)
    return out[0], out[1]


def expected(p: Preprocess, frame: Array) -> Array:
    """Return the input in float64, (C, h, w)."""
    x = frame.astype(np.float64).transpose(2, 0, 1)
    if p.channels == "grey":
        x = (0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2])[None]
    elif p.channels == "bgr":
        x = x[::-1]
    rows, columns = axes(p, *frame.shape[:2])
    x = rows @ x @ columns.T
    if p.interpolation == "bicubic":
        x = x.clip(0, 255)
    inside = np.outer(rows.any(axis=1), columns.any(axis=1))
    x = np.where(inside, x, np.reshape(np.broadcast_to(p.pad_value, len(x)), (-1, 1, 1)))
    mean, std = (np.reshape(np.broadcast_to(v, len(x)), (-1, 1, 1)) for v in (p.mean, p.std))
    return np.asarray((x * p.scale - mean) / std)


def picture(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


sizes = st.tuples(st.integers(1, 33), st.integers(1, 33))


@st.composite
def preprocesses(draw: st.DrawFn) -> Preprocess:
    fit = draw(st.sampled_from(["resize", "letterbox", "crop"]))
    channels = draw(st.sampled_from(["rgb", "bgr", "grey"]))
    count = draw(st.sampled_from([1, 1 if channels == "grey" else 3]))
    numbers = st.floats(-3, 3).map(lambda v: round(v, 2))
    return Preprocess(
        size=draw(sizes if fit != "resize" else st.none() | sizes),
        fit=fit,
        crop_fraction=draw(st.sampled_from([1.0, 0.875, 0.5])) if fit == "crop" else 1.0,
        channels=channels,
        scale=draw(st.sampled_from([1 / 255, 1.0])),
        mean=tuple(draw(st.lists(numbers, min_size=count, max_size=count))),
        std=tuple(draw(st.lists(st.sampled_from([0.2, 1.0, 58.4]), min_size=count, max_size=count))),
        pad_value=draw(st.sampled_from([0.0, 114.0])),
        interpolation=draw(st.sampled_from(["bilinear", "bicubic", "nearest"])),
        antialias=draw(st.booleans()),
    )


AWKWARD = [(1, 1), (63, 127), (48, 64), (1, 50), (50, 1)]
FITS = [{"fit": "resize"}, {"fit": "letterbox"}, {"fit": "crop"}, {"fit": "crop", "crop_fraction": 0.875}]


@pytest.mark.parametrize("source", AWKWARD)
@pytest.mark.parametrize("size", [(1, 1), (17, 31), (48, 64), (64, 48), (96, 128)])
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("antialias", [True, False])
def test_values_are_those_of_the_definition(
    source: tuple[int, int], size: tuple[int, int], fit: dict[str, Any], interpolation: Any, antialias: bool
) -> None:
    p = Preprocess(size=size, **fit, interpolation=interpolation, antialias=antialias, scale=1.0, pad_value=114)
    frame = picture(*source)
    got = p(frame)
    assert (got.dtype, tuple(got.shape), got.is_contiguous()) == (torch.float32, (1, 3, *size), True)
    # float32 coordinates up to 128 and values up to 255: 2^-23 * 128 * 255 for a weight, a few of them
    np.testing.assert_allclose(got[0], expected(p, frame), atol=0.02, rtol=0)


@settings(max_examples=150)
@given(preprocesses(), sizes, st.integers(0, 9))
def test_values_are_those_of_the_definition_whatever_the_settings(
    p: Preprocess, source: tuple[int, int], seed: int
) -> None:
    frame = picture(*source, seed)
    bound = 0.02 * p.scale / min(p.std)
    got = p(frame)
    assert got.shape == (1, p.channel_count, *p.input_size(source))
    np.testing.assert_allclose(got[0], expected(p, frame), atol=bound + 1e-5, rtol=1e-5)


def test_nothing_is_lost_at_the_source_size() -> None:
    frame = picture(63, 127)
    assert torch.equal(Preprocess(scale=1.0)(frame)[0], torch.from_numpy(frame).permute(2, 0, 1).float())
    bgr = Preprocess(scale=1.0, channels="bgr", size=(63, 127))(frame)
    assert torch.equal(bgr[0], torch.from_numpy(frame[..., ::-1].copy()).permute(2, 0, 1).float())


def test_grey_is_the_bt601_luma() -> None:
    frame = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    got = Preprocess(channels="grey")(frame).flatten()
    assert got.tolist() == pytest.approx([0.299, 0.587, 0.114, 1.0])


def test_a_known_normalisation() -> None:
    # ESPNet's, as its authors wrote it: (v - mean) / std / 255 on 0..255 values, BGR.
    mean, std = (72.39, 82.91, 73.16), (45.32, 46.15, 44.91)
    p = Preprocess(channels="bgr", scale=1.0, mean=mean, std=tuple(s * 255 for s in std))
    frame = picture(5, 7)
    theirs = (frame[..., ::-1].astype(np.float64) - mean) / std / 255
    np.testing.assert_allclose(p(frame)[0].permute(1, 2, 0), theirs, rtol=1e-5, atol=1e-8)


# The law


@settings(max_examples=200)
@given(preprocesses(), sizes, st.data())
def test_a_change_stays_under_its_kernel(p: Preprocess, source: tuple[int, int], data: st.DataObject) -> None:
    before = picture(*source, data.draw(st.integers(0, 9)))
    y, x = (data.draw(st.integers(0, n - 1)) for n in source)
    after = before.copy()
    after[y, x] ^= np.uint8(data.draw(st.integers(1, 255)))
    changed = (p(before) != p(after)).any(dim=1)[0].numpy()
    rows, columns = axes(p, *source, stretch=1.0001)  # float32 may see a weight of 1e-7 at a kernel's very edge
    assert not changed[np.outer(rows[:, y], columns[:, x]) == 0].any()


@settings(max_examples=60)
@given(preprocesses(), sizes)
def test_an_equal_frame_gives_equal_bits(p: Preprocess, source: tuple[int, int]) -> None:
    frame = picture(*source)
    assert torch.equal(p(frame), p(frame.copy()))


def test_a_bright_change_elsewhere_changes_no_bit_here() -> None:
    # What a per-frame normalisation or autocontrast would not keep.
    p = Preprocess(size=(96, 160), fit="letterbox", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    dark = picture(120, 160) // 8
    light = dark.copy()
    light[:, 80:] = 255
    assert torch.equal(p(dark)[..., :60], p(light)[..., :60])
    assert not torch.equal(p(dark), p(light))


# Geometry


@pytest.mark.parametrize(
    ("source", "size", "fit", "resized", "top", "left"),
    [
        ((480, 640), (640, 640), {"fit": "letterbox"}, (480, 640), 80, 0),
        ((1080, 1920), (640, 640), {"fit": "letterbox"}, (360, 640), 140, 0),
        ((100, 99), (50, 51), {"fit": "letterbox"}, (50, 50), 0, 0),
        ((1, 1000), (10, 10), {"fit": "letterbox"}, (1, 10), 4, 0),
        ((480, 640), (224, 224), {"fit": "crop", "crop_fraction": 0.875}, (256, 341), -16, -58),  # torchvision's
        ((640, 480), (224, 224), {"fit": "crop", "crop_fraction": 0.875}, (341, 256), -58, -16),
        ((300, 300), (300, 300), {"fit": "crop", "crop_fraction": 0.904}, (331, 331), -16, -16),
        ((432, 768), (384, 672), {"fit": "resize"}, (384, 672), 0, 0),
    ],
)
def test_known_geometries(
    source: tuple[int, int], size: tuple[int, int], fit: Any, resized: tuple[int, int], top: int, left: int
) -> None:
    assert Preprocess(size=size, **fit).geometry(source) == (resized, top, left)


@settings(max_examples=200)
@given(preprocesses(), sizes)
def test_a_crop_covers_and_a_letterbox_fits(p: Preprocess, source: tuple[int, int]) -> None:
    (rows, columns), top, left = p.geometry(source)
    height, width = p.input_size(source)
    if p.fit == "letterbox":
        assert rows == height or columns == width
        assert 0 <= top <= height - rows
        assert 0 <= left <= width - columns
    else:
        assert -top + height <= rows
        assert -left + width <= columns
        assert top <= 0 >= left


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("height", "width"), [(120, 200), (200, 120), (63, 127)])
def test_boxes_come_back_to_what_they_enclose(fit: dict[str, Any], height: int, width: int) -> None:
    p = Preprocess(size=(96, 80), **fit)
    x1, y1, x2, y2 = width // 2 - 9, height // 2 - 6, width // 2 + 12, height // 2 + 15
    frame = np.zeros((height, width, 3), np.uint8)
    frame[y1:y2, x1:x2] = 255
    ys, xs = np.nonzero(p(frame)[0, 0].numpy() > 0.5)
    seen = torch.tensor([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]])
    back = p.to_source(seen, (height, width))
    (rows, columns), *_ = p.geometry((height, width))
    assert back.shape == (1, 4)
    tolerance = max(1.0, height / rows, width / columns)  # the box is seen in whole input pixels
    np.testing.assert_allclose(back[0], [x1, y1, x2, y2], atol=tolerance)


@settings(max_examples=100)
@given(preprocesses(), sizes)
def test_the_whole_source_comes_back_whole(p: Preprocess, source: tuple[int, int]) -> None:
    (rows, columns), top, left = p.geometry(source)
    box = torch.tensor([left, top, left + columns, top + rows], dtype=torch.float64)
    np.testing.assert_allclose(p.to_source(box, source), [0, 0, source[1], source[0]], atol=1e-9)


def test_boxes_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match=r"boxes must have shape \(\.\.\., 4\) as xyxy, got \(2, 5\)"):
        Preprocess().to_source(torch.zeros(2, 5), (4, 4))
    assert Preprocess().to_source(torch.zeros(0, 4), (4, 4)).shape == (0, 4)


# What is taken for a frame


def test_every_kind_of_frame_gives_the_same_and_is_left_as_it_was() -> None:
    p = Preprocess(size=(17, 31), channels="bgr", mean=(0.5,))
    frame = picture(20, 30)
    kept = frame.copy()
    read_only = frame.copy()
    read_only.flags.writeable = False
    kinds = [
        frame,
        Frame(frame, 0, 0.0),
        torch.from_numpy(frame),
        read_only,
        np.asfortranarray(frame),
        frame[::-1].copy()[::-1],  # negative strides
        np.concatenate([frame, frame], axis=1)[:, :30],
    ]
    results = [p(kind) for kind in kinds]
    assert all(torch.equal(result, results[0]) for result in results)
    assert np.array_equal(frame, kept)
    plain = torch.from_numpy(frame)
    Preprocess(scale=1.0, mean=(5.0,))(plain)
    assert np.array_equal(plain.numpy(), kept)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ([[[0, 0, 0]]], r"a Frame, a numpy array or a tensor of \(H, W, 3\) uint8, got list"),
        (np.zeros((4, 4), np.uint8), r"shape \(H, W, 3\), got \(4, 4\)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), r"shape \(H, W, 3\), got \(3, 4, 4\); channels come last"),
        (np.zeros((0, 4, 3), np.uint8), r"got \(0, 4, 3\)"),
        (np.zeros((4, 4, 3), np.float32), "uint8 in 0..255, got float32; convert it first"),
        (torch.zeros(4, 4, 3), r"uint8 in 0..255, got torch\.float32"),
    ],
)
def test_what_is_no_frame_is_refused(frame: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Preprocess()(frame)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": (0, 4)}, r"size must be \(height, width\), two ints of at least 1, got \(0, 4\)"),
        ({"size": 224}, r"size must be \(height, width\).*got 224"),
        ({"size": (4.0, 4)}, r"size must be \(height, width\)"),
        ({"fit": "stretch"}, r"fit must be one of \('resize', 'letterbox', 'crop'\), got 'stretch'"),
        ({"fit": "crop"}, r"fit='crop' needs a size \(height, width\), got None"),
        ({"channels": "gray"}, r"channels must be one of .*got 'gray'"),
        ({"interpolation": "lanczos"}, r"interpolation must be one of .*got 'lanczos'"),
        ({"scale": 0}, r"scale must be positive, got 0\.0"),
        ({"scale": float("nan")}, "scale must be a finite number, got nan"),
        ({"mean": 0.5}, r"mean must be a tuple of numbers, got 0\.5"),
        ({"mean": (0.1, 0.2)}, r"mean must hold 1 or 3 numbers for channels='rgb', got 2"),
        ({"channels": "grey", "std": (1, 1, 1)}, r"std must hold 1 or 1 numbers for channels='grey', got 3"),
        ({"std": (1, 0, 1)}, r"std must be positive, got \(1\.0, 0\.0, 1\.0\)"),
        ({"std": (True,)}, "std must be a finite number, got True"),
        ({"pad_value": "grey"}, "pad_value must"),
        ({"crop_fraction": 0.5}, "crop_fraction is for fit=\"crop\" only, got fit='resize'"),
        ({"size": (4, 4), "fit": "crop", "crop_fraction": 1.5}, r"crop_fraction must be in \(0, 1\], got 1\.5"),
        ({"antialias": 1}, "antialias must be True or False, got 1"),
    ],
)
def test_impossible_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocess(**fields)
