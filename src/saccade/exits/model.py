"""FrameExit: a network that looks at a video's frames one by one and can answer after each (section 3)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from saccade.errors import InputError
from saccade.exits.features import frame_features
from saccade.exits.gates import ExitGates
from saccade.exits.order import Order, frames_to_visit, visiting_order
from saccade.exits.pooling import Pooling, PoolingName, make_pooling
from saccade.exits.saved import saving
from saccade.exits.seen import ExitState, Rows, Seen

Stage = Literal["classifiers", "gates", "all"]


class Outputs(NamedTuple):
    """What a model says of B videos after each of t frames.

    Attributes:
        logits: of the classifiers, (B, t, K).
        gate_logits: of the gates, before their sigmoid, (B, t).
        z: of the pooling, (B, t, D).
    """

    logits: Tensor
    gate_logits: Tensor
    z: Tensor


pytree._register_namedtuple(Outputs, serialized_type_name="saccade.exits.Outputs")  # so that a plan can be saved


class FrameExit(nn.Module):
    """A backbone, a layer behind it, accumulated pooling, and T classifiers and gates.

    A frame is whatever the backbone takes one of: pictures (3, H, W), or clips (3, t, H, W) of a 3D one. Frames come
    in the order they are visited in (`positions`). Gates read z without passing a gradient on to it: the parameters of
    the rest are learned from the classification loss alone (eq. 4, 5).

    Args:
        backbone: from frames (N, ...) to features (N, features) or maps (N, features, ...), which are averaged.
        features: of the backbone's output.
        classes: K.
        frames: T (the paper: 10).
        hidden: D, neurons of the layer behind the backbone (the paper: 4096); a ReLU follows.
        pooling: "max", "average", "lstm" or "attention"; "none" for a model whose classifiers and gates see their own
            frame alone, and that answers with the mean of their predictions (Table 4); or a module of your own.
        gate_hidden: neurons of the gates' layers.
        shared_gates: the gates' layers are the same for all t.
        multi_label: a video may have several labels: sigmoid in place of softmax.
        order: in which the frames are visited.

    Raises:
        InputError: a number is below 1, or there is no such pooling or order.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        features: int,
        classes: int,
        frames: int = 10,
        hidden: int = 4096,
        pooling: PoolingName | Pooling = "max",
        gate_hidden: int = 64,
        shared_gates: bool = False,
        multi_label: bool = False,
        order: Order = "coarse-to-fine",
    ) -> None:
        super().__init__()
        numbers = {"features": features, "classes": classes, "frames": frames, "hidden": hidden}
        for name, number in (numbers | {"gate_hidden": gate_hidden}).items():
            if number < 1:
                raise InputError(f"FrameExit: {name} is {number}; expected at least 1")
        visiting_order(frames, order)
        self.classes, self.frames, self.hidden = classes, frames, hidden
        self.multi_label, self.order = multi_label, order
        self.backbone = backbone
        self.embed = nn.Linear(features, hidden)
        self.pooling = pooling if isinstance(pooling, Pooling) else make_pooling(pooling, hidden)
        self.classifiers = nn.ModuleList(nn.Linear(hidden, classes) for _ in range(frames))
        self.gates = ExitGates(frames, hidden, hidden=gate_hidden, shared=shared_gates, pairs=self.pooling.accumulates)
        self._stage: Stage = "all"
        self._held: set[str] = set()  # parameters that only the stage keeps from being trained

    @property
    def stage(self) -> Stage:
        """What is being trained; see `set_stage`."""
        return self._stage

    def set_stage(self, stage: Stage) -> None:
        """Says what is trained from now on, and takes gradients away from the rest.

        Parameters that were frozen by hand stay so.

        Args:
            stage: "classifiers", everything but the gates (the paper's first stage); "gates", nothing else (its
                second; the rest is in evaluation mode too, so that batch norms stay as they are); or "all".

        Raises:
            InputError: there is no such stage.
        """
        if stage not in get_args(Stage):
            raise InputError(f"there is no stage {stage!r}; expected one of {', '.join(get_args(Stage))}")
        if stage == self._stage:
            return
        self._stage = stage
        held, self._held = self._held, set()
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(parameter.requires_grad or name in held)
            if parameter.requires_grad and stage != "all" and (stage == "gates") != name.startswith("gates."):
                parameter.requires_grad_(False)
                parameter.grad = None
                self._held.add(name)
        self.train(self.training)

    def train(self, mode: bool = True) -> FrameExit:
        """Sets training mode; what the stage does not train stays in evaluation mode."""
        super().train(mode)
        if self._stage == "gates":
            for name, child in self.named_children():
                child.train(mode and name == "gates")
        return self

    def positions(self, length: int, *, seed: int = 0) -> tuple[int, ...]:
        """Returns which frames of a video of `length` frames the model visits, in order; as `frames_to_visit`."""
        return frames_to_visit(length, self.frames, self.order, seed=seed)

    def features(self, frames: Tensor) -> Tensor:
        """Returns phi, (N, D), of frames (N, ...), each by itself.

        Raises:
            InputError: the backbone gives something else than `features` numbers per frame.
        """
        return frame_features(self.backbone, self.embed, frames)

    def features_and_saved(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the features of frames, and the macs left out of each, (N,) int64 on the CPU.

        What is left out counts from `exit_macs`, which has everything computed: of a backbone that `saccade.reduce`
        converted, what its gates left out, less what they cost; of others 0.

        Raises:
            InputError: as `features`; or the backbone decides about several frames together.
        """
        with saving(len(frames)) as saved:
            features = self.features(frames)
        return features, saved.macs

    def with_backbone(self, backbone: nn.Module) -> FrameExit:
        """Returns this model with another backbone, and all else shared with this one.

        Args:
            backbone: gives as many features as the one there is.
        """
        made = copy.copy(self)
        made._modules = dict(self._modules)
        made.backbone = backbone
        return made

    def look(self, state: ExitState, frames: Tensor) -> Seen:
        """Returns what is known after one more frame.

        Args:
            state: of B videos, `ExitState()` before the first frame, then the `state` of what was returned last.
            frames: the next frame of each, (B, ...).

        Raises:
            InputError: the videos have seen all T frames, or there are not as many frames as videos.
        """
        return self.advance(state, self.features(frames))

    def advance(self, state: ExitState, features: Tensor) -> Seen:
        """Returns what is known after one more frame, whose `features` (B, D) are given; else as `look`."""
        t = state.t + 1
        if t > self.frames:
            raise InputError(f"the videos have seen all {self.frames} frames the model has classifiers for")
        if state.z is not None and len(state.z) != len(features):
            raise InputError(f"got {len(features)} frames for {len(state.z)} videos; expected one for each")
        z, memory = self.pooling(state.memory, features, t)
        return self._seen(
            ExitState(t, z, memory, state.answers),
            z,
            state.z,
            lambda rows: self.classifiers[t - 1](z[rows]),
            lambda: self.gates(t, None if state.z is None else state.z.detach(), z.detach()),
        )

    def forward(self, videos: Tensor) -> Outputs:
        """Returns what the model says of videos after each of their frames.

        Args:
            videos: (B, t, ...), 1 to T frames each, in the order they are visited.

        Raises:
            InputError: there are no videos, no frames or too many.
        """
        if videos.dim() < 3 or 0 in videos.shape:
            raise InputError(
                f"got videos {tuple(videos.shape)}; expected (B, t, ...) as (B, t, 3, H, W), none of them 0"
            )
        return self.from_features(self.features(videos.flatten(0, 1)).unflatten(0, videos.shape[:2]))

    def from_features(self, features: Tensor) -> Outputs:
        """Returns the same from `features` of the frames, (B, t, D), kept from `features()`.

        Raises:
            InputError: there are no frames or too many.
        """
        if features.dim() != 3 or not 1 <= features.shape[1] <= self.frames:
            raise InputError(
                f"got features {tuple(features.shape)}; expected (B, t, D) of t = 1 to {self.frames} frames"
            )
        state, said = ExitState(), []
        for x in features.unbind(1):
            seen = self.advance(state, x)
            said.append((seen.logits, seen.gate_logits, seen.z))
            state = seen.state
        return Outputs(*(torch.stack(tensors, 1) for tensors in zip(*said, strict=True)))

    def recall(self, outputs: Outputs, state: ExitState) -> Seen:
        """Returns what was known after one more frame, from what the model said of whole videos.

        Args:
            outputs: of the videos.
            state: as of `look`; `ExitState()` for the first frame.

        Raises:
            InputError: the model said nothing of that frame.
        """
        index = state.t
        if index >= outputs.z.shape[1]:
            raise InputError(f"the model looked at {outputs.z.shape[1]} frames, which all have been recalled")
        z = outputs.z[:, index]
        return self._seen(
            ExitState(index + 1, z, (), state.answers),
            z,
            state.z,
            lambda rows: outputs.logits[rows, index],
            lambda: outputs.gate_logits[:, index],
        )

    def _seen(
        self,
        state: ExitState,
        z: Tensor,
        before: Tensor | None,
        classifier: Callable[[Rows], Tensor],
        gate: Callable[[], Tensor],
    ) -> Seen:
        return Seen(
            t=state.t,
            frames=self.frames,
            z=z,
            before=before,
            classifier=classifier,
            gate=gate,
            multi_label=self.multi_label,
            averages=not self.pooling.accumulates,
            state=state,
        )
