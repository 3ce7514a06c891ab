"""The plainest classifier of a video's frames: the mean of their features, and one answer.

It is what "Uniform-k" and "Random-k" of FrameExit's Table 2 are run on, and the network inside of `one_shot` and
`frame_resolution`. As its last layer is linear, the answer is also the mean of what each frame says by itself, before
any softmax: the average consensus of TSN (Wang et al. 2016, "Temporal segment networks").
"""

from __future__ import annotations

from torch import Tensor, nn

from saccade.errors import InputError
from saccade.exits.features import frame_features
from saccade.exits.macs import ExitMacs
from saccade.graph.mac_counter import count_macs


class FrameAverage(nn.Module):
    """A backbone, the layer behind it that FrameExit has, and one classifier.

    Args:
        backbone: as of `saccade.exits.FrameExit`.
        features: of the backbone's output.
        classes: K.
        hidden: D, neurons of the layer behind the backbone; a ReLU follows.

    Raises:
        InputError: a number is below 1.
    """

    def __init__(self, backbone: nn.Module, *, features: int, classes: int, hidden: int = 4096) -> None:
        super().__init__()
        for name, number in {"features": features, "classes": classes, "hidden": hidden}.items():
            if number < 1:
                raise InputError(f"FrameAverage: {name} is {number}; expected at least 1")
        self.backbone = backbone
        self.embed = nn.Linear(features, hidden)
        self.classifier = nn.Linear(hidden, classes)

    def features(self, videos: Tensor) -> Tensor:
        """Returns phi of every frame, (B, k, D), of videos (B, k, ...).

        Raises:
            InputError: there are no videos or no frames, or the backbone gives other features.
        """
        if videos.dim() < 3 or 0 in videos.shape:
            raise InputError(
                f"got videos {tuple(videos.shape)}; expected (B, k, ...) as (B, k, 3, H, W), none of them 0"
            )
        return frame_features(self.backbone, self.embed, videos.flatten(0, 1)).unflatten(0, videos.shape[:2])

    def forward(self, videos: Tensor) -> Tensor:
        """Returns the logits (B, K) of videos (B, k, ...), of any number of frames; InputError as `features`."""
        scores: Tensor = self.classifier(self.features(videos).mean(1))
        return scores

    def macs(self, frame: Tensor) -> ExitMacs:
        """Returns what the parts cost; `executed(k)` is a video of k frames.

        As `saccade.exits.exit_macs` counts them, so that T frames here cost what T frames without exits cost there.

        Args:
            frame: one frame as the backbone takes it, (1, ...); its numbers do not matter.
        """
        return ExitMacs(
            backbone=count_macs(self.backbone, frame),
            head=self.embed.weight.numel(),
            pooling=self.embed.out_features,
            classifier=self.classifier.weight.numel(),
            gates=(),
        )
