"""Capture: an nn.Module with an example, or an exported program, becomes one torch graph without hidden writes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from saccade.errors import ModelError
from saccade.graph.aliasing import can_be_read

HIDDEN_WRITE = (
    "the model writes to its own buffers or weights while it runs ({names}). A stream keeps history beside the model, "
    "never in it: put the model in evaluation mode, or return that state as an output and pass it back in."
)


def capture(
    model: nn.Module | ExportedProgram, example: Any = None, *, kwargs: Mapping[str, Any] | None = None
) -> ExportedProgram:
    """Returns the model as an inference program: batch norm in evaluation mode, fixed shapes, no hidden writes.

    Args:
        model: a module (its training mode is left as it was), or an exported program.
        example: a tensor, or a tuple of positional arguments; not needed for a program that holds its own.
        kwargs: keyword arguments.

    Raises:
        ModelError: torch.export refuses the model, or it cannot be run frame by frame.
    """
    if isinstance(model, ExportedProgram):
        program = _fix_shapes(model, example, kwargs)
    else:
        if example is None and not kwargs:
            raise ModelError(
                "a module needs an example input: got none; pass the tensor (or the tuple of arguments) one frame gives"
            )
        program = _export(model, _as_arguments(example), dict(kwargs or {}))
    if can_be_read(program.graph):
        return program
    try:
        with quiet(), torch.no_grad():
            functional = program.run_decompositions({})
    except Exception as error:
        raise ModelError(f"torch cannot make the program functional: {first_line(error)}") from error
    if functional.graph_signature.buffers_to_mutate:
        names = ", ".join(sorted(set(functional.graph_signature.buffers_to_mutate.values())))
        raise ModelError(HIDDEN_WRITE.format(names=names))
    return functional


def _export(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ExportedProgram:
    modes = {module: module.training for module in model.modules()}
    # Of a tensor given twice torch would make one argument, and read it in place of the other.
    args, kwargs = pytree.tree_map_only(Tensor, lambda tensor: tensor.detach().clone(), (args, kwargs))
    try:
        model.eval()
        with quiet(), torch.no_grad():
            return torch.export.export(model, args, kwargs)
    except Exception as error:
        raise ModelError(
            f"torch.export refuses {type(model).__name__}: {first_line(error)}\n"
            "Export needs a forward whose control flow does not depend on tensor values and whose shapes are fixed. "
            "Move post-processing (thresholds, nms, Python loops over detections) out of forward, replace "
            "`if tensor:` by torch.where, and check that the example fits the model; "
            "torch.export.export(model, args) shows the full reason."
        ) from error
    finally:
        for module, training in modes.items():
            module.training = training


def _fix_shapes(program: ExportedProgram, example: Any, kwargs: Mapping[str, Any] | None) -> ExportedProgram:
    """Returns a program without symbolic sizes, exported again at the example's where it had any."""
    if not program.range_constraints:
        return program
    if example is None and program.example_inputs is not None:
        example, kwargs = program.example_inputs
    if example is None:
        raise ModelError(
            "the program was exported with dynamic shapes and holds no example; pass one with the sizes to plan for"
        )
    return _export(_Evaluated(program), _as_arguments(example), dict(kwargs or {}))


class _Evaluated(nn.Module):
    """A program as a module whose train() and eval() do nothing; the one torch makes refuses both."""

    def __init__(self, program: ExportedProgram) -> None:
        super().__init__()
        self.program = program.module()

    def train(self, mode: bool = True) -> _Evaluated:
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.program(*args, **kwargs)


def _as_arguments(example: Any) -> tuple[Any, ...]:
    if isinstance(example, Tensor):
        return (example,)
    return () if example is None else tuple(example)


def first_line(error: BaseException) -> str:
    """Returns an error's kind and the first line of what it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Silences torch's own deprecation notices, which its users can do nothing about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
