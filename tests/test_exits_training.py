"""Both stages on videos of which half say at once what they are, and half with their last frame alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saccade.exits import Confidence, FrameExit, LearnedGate, Oracle, TwoStages, decide, exit_losses, exit_macs

FRAMES, CLASSES, BETA = 4, 3, 0.05


def drawn(videos: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Returns videos (B, T, K + 2), noise but for a frame that tells the label; labels; and which are easy."""
    labels = torch.randint(0, CLASSES, (videos,), generator=random)
    easy = torch.rand(videos, generator=random) < 0.5
    frames = 0.1 * torch.randn(videos, FRAMES, CLASSES + 2, generator=random)
    frames[torch.arange(videos), torch.where(easy, 0, FRAMES - 1), labels] += 2
    return frames, labels, easy


def test_easy_videos_are_left_at_once_and_hard_ones_are_not() -> None:
    random = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = FrameExit(
        nn.Identity(), features=CLASSES + 2, classes=CLASSES, frames=FRAMES, hidden=16, gate_hidden=8
    ).train()
    stages = TwoStages(classifiers=120, gates=120)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, stages.rate_factor)
    for step in range(1, stages.steps + 1):
        stages(model, step)
        videos, labels, _ = drawn(32, random)
        optimizer.zero_grad()
        exit_losses(model(videos), labels, beta=BETA, stage=model.stage)["loss"].backward()
        optimizer.step()
        schedule.step()

    model.eval()
    videos, labels, easy = drawn(300, random)
    macs = exit_macs(model, videos[:1, 0])
    with torch.no_grad():
        outputs = model(videos)
    for rule in (LearnedGate(), Oracle(labels, beta=BETA), Confidence(0.9)):
        found = decide(model, outputs, rule, macs=macs)
        assert (found.scores.argmax(1) == labels).double().mean() > 0.97, rule
        assert (found.frames[easy] == 1).double().mean() > 0.97, rule
        assert (found.frames[~easy] == FRAMES).double().mean() > 0.97, rule
