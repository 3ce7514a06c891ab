"""The command line as tests call it, and a small network on disk for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from typer.testing import CliRunner

from saccade.cli.app import app

H, W = 24, 32


def saccade(*arguments: str | Path) -> Any:
    """Runs the command in this process; what is no planned exit is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def save_network(path: Path) -> None:
    """Writes a network of two convolutions for pictures (1, 3, H, W), the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 1)).eval()
    torch.export.save(torch.export.export(net, (torch.zeros(1, 3, H, W),)), path)
