"""What a native stream remembers: files, memory, and that neither a bad frame nor a caller can spoil it."""

from __future__ import annotations

import gc
import itertools
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from native_check import Before, callbacks_of, check_frame, follow, memory_of
from networks import RandomNetwork, moving_square
from operator_cases import Function
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

import saccade
from saccade.errors import InputError, StateError
from saccade.graph import Plan
from saccade.kernels import cpu
from saccade.stream.native import bound as binding
from saccade.stream.native import fallback

pytestmark = pytest.mark.skipif(cpu.native_module() is None, reason="there is no native engine")
RECORDS = ["reference", "coarse", "accumulated"]
SIZE = (9, 10)


class Mixed(nn.Module):
    """Steps in the engine and in torch, data that moves in either, values inside a concatenation, two inputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(8, 4, 3)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        a = self.first(x).relu()
        padded = F.pad(a.erf(), (1, 1))  # moved in the engine, then in torch, then in the engine again
        moved = F.pad(torch.cat([padded, torch.ones(1, 4, 1, SIZE[1] + 2)], 2), (0, 0, 1, 0))[:, :, :-2, 1:-1]
        mixed = moved + y  # of the constant's copy, positions are read that nothing announces
        both = torch.cat([mixed, a.cumsum(3)], 1)
        best = both.amax(1, keepdim=True) > 0.5
        return {"out": self.last(both), "best": best, "x": x, "one": torch.ones(2), "both": both[:, 2:6]}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return saccade.make_plan(Mixed(), (torch.zeros(1, 3, *SIZE), torch.zeros(1, 4, *SIZE)))


def clip(frames: int) -> list[tuple[Tensor, Tensor]]:
    """Frames in which the second input moves alone now and then."""
    left = moving_square(frames, SIZE, noise=0.01)
    right = [torch.cat([frame, frame[:, :1]], 1) for frame in moving_square(frames, SIZE, seed=5, noise=0.01)]
    return [(left[index // 2 * 2], right[index]) for index in range(frames)]


def native(plan: Any, *example: Any, **settings: Any) -> saccade.Stream:
    return saccade.Stream(plan, *example, executor="native", **settings)


def same(left: object, right: object) -> bool:
    a, b = pytree.tree_leaves(left), pytree.tree_leaves(right)
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def copies(outputs: Any) -> Any:
    return pytree.tree_map(lambda tensor: tensor.clone(), outputs)


def bits(stream: saccade.Stream) -> list[Tensor]:
    """Everything a stream holds."""
    state, memory = stream.state, memory_of(stream)
    records = [state.records[name].tensor() for name in sorted(state.records)]
    masks = [*memory.active.values(), *memory.announced.values()]
    return [tensor.clone() for tensor in (*memory.values.values(), *records, *masks)]


def storages(tensors: Iterator[Tensor] | list[Tensor]) -> int:
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


# --- files


@pytest.mark.parametrize("setting", [{"threshold": 0.0}, {"tolerance": 0.1}], ids=str)
@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_saved_and_loaded_midway_equals_uninterrupted(
    plan: Plan, record: str, setting: dict[str, float], precision: str, tmp_path: Path
) -> None:
    assert set(callbacks_of(native(plan)).values()) >= {"it moves weights along", "it computes with whole numbers"}
    whole, part = (native(plan, record=record, precision=precision, **setting) for _ in range(2))
    frames = clip(9)
    for frame in frames[:4]:
        whole(*frame)
        part(*frame)
    part.state.save(tmp_path / "state")
    last = whole(*frames[4])
    assert same(part(*frames[4]), last)  # saving moved nothing
    resumed = native(plan, record=record, precision=precision)
    junk = [torch.full((size,), 7.0) for size in range(1, 1000)]
    del junk  # memory the engine is given now is not clean by chance
    resumed.state.load(tmp_path / "state")
    for index, frame in enumerate(frames[4:]):
        expected, got = whole(*frame) if index else last, follow(resumed, *frame)
        assert same(got, expected)
        assert not index or resumed.step_costs == whole.step_costs


@pytest.mark.parametrize("setting", [{"threshold": 0.0}, {"tolerance": 0.1}], ids=str)
@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("back", [False, True])
def test_a_state_moves_between_executors(
    plan: Plan, record: str, setting: dict[str, float], back: bool, tmp_path: Path
) -> None:
    """By file and by hand; every frame after it follows the rule, and values are the other's to rounding."""
    names = ["native", "reference"] if back else ["reference", "native"]
    frames = clip(8)
    start = saccade.Stream(plan, executor=names[0], record=record, **setting)
    for frame in frames[:3]:
        start(*frame)
    start.state.save(tmp_path / "state")
    loaded = saccade.Stream(plan, executor=names[1], record=record)
    loaded.state.load(tmp_path / "state")
    held = saccade.Stream(plan, executor=names[1], state=start.state)
    other = saccade.Stream(plan, executor=names[0], record=record)
    other.state.load(tmp_path / "state")
    for frame in frames[3:]:
        outputs = [follow(s, *frame) if s.executor == "native" else s(*frame) for s in (loaded, held)]
        assert same(*outputs)
        for key, value in other(*frame).items():
            torch.testing.assert_close(outputs[0][key], value)
    if record != "coarse" or "tolerance" in setting:  # at threshold 0 nobody looks at that record, nor replaces it
        assert loaded.state.nbytes == held.state.nbytes


