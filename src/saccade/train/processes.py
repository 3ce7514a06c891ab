"""The processes that train together, and what they tell one another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from saccade.errors import TrainingError
from saccade.zoo.torchvision_repair import import_extra


def open_fabric(*, devices: int | None, accelerator: str, precision: str) -> Any:
    """Returns a launched Lightning Fabric: under torchrun one process of its group, else `devices` processes.

    Raises:
        TrainingError: torchrun started another number of processes than `devices`, or the accelerator is not here.
        MissingExtraError: lightning-fabric is not installed.
    """
    nodes = 1
    if dist.is_available() and dist.is_torchelastic_launched():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        if devices not in (None, local):
            raise TrainingError(
                f"got devices={devices} under torchrun with {local} processes per node; leave devices out there"
            )
        devices, nodes = local, int(os.environ["WORLD_SIZE"]) // local
    devices = devices or 1
    library = import_extra("lightning_fabric", extra="train")
    try:
        fabric = library.Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if devices * nodes > 1 else "auto",
            precision=precision,
        )
        fabric.launch()
    except (RuntimeError, ValueError, TypeError) as error:
        raise TrainingError(f"cannot train on {devices} x {accelerator}: {error}") from error
    return fabric


def close_fabric(fabric: Any) -> None:
    """Leaves the process group, once all processes have come this far."""
    if fabric.world_size > 1:
        fabric.barrier()
        dist.destroy_process_group()


def average(model: nn.Module, values: Tensor) -> Tensor:
    """Makes gradients, floating-point buffers and `values` (N,) the means over all processes, and returns `values`.

    A parameter without a gradient counts as one with zeros where another process has a gradient for it. Averaging here
    rather than in a wrapper around the network leaves recipes free to call it how and how often they like. Means of
    buffers keep the running statistics of batch norms alike, so that any process's may be kept.
    """
    processes = dist.get_world_size() if dist.is_initialized() else 1
    if processes == 1:
        return values
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    there = torch.tensor([float(p.grad is not None) for p in parameters], device=values.device)
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    _mean_in_place([*gradients, *buffers, there, values], processes)
    for parameter, share in zip(parameters, there.tolist(), strict=True):
        if not share:
            parameter.grad = None
    return values


@torch.no_grad()
def share_weights(model: nn.Module) -> None:
    """Gives every process the parameters and buffers of the first."""
    if dist.is_initialized():
        for tensor in [*model.parameters(), *model.buffers()]:
            dist.broadcast(tensor.detach(), src=0)


@torch.no_grad()
def _mean_in_place(tensors: Sequence[Tensor], processes: int) -> None:
    for kind in dict.fromkeys(tensor.dtype for tensor in tensors):
        group = [tensor for tensor in tensors if tensor.dtype == kind]
        flat = torch.cat([tensor.reshape(-1) for tensor in group])
        dist.all_reduce(flat)
        flat /= processes
        for tensor, part in zip(group, flat.split([tensor.numel() for tensor in group]), strict=True):
            tensor.copy_(part.view(tensor.shape))
