"""Pools of streams: every stream as if it were alone, errors that lose nothing, and threads that end."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from networks import RandomNetwork, moving_square
from operator_cases import Function
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import saccade
from saccade.errors import InputError, PoolError, StateError
from saccade.graph import Plan
from saccade.kernels import cpu
from saccade.stream import pool as pooling
from tests.instruction_sets import every_isa

SIZE = (13, 17)
STREAMS = 4
needs_native = pytest.mark.skipif(cpu.native_module() is None, reason="there is no native engine")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return saccade.make_plan(RandomNetwork(1), torch.zeros(1, 3, *SIZE))


@pytest.fixture
def pool(plan: Plan, executor: str) -> Iterator[saccade.StreamPool]:
    with saccade.StreamPool(plan, streams=STREAMS, threads=3, tolerance=0.02, executor=executor) as made:
        yield made


def videos(frames: int = 5) -> list[list[Tensor]]:
    return [moving_square(frames + index, SIZE, seed=index, noise=0.01) for index in range(STREAMS)]


def same(left: object, right: object) -> bool:
    a, b = pytree.tree_leaves(left), pytree.tree_leaves(right)
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def alone(pool: saccade.StreamPool) -> list[saccade.Stream]:
    return [saccade.Stream(pool.plan, tolerance=0.02, executor=pool.streams[0].executor) for _ in pool.streams]


def bad() -> Tensor:
    return torch.full((1, 3, *SIZE), float("nan"))


# --- rounds


def test_a_pool_gives_what_each_stream_gives_alone(pool: saccade.StreamPool) -> None:
    streams, clips = alone(pool), videos()
    for index in range(5):
        frames = [clip[index] for clip in clips]
        results = pool(frames)
        assert isinstance(results, list)
        for result, stream, frame in zip(results, streams, frames, strict=True):
            assert same(result, stream(frame))
        for ours, other in zip(pool.streams, streams, strict=True):
            assert ours.step_costs == other.step_costs
            assert same(ours.state.values, other.state.values)
    costs = [stream.cost for stream in pool.streams]
    assert pool.cost.dense_macs == STREAMS * pool.plan.dense_macs
    assert pool.cost.executed_macs == sum(cost.executed_macs for cost in costs) > 0
    assert pool.cost.gate_macs == sum(cost.gate_macs for cost in costs) > 0
    assert pool.cost.ms == sum(cost.ms for cost in costs) > 0
    assert pool.nbytes == sum(stream.state.nbytes for stream in streams) > 0
    pool.reset()
    assert (pool.nbytes, [stream.frames for stream in pool.streams]) == (0, [0] * STREAMS)


@needs_native
@every_isa
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_instruction_set_runs_in_every_thread(
    plan: Plan, isa: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registers that a thread must ask for are asked for in all of them."""
    monkeypatch.setenv(cpu.ISA_VARIABLE, isa)
    settings: dict[str, Any] = {"tolerance": 0.02, "precision": precision}
    with saccade.StreamPool(plan, streams=STREAMS, threads=STREAMS, **settings) as pool:
        assert {(stream.isa, stream.precision) for stream in pool.streams} == {(isa, precision)}
        stream = saccade.Stream(plan, **settings)
        for frames in zip(*videos(3), strict=False):
            results = pool(frames)
            assert same(results[0], stream(frames[0]))


def test_the_weights_are_there_once(pool: saccade.StreamPool) -> None:
    assert {id(stream.plan) for stream in pool.streams} == {id(pool.plan)}
    if pool.streams[0].executor == "native":
        assert len({id(stream._executor.compiled) for stream in pool.streams}) == 1
    assert len({id(stream.state) for stream in pool.streams}) == STREAMS


def test_a_stream_without_a_frame_skips_the_round(pool: saccade.StreamPool) -> None:
    a, b, c, d = (clip[0] for clip in videos())
    assert all(result is not None for result in pool([a, b, c, d]))
    costs = [stream.cost for stream in pool.streams]
    results = pool([None, a, None, d])
    assert [result is None for result in results] == [True, False, True, False]
    assert [stream.frames for stream in pool.streams] == [1, 2, 1, 2]
    assert [pool.streams[i].cost is costs[i] for i in range(4)] == [True, False, True, False]
    assert pool([None] * STREAMS) == [None] * STREAMS