def test_streams_may_take_turns_with_one_state(plan: Plan) -> None:
    """Each goes on where the other stopped, whichever executor it runs."""
    frames = clip(12)
    alone = native(plan, tolerance=0.1)
    first = native(plan, tolerance=0.1)
    others = [first, native(plan, state=first.state), saccade.Stream(plan, state=first.state, executor="reference")]
    for index, frame in enumerate(frames):
        stream = others[(0, 1, 1, 0, 2, 0)[index % 6]]
        got, expected = follow(stream, *frame) if stream.executor == "native" else stream(*frame), alone(*frame)
        assert stream.frames == index + 1
        for key, value in expected.items():
            torch.testing.assert_close(got[key], value)


def test_a_state_in_another_precision_is_refused(plan: Plan, tmp_path: Path) -> None:
    stream = native(plan, precision="bfloat16")
    stream(*clip(1)[0])
    with pytest.raises(StateError, match="holds values in bfloat16, this stream keeps float32; open the stream with"):
        native(plan, state=stream.state)
    stream.state.save(tmp_path / "state")
    with pytest.raises(StateError, match=r"holds values in bfloat16, .* precision='bfloat16'"):
        native(plan).state.load(tmp_path / "state")
    assert native(plan, precision="bfloat16", state=stream.state).frames == 1


# --- memory


@pytest.mark.parametrize("setting", [{"threshold": 0.0}, {"tolerance": 0.1}], ids=str)
@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_byte_is_counted_once_and_none_is_added_over_time(
    plan: Plan, record: str, setting: dict[str, float], precision: str
) -> None:
    stream = native(plan, record=record, precision=precision, **setting)
    assert stream.state.nbytes == 0
    sizes = []
    for frame in clip(10):
        stream(*frame)
        state, memory = stream.state, memory_of(stream)
        records = [kept.tensor() for kept in state.records.values()]
        masks = [*memory.active.values(), *memory.announced.values()]
        inputs = 4 * sum(plan.values[name].numel for name in plan.inputs)  # the last frame, to compare the next with
        assert state.nbytes == storages([*memory.values.values(), *records, *masks]) + inputs
        sizes.append(state.nbytes)
    assert len(set(sizes[1:])) == 1
    stream.reset()
    assert stream.state.nbytes == 0


def test_records_cost_what_they_are_said_to(plan: Plan) -> None:
    told = plan.kept & plan.consumed
    floats = [plan.values[name] for name in told if plan.values[name].dtype == "float32"]
    sizes = {}
    for record in RECORDS:
        stream = native(plan, tolerance=0.1, record=record)
        stream(*clip(1)[0])
        sizes[record] = stream.state.nbytes
    elements, positions = sum(spec.numel for spec in floats), sum(spec.positions for spec in floats)
    assert sizes["reference"] - sizes["coarse"] == 2 * elements
    assert sizes["coarse"] - sizes["accumulated"] == 2 * elements - 4 * positions
    exact = native(plan)
    exact(*clip(1)[0])
    assert exact.state.nbytes < sizes["accumulated"] + 4 * elements  # at threshold 0 a value is its own record


