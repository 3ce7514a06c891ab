"""Models from a `.pt2` file, as written by `torch.export.save`."""

from __future__ import annotations

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from saccade.errors import ModelError
from saccade.graph import load_program
from saccade.zoo.loaded import LoadedModel, guess_kind, picture_preprocess


def load_program_file(name: str) -> LoadedModel:
    """Returns the model in a `.pt2` file, with the preprocess stored in it or, without one, the plainest one.

    Raises:
        FileFormatError: the file is missing, damaged or foreign, or its preprocess is.
        ModelError: the program does not say what its inputs look like.
    """
    program, stored = load_program(name)
    example = example_inputs(program, name=name)
    preprocess = stored or picture_preprocess(example)
    results = program.graph.output_node().args[0]
    outputs = [node.meta.get("val") for node in results if isinstance(node, torch.fx.Node)]
    return LoadedModel(
        name=name,
        model=program,
        example=example,
        preprocess=preprocess,
        kind=guess_kind([torch.empty(value.shape) for value in outputs if isinstance(value, torch.Tensor)], example),
        weights="from the file",
    )


def example_inputs(program: ExportedProgram, *, name: str) -> tuple[torch.Tensor, ...]:
    """Returns the inputs a program was exported with or, where they were not kept, zeros of their shapes.

    Raises:
        ModelError: the program takes keyword arguments or something else than tensors, or its sizes are not fixed
            and no example was kept.
    """
    if program.example_inputs is not None:
        args, kwargs = program.example_inputs
    else:
        wanted = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT}
        values = [node.meta.get("val") for node in program.graph.find_nodes(op="placeholder") if node.name in wanted]
        args, kwargs = tuple(_zeros(value, name=name) for value in values), {}
    if kwargs or not args or not all(isinstance(value, torch.Tensor) for value in args):
        kinds = ", ".join([type(value).__name__ for value in args] + [f"{key}=..." for key in kwargs]) or "none"
        raise ModelError(
            f"{name}: a model run over video takes tensors, by position; this program's inputs are: {kinds}. "
            "Export a module whose forward takes the picture as its argument."
        )
    return tuple(args)


def _zeros(value: object, *, name: str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or not all(isinstance(size, int) for size in value.shape):
        raise ModelError(
            f"{name}: the program keeps no example inputs and has one that is not a tensor of fixed size ({value!r}). "
            "Export it again with fixed sizes."
        )
    return torch.zeros(value.shape, dtype=value.dtype)
