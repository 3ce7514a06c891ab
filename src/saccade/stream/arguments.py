"""What a plan's model is called with: checked, and flat in the order of the plan's inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from saccade.errors import InputError
from saccade.graph.plan import Plan


class Arguments:
    """Takes a call's arguments apart as the plan's example was."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._spec = pytree.treespec_loads(plan.in_spec)

    def flat(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, what: str) -> list[Any]:
        """Returns the arguments that are inputs of the plan, in its order, not yet checked one by one.

        Raises:
            InputError: they are structured otherwise than the example was.
        """
        order = self._spec.child(1).context  # the model's keyword arguments
        if set(order) == set(kwargs):
            kwargs = {name: kwargs[name] for name in order}
        flat, spec = pytree.tree_flatten((args, dict(kwargs)))
        tensors = [item for item in flat if item is not None]
        if spec != self._spec or len(tensors) != len(self.plan.inputs):
            raise InputError(
                f"got {len(flat)} inputs structured as {spec}, expected {len(self.plan.inputs)} as {self._spec}; call "
                f"the {what} the way the example called the model"
            )
        return tensors

    def checked(self, name: str, tensor: Any, *, where: str, size_hint: str, batch_hint: str) -> Tensor:
        """Returns the tensor for an input of the plan, without its gradient.

        Args:
            name: of the plan's input.
            tensor: what was given for it.
            where: what an error calls it.
            size_hint: what an error advises where it has another shape.
            batch_hint: what an error advises where the first axis alone differs; %s is the plan's.

        Raises:
            InputError: shape, type or place differ from the plan's.
        """
        spec = self.plan.values[name]
        if not isinstance(tensor, Tensor):
            raise InputError(f"{where} is a {type(tensor).__name__}, expected a tensor of shape {spec.shape}")
        if tuple(tensor.shape) != spec.shape:
            got = tuple(tensor.shape)
            hint = size_hint
            if got[1:] == spec.shape[1:] and len(got) > 1:
                hint = batch_hint % spec.shape[0]
            raise InputError(f"{where} has shape {got}, expected {spec.shape}; {hint}")
        if tensor.dtype != spec.torch_dtype:
            raise InputError(
                f"{where} has type {tensor.dtype}, expected {spec.torch_dtype}; convert it, for pixels with the "
                "same scale as the example"
            )
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            raise InputError(
                f"{where} is on {tensor.device} in layout {tensor.layout}, expected a dense tensor in the CPU's "
                "memory; convert it with .cpu() or .to_dense()"
            )
        return tensor.detach()
