"""Small random networks of mixed layers at awkward sizes, for laws that must hold for any of them."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.up(F.silu(self.down(x.mean((2, 3), keepdim=True)))).sigmoid()


class Residual(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)) + x)


class Pyramid(nn.Module):
    """Down, up again, and joined: two resolutions, a concatenation, a shuffle."""

    def __init__(self, channels: int, mode: str) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.join = nn.Conv2d(2 * channels, channels, 1)
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        low = F.hardswish(self.down(x))
        if self.mode == "pool":
            low = F.avg_pool2d(F.max_pool2d(low, 3, 1, 1), 3, 1, 1)
        up = F.interpolate(low, x.shape[2:], mode="nearest" if self.mode == "pool" else "bilinear")
        both = torch.cat([x, up], 1)
        n, c, h, w = both.shape
        return self.join(both.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)).tanh()


class Separable(nn.Sequential):
    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 5, padding=2, groups=channels),
            nn.BatchNorm2d(channels),
            nn.ReLU6(inplace=True),
            nn.Conv2d(channels, channels, 1),
        )


class Deconvolution(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels, 2, stride=2)
        self.up = nn.ConvTranspose2d(channels, channels, 3, stride=2, bias=False)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        up = self.act(self.up(self.down(x)))
        return x[:, :, : up.shape[2], : up.shape[3]] - up[:, :, : x.shape[2], : x.shape[3]]


class Head(nn.Module):
    """Two outputs: scores per position, and boxes as a detector reshapes them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scores, self.boxes = nn.Conv2d(channels, 3, 3), nn.Conv2d(channels, 8, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        boxes = self.boxes(x).permute(0, 2, 3, 1)
        return {"scores": self.scores(x).softmax(1), "boxes": boxes.reshape(x.shape[0], -1, 4)}


class RandomNetwork(nn.Module):
    """A network drawn by a seed, with batch norm statistics as a trained one has."""

    def __init__(self, seed: int, *, blocks: int = 3) -> None:
        super().__init__()
        draw = random.Random(seed)
        torch.manual_seed(seed)
        channels = draw.choice([3, 4, 6])
        kinds = [
            lambda: SqueezeExcite(channels),
            lambda: Residual(channels, draw.choice([1, 2])),
            lambda: Pyramid(channels, draw.choice(["pool", "bilinear"])),
            lambda: Separable(channels),
            lambda: Deconvolution(channels),
        ]
        layers = [
            nn.Conv2d(3, channels, 3, padding=1),
            *(draw.choice(kinds)() for _ in range(blocks)),
            Head(channels),
        ]
        self.layers = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.2)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
        self.eval()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.layers(x)


def moving_square(frames: int, size: tuple[int, int], *, seed: int = 0, noise: float = 0.0) -> list[Tensor]:
    """A video of (1, 3, H, W) frames: a still random background, a square that walks, noise if asked."""
    generator = torch.Generator().manual_seed(seed)
    background = torch.rand(1, 3, *size, generator=generator)
    video = []
    for index in range(frames):
        frame = background.clone()
        y, x = index % size[0], (2 * index) % size[1]
        frame[:, :, y : y + 3, x : x + 3] = 1.0
        if noise:
            frame += noise * torch.randn(frame.shape, generator=generator)
        video.append(frame)
    return video
