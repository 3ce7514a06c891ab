"""A FrameExit's backbone on the native engine."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saccade.errors import InputError
from saccade.exits.macs import backbone_macs
from saccade.exits.model import FrameExit
from saccade.graph import make_plan
from saccade.graph.ledger import Spent, tell
from saccade.kernels.cpu import native_module, why_missing
from saccade.stream import Engine
from saccade.stream.native import why_unfit


class NativeBackbone(nn.Module):
    """A backbone that runs on the native engine, frame by frame, each computed whole and nothing kept of it.

    It holds no parameters: the engine has its own copy of the weights, as they were. It does not learn, and no gradient
    goes through it. One thread at a time may use it. Features are on the device of the frames.

    Args:
        backbone: what to run, from frames (N, ...) to features or maps.
        frame: an example of one frame, (1, ...) float32 on the CPU; frames of other sizes are refused afterwards.
        threads: how many share the work of a frame.
        precision: "float32", or "bfloat16", in which values and weights are then stored.

    Attributes:
        engine: what runs it.
        macs: of a frame, everything computed, counted as of `backbone`.

    Raises:
        ModelError: torch.export refuses the backbone.
        InputError: there is no native engine here, it cannot run this backbone, or the example is not one frame.
    """

    def __init__(self, backbone: nn.Module, frame: Tensor, *, threads: int = 1, precision: str = "float32") -> None:
        super().__init__()
        if frame.dim() < 2 or len(frame) != 1:
            raise InputError(f"got an example {tuple(frame.shape)} for the backbone; expected one frame, (1, 3, H, W)")
        plan = make_plan(backbone, frame)
        problem = why_unfit(plan) if native_module() else f"there is none here ({why_missing()})"
        if problem:
            raise InputError(f"the backbone {plan.name} cannot run on the native engine: {problem}; run it in torch")
        self.engine = Engine(plan, executor="native", threads=threads, precision=precision)
        self.macs, _ = backbone_macs(backbone, frame)

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """Returns the features or maps of frames, (N, ...).

        Raises:
            InputError: it is in training mode; or a frame has another shape or type than the example, or holds NaN or
                infinite values.
        """
        if self.training:
            raise InputError(
                "a backbone on the native engine does not learn; call eval(), or train the model it was made from and "
                "make it again (the gates alone can be trained with it: set_stage('gates'))"
            )
        found: Tensor = self.engine(frames.cpu())
        tell(self._spent)
        return found.to(frames.device) if isinstance(found, Tensor) else found

    def _spent(self) -> Spent:
        costs = self.engine.costs
        executed = [cost.executed_macs + cost.gate_macs - cost.dense_macs for cost in costs]
        deciding = min(cost.gate_macs for cost in costs)
        return Spent(
            name=self.engine.plan.name,
            pictures=1,
            macs=self.macs,
            executed=torch.tensor(executed, dtype=torch.float64) + self.macs - deciding,
            gate_macs=deciding,
        )

    def extra_repr(self) -> str:
        """The engine."""
        return repr(self.engine)


def with_native_backbone(model: FrameExit, frame: Tensor, *, threads: int = 1, precision: str = "float32") -> FrameExit:
    """Returns a model whose backbone runs on the native engine, and that shares all else with the one given.

    It answers as the model does, up to rounding, and its macs are the same. The backbone has the weights the model has
    now; its own cannot be saved or loaded. In training mode it raises InputError, unless the gates alone are trained.

    Args:
        model: on the CPU.
        frame: as the backbone takes one, (1, ...) float32; its numbers do not matter.
        threads, precision: as of `NativeBackbone`.

    Raises:
        ModelError, InputError: as `NativeBackbone`.
    """
    backbone = NativeBackbone(model.backbone, frame, threads=threads, precision=precision)
    return model.with_backbone(backbone.train(model.backbone.training))
