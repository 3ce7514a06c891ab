"""The job of `saccade classify` on a Ray cluster: workers that are handed videos, and a driver that takes their lines.

Plain actors, and not Ray Data: its map over batches gives results when a whole block of them is done, and after the
death of a worker does a block again and takes the new results for the old ones by their place. Lines are to be written
as videos are left, and the order in which that happens depends on time. Here the driver knows which videos a worker
has, and so neither loses one nor takes one twice. Nothing but plain calls that return lists is asked of Ray.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch

from saccade.cli.classify_job import ClassifyJob
from saccade.cli.console import say
from saccade.cli.shares import DEATHS, Shares
from saccade.errors import InputError, SaccadeError
from saccade.zoo.torchvision_repair import import_extra, repaired

Line = dict[str, Any]
STEP = 0.5  # seconds after which a worker hands over the lines it has
PATIENCE = 60.0  # seconds without any worker, after which that is said
GIVEN_UP = (
    f"the process that looked at it died {DEATHS} times, the last {DEATHS - 1} times while it looked at nothing else"
)


class Worker:
    """What a worker's process does: it keeps one running batch, and goes on with it in steps."""

    def __init__(self) -> None:
        self._job: ClassifyJob | None = None
        self._coming = deque[str]()
        self._lines: Generator[Line] | None = None

    def begin(self, folder: str, job: bytes, threads: int) -> list[Line]:
        """Gets ready; returns no lines.

        Args:
            folder: to go into, so that relative paths mean what they mean to the driver.
            job: a pickled ClassifyJob.
            threads: torch's.

        Raises:
            InputError: the folder is not here.
        """
        try:
            os.chdir(folder)
        except OSError as error:
            raise InputError(
                f"there is no folder {folder} on {socket.gethostname()}, a machine of the cluster ({error.strerror}); "
                "start from a folder that all its machines share, as they share the videos"
            ) from error
        sys.path.insert(0, folder)  # where a model of the user's own is imported from
        torch.set_num_threads(threads)
        self._job = repaired(lambda: pickle.loads(job))  # its model's classes may be torchvision's
        return []

    def step(self, paths: list[str]) -> list[Line]:
        """Takes more videos, and returns the lines of those left in about `STEP` seconds: one or more.

        Of as many as are open at a time at most, so that the driver can send the next before there are none.
        """
        assert self._job is not None
        self._coming.extend(paths)
        lines: list[Line] = []
        began = time.monotonic()
        while not lines or (len(lines) < open_videos(self._job) and time.monotonic() - began < STEP):
            if self._lines is None:
                self._lines = self._job.lines(self._popped())
            line = next(self._lines, None)
            if line is not None:
                lines.append(line)
            else:
                self._lines = None
                if not self._coming:
                    break
        return lines

    def _popped(self) -> Iterator[str]:
        while self._coming:
            yield self._coming.popleft()


def open_videos(job: ClassifyJob) -> int:
    """Returns how many videos the job opens at a time in each process."""
    return 2 * job.batch if job.in_flight is None else job.in_flight


@contextmanager
def over_ray(
    job: ClassifyJob, *, address: str, workers: int | None, threads: int | None
) -> Iterator[Callable[[list[str]], Generator[Line]]]:
    """Joins a Ray cluster, or starts one, and yields the function that gets the lines of paths from it.

    Args:
        job: what every worker does. A GPU is reserved for each where its accelerator is "cuda", or is "auto" and the
            cluster has one.
        address: "local" for a cluster of this machine alone, which ends with the command; "auto" for the one that runs
            here; or HOST:PORT.
        workers: how many; by default as many as the cluster has room for.
        threads: torch's threads of each, for which as many CPUs are reserved; by default 1.

    Raises:
        MissingExtraError: Ray is not installed.
        SaccadeError: the cluster cannot be joined, or the model not be sent; by the function that is yielded also:
            workers cannot begin, or die without end.
    """
    if address.startswith("ray://"):
        raise InputError(
            f"got --ray-address {address}, of a client outside the cluster; run the command on a machine of the "
            "cluster, with --ray-address auto, or give HOST:PORT of its head"
        )
    ray: Any = import_extra("ray", extra="ray")
    cpus, options = threads or 1, dict[str, object](address=address)
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a command reports to nobody
        options["include_dashboard"] = False
        if workers is not None:
            options["num_cpus"] = max(workers * cpus, os.cpu_count() or 1)
    try:
        ray.init(logging_level=logging.WARNING, log_to_driver=False, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SaccadeError(f"--ray-address {address}: there is no cluster to be had: {error}") from error
    try:
        has = ray.cluster_resources()
        gpu = job.accelerator == "cuda" or (job.accelerator == "auto" and has.get("GPU", 0) >= 1)
        if workers is None:
            workers = max(1, int(has.get("GPU", 0) if gpu else has.get("CPU", 0) // cpus))
        try:
            sent = ray.put(ray.cloudpickle.dumps(job))
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise SaccadeError(f"{job.classifier.name} cannot be sent to other processes: {error}") from error
        made = ray.remote(num_cpus=cpus, num_gpus=int(gpu))(Worker)

        def begun() -> tuple[Any, Any]:
            worker = made.remote()
            return worker, worker.begin.remote(os.getcwd(), sent, cpus)

        yield lambda paths: _lines(ray, begun, paths, workers=workers, reserve=2 * open_videos(job))
    finally:
        ray.shutdown()


def _lines(
    ray: Any, begun: Callable[[], tuple[Any, Any]], paths: list[str], *, workers: int, reserve: int
) -> Generator[Line]:
    """Yields the line of each path.

    `begun` returns a new worker and its first call.
    """
    workers = max(1, min(workers, len(paths)))
    shares, numbers = Shares(paths, workers=workers, reserve=reserve), count()
    calls: dict[Any, tuple[int, Any]] = {}  # of each worker but the idle ones, its number and itself
    idle: list[tuple[int, Any]] = []
    lines: list[Line] = []
    patience: float | None = PATIENCE
    deaths = 0  # in a row
    while True:
        for number, worker in idle[:]:
            taken = shares.take(number)
            if shares.held(number):
                idle.remove((number, worker))
                calls[worker.step.remote(taken)] = number, worker
        while shares.waiting and len(calls) + len(idle) < workers:
            worker, call = begun()
            calls[call] = next(numbers), worker
        yield from lines  # while the workers work
        lines = []
        if not shares.unfinished:
            return
        ready, _ = ray.wait(list(calls), timeout=patience)
        if not ready:
            say(f"note: no worker has begun after {PATIENCE:.0f} s; `ray status` says what they wait for")
            patience = None
        for call in ready:
            number, worker = calls.pop(call)
            try:
                lines = ray.get(call)
            except ray.exceptions.RayTaskError as error:  # raised in there
                if isinstance(error.cause, SaccadeError):
                    raise error.cause from error
                raise
            except ray.exceptions.RayError as error:
                ray.kill(worker)  # where it is only out of reach, it is not to go on
                lines = [{"path": path, "error": GIVEN_UP} for path in shares.died(number)]
                deaths += 1
                if deaths > DEATHS * (workers + DEATHS):
                    yield from lines
                    raise SaccadeError(
                        f"{deaths} workers died in a row without an answer; the last: {error}"
                    ) from error
                continue
            patience = None
            idle.append((number, worker))
            for line in lines:
                shares.answered(number, line["path"])
                deaths = 0
