"""`Engine`: a model that runs on inputs that have nothing to do with one another, clips of a collection for one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from saccade.cost import Cost, StepCost
from saccade.errors import InputError
from saccade.graph import Plan, make_plan
from saccade.stream.arguments import Arguments
from saccade.stream.executors import Executed, choose_executor
from saccade.stream.gate import GateSettings
from saccade.stream.passes import Pass
from saccade.stream.state import StreamState


class Engine(Executed):
    """Runs a model on the native engine, every input computed whole and nothing kept of it.

    For networks that need no video to save: dynamic convolutions (`saccade.reduce`), or dense ones. A batch is run one
    by one, so each input pays only for what its own gates ask for.

    Args:
        model: a module, an exported program, the path of a `.pt2` file, or a plan (shared by many).
        example: what the model takes for one input, with a first axis of 1: a tensor or a tuple of arguments. Not
            needed for a plan or a program with its own example.
        executor, precision, threads: as of `Stream`.
        profile: measure the time of every step, see `step_costs`.

    Raises:
        ModelError, FileFormatError: as `make_plan`.
        InputError: an unknown executor or precision, or an executor that is not there or cannot run this plan.
    """

    def __init__(
        self,
        model: nn.Module | ExportedProgram | Plan | str | Path,
        example: Any = None,
        *,
        executor: str | None = None,
        precision: str = "float32",
        threads: int = 1,
        profile: bool = False,
    ) -> None:
        self.plan = make_plan(model, example)
        self._executor = choose_executor(self.plan, executor, precision=precision, threads=threads, profile=profile)
        self._state = StreamState(self.plan, record="accumulated", precision=self._executor.precision)
        self._arguments = Arguments(self.plan)
        self._settings = GateSettings(alone=True)
        self._passes: list[Pass] = []
        self.costs: tuple[Cost, ...] = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what the model gives, in its own structure; of a batch, the results joined along their first axes.

        `costs` then has one entry per input of the batch.

        Raises:
            InputError: shape, type or structure differ from the plan's but for the batch, or a value is not finite.
        """
        given = self._arguments.flat(args, kwargs, what="engine")
        batch = self._batch(given)
        costs, passes = [], []
        for index in range(batch):
            started = time.perf_counter()
            inputs = [
                self._arguments.checked(
                    name,
                    tensor[index : index + 1] if batch > 1 else tensor,
                    where=f"input {name!r} of number {index}",
                    size_hint="make another engine for inputs of that size, or bring them to this one",
                    batch_hint="the plan was made for a batch of %s",
                )
                for name, tensor in zip(self.plan.inputs, given, strict=True)
            ]
            done = self._executor.run(self._state, inputs, self._settings)
            ms = (time.perf_counter() - started) * 1e3
            costs.append(Cost(done.total.dense_macs, done.total.executed_macs, done.total.gate_macs, ms))
            passes.append(done)
        self.costs, self._passes = tuple(costs), passes[-1:]
        results = [self.plan.structured(done.outputs) for done in passes]
        return results[0] if batch == 1 else pytree.tree_map(_joined, results[0], *results[1:])

    @property
    def cost(self) -> Cost:
        """Of the last input."""
        return self.costs[-1] if self.costs else Cost(self.plan.dense_macs, 0, 0, 0.0)

    @property
    def step_costs(self) -> tuple[StepCost, ...]:
        """What each step of the plan cost for the last input."""
        return self._passes[-1].costs() if self._passes else ()

    @property
    def step_seconds(self) -> tuple[float, ...]:
        """Seconds of each step for the last input; empty unless `profile`."""
        return self._passes[-1].seconds() if self._passes else ()

    def _batch(self, given: list[Any]) -> int:
        """Returns how many inputs there are: 1 unless all of a plan's tensors have one first axis, which was 1."""
        sizes = {int(item.shape[0]) for item in given if isinstance(item, Tensor) and item.dim()}
        own = {self.plan.values[name].shape[0] for name in self.plan.inputs if self.plan.values[name].shape}
        if own != {1} or len(sizes) != 1:
            return 1
        (batch,) = sizes
        if batch == 0:
            raise InputError("got a batch of 0 inputs; expected at least 1")
        return batch

    def __repr__(self) -> str:
        return f"Engine({self.plan.name}, executor={self.executor!r})"


def _joined(first: Any, *others: Any) -> Any:
    return torch.cat([first, *others]) if isinstance(first, Tensor) and first.dim() else first
