"""Resolution by clip: a small policy network looks at a coarse clip and chooses the size at which the clip is run.

After AR-Net (Meng et al. 2020, "AR-Net: adaptive frame resolution for efficient action recognition"), which chooses for
every frame of a 2D network, as `frame_resolution` does; a 3D network sees a clip at one size. As there, each size has a
network of its own, the policy learns by Gumbel-softmax with a straight-through gradient, and a warm-up with random
choices comes first.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.errors import InputError
from saccade.graph.mac_counter import count_macs
from saccade.rivals.counted import ClipCost

LOOK = (8, 16, 16)  # frames, height and width of the clip as the policy sees it


@dataclass(frozen=True, eq=False, repr=False)
class ChoiceCost(ClipCost):
    """What was chosen for the clips of a batch, and what it cost.

    Attributes:
        choices: (B, K), or (B * T, K) of every frame by itself; 1 for what was chosen and 0 for the others; while
            training with a gradient.
        shares: (K,), macs of each choice over those of the first.
    """

    choices: Tensor
    shares: Tensor

    def expected(self) -> Tensor:
        """Returns the mean share of the dense macs, a differentiable scalar: AR-Net's efficiency loss."""
        return (self.choices * self.shares.to(self.choices)).sum(1).mean()

    def unevenness(self) -> Tensor:
        """Returns how far the use of the sizes is from even, sum over k of (use_k - 1/K)^2: AR-Net's uniform loss."""
        return (self.choices.mean(0) - 1 / self.choices.shape[1]).square().sum()


class ResolutionChoice(nn.Module):
    """Runs each clip at the size that a policy network chooses for it.

    Args:
        network: for clips (B, C, T, H, W) of any height and width; copied for each size, its weights are their start.
        sizes: sides of the square a clip is resized to, the largest first.
        example: one clip (1, C, T, H, W) of the largest size.
        temperature: of the Gumbel-softmax.

    Attributes:
        exploring: choose at random while training (the warm-up).
    """

    def __init__(self, network: nn.Module, sizes: Sequence[int], *, example: Tensor, temperature: float = 1.0) -> None:
        super().__init__()
        check_sizes(sizes)
        if example.dim() != 5 or len(example) != 1:
            raise InputError(f"got an example {tuple(example.shape)}; expected one clip (1, C, T, H, W)")
        self.sizes, self.temperature, self.exploring = tuple(sizes), temperature, False
        self.networks = nn.ModuleList(copy.deepcopy(network) for _ in sizes)
        self.policy = _policy(example.shape[1], len(sizes))
        self.macs = [count_macs(net, resize(example, size)) for net, size in zip(self.networks, sizes, strict=True)]
        self.policy_macs = count_macs(self.policy, look(example))

    def forward(self, clips: Tensor) -> tuple[Tensor, ChoiceCost]:
        """Returns the scores (B, classes) and what they cost.

        While training, every clip is run at every size and one result is taken; in evaluation mode each is run at the
        chosen size alone.
        """
        batch = len(clips)
        logits = self.policy(look(clips))
        if not self.training:
            chosen = logits.argmax(1)
            choices = F.one_hot(chosen, len(self.sizes)).to(logits)
            scores = run_chosen(self.networks, self.sizes, clips, chosen, resize)
        else:
            if self.exploring:
                logits = torch.zeros_like(logits)
            choices = F.gumbel_softmax(logits, tau=self.temperature, hard=True)
            every = [net(resize(clips, size)) for net, size in zip(self.networks, self.sizes, strict=True)]
            scores = (torch.stack(every, 1) * choices[:, :, None]).sum(1)
        macs = torch.tensor(self.macs, dtype=torch.float64)
        overhead = torch.full((batch,), float(self.policy_macs), dtype=torch.float64)
        computed = choices.detach().double().cpu() @ macs + overhead
        return scores, ChoiceCost(computed, self.macs[0], overhead, choices, macs / macs[0])


def run_chosen(
    networks: Iterable[nn.Module],
    sizes: Sequence[int],
    inputs: Tensor,
    chosen: Tensor,
    resized: Callable[[Tensor, int], Tensor],
) -> Tensor:
    """Returns what each input (N, ...) gives at its chosen size, each network called once at most.

    Args:
        networks, sizes: one network for each size.
        inputs: of the largest size.
        chosen: (N,), the index of a size; where it is none of them, the result is zeros.
        resized: from inputs and a size to what its network takes.

    Raises:
        InputError: no input has a size.
    """
    scores: Tensor | None = None
    for index, (network, size) in enumerate(zip(networks, sizes, strict=True)):
        members = (chosen == index).nonzero()[:, 0]
        if len(members):
            found = network(resized(inputs[members], size))
            scores = found.new_zeros(len(inputs), *found.shape[1:]) if scores is None else scores
            scores[members] = found
    if scores is None:
        raise InputError(f"got inputs of shape {tuple(inputs.shape)}; expected at least one, with a size")
    return scores


def check_sizes(sizes: Sequence[int]) -> None:
    """Raises InputError unless there is something to choose from, in order."""
    if len(sizes) < 2 or list(sizes) != sorted(set(sizes), reverse=True):
        raise InputError(f"sizes are {list(sizes)}; expected two or more, the largest first, none twice")


def resize(clips: Tensor, size: int) -> Tensor:
    """Returns clips (B, C, T, H, W) with frames of size x size, averaged down."""
    if clips.shape[-2:] == (size, size):
        return clips
    return resize_frames(clips.transpose(1, 2).flatten(0, 1), size).unflatten(0, (len(clips), -1)).transpose(1, 2)


def resize_frames(frames: Tensor, size: int) -> Tensor:
    """Returns frames (N, C, H, W) of size x size, averaged down."""
    if frames.shape[-2:] == (size, size):
        return frames
    return F.interpolate(frames, (size, size), mode="bilinear", antialias=True, align_corners=False)


def look(clips: Tensor) -> Tensor:
    """Returns clips (B, C, T, H, W) as the policy sees them, (B, C, 8, 16, 16), averaged down."""
    return F.adaptive_avg_pool3d(clips, LOOK)


def _policy(channels: int, options: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(channels, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm3d(8),
        nn.ReLU(),
        nn.Conv3d(8, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm3d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(16, options),
    )
