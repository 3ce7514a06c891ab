"""Dynamic convolutions through torch.export: the plan computes what the network does, clip by clip."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade import Stream, make_plan
from saccade.reduce import Reduce, ReducedModel, convert
from saccade.zoo.tsn import tsn


class Clips(nn.Module):
    """A (2+1)D network with awkward layers: replicated padding, dilation, groups, no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.space = nn.Conv3d(3, 10, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        self.norm = nn.BatchNorm3d(10)
        self.time = nn.Conv3d(10, 12, (3, 1, 1), padding=(1, 0, 0), padding_mode="replicate")
        self.grouped = nn.Conv3d(12, 12, 3, (2, 1, 1), 1, groups=4)
        self.last = nn.Conv3d(12, 7, (1, 3, 3), padding="same", dilation=(1, 2, 1))
        self.head = nn.Linear(7, 5)

    def forward(self, clips: Tensor) -> Tensor:
        """Return logits of clips (B, 3, T, H, W)."""
        x = torch.relu(self.norm(self.space(clips)))
        x = torch.relu(self.grouped(torch.relu(self.time(x))))
        return self.head(torch.relu(self.last(x)).mean((2, 3, 4)))


def networks() -> dict[str, tuple[nn.Module, Tensor]]:
    torch.manual_seed(0)
    return {
        "clips": (Clips().eval(), torch.randn(5, 3, 7, 11, 14)),
        "pictures": (tsn("tiny", segments=5), torch.randn(3, 5, 3, 48, 48)),
    }


@pytest.mark.parametrize("name", ["clips", "pictures"])
def test_a_plan_follows_the_gates(name: str, executor: Any) -> None:
    network, clips = networks()[name]
    convert(network, Reduce(time=3, channels=3), example=clips[:1])
    torch.manual_seed(1)
    for module in network.modules():  # gates that disagree about clips
        if hasattr(module, "cheap"):
            nn.init.normal_(module.gate.outer.weight)  # type: ignore[union-attr]
            module.gate.norm.running_var.fill_(0.05)  # type: ignore[union-attr, operator]
    run = ReducedModel(network)
    with torch.no_grad():
        wanted, policies = run(clips)
    assert len(set(policies.macs.tolist())) > 1
    stream = Stream(make_plan(network, clips[:1]), executor=executor)
    for clip, outputs in zip(clips, wanted, strict=True):
        found = stream(clip[None])
        torch.testing.assert_close(found[0], outputs, rtol=1e-4, atol=1e-5)
