"""`ReducedModel`: a converted network run over clips, with what its gates chose."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from saccade.errors import InputError
from saccade.reduce.layer import _ReducedConv
from saccade.reduce.policies import Force, LayerUse, Pass, Policies, check_force, working_on

_COUNTED = (nn.modules.conv._ConvNd, nn.Linear)


class ReducedModel(nn.Module):
    """Runs a converted network over clips: its outputs, and the policies of its layers.

    The network gets what it always gets: clips (B, C, T, H, W) of a 3D network, clips (B, T, C, H, W) or pictures of a
    2D one. The first axis is the clips'. Nothing is left on it. A network without reduced layers works too.

    Args:
        model: the network.
        recompute: while training, reduced layers keep their input only and are computed again for the gradient: the
            memory of the dense network, for a third more time.
    """

    def __init__(self, model: nn.Module, *, recompute: bool = False) -> None:
        super().__init__()
        self.model, self.recompute = model, recompute

    def forward(self, clips: Tensor, *, force: Force | None = None) -> tuple[Any, Policies]:
        """Returns the network's outputs and what its layers did.

        Args:
            clips: what the network takes, (B, ...).
            force: a policy all layers have to follow, or one by layer's name; a layer with fewer options takes its
                last.

        Raises:
            InputError: there are no clips, they have another length than the network was converted for, or a policy
                is forced on a layer that is not there.
        """
        if clips.dim() < 4 or 0 in clips.shape:
            raise InputError(f"got clips of shape {tuple(clips.shape)}; expected (B, C, T, H, W), none of them 0")
        check_force(force, {m.name for m in self.model.modules() if isinstance(m, _ReducedConv)})
        work = Pass(force, self.recompute)
        with working_on(work), _counting(self.model, work, len(clips)):
            outputs = self.model(clips)
        for output in pytree.tree_leaves(outputs):
            if isinstance(output, Tensor) and (output.dim() == 0 or output.shape[0] % len(clips)):
                raise InputError(f"the network returned {tuple(output.shape)} for {len(clips)} clips")
        return outputs, Policies(tuple(work.uses), len(clips))


@contextmanager
def _counting(model: nn.Module, work: Pass, batch: int) -> Iterator[None]:
    """Enters the convolutions and linear layers that are not reduced into the ledger, while the block runs."""

    def count(name: str) -> Any:
        def hook(module: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            if torch.is_tensor(output):
                source = inputs[0] if isinstance(module, nn.modules.conv._ConvTransposeNd) else output
                macs = source.numel() // batch * math.prod(module.weight.shape[1:])
                work.uses.append(LayerUse(name, macs))

        return hook

    own = {layer for m in model.modules() if isinstance(m, _ReducedConv) for layer in m.modules()}
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if isinstance(module, _COUNTED) and module not in own:
                handle = module.register_forward_hook(count(name))
                stack.callback(handle.remove)
        yield