class Counted(binding.Bound):
    alive: ClassVar[weakref.WeakSet[binding.Bound]] = weakref.WeakSet()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.alive.add(self)


def test_memory_of_what_is_over_is_given_back(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a stream that is gone, of a full pass, of a history that was reset; without waiting for a collection."""
    from saccade.stream.native import executor

    monkeypatch.setattr(executor, "Bound", Counted)
    gc.collect()
    gc.disable()
    try:
        stream, frame = native(plan, tolerance=0.1, threads=2), clip(1)[0]
        stream(*frame)
        assert len(Counted.alive) == 1
        stream.full_pass(*frame)
        assert len(Counted.alive) == 1
        stream.reset()
        stream(*frame)
        assert len(Counted.alive) == 1
        state, compiled = weakref.ref(stream.state), weakref.ref(stream._executor.compiled)
        del stream
        assert (len(Counted.alive), state(), compiled()) == (0, None, None)
    finally:
        gc.enable()


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_the_process_does_not_grow() -> None:
    """Over full passes, streams and resets of some megabytes each."""
    plan = saccade.make_plan(nn.Conv2d(3, 64, 3, padding=1), torch.zeros(1, 3, 128, 128))
    stream, frame = native(plan), torch.rand(1, 3, 128, 128)
    stream(frame)
    size = stream.state.nbytes
    before = resident_bytes()
    for _ in range(15):
        stream.full_pass(frame)
        stream.reset()
        stream(frame)
        native(plan)(frame)
    assert resident_bytes() - before < 10 * size


# --- what goes wrong


def broken(frame: tuple[Tensor, Tensor], which: int, value: float, at: int) -> tuple[Tensor, ...]:
    changed = [tensor.clone() for tensor in frame]
    changed[which].view(-1)[at] = value
    return tuple(changed)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("which", "at"), [(0, 0), (0, -1), (1, 131), (1, -1)])
def test_a_frame_that_is_not_finite_leaves_everything_as_it_was(plan: Plan, value: float, which: int, at: int) -> None:
    stream = native(plan, tolerance=0.1)
    frames = clip(4)
    with pytest.raises(InputError, match="holds 1 NaN or infinite values"):
        stream(*broken(frames[0], which, value, at))
    assert (stream.frames, stream.state.nbytes, dict(stream.state.values)) == (0, 0, {})
    for frame in frames[:3]:
        stream(*frame)
    before, costs, masks = bits(stream), stream.step_costs, copies(dict(stream.active))
    with pytest.raises(InputError, match=f"input '{plan.inputs[which]}' of frame 3 holds 1 NaN or infinite values"):
        stream(*broken(frames[3], which, value, at))
    assert same(bits(stream), before)
    assert stream.frames == 3
    assert stream.step_costs == costs
    assert same(dict(stream.active), masks)
    follow(stream, *frames[3])


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("at", [0, 2])
def test_a_step_in_torch_that_raises_resets_the_stream(
    plan: Plan, error: type[BaseException], at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, frames = native(plan, tolerance=0.1), clip(5)
    for frame in frames[:at]:
        stream(*frame)
    run = fallback.run_step

    def fail(step: Any, lookup: Any) -> Any:
        if "cumsum" in step.op:
            raise error("it broke")
        return run(step, lookup)

    with monkeypatch.context() as patch:
        patch.setattr(fallback, "run_step", fail)
        with pytest.raises(error, match="it broke"):
            stream(*frames[at])
    assert (stream.frames, stream.state.nbytes) == (0, 0)
    fresh = native(plan, tolerance=0.1)
    for frame in frames[2:]:
        assert same(follow(stream, *frame), fresh(*frame))


def test_float64_runs_on_the_reference_and_says_so_once() -> None:
    model, frame = nn.Conv2d(3, 2, 3).double(), torch.rand(1, 3, 5, 5, dtype=torch.float64)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        stream = saccade.Stream(model, frame)
        stream(frame)
        stream(frame + 1)
        stream.full_pass(frame)
    (warning,) = told
    assert "runs on the reference executor, which saves no time: its value input is float64" in str(warning.message)
    assert (warning.category, warning.filename) == (RuntimeWarning, __file__)
    assert (stream.executor, stream.precision, stream.isa) == ("reference", "float32", "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saccade.Stream(stream.plan, executor="reference")(frame)
    for options in ({"precision": "bfloat16"}, {"executor": "native"}, {"threads": 2}, {"profile": True}):
        with pytest.raises(InputError, match=r"its value input is float64; the native engine computes in float32"):
            saccade.Stream(stream.plan, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "warp"}, "unknown executor 'warp'; expected one of native, reference"),
        ({"precision": "float16"}, "unknown precision 'float16'; expected one of float32, bfloat16"),
        ({"threads": 0}, "threads is 0; expected 1 or more"),
        ({"record": "tape"}, "unknown record 'tape'; expected one of reference, coarse, accumulated"),
    ],
)
def test_unknown_settings_are_refused(plan: Plan, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        saccade.Stream(plan, **options)


# --- results and arguments are the caller's own


def spoil(tensor: Tensor, how: str) -> None:
    if how == "fill":
        tensor.fill_(7)
    elif how == "numpy":
        tensor.numpy()[...] = 7
    elif how == "view":
        tensor.view(tensor.dtype)[..., :1].zero_()
    else:
        tensor.data.zero_()


@pytest.mark.parametrize("how", ["fill", "numpy", "view", "data"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_a_caller_does_to_results_reaches_nothing(plan: Plan, precision: str, how: str) -> None:
    """Also where nothing changed between frames, so that results are copied only when somebody writes to them."""
    stream, other = (native(plan, tolerance=0.05, precision=precision) for _ in range(2))
    a, b = clip(2)
    kept: list[tuple[Any, Any]] = []
    for frame in (a, a, a, b, b, a):
        expected = copies(other(*frame))
        outputs = stream(*frame)
        assert same(outputs, expected)
        kept.append((outputs, copies(outputs)))
        spoiled = stream(*frame)
        other(*frame)
        for tensor in pytree.tree_leaves(spoiled):
            spoil(tensor, how)
        assert same(bits(stream), bits(other))
    for outputs, before in kept:
        assert same(outputs, before)  # nor do later frames reach earlier results


def test_results_do_not_share_memory_with_one_another_nor_with_arguments() -> None:
    def function(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        a = x.relu()
        return a, a, a[:, :2], a.flatten(2), x, y, torch.cat([a, y], 1), torch.ones(3)

    x, y = torch.rand(1, 3, 4, 5) + 1, torch.rand(1, 2, 4, 5)
    stream = native(Function(function), (x, y))
    for _ in range(3):
        given = [x.clone(), y.clone()]
        expected = copies(stream.full_pass(*given))
        assert same(expected, function(x, y))
        for index in range(len(expected)):
            outputs = stream(*given)
            outputs[index].fill_(-5.0)
            assert same(given, [x, y])
            assert all(torch.equal(a, b) for i, (a, b) in enumerate(zip(outputs, expected, strict=True)) if i != index)
        for tensor in given:
            tensor.fill_(float("nan"))  # the stream does not look at a frame again
        assert same(stream(x, y), expected)


def test_one_tensor_may_be_filled_anew_for_every_frame(plan: Plan) -> None:
    stream, buffers = native(plan), [torch.empty_like(tensor) for tensor in clip(1)[0]]
    for frame in clip(5):
        for buffer, tensor in zip(buffers, frame, strict=True):
            buffer.copy_(tensor)
        assert same(follow(stream, *buffers), stream.full_pass(*frame))


def test_frames_may_lie_in_memory_as_they_like(plan: Plan) -> None:
    stream, dense = native(plan), native(plan)
    for x, y in clip(4):
        odd = torch.zeros(2, 3, 2 * SIZE[0], SIZE[1] + 1)
        odd[1:, :, ::2, 1:] = x
        strided = odd[1:, :, ::2, 1:]
        flat = y[:, :, :1, :1].expand(y.shape)
        assert not strided.is_contiguous()
        results = stream(strided.requires_grad_(), flat.to(memory_format=torch.channels_last))
        assert same(results, dense(x, flat.contiguous()))
        assert not any(tensor.requires_grad for tensor in results.values())


@pytest.mark.parametrize("modes", list(itertools.product([False, True], repeat=3)), ids=str)
def test_frames_may_be_run_in_and_out_of_inference_mode(plan: Plan, modes: tuple[bool, ...]) -> None:
    stream, plain = (native(plan, tolerance=0.1) for _ in range(2))
    for frame, mode in zip(clip(3), modes, strict=True):
        with torch.inference_mode(mode):
            results = [stream(*(tensor + 0 for tensor in frame)) for _ in range(2)]
        assert same(results[0], plain(*frame))
        plain(*frame)
        for tensor in pytree.tree_leaves(results):
            tensor.zero_()  # they are nobody's inference tensors


# --- what models take and give


def test_a_model_of_whole_numbers_and_one_of_both() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.table, self.conv = nn.Embedding(10, 4), nn.Conv2d(4, 3, 3)

        def forward(self, index: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            both = self.table(index).permute(0, 3, 1, 2) + x
            return self.conv(both), index * 2, both.argmax(1)

    generator = torch.Generator().manual_seed(0)
    index, x = torch.randint(10, (1, 6, 7), generator=generator), torch.rand(1, 4, 6, 7, generator=generator)
    model = Net()
    stream, reference = (saccade.Stream(model, (index, x), executor=name) for name in ("native", "reference"))
    for change in ("", "index", "x", "", "both"):
        index, x = index.clone(), x.clone()
        if change in ("index", "both"):
            index[0, 2, 3] = (index[0, 2, 3] + 1) % 10
        if change in ("x", "both"):
            x[0, :, 1, 1] += 1
        got = follow(stream, index, x)
        assert same(got, stream.full_pass(index, x))
        torch.testing.assert_close(got, reference(index, x))
        assert (stream.cost.executed_macs == 0) == (change == "" and stream.frames > 1)
    only = native(Function(lambda x: (x + 1, x.sum(1))), index)
    for frame in (index, index, index + 1):
        assert same(follow(only, frame), (frame + 1, frame.sum(1)))


def test_a_change_below_every_threshold_is_still_in_data_that_only_moves(plan: Plan) -> None:
    """Moved data is as fresh as what it was moved from, announced or not."""

    def function(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return F.pad(x, (1, 1, 1, 1)), torch.cat([x, x[:, :1]], 1), torch.cat([x, torch.ones(1, 1, 4, 5)], 1)

    x = torch.rand(1, 3, 4, 5)
    for precision in ("float32", "bfloat16"):
        stream = native(Function(function), x, threshold=0.5, precision=precision)
        stream(x)
        changed = x.clone()
        changed[0, 1, 2, 3] += 0.25
        outputs = follow(stream, changed)
        assert stream.step_costs[0].announced == 0
        assert same(outputs, native(stream.plan, precision=precision)(changed))


# --- video frames


PREPROCESS = saccade.Preprocess(size=(24, 32), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))


def pictures(count: int, size: tuple[int, int] = (48, 50)) -> list[np.ndarray[Any, Any]]:
    frames = np.random.default_rng(1).integers(0, 256, (1, *size, 3), np.uint8).repeat(count, 0)
    for index in range(count):
        frames[index, 5 + index : 12 + index, 9 : 15 + 2 * index] = 250
    return list(frames)


@pytest.fixture(scope="module")
def picture_plan() -> Plan:
    return saccade.make_plan(RandomNetwork(2), torch.zeros(1, 3, 24, 32), preprocess=PREPROCESS)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_frames_give_what_tensors_give_to_rounding_and_are_exact(picture_plan: Plan, precision: str) -> None:
    stream, tensors = (native(picture_plan, precision=precision) for _ in range(2))
    partial = 0
    for index, pixels in enumerate(pictures(5)):
        given = saccade.Frame(pixels, index, index / 10) if index % 2 else pixels
        outputs = stream(given)
        assert same(outputs, stream.full_pass(pixels))
        partial += any(0 < cost.active < cost.positions for cost in stream.step_costs)
        if precision == "float32":
            torch.testing.assert_close(outputs, tensors(PREPROCESS(pixels)), rtol=1e-4, atol=1e-4)
    assert partial == 4
    for _ in range(2):  # a still frame, in other memory
        stream(np.asfortranarray(pixels))
        assert stream.cost.executed_macs == 0


def test_frames_follow_the_rule_with_thresholds(picture_plan: Plan) -> None:
    for record in RECORDS:
        stream = native(picture_plan, tolerance=0.05, record=record)
        for index, pixels in enumerate(pictures(5)):
            before = Before.of(stream)
            stream(pixels)
            check_frame(stream, before, first=index == 0)


def test_frames_and_tensors_may_take_turns(picture_plan: Plan) -> None:
    """A picture is kept between frames, a tensor for comparison: neither is taken for the other's."""
    stream, frames = native(picture_plan), pictures(9)
    for index, kind in enumerate("pptptttpp"):
        pixels = frames[index // 2 if index > 5 else index]
        given = pixels if kind == "p" else PREPROCESS(pixels)
        assert same(stream(given), stream.full_pass(given))
        assert same(stream(given), stream.full_pass(given))
        assert stream.cost.executed_macs == 0


def test_a_picture_is_not_kept_over_what_happens_to_the_state(picture_plan: Plan, tmp_path: Path) -> None:
    stream, frames = native(picture_plan), pictures(6)
    stream(frames[0])
    stream.state.save(tmp_path / "state")
    stream(frames[3])
    stream.state.load(tmp_path / "state")
    assert same(stream(frames[3]), stream.full_pass(frames[3]))
    stream.reset()
    assert same(stream(frames[3]), stream.full_pass(frames[3]))
    with pytest.raises(InputError, match="uint8"):
        stream(frames[4].astype(np.float32))
    assert same(stream(frames[4]), stream.full_pass(frames[4]))
    other = native(picture_plan, state=stream.state)
    other(frames[5])
    assert same(stream(frames[4]), stream.full_pass(frames[4]))
    assert stream.frames == other.frames == 4


def test_frames_of_another_size_are_resized_where_the_preprocess_says_so(picture_plan: Plan) -> None:
    stream = native(picture_plan)
    for size in ((48, 50), (24, 32), (30, 61), (48, 50)):
        (pixels,) = pictures(1, size)
        assert same(stream(pixels), stream.full_pass(pixels))
    bare = native(RandomNetwork(2), pictures(1, (24, 32))[0])
    (pixels,) = pictures(1, (24, 32))
    bare(pixels)
    with pytest.raises(InputError, match=r"has shape \(1, 3, 30, 61\), expected \(1, 3, 24, 32\); .*resize the frame"):
        bare(pictures(1, (30, 61))[0])
    assert bare.frames == 1
    assert same(bare(pixels), bare.full_pass(pixels))
    assert bare.cost.executed_macs == 0


def test_frames_go_through_torch_where_a_plan_takes_something_else() -> None:
    """A whole-number input, or two of them, is made by the preprocess itself."""

    def function(x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)

    stream = native(Function(function), torch.zeros(1, 3, 24, 32), preprocess=PREPROCESS)
    twice = native(Function(lambda x, y: x + y), (torch.zeros(1, 3, 24, 32),) * 2, preprocess=PREPROCESS)
    (pixels,) = pictures(1)
    torch.testing.assert_close(stream(pixels), function(PREPROCESS(pixels)))
    with pytest.raises(InputError, match=r"(?s)got 1 inputs .* expected 2"):
        twice(pixels)
