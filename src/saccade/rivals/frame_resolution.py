"""Resolution by frame: a small recurrent policy chooses for every frame the size it is run at, or to skip it.

After AR-Net (Meng et al. 2020, "AR-Net: adaptive frame resolution for efficient action recognition"): the policy sees a
coarse frame and, through its memory, those before; each size has a network of its own; the answer is the mean over the
frames that are not skipped; the policy learns by Gumbel-softmax with a straight-through gradient, after a warm-up with
random choices. Not as there, a skip is of one frame alone, and the memory is a GRU.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.graph.mac_counter import count_macs
from saccade.rivals.frame_average import FrameAverage
from saccade.rivals.resolution import ChoiceCost, check_sizes, resize_frames, run_chosen
from saccade.rivals.skim import SIZE, Skim, check_example, check_videos


class FramePolicy(nn.Module):
    """Logits of every frame's options, (B, T, C, H, W) to (B, T, options), from it and the frames before it.

    Args:
        channels: C.
        options: how many.
        size: as of `Skim`.
        hidden: numbers the memory has.
    """

    def __init__(self, channels: int, options: int, *, size: int = SIZE, hidden: int = 32) -> None:
        super().__init__()
        self.skim = Skim(channels, size=size)
        self.memory = nn.GRU(self.skim.features, hidden, batch_first=True)
        self.last = nn.Linear(hidden, options)

    def forward(self, videos: Tensor) -> Tensor:
        """Returns the logits."""
        logits: Tensor = self.last(self.memory(self.skim(videos))[0])
        return logits


class FrameResolution(nn.Module):
    """Classifies videos by their frames, each at the size that a policy network chooses for it, or skipped.

    Of a video the policy would skip all of, the frame is run that it would skip least gladly.

    Args:
        network: of frames of any height and width; copied for each size, its weights are their start.
        sizes: sides of the square a frame is resized to, the largest first.
        example: one video (1, T, C, H, W) of the largest size; its numbers do not matter.
        size: height and width of the frames as the policy sees them.
        temperature: of the Gumbel-softmax.

    Attributes:
        exploring: choose at random while training (the warm-up).

    Raises:
        InputError: the sizes make no choice, or the example is not one video.
    """

    def __init__(
        self,
        network: FrameAverage,
        sizes: Sequence[int],
        *,
        example: Tensor,
        size: int = SIZE,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        check_sizes(sizes)
        check_example(example)
        self.sizes, self.temperature, self.exploring = tuple(sizes), temperature, False
        self.frames = example.shape[1]
        self.networks = nn.ModuleList(copy.deepcopy(network) for _ in sizes)
        self.policy = FramePolicy(example.shape[2], len(sizes) + 1, size=size)
        parts = [network.macs(resize_frames(example[:, 0], size)) for size in sizes]
        self.macs = [part.backbone + part.head + part.classifier for part in parts] + [0]
        self.dense_macs = parts[0].executed(self.frames)
        self.policy_macs = count_macs(self.policy, example)

    def forward(self, videos: Tensor) -> tuple[Tensor, ChoiceCost]:
        """Returns the logits (B, K) of videos (B, T, C, H, W) and what they cost; InputError for other shapes.

        While training, every frame is run at every size and one result is taken; in evaluation mode each is run at the
        chosen size alone. The last of the cost's choices is to skip.
        """
        check_videos(videos, self.frames)
        logits, frames = self.policy(videos), videos.flatten(0, 1)
        if not self.training:
            chosen = choose(logits)
            choices = F.one_hot(chosen, logits.shape[2]).to(logits)
            said = run_chosen(self.networks, self.sizes, frames, chosen.flatten(), _alone)
        else:
            logits = torch.zeros_like(logits) if self.exploring else logits
            logits = logits - torch.empty_like(logits).exponential_().log()
            soft = (logits / self.temperature).softmax(2)
            choices = F.one_hot(choose(logits), logits.shape[2]) + (soft - soft.detach())
            every = [net(_alone(frames, size)) for net, size in zip(self.networks, self.sizes, strict=True)]
            said = (torch.stack(every, 1) * choices[..., :-1].flatten(0, 1)[..., None]).sum(1)
        scores = said.unflatten(0, videos.shape[:2]).sum(1) / choices[..., :-1].sum((1, 2))[:, None]
        macs = torch.tensor(self.macs, dtype=torch.float64)
        overhead = torch.full((len(videos),), float(self.policy_macs), dtype=torch.float64)
        computed = choices.detach().double().sum(1).cpu() @ macs + overhead
        return scores, ChoiceCost(computed, self.dense_macs, overhead, choices.flatten(0, 1), macs / macs[0])


def choose(logits: Tensor) -> Tensor:
    """Returns the best option of every frame, (B, T), the last of which is to skip; but of no video all are skipped.

    Args:
        logits: (B, T, options).
    """
    chosen, skip = logits.argmax(2), logits.shape[2] - 1
    size = logits[..., :-1].max(2)
    keenest = (size.values - logits[..., -1]).argmax(1, keepdim=True)
    looked = torch.zeros_like(chosen, dtype=torch.bool).scatter(1, keenest, True)
    return torch.where((chosen == skip).all(1, keepdim=True) & looked, size.indices, chosen)


def _alone(frames: Tensor, size: int) -> Tensor:
    """Returns frames (N, C, H, W) as videos of one frame, at a size."""
    return resize_frames(frames, size)[:, None]
