"""Frames chosen in one shot: a small network skims all of a video's frames, and the k best go through the backbone.

After OCSampler (Lin et al. 2022, "OCSampler: compressing videos to one clip with single-step sampling"). Its policy
draws k frames without replacement and learns by REINFORCE; here they are the k best of the perturbed scores (Gumbel
top-k), which are draws of the same distribution, with the gradient of a relaxed choice (Xie and Ermon 2019,
"Reparameterizable subset sampling via continuous relaxations", algorithm 1). So the loss of the classification alone
trains the policy. A warm-up with frames chosen at random comes first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saccade.errors import InputError
from saccade.graph.mac_counter import count_macs
from saccade.rivals.counted import ClipCost
from saccade.rivals.frame_average import FrameAverage
from saccade.rivals.skim import SIZE, Skim, check_example, check_videos

TINY = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class ShotCost(ClipCost):
    """What was chosen for the videos of a batch, and what it cost.

    Attributes:
        chosen: (B, k), which frames, in order.
    """

    chosen: Tensor


class FrameScores(nn.Module):
    """A score for every frame, (B, T, C, H, W) to (B, T), from it and from what the video has on average and at most.

    Args:
        channels: C.
        size: as of `Skim`.
        hidden: neurons of the layer before the score.
    """

    def __init__(self, channels: int, *, size: int = SIZE, hidden: int = 32) -> None:
        super().__init__()
        self.skim = Skim(channels, size=size)
        self.score = nn.Sequential(nn.Linear(3 * self.skim.features, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, videos: Tensor) -> Tensor:
        """Returns the scores; their softmax is how likely a frame is to be drawn first."""
        own = self.skim(videos)
        video = torch.cat([own.mean(1), own.amax(1)], 1)
        scores: Tensor = self.score(torch.cat([own, video[:, None].expand(-1, own.shape[1], -1)], 2))
        return scores[..., 0]


class OneShot(nn.Module):
    """Classifies videos by the k of their T frames that a policy network chooses at once.

    While training, all frames go through the network and the features of k count: the gradient of a choice is what the
    other frames would have given. In evaluation mode the k best are chosen, and no other goes through the network.

    Args:
        network: of the frames that are chosen.
        budget: k; set `budget` for another one later.
        example: one video (1, T, C, H, W); its numbers do not matter.
        size: height and width of the frames as the policy sees them.
        temperature: of the relaxed choice.

    Attributes:
        exploring: choose at random while training (the warm-up).

    Raises:
        InputError: the budget is not 1 to T, or the example not one video.
    """

    def __init__(
        self, network: FrameAverage, *, budget: int, example: Tensor, size: int = SIZE, temperature: float = 1.0
    ) -> None:
        super().__init__()
        check_example(example)
        self.frames, self.temperature, self.exploring = example.shape[1], temperature, False
        self.network = network
        self.policy = FrameScores(example.shape[2], size=size)
        self.macs, self.policy_macs = network.macs(example[:, 0]), count_macs(self.policy, example)
        self.budget = budget

    @property
    def budget(self) -> int:
        """How many frames are chosen."""
        return self._budget

    @budget.setter
    def budget(self, budget: int) -> None:
        if not 1 <= budget <= self.frames:
            raise InputError(f"the budget is {budget}; expected 1 to {self.frames} frames")
        self._budget = budget

    def forward(self, videos: Tensor) -> tuple[Tensor, ShotCost]:
        """Returns the logits (B, K) of videos (B, T, C, H, W) and what they cost; InputError for other shapes."""
        check_videos(videos, self.frames)
        scores = self.policy(videos)
        if not self.training:
            chosen = best_frames(scores, self.budget)
            logits = self.network(videos[torch.arange(len(videos), device=videos.device)[:, None], chosen])
        else:
            kept = gumbel_top_k(
                torch.zeros_like(scores) if self.exploring else scores, self.budget, temperature=self.temperature
            )
            chosen = best_frames(kept.detach(), self.budget)
            features = (self.network.features(videos) * kept[..., None]).sum(1) / self.budget
            logits = self.network.classifier(features)
        overhead = torch.full((len(videos),), float(self.policy_macs), dtype=torch.float64)
        macs = overhead + self.macs.executed(self.budget)
        return logits, ShotCost(macs, self.macs.executed(self.frames), overhead, chosen)


def best_frames(scores: Tensor, budget: int) -> Tensor:
    """Returns which k frames have the largest scores (B, T), in order: (B, k)."""
    return scores.topk(budget, dim=1).indices.sort(1).values


def gumbel_top_k(scores: Tensor, budget: int, *, temperature: float = 1.0) -> Tensor:
    """Returns k of T drawn without replacement, each time as the softmax of the scores that are left says.

    Args:
        scores: (B, T).
        budget: k.
        temperature: of the relaxed choice, whose gradient the result has.

    Returns:
        (B, T), 1 for k frames and 0 for the others.
    """
    noise = -torch.empty_like(scores).exponential_().log()
    left = scores + noise
    hard = torch.zeros_like(scores).scatter(1, left.topk(budget, dim=1).indices, 1.0)
    soft = torch.zeros_like(scores)
    for _ in range(budget):
        share = (left / temperature).softmax(1)
        soft = soft + share
        left = left + (1 - share).clamp_min(TINY).log()
    return hard + (soft - soft.detach())
