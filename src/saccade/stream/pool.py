"""`StreamPool`: many videos followed at once with one model, on a few threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

from torch import nn
from torch.export import ExportedProgram

from saccade.cost import Cost
from saccade.errors import InputError, PoolError, StateError
from saccade.graph import Plan
from saccade.stream.audit import settle_audit
from saccade.stream.stream import Stream


class StreamPool:
    """Follows several videos with one model: one plan and one copy of the weights, a state for each video.

    Every stream runs on one thread at a time, and its results do not depend on the others nor on the number of threads.
    Frames of different streams run side by side; the native engine needs no lock for that. Steps that run in torch
    start threads of torch's own in every worker: `torch.set_num_threads(1)` before the pool is made keeps them from
    taking each other's cores. That setting is the whole process's, so the pool leaves it alone.

    Args:
        model, example: as for `Stream`.
        streams: how many videos.
        threads: how many frames are run at once; by default as many as there are streams, at most the cores.
        options: what else `Stream` takes, the same for all; not `state`, and not `threads` within a frame. Audits have
            a seed of their own in every stream, so that they do not all come in one round.

    Raises:
        InputError: less than one stream or thread; and what `Stream` raises.
    """

    def __init__(
        self,
        model: nn.Module | ExportedProgram | Plan | str | Path,
        example: Any = None,
        *,
        streams: int,
        threads: int | None = None,
        **options: Any,
    ) -> None:
        if streams < 1:
            raise InputError(f"streams is {streams}; expected 1 or more")
        self.threads = min(streams, _cores()) if threads is None else threads
        if self.threads < 1:
            raise InputError(f"threads is {threads}; expected 1 or more")
        if options.get("state") is not None:
            raise InputError("a pool's streams cannot share one state; load each with pool.streams[i].state.load(path)")
        audit = settle_audit(options.pop("audit_every", None), options.pop("audit", None))
        audits = [audit and replace(audit, seed=audit.seed + index) for index in range(streams)]
        first = Stream(model, example, audit=audits[0], **options)
        rest = {**options, "executor": first.executor, "preprocess": first.preprocess}
        others = (Stream(first.plan, audit=audit, **rest) for audit in audits[1:])
        self.streams: tuple[Stream, ...] = (first, *others)
        self._locks = [Lock() for _ in self.streams]
        self._workers: ThreadPoolExecutor | None = ThreadPoolExecutor(self.threads, thread_name_prefix="saccade")

    def __call__(self, frames: Sequence[Any]) -> list[Any]:
        """Returns the results for one frame per stream, in order.

        Args:
            frames: what each stream is called with, a tuple for a model that takes several arguments; None skips the
                stream in this round, and so is its result.

        Raises:
            InputError: not as many frames as streams, or the pool is closed.
            PoolError: streams failed. All others have finished: their results are in its `results`, what was raised in
                its `errors`; the pool can be used on.
        """
        self._check(len(frames), "frames")
        futures = {
            self._submit(index, self.streams[index], _arguments(frame)): index
            for index, frame in enumerate(frames)
            if frame is not None
        }
        _wait(futures)
        results: list[Any] = [None] * len(self.streams)
        errors: dict[int, Exception] = {}
        for future, index in futures.items():
            error = future.exception()
            if error is None:
                results[index] = future.result()
            else:
                errors[index] = _ordinary(error)
        if errors:
            raise self._failed(errors, results)
        return results

    def run(self, sources: Sequence[Iterable[Any]]) -> Iterator[tuple[int, Any, Any]]:
        """Yields (number of the stream, frame, outputs) of every frame of every video, as they come.

        A source is read on the threads that run the streams, by one at a time, and a stream takes its next frame
        when the caller comes back for more: no more than one frame per stream is held, and until then
        `streams[number].cost` is that of the frame yielded. Where the caller stops early, frames under way are
        finished and dropped.

        Args:
            sources: one iterable of frames per stream, of any lengths.

        Raises:
            InputError: not as many sources as streams, or the pool is closed.
            PoolError: a source or a stream failed. What was under way has been yielded by then, and nothing else was
                started: iterators given again go on where they were.
        """
        self._check(len(sources), "sources")
        return self._run([iter(source) for source in sources])

    def _run(self, sources: list[Iterator[Any]]) -> Iterator[tuple[int, Any, Any]]:
        def step(index: int) -> tuple[Any, Any] | None:
            for frame in sources[index]:
                return frame, self.streams[index](*_arguments(frame))
            return None

        running = {self._submit(index, step, (index,)): index for index in range(len(sources))}
        errors: dict[int, Exception] = {}
        try:
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    index = running.pop(future)
                    error = future.exception()
                    if error is not None:
                        errors[index] = _ordinary(error)
                    elif (done := future.result()) is not None:
                        yield index, *done
                        if not errors:
                            running[self._submit(index, step, (index,))] = index
        finally:
            for future in running:
                future.cancel()
        if errors:
            raise self._failed(errors, ())

    @property
    def plan(self) -> Plan:
        """The plan all streams share."""
        return self.streams[0].plan

    @property
    def cost(self) -> Cost:
        """The sum of what each stream's last frame cost; its time is that of all threads together."""
        costs = [stream.cost for stream in self.streams]
        return Cost(
            sum(cost.dense_macs for cost in costs),
            sum(cost.executed_macs for cost in costs),
            sum(cost.gate_macs for cost in costs),
            sum(cost.ms for cost in costs),
        )

    @property
    def nbytes(self) -> int:
        """Bytes all streams' states hold; the weights, held once, are not counted."""
        return sum(stream.state.nbytes for stream in self.streams)

    def reset(self) -> None:
        """Forgets all videos so far."""
        for stream, lock in zip(self.streams, self._locks, strict=True):
            with lock:
                stream.reset()

    def close(self) -> None:
        """Ends the threads, after the frames they are at; the streams stay usable by themselves."""
        self._end(wait_for_frames=True)

    def __enter__(self) -> StreamPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end(wait_for_frames=kind is None)  # after Ctrl-C a source may be waiting for a camera

    def _end(self, *, wait_for_frames: bool) -> None:
        workers, self._workers = self._workers, None
        if workers is not None:
            workers.shutdown(wait=wait_for_frames, cancel_futures=True)

    def _check(self, given: int, what: str) -> None:
        if given != len(self.streams):
            raise InputError(f"got {given} {what}, expected {len(self.streams)}, one per stream")
        self._open()

    def _open(self) -> ThreadPoolExecutor:
        if self._workers is None:
            raise StateError("the pool is closed; make a new one")
        return self._workers

    def _submit(self, index: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Future[Any]:
        """Starts work with one stream; it waits where the stream is still at an earlier frame, as after Ctrl-C."""

        def locked() -> Any:
            with self._locks[index]:
                return work(*arguments)

        return self._open().submit(locked)

    def _failed(self, errors: dict[int, Exception], results: Sequence[Any]) -> PoolError:
        told = "; ".join(f"stream {index}: {type(error).__name__}: {error}" for index, error in sorted(errors.items()))
        failure = PoolError(f"{len(errors)} of {len(self.streams)} streams failed: {told}", errors, results)
        failure.__cause__ = errors[min(errors)]
        return failure

    def __repr__(self) -> str:
        return f"StreamPool({self.plan.name}, streams={len(self.streams)}, threads={self.threads})"


def _arguments(frame: Any) -> tuple[Any, ...]:
    return frame if isinstance(frame, tuple) else (frame,)


def _wait(futures: Iterable[Future[Any]]) -> None:
    try:
        wait(futures)
    except BaseException:  # Ctrl-C: frames under way end by themselves
        for future in futures:
            future.cancel()
        raise


def _ordinary(error: BaseException) -> Exception:
    """Returns an error to report; one that ends the program goes on."""
    if not isinstance(error, Exception):
        raise error
    return error


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