def test_models_of_several_arguments_take_tuples_and_frames_are_preprocessed(executor: str) -> None:
    x = torch.rand(1, 3, 4, 4)
    with saccade.StreamPool(Function(lambda a, b: a - b), (x, x), streams=2, executor=executor) as pool:
        assert same(pool([(x, x), (x, -x)]), [x - x, x + x])
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    with saccade.StreamPool(nn.Conv2d(3, 2, 3), pixels, streams=2, executor=executor) as pool:
        results = pool([pixels, saccade.Frame(pixels, 0, 0.0)])
        assert same(*results)
        assert pool.streams[1].preprocess is pool.streams[0].preprocess is not None


# --- what goes wrong


def test_one_streams_error_does_not_lose_the_others_results(pool: saccade.StreamPool) -> None:
    streams, clips = alone(pool), videos()
    pool([clip[0] for clip in clips])
    firsts = [stream(clip[0]) for stream, clip in zip(streams, clips, strict=True)]
    assert all(firsts)
    with pytest.raises(PoolError, match=r"2 of 4 streams failed: stream 1: InputError: .*NaN.*; stream 3: Inp") as told:
        pool([clips[0][1], bad(), clips[2][1], torch.zeros(1)])
    assert sorted(told.value.errors) == [1, 3]
    assert all(isinstance(error, InputError) for error in told.value.errors.values())
    assert told.value.__cause__ is told.value.errors[1]
    results = told.value.results
    assert (results[1], results[3]) == (None, None)
    assert same([results[0], results[2]], [streams[0](clips[0][1]), streams[2](clips[2][1])])
    assert [stream.frames for stream in pool.streams] == [2, 1, 2, 1]
    for result, stream, clip in zip(pool([clip[2] for clip in clips]), streams, clips, strict=True):
        assert same(result, stream(clip[2]))


