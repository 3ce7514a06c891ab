"""Histories that move along with the picture: exactness, bounds, what is forced, and when a stream does it."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawn_networks import LAYERS, Drawn
from gated_networks import Block, Gated, gated_layers
from networks import RandomNetwork
from test_laws import check_convolutions, check_record
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import saccade
from saccade.errors import InputError
from saccade.kernels import cpu
from saccade.stream.camera import Geography, find_shift, shares_by_step, why_fixed
from saccade.stream.moves import Move, moved
from saccade.stream.native.moving import move_in_place
from tests.instruction_sets import every_isa

needs_native = pytest.mark.skipif(cpu.native_module() is None, reason="there is no native engine")
SIZES = [(13, 17), (8, 31), (24, 32), (19, 40)]
MARGIN = 30


def same(left: object, right: object) -> bool:
    a, b = pytree.tree_leaves(left), pytree.tree_leaves(right)
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def exact(stream: saccade.Stream, got: object, full: object) -> bool:
    """Bit for bit on the engine. torch's arithmetic depends on where in a tensor a number lies, so the reference is
    compared within rounding."""
    if stream.executor == "native":
        return same(got, full)
    pairs = zip(pytree.tree_leaves(got), pytree.tree_leaves(full), strict=True)
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()) + 1e-9) for a, b in pairs if a.numel())


def run(stream: saccade.Stream, frame: Tensor, by: tuple[int, int]) -> Any:
    """Runs a frame on a history that moved, whether the stream would have chosen so or not."""
    what: dict[str, Any] = {}
    if by != (0, 0) and stream.frames:
        shift = find_shift(Geography(stream.plan), by)
        what = {"forced": shift.forced, "moves": shift.moves}
    done = stream._executor.run(stream.state, [frame], stream.settings, **what)
    stream._last, stream._cost = done, done.total
    return stream.plan.structured(done.outputs)


def pans(size: tuple[int, int], channels: int, seed: int, frames: int) -> list[tuple[Tensor, tuple[int, int]]]:
    """Windows of a picture that move by 0 to 16 pixels either way, with how far each is from the one before. Some say
    wrongly how far; something else changes in some."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    world = torch.rand(1, channels, size[0] + 2 * MARGIN, size[1] + 2 * MARGIN, generator=generator)
    top = left = MARGIN
    video = []
    for index in range(frames):
        step = draw.choice([1, 1, 2, 4, 8])
        by = (step * draw.randint(-2, 2), step * draw.randint(-2, 2))
        if not (0 <= top + by[0] <= 2 * MARGIN and 0 <= left + by[1] <= 2 * MARGIN):
            by = (0, 0)
        if index % 4 != 3:
            top, left = top + by[0], left + by[1]
        frame = world[:, :, top : top + size[0], left : left + size[1]].clone()
        if index % 3 == 2:
            frame[0, 0, size[0] // 2, size[1] // 2] += 1.0
        video.append((frame, by))
    return video


@pytest.mark.parametrize("record", ["reference", "coarse", "accumulated"])
@pytest.mark.parametrize("seed", range(8))
def test_threshold_0_stays_a_full_pass_however_the_picture_moves(seed: int, record: str, executor: str) -> None:
    size = SIZES[seed % len(SIZES)]
    plan = saccade.make_plan(RandomNetwork(seed), torch.zeros(1, 3, *size))
    stream = saccade.Stream(plan, threshold=0, record=record, executor=executor)
    for frame, by in pans(size, 3, seed, 6):
        assert exact(stream, run(stream, frame, by), stream.full_pass(frame)), by


@needs_native
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@every_isa
def test_drawn_networks_stay_a_full_pass(isa: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators and sizes of every kind, most of them tied to places in the picture in some way."""
    monkeypatch.setenv(cpu.ISA_VARIABLE, isa)
    moves = 0
    for seed in range(30):
        draw = random.Random(seed)
        size, channels = (draw.randint(1, 24), draw.randint(1, 24)), draw.choice([1, 2, 3, 4, 16])
        kinds = [draw.choice(sorted(LAYERS)) for _ in range(draw.randint(1, 8))]
        plan = saccade.make_plan(Drawn(kinds, seed, (1, channels, *size)), torch.zeros(1, channels, *size))
        stream = saccade.Stream(plan, threshold=0, executor="native", precision=precision)
        for frame, by in pans(size, channels, seed, 4):
            assert same(run(stream, frame, by), stream.full_pass(frame)), (seed, kinds, by)
            moves += by != (0, 0) and len(find_shift(Geography(plan), by).moves) > 1
    assert moves > 15


OPERATORS: dict[str, tuple[nn.Module, int]] = {
    "3x3": (nn.Conv2d(2, 3, 3, padding=1), 1),
    "no padding": (nn.Conv2d(2, 3, (1, 4)), 1),
    "stride": (nn.Conv2d(2, 3, 3, stride=2, padding=1), 2),
    "dilated": (nn.Conv2d(2, 3, 3, padding=2, dilation=2), 1),
    "even, same": (nn.Conv2d(2, 3, 4, padding="same"), 1),
    "transposed": (nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1), 1),
    "average": (nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), 2),
    "bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), 1),
    "nearest": (nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3)), 1),
    "shuffle": (nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(8, 8, 1), nn.PixelShuffle(2), nn.Conv2d(2, 2, 1)), 2),
    "reflection": (nn.Sequential(nn.ReflectionPad2d((2, 1, 0, 1)), nn.Conv2d(2, 3, 3)), 1),
    "zeros": (nn.Sequential(nn.ZeroPad2d((1, 0, 1, 1)), nn.Conv2d(2, 3, 2)), 1),
}


@pytest.mark.parametrize("by", [(0, 2), (-2, 0), (4, -2), (-6, -4)])
@pytest.mark.parametrize("operator", OPERATORS)
def test_forced_is_what_no_longer_holds_and_nothing_else(operator: str, by: tuple[int, int]) -> None:
    """Where a moved result differs from the operator's result for the moved input, found by computing both."""
    torch.manual_seed(0)
    model, generator = OPERATORS[operator][0].double().eval(), torch.Generator().manual_seed(1)
    before = torch.rand(1, 2, 12, 14, generator=generator, dtype=torch.float64)
    now = moved(before, Move((2, 3), by))
    fresh = torch.rand(before.shape, generator=generator, dtype=torch.float64)
    at = torch.stack(torch.meshgrid(torch.arange(12) + by[0], torch.arange(14) + by[1], indexing="ij"))
    came = (at[0] >= 0) & (at[0] < 12) & (at[1] >= 0) & (at[1] < 14)
    now = torch.where(came, now, fresh)
    plan = saccade.make_plan(model, before)
    shift = find_shift(Geography(plan), by)
    (name,) = (ref.name for ref in plan.outputs)
    with torch.no_grad():
        held, wanted = moved(model(before), shift.moves[name]), model(now)
    differs = ((held - wanted).abs() > 1e-9).any(1, keepdim=True)
    assert torch.equal(shift.forced[name], differs)
    assert not differs.all()


@needs_native
@pytest.mark.parametrize("by", [(0, 3), (0, -3), (2, 0), (-2, 0), (1, -2), (-1, 2), (9, 0), (0, 11), (0, 0)])
def test_rows_move_in_place_as_by_a_copy(by: tuple[int, int]) -> None:
    numbers = torch.arange(2 * 5 * 7 * 8, dtype=torch.float32)
    layouts = [
        (numbers.view(2, 7, 8, 5).permute(0, 3, 1, 2), (2, 3)),  # channels last
        (numbers.view(2, 7, 8, 5).permute(0, 3, 1, 2)[:, 1:3], (2, 3)),  # some channels of wider rows
        (numbers.view(2, 5, 7, 8), (2, 3)),
        (numbers.view(2, 7, 8, 5), (1, 2)),
        (numbers.view(2, 8, 7, 5).permute(0, 3, 2, 1), (2, 3)),  # columns before rows
        (numbers.bfloat16().view(2, 7, 8, 5).permute(0, 3, 1, 2), (2, 3)),
        (numbers[:112].view(2, 1, 7, 8), (2, 3)),
    ]
    for tensor, axes in layouts:
        mine = tensor.clone(memory_format=torch.preserve_format)
        around = torch.empty(numbers.numel(), dtype=tensor.dtype).copy_(numbers)
        inside = around.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
        others = around.clone()
        move_in_place(inside, Move(axes, by))
        assert torch.equal(inside, moved(mine.copy_(tensor), Move(axes, by)))
        inside.copy_(tensor)
        assert torch.equal(around, others), "it wrote elsewhere"


class Tied(nn.Module):
    """A small network with one operator in its middle that is tied to places in the picture."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.how, self.first, self.last = how, nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.map, self.line = nn.Parameter(torch.rand(1, 1, 16, 24)), nn.Linear(4 * 16 * 24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        if self.how == "weights":
            x = x * self.map
        elif self.how == "softmax":
            x = x.softmax(3)
        elif self.how == "pooling":
            x = x * x.mean((2, 3), keepdim=True)
        elif self.how == "linear":
            x = x + self.line(x.flatten(1)).view(1, 4, 1, 1)
        elif self.how == "corners":
            x = F.interpolate(x, (31, 47), mode="bilinear", align_corners=True)
        elif self.how == "flip":
            x = x.flip(3)
        elif self.how == "order":
            x = torch.cummax(x, 3).values
        return self.last(x)


WHY = {
    "weights": "weights differ",
    "softmax": "along the picture",
    "pooling": "over the picture",
    "linear": "moved about",
    "corners": "weights differ",
    "flip": "moved about",
    "order": "no sparse form",
}


@pytest.mark.parametrize("how", WHY)
def test_what_is_tied_to_places_is_computed_whole_and_says_so(how: str, executor: str) -> None:
    stream = saccade.Stream(Tied(how), torch.zeros(1, 3, 16, 24), threshold=0, executor=executor)
    shift = find_shift(Geography(stream.plan), (0, 2))
    assert any(WHY[how] in reason for reason in shift.reasons.values())
    assert 0 < shift.moved_macs < 1
    for frame, by in pans((16, 24), 3, 1, 6):
        assert exact(stream, run(stream, frame, by), stream.full_pass(frame))


def test_movements_a_stride_does_not_divide_move_the_layers_before_it() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1))
    plan = saccade.make_plan(model, torch.zeros(1, 3, 64, 64))
    geography = Geography(plan)
    moving = {by: len(find_shift(geography, (0, by)).moves) for by in (1, 2, 3, 4)}
    assert moving == {1: 2, 2: 3, 3: 2, 4: 4}  # the input among them
    first = next(step for step in plan.steps if step.calls).macs / plan.dense_macs
    # Of 64 columns the outer ones read padding now, and the one before the last did; nothing came to the last.
    assert find_shift(geography, (0, 1)).moved_macs == pytest.approx(first * 61 / 64)
    assert shares_by_step(plan)[1] == find_shift(geography, (1, 1)).moved_macs


@pytest.mark.parametrize(("record", "tolerance"), [("reference", 0.02), ("coarse", 0.02), ("accumulated", 0.3)])
def test_no_drift_over_moved_frames(record: str, tolerance: float, executor: str) -> None:
    """The bounds of the change rule hold after every one of 50 frames, most of them moved, with noise and a pan."""
    size = (18, 22)
    stream = saccade.Stream(
        RandomNetwork(5, blocks=1), torch.zeros(1, 3, *size), tolerance=tolerance, record=record, executor=executor
    )
    generator, partial = torch.Generator().manual_seed(0), 0
    for frame, by in pans(size, 3, 3, 50):
        run(stream, frame + 0.002 * torch.randn(frame.shape, generator=generator), by)
        partial += any(0 < cost.active < cost.positions for cost in stream.step_costs)
        check_record(stream)
        check_convolutions(stream)
    assert partial > 25


@pytest.mark.parametrize("form", ["residual", "refresh"])
@pytest.mark.parametrize("norm", [True, False])
def test_gated_convolutions_move_what_they_add_up(norm: bool, form: str, executor: str) -> None:
    """Where gates fire at every change, a moved stream is the dense network."""
    torch.manual_seed(1)
    network = Block(form=form, norm=norm)
    with torch.no_grad():
        for layer in gated_layers(network):
            layer.phi_bias.fill_(1e6)
    plan = saccade.make_plan(network, torch.zeros(1, 3, 20, 24))
    stream = saccade.Stream(plan, executor=executor)
    for index, (frame, by) in enumerate(pans((20, 24), 3, 2, 7)):
        with torch.no_grad():
            dense = network(frame)
        for got, want in zip(run(stream, frame, by), dense, strict=True):
            allowed = (index + 2) * 64 * torch.finfo(torch.float32).eps * want.abs().max()
            torch.testing.assert_close(got, want, rtol=0, atol=float(allowed))


# --- the stream that finds the movement itself


def texture(height: int, width: int, *, seed: int = 0) -> Tensor:
    """A picture with detail of several sizes, (1, 3, height, width) in 0..1."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.zeros(1, 3, height, width)
    for cell in (1, 3, 8, 20):
        coarse = torch.rand(1, 3, height // cell + 2, width // cell + 2, generator=generator)
        picture += F.interpolate(coarse, scale_factor=cell, mode="nearest")[:, :, :height, :width] / 4
    return picture


def panned(frames: int, size: tuple[int, int], by: tuple[int, int]) -> list[Tensor]:
    """A window that moves by the same amount from frame to frame, from a corner or along an edge of a picture."""
    far = [abs(step) * (frames - 1) for step in by]
    world = texture(size[0] + far[0], size[1] + far[1])
    top, left = (0 if step >= 0 else way for step, way in zip(by, far, strict=True))
    corners = [(top + index * by[0], left + index * by[1]) for index in range(frames)]
    return [world[:, :, y : y + size[0], x : x + size[1]].clone() for y, x in corners]


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, 2, 1)
    )


@pytest.mark.parametrize("by", [(0, 4), (0, -8), (4, 0), (-8, 12)])
def test_a_pan_is_found_and_costs_little(by: tuple[int, int], executor: str) -> None:
    plan = saccade.make_plan(small_network(), torch.zeros(1, 3, 96, 128))
    moving, still = (saccade.Stream(plan, threshold=0, executor=executor, camera=c) for c in ("moving", "still"))
    assert (moving.camera, still.camera) == ("moving", "still")
    for index, frame in enumerate(panned(6, (96, 128), by)):
        got = moving(frame)
        still(frame)
        assert exact(moving, got, moving.full_pass(frame))
        assert moving.camera_shift == (by if index else (0, 0))
        assert still.camera_shift == (0, 0)
        if index:
            assert still.cost.macs_fraction > 0.99
            assert moving.cost.macs_fraction < (0.3 if 0 in by else 0.45)
            assert moving.cost.gate_macs > sum(cost.gate_macs for cost in moving.step_costs)  # looking is counted


def test_a_pan_of_video_frames_is_found(executor: str) -> None:
    plan = saccade.make_plan(small_network(), torch.zeros(1, 3, 96, 128), preprocess=saccade.Preprocess(mean=(0.4,)))
    stream = saccade.Stream(plan, threshold=0, executor=executor, camera="moving")
    for index, frame in enumerate(panned(5, (96, 128), (0, 8))):
        frame[:, :, 40:60] = 0.5  # a bar that stands where the picture moves: no source pixel of it changes
        frame[:, :, 40:60, 30:70] = 0.8
        picture = np.ascontiguousarray((255 * frame[0]).permute(1, 2, 0).to(torch.uint8).numpy())
        assert exact(stream, stream(picture), stream.full_pass(picture))
        assert stream.camera_shift == ((0, 8) if index else (0, 0))
    assert exact(stream, stream(picture), stream.full_pass(picture))
    assert stream.cost.executed_macs == 0


def test_where_it_does_not_pay_it_is_hardly_tried() -> None:
    plan = saccade.make_plan(small_network(), torch.zeros(1, 3, 96, 128))
    stream = saccade.Stream(plan, threshold=0, executor="reference", camera="moving")
    generator, looked = torch.Generator().manual_seed(0), []
    for index in range(200):
        stream(torch.rand(1, 3, 96, 128, generator=generator))
        assert stream.camera_shift == (0, 0)
        if stream.cost.gate_macs > sum(cost.gate_macs for cost in stream.step_costs):
            looked.append(index)
    assert [b - a for a, b in pairwise(looked)] == [2, 3, 5, 9, 17, 33, 65]  # then 65 for ever
    for frame in panned(70, (96, 128), (0, 4)):  # and it is found again
        stream(frame)
    assert stream.camera_shift == (0, 4)


class Centred(nn.Module):
    """Takes the picture's mean off first, so that whatever comes in at an edge changes everything."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x - x.mean((2, 3), keepdim=True)).relu())


def test_moves_after_which_all_is_computed_anyway_are_given_up() -> None:
    stream = saccade.Stream(Centred(), torch.zeros(1, 3, 64, 64), threshold=0, executor="reference", camera="moving")
    moved = []
    for index, frame in enumerate(panned(40, (64, 64), (0, 4))):
        stream(frame)
        moved += [index] if stream.camera_shift != (0, 0) else []
    assert moved == [1, 3, 6, 11, 20, 37]


def test_a_still_scene_stays_as_cheap_as_it_was(executor: str) -> None:
    plan = saccade.make_plan(small_network(), torch.zeros(1, 3, 96, 128))
    stream = saccade.Stream(plan, threshold=0, executor=executor, camera="moving")
    frame = texture(96, 128)
    for _ in range(3):
        stream(frame)
    assert stream.cost.executed_macs == 0
    assert stream.cost.gate_macs < 1.5 * frame.numel()


def test_a_state_saved_within_a_pan_goes_on(executor: str, tmp_path: Path) -> None:
    plan = saccade.make_plan(small_network(), torch.zeros(1, 3, 96, 128))
    options: dict[str, Any] = {"tolerance": 0.02, "executor": executor, "camera": "moving"}
    whole, part, resumed = (saccade.Stream(plan, **options) for _ in range(3))
    video = panned(8, (96, 128), (0, 4))
    for frame in video[:4]:
        whole(frame)
        part(frame)
    part.state.save(tmp_path / "state")
    resumed.state.load(tmp_path / "state")
    for frame in video[4:]:
        assert same(resumed(frame), whole(frame))
        assert resumed.camera_shift == whole.camera_shift == (0, 4)
        assert resumed.cost.executed_macs == whole.cost.executed_macs


def test_a_frame_that_is_refused_leaves_the_history_where_it_was(executor: str) -> None:
    plan = saccade.make_plan(small_network(), torch.zeros(1, 3, 96, 128))
    stream = saccade.Stream(plan, threshold=0, executor=executor, camera="moving")
    video = panned(5, (96, 128), (0, 4))
    for frame in video[:3]:
        stream(frame)
    bad = video[3].clone()
    bad[0, 1, 40, 50] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        stream(bad)
    shift = find_shift(Geography(plan), (0, 4))
    with pytest.raises(InputError, match="NaN"):
        stream._executor.run(stream.state, [bad], stream.settings, forced=shift.forced, moves=shift.moves)
    for frame in video[3:]:
        assert exact(stream, stream(frame), stream.full_pass(frame))
        assert stream.camera_shift == (0, 4)


def test_plans_in_which_nothing_can_move_say_why() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    picture = torch.zeros(1, 3, 8, 8)
    for model, example, reason in (
        (Two(), (picture, picture), "2 inputs"),
        (nn.Linear(4, 4), torch.zeros(1, 4), "is no picture"),
        (
            nn.Sequential(nn.ZeroPad2d(1), Gated(3, 4, norm=True)),
            picture,
            "adds up changes of data that is moved about",
        ),
        (nn.Conv2d(3, 4, 3), torch.zeros(2, 3, 8, 8), "is no picture"),
    ):
        plan = saccade.make_plan(model, example)
        assert reason in why_fixed(plan)
        stream = saccade.Stream(plan, camera="moving", executor="reference")
        given = example if isinstance(example, tuple) else (example,)
        for _ in range(2):
            stream(*given)
        assert stream.camera_shift == (0, 0)
    with pytest.raises(InputError, match="unknown camera 'wobbly'; expected one of still, moving"):
        saccade.Stream(nn.Conv2d(3, 4, 3), picture, camera="wobbly")
