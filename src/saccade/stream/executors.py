"""Which executor runs a plan: the native engine where it is there and the plan fits it, else the reference."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from saccade.errors import InputError
from saccade.graph.plan import Plan
from saccade.kernels.cpu import native_module, warn_once, why_missing
from saccade.stream.checks import NOTHING
from saccade.stream.gate import GateSettings
from saccade.stream.moves import NO_MOVES, Move
from saccade.stream.native import NativeExecutor, why_unfit
from saccade.stream.passes import Pass
from saccade.stream.reference import ReferenceExecutor
from saccade.stream.state import StreamState

EXECUTORS = ("native", "reference")


class Executor(Protocol):
    """What runs a plan over frames."""

    name: str
    precision: str
    threads: int
    isa: str
    profile: bool

    def run(
        self,
        state: StreamState,
        inputs: Sequence[Tensor],
        settings: GateSettings,
        *,
        forced: Mapping[str, Tensor] = NOTHING,
        moves: Mapping[str, Move] = NO_MOVES,
    ) -> Pass:
        """Returns the pass over one frame, and moves the state on by it.

        Args:
            state: the stream's memory.
            inputs: one tensor per input of the plan, of its shape.
            settings: the gates.
            forced: by the name of a value that a step computes, a bool mask of its mask shape: positions that are
                computed in this frame whatever changed. What becomes of them is the change rule's: compared, and
                announced where they moved by more than the threshold. A gated convolution is computed whole there.
            moves: by the name of a value that is kept, how far what is stored of it moves before the frame is compared
                with it. Where nothing comes from, what was there stays: whoever moves values says with `forced` what of
                them and of what reads them no longer holds. Not for reference frames, which compare nothing.

        Raises:
            InputError: an input holds NaN or infinite values, or `forced` does not fit the plan. Nothing has moved.
        """


class Executed:
    """What runs a plan says of how: its executor's name and settings."""

    _executor: Executor

    @property
    def executor(self) -> str:
        """Which executor runs the plan, "native" or "reference"."""
        return self._executor.name

    @property
    def precision(self) -> str:
        """What values are stored in, "float32" or "bfloat16"."""
        return self._executor.precision

    @property
    def threads(self) -> int:
        """Threads that share the work of a frame, or of an input."""
        return self._executor.threads

    @property
    def isa(self) -> str:
        """The native engine's instruction set; "" on the reference executor."""
        return self._executor.isa


def choose_executor(
    plan: Plan, name: str | None, *, precision: str = "float32", threads: int = 1, profile: bool = False
) -> Executor:
    """Returns the executor of that name; without one, the best that can run the plan, with a warning if that is slow.

    Raises:
        InputError: no executor of that name, or it cannot run this plan at this precision.
    """
    if name is not None and name not in EXECUTORS:
        raise InputError(f"unknown executor {name!r}; expected one of {', '.join(EXECUTORS)}")
    missing = "" if native_module() else f"there is no native engine here ({why_missing()})"
    problem = missing or why_unfit(plan)
    if name == "native" and problem:
        raise InputError(f"the native executor cannot run {plan.name}: {problem}; leave executor away, or use another")
    if name == "reference" or problem:
        if precision != "float32":
            raise InputError(f"precision={precision!r} needs the native executor" + (f": {problem}" if problem else ""))
        if threads != 1 or profile:
            raise InputError("threads and profile are the native executor's" + (f": {problem}" if problem else ""))
        if name is None and missing:
            warn_once()
        elif name is None:
            warnings.warn(
                f"{plan.name} runs on the reference executor, which saves no time: {problem}",
                RuntimeWarning,
                stacklevel=3,
            )
        return ReferenceExecutor(plan)
    return NativeExecutor(plan, precision=precision, threads=threads, profile=profile)
