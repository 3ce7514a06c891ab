"""FrameExit as its paper writes it, in plain torch: for one video, without any state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saccade.exits import FrameExit


class Average(nn.Module):
    """A backbone: a batch norm, a convolution, and the mean over space; (N, 3, H, W) to (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(x)).mean((2, 3))


def small(pooling: str = "max", *, frames: int = 4, **options: object) -> FrameExit:
    """Returns a small model in float64 and evaluation mode, whose numbers are not near one another."""
    torch.manual_seed(1)
    model = FrameExit(
        Average(),
        features=5,
        classes=3,
        frames=frames,
        hidden=6,
        pooling=pooling,  # type: ignore[arg-type]
        gate_hidden=4,
        **options,  # type: ignore[arg-type]
    ).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.6)
    return model.eval()


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    return x @ layer.weight.T + layer.bias  # type: ignore[operator, union-attr]


def defined(model: FrameExit, video: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns f_t(z_t), the logits of g_t and z_t of one video (t, 3, H, W); with max, average or no pooling."""
    phi = [linear(model.embed, model.backbone(frame[None])[0]).clamp(min=0) for frame in video]
    name = type(model.pooling).__name__
    logits, gates, zs = [], [], []
    for t in range(1, len(video) + 1):
        so_far = torch.stack(phi[:t])
        if name == "MaxPooling":
            z = so_far.max(0).values
        elif name == "AveragePooling":
            z = so_far.sum(0) / t
        else:
            z = so_far[-1]
        first, _, second, _ = model.gates.layers[0 if model.gates.shared else t - 1]  # type: ignore[misc]
        streams = [z] if t == 1 or name == "NoPooling" else [zs[-1], z]
        hidden = [linear(second, linear(first, x).clamp(min=0)).clamp(min=0) for x in streams]
        gates.append(linear(model.gates.last[t - 1], torch.cat(hidden))[0])
        logits.append(linear(model.classifiers[t - 1], z))
        zs.append(z)
    return torch.stack(logits), torch.stack(gates), torch.stack(zs)