def test_ctrl_c_is_not_waited_for_and_no_stream_runs_twice_at_once(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames under way end by themselves; until then their stream is not given another."""
    pool = saccade.StreamPool(plan, streams=2, threads=2)
    frame, go, begun = videos()[0][0], threading.Event(), threading.Event()
    inside, most = [0], [0]
    run = saccade.Stream.__call__

    def slow(self: saccade.Stream, *arguments: Any) -> Any:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        begun.set()
        assert go.wait(60)
        inside[0] -= 1
        return run(self, *arguments)

    def interrupted(*_: Any, **__: Any) -> Any:
        assert begun.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr(saccade.Stream, "__call__", slow)
    with monkeypatch.context() as patch:
        patch.setattr(pooling, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool([frame, None])
    assert pool.streams[0].frames == 0
    waiting = threading.Thread(target=pool, args=([frame, None],))
    waiting.start()
    go.set()
    waiting.join(60)
    assert not waiting.is_alive()
    assert (pool.streams[0].frames, most[0]) == (2, 1)
    pool.close()


def test_frames_not_begun_when_interrupted_are_not_run(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, go, begun = videos()[0][0], threading.Event(), threading.Event()
    run = saccade.Stream.__call__

    def slow(self: saccade.Stream, *arguments: Any) -> Any:
        begun.set()
        assert go.wait(60)
        return run(self, *arguments)

    def interrupted(*_: Any, **__: Any) -> Any:
        assert begun.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr(saccade.Stream, "__call__", slow)
    monkeypatch.setattr(pooling, "wait", interrupted)
    pool = saccade.StreamPool(plan, streams=3, threads=1)
    with pytest.raises(KeyboardInterrupt), pool:
        pool([frame] * 3)
    go.set()
    assert all(stream.frames == 0 for stream in pool.streams[1:])


def test_an_error_that_ends_the_program_goes_on(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(self: saccade.Stream, *arguments: Any) -> Any:
        raise SystemExit(3)

    monkeypatch.setattr(saccade.Stream, "__call__", leave)
    with saccade.StreamPool(plan, streams=2) as pool, pytest.raises(SystemExit):
        pool([videos()[0][0]] * 2)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda plan: saccade.StreamPool(plan, streams=0), "streams is 0; expected 1 or more"),
        (lambda plan: saccade.StreamPool(plan, streams=2, threads=0), "threads is 0; expected 1 or more"),
        (lambda plan: saccade.StreamPool(plan, streams=1, executor="warp"), "unknown executor 'warp'"),
        (
            lambda plan: saccade.StreamPool(plan, streams=2, state=saccade.StreamState(plan)),
            r"cannot share one state; load each with pool.streams\[i\].state.load",
        ),
        (lambda plan: saccade.StreamPool(plan, streams=2)([None]), "got 1 frames, expected 2, one per stream"),
        (lambda plan: saccade.StreamPool(plan, streams=2).run([[], [], []]), "got 3 sources, expected 2, one per str"),
    ],
)
def test_misuse_is_refused(plan: Plan, use: Callable[[Plan], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        use(plan)


def test_a_closed_pool_says_so_and_its_streams_go_on(plan: Plan) -> None:
    before = threading.active_count()
    pool = saccade.StreamPool(plan, streams=2)
    frame = videos()[0][0]
    pool([frame, frame])
    assert threading.active_count() > before
    pool.close()
    pool.close()
    assert threading.active_count() == before
    for use in (lambda: pool([frame, frame]), lambda: pool.run([[], []])):
        with pytest.raises(StateError, match="the pool is closed; make a new one"):
            use()
    assert pool.streams[0](frame) is not None
    assert pool.streams[0].frames == 2


def test_by_default_there_is_a_thread_per_stream_but_no_more_than_cores(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooling, "_cores", lambda: 3)
    for streams, threads in ((1, 1), (3, 3), (9, 3)):
        with saccade.StreamPool(plan, streams=streams) as pool:
            assert (len(pool.streams), pool.threads) == (streams, threads)
            assert repr(pool) == f"StreamPool(RandomNetwork, streams={streams}, threads={threads})"


@needs_native
def test_a_plan_that_does_not_fit_warns_once(recwarn: pytest.WarningsRecorder) -> None:
    model = nn.Conv2d(3, 2, 3).double()
    warnings.simplefilter("always")
    with saccade.StreamPool(model, torch.rand(1, 3, 5, 5, dtype=torch.float64), streams=3) as pool:
        assert {stream.executor for stream in pool.streams} == {"reference"}
    assert len([warning for warning in recwarn if warning.category is RuntimeWarning]) == 1


# --- videos


def test_videos_of_different_lengths_run_to_their_ends(pool: saccade.StreamPool) -> None:
    streams, clips = alone(pool), [clip[: 2 * index] for index, clip in enumerate(videos(7))]
    seen: list[int] = [0] * STREAMS
    for index, frame, outputs in pool.run(clips):
        assert frame is clips[index][seen[index]]
        assert same(outputs, streams[index](frame))
        assert pool.streams[index].step_costs == streams[index].step_costs  # still of this frame
        seen[index] += 1
    assert seen == [len(clip) for clip in clips] == [0, 2, 4, 6]


def test_no_more_than_a_frame_per_video_is_taken_ahead(pool: saccade.StreamPool) -> None:
    taken, given = [0] * STREAMS, [0] * STREAMS

    def source(index: int) -> Iterator[Tensor]:
        for frame in videos(20)[index]:
            taken[index] += 1
            yield frame

    for index, _, _ in pool.run([source(index) for index in range(STREAMS)]):
        given[index] += 1
        assert all(a <= b + 1 for a, b in zip(taken, given, strict=True))
        assert taken[index] == given[index]
    assert taken == given == [20, 21, 22, 23]


def test_an_error_in_a_video_comes_after_what_was_under_way(pool: saccade.StreamPool) -> None:
    """What was taken from any source has been yielded, and the same iterators go on where they were."""
    clips = videos(6)
    clips[1][2], taken = bad(), [0] * STREAMS

    def source(index: int) -> Iterator[Tensor]:
        for frame in clips[index]:
            taken[index] += 1
            yield frame

    sources, given = [source(index) for index in range(STREAMS)], [0] * STREAMS
    told = None
    try:
        for index, _, _ in pool.run(sources):
            given[index] += 1
    except PoolError as error:
        told = error
    assert told is not None
    assert str(told).startswith("1 of 4 streams failed: stream 1: InputError: input 'x' of frame 2 holds 663 NaN")
    assert list(told.errors) == [1]
    assert taken == [given[0], given[1] + 1, *given[2:]]
    for index, _, _ in pool.run(sources):
        given[index] += 1
    assert given == [6, 6, 8, 9]
    assert [stream.frames for stream in pool.streams] == given


def test_an_error_of_a_source_is_one_of_its_stream(pool: saccade.StreamPool) -> None:
    def source() -> Iterator[Tensor]:
        yield videos()[0][0]
        raise OSError("the cable came off")

    with pytest.raises(PoolError, match="stream 2: OSError: the cable came off"):
        list(pool.run([[], [], source(), []]))
    assert pool.streams[2].frames == 1


def test_a_run_may_be_left_early(pool: saccade.StreamPool) -> None:
    clips = videos()
    for index, _, _ in pool.run(clips):
        assert index in range(STREAMS)
        break
    assert len(pool([clip[0] for clip in clips])) == STREAMS
    assert sum(stream.frames for stream in pool.streams) <= 2 * STREAMS
