"""The command line as tests call it, small networks on disk for it, and the lines that `classify` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from typer.testing import CliRunner

from saccade.cli.app import app

H, W = 24, 32
# A module that makes a small FrameExit, the same each time, for pictures of that size; tests add to it.
EXITS_FACTORY = """
import os
import signal

import torch
from torch import nn

from saccade.exits import FrameExit


class Average(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)

    def watch(self, x):
        pass

    def forward(self, x):
        self.watch(x)
        return self.conv((x - 0.4) * 9).relu().mean((2, 3))


def model():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = FrameExit(Average(), features=5, classes=3, frames=4, hidden=6, gate_hidden=4)
        for parameter in made.parameters():
            nn.init.normal_(parameter, std=0.7)
    return made.eval(), torch.zeros(1, 4, 3, 24, 32)
"""


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


def result_lines(path: Path) -> list[dict[str, Any]]:
    """What a file of results holds."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two lines say the same of a video; times may differ."""
    keys = {key for key in one.keys() | other.keys() if not key.endswith("ms")}
    tops = zip(one.get("top", ()), other.get("top", ()), strict=True)
    near = all(a["index"] == b["index"] and abs(a["score"] - b["score"]) < 1e-5 for a, b in tops)
    return near and all(one[key] == other[key] for key in keys - {"top"})
