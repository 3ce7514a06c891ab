"""Samples made once and kept on the disk: what rendered and decoded data of the recipes is read from."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

SEEDS_EACH = 32  # a process is worth starting for
CACHE = Path(os.environ.get("SACCADE_CACHE", "out/cache"))


class KeptSamples:
    """Samples as dicts, of arrays (N, ...) by key that need not be in memory."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {key: np.array(value[index])[()] for key, value in self.arrays.items()}


def render_all(render: Callable[[int], dict[str, Any]], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Return what `render`, a function of a module, makes of each seed, by as many processes as there are cores."""
    workers = min(len(os.sched_getaffinity(0)), len(seeds) // SEEDS_EACH)
    if workers < 2:
        return list(map(render, seeds))
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            return list(pool.map(render, seeds, chunksize=SEEDS_EACH // 4))
    except BrokenProcessPool:  # a script without `if __name__ == "__main__"`, say, which cannot be begun again
        return list(map(render, seeds))


def kept(folder: Path, make: Callable[[], list[dict[str, Any]]]) -> dict[str, np.ndarray]:
    """Return samples of equal shapes, key by key and not read into memory; made once and kept in a folder.

    Several processes may want the same ones: a file is put in its place whole, so that none sees half of it.
    """
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        found = make()
        for key in found[0]:
            partial = folder / f"{key}.partial-{os.getpid()}"
            with partial.open("wb") as file:
                np.save(file, np.stack([item[key] for item in found]))
            partial.replace(folder / f"{key}.npy")
        (folder / "done").touch()
    return {file.stem: np.load(file, mmap_mode="r") for file in sorted(folder.glob("*.npy"))}
