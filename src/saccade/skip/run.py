"""`ClipModel`: a converted network run over clips."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from saccade.errors import InputError
from saccade.graph.conversion import parts_of_converted
from saccade.graph.ledger import Spent, listening
from saccade.skip.clip import Clip, ClipState, Firing, LayerFiring, reference_frames, working_on

_COUNTED = (nn.modules.conv._ConvNd, nn.Linear)


class ClipModel(nn.Module):
    """Runs a network over clips: (B, T, C, H, W) in, its outputs as (B, T, ...), and what its gates did.

    The network sees the B * T pictures at once, layer by layer: a layer's gate needs its own input of the frame before
    and nothing else, so this equals running it frame by frame. Works for any network, converted or not.

    Args:
        model: the network; its outputs' first axis must be the pictures'.
        reference_every: a reference frame each so many frames; None: the first frame of a video only.
    """

    def __init__(self, model: nn.Module, *, reference_every: int | None = None) -> None:
        super().__init__()
        reference_frames(0, 1, reference_every)
        self.model, self.reference_every = model, reference_every

    def forward(
        self,
        clip: Tensor,
        state: ClipState | None = None,
        *,
        masks: bool = False,
        flow: Tensor | None = None,
        equivariance: bool = False,
    ) -> tuple[Any, Firing]:
        """Returns the network's outputs, every tensor (B, T, ...), and the ledger of its gates.

        Args:
            clip: (B, T, C, H, W), or more axes after T.
            state: what came before the clip in its video, moved on by it; None: the clip begins with a reference frame.
            masks: keep where each gate fired, in the ledger.
            flow: (B, T, 2, H, W), x and y in pixels of the clip: frame t looks at a place as frame t - 1 does at that
                place + flow. Gated layers then take residuals to the frame before moved along it (section 3.3):
                r_t = x_t - T(x_{t-1}), z_t = T~(z_{t-1}) + w * r_t. Of a video's first frame it is not read.
            equivariance: with a flow, measure what `equivariance_loss` adds up.

        Raises:
            InputError: the clip is no clip, the network mixes up its pictures, or the state is of another network.
        """
        if clip.dim() < 4 or 0 in clip.shape[:2]:
            raise InputError(
                f"got a clip of shape {tuple(clip.shape)}; expected (B, T, C, H, W) with B and T at least 1"
            )
        batch, frames = int(clip.shape[0]), int(clip.shape[1])
        start = 0 if state is None else state.frames
        reference = reference_frames(start, frames, self.reference_every)
        if flow is not None and flow.shape != (batch, frames, 2, *clip.shape[-2:]):
            raise InputError(
                f"got a flow of shape {tuple(flow.shape)} for a clip {tuple(clip.shape)}; expected (B, T, 2, H, W), "
                f"{(batch, frames, 2, *clip.shape[-2:])}"
            )
        if equivariance and flow is None:
            raise InputError("equivariance is measured along a flow, and none was given; pass flow=")
        work = Clip(batch, frames, reference, state, masks, flow, equivariance)
        with working_on(work), _counting(self.model, work):
            outputs = self.model(clip.flatten(0, 1))
        if state is not None:
            state.frames += frames
        return pytree.tree_map_only(Tensor, lambda item: _apart(item, batch, frames), outputs), Firing(
            tuple(work.calls), reference
        )


def _apart(output: Tensor, batch: int, frames: int) -> Tensor:
    if output.dim() == 0 or output.shape[0] != batch * frames:
        raise InputError(
            f"the network returned {tuple(output.shape)} for {batch} x {frames} pictures; expected their number as the "
            "first axis. A network over clips must treat each picture on its own"
        )
    return output.unflatten(0, (batch, frames))


@contextmanager
def _counting(model: nn.Module, clip: Clip) -> Iterator[None]:
    """Enters what has no gate of this method into the clip's ledger, while the block runs."""

    def listen(spent: Spent) -> None:
        each = spent.pictures
        if clip.frames % each:
            raise InputError(
                f"{spent.name} takes {each} pictures together, and the clip has {clip.frames} frames; give clips of a "
                f"multiple of {each}, or convert the layer with an example of one picture, to decide frame by frame"
            )
        share = (spent.executed / spent.macs).repeat_interleave(each).unflatten(0, (clip.batch, clip.frames))
        decided = torch.full_like(share, 1 / each)
        clip.calls.append(LayerFiring(spent.name, spent.macs // each, spent.gate_macs, share, decided, gated=False))

    def count(name: str) -> Any:
        def hook(module: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            if torch.is_tensor(output) and output.shape[0] == clip.batch * clip.frames:
                source = inputs[0] if isinstance(module, nn.modules.conv._ConvTransposeNd) else output
                per_output = math.prod(module.weight.shape[1:])
                all_of_it = torch.ones(clip.batch, clip.frames, device=output.device)
                macs = math.prod(source.shape[1:]) * per_output
                clip.calls.append(LayerFiring(name, macs, 0, all_of_it, 0 * all_of_it, gated=False))

        return hook

    own = parts_of_converted(model)
    with ExitStack() as stack, listening(listen):
        for name, module in model.named_modules():
            if isinstance(module, _COUNTED) and module not in own:
                handle = module.register_forward_hook(count(name))
                stack.callback(handle.remove)
        yield
