"""A recipe of a few milliseconds for the tests of the training loop: everything random, nothing large.

`TOY_SIGNAL=name:step:rank` sends that process that signal in the middle of that step. The file is a script too: the
command line, for what has to start processes of its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from saccade.cli import main
from saccade.train import Recipe

SAMPLES, FEATURES = 37, 5


class Points:
    """Random points and a linear function of them."""

    def __init__(self, dtype: torch.dtype) -> None:
        rng = np.random.default_rng(7)
        self.x = torch.from_numpy(rng.normal(size=(SAMPLES, 3, FEATURES))).to(dtype)
        self.y = self.x.sum(2)

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": self.x[index], "y": self.y[index], "index": index}


def jitter(sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    return {**sample, "x": sample["x"] + 0.1 * float(rng.normal())}


def send_signal(model: nn.Module, step: int) -> None:
    name, at, rank = os.environ.get("TOY_SIGNAL", "none:0:0").split(":")
    if step == int(at) and os.environ.get("LOCAL_RANK", "0") == rank:
        os.kill(os.getpid(), getattr(signal, name))


class Corrected(nn.Module):
    """A network with a parameter that only sample 0 is for, and one that nothing uses."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.correction, self.unused = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        y = self.net(x).squeeze(2)
        return y + self.correction * (index == 0)[:, None] if 0 in index.tolist() else y


def recipe(
    *,
    steps: int = 24,
    batch: int = 8,
    hidden: int = 6,
    rate: float = 0.01,
    norm: bool = True,
    kind: Literal["adam", "sgd"] = "adam",
    seed: int = 3,
    clip: float | None = 0.5,
    precise: bool = False,
    broken: str = "",
) -> Recipe:
    dtype = torch.float64 if precise else torch.float32

    def build() -> nn.Module:
        between = [nn.BatchNorm1d(3), nn.ReLU(), nn.Dropout(0.2)] if norm else [nn.Tanh()]
        return Corrected(nn.Sequential(nn.Linear(FEATURES, hidden), *between, nn.Linear(hidden, 1))).to(dtype)

    def loss(model: nn.Module, batch: dict[str, Any]) -> Mapping[str, Tensor]:
        error = (model(batch["x"], batch["index"]) - batch["y"]).square().mean()
        if broken == "nan" and 5 in batch["index"].tolist():
            error = error * float("nan")
        if broken == "name":
            return {"error": error}
        return {"loss": error, "size": model.correction.detach().abs()}

    def evaluate(model: nn.Module) -> dict[str, float]:
        torch.rand(1), np.random.rand()  # must not move what training draws
        points = Points(dtype)
        return {"error": (model(points.x, torch.arange(SAMPLES)) - points.y).square().mean().item(), "of": SAMPLES}

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        if kind == "sgd":
            return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
        return torch.optim.AdamW(model.parameters(), lr=rate)

    return Recipe(
        name="toy",
        build=build,
        data=lambda: Points(dtype),
        loss=loss,
        optimizer=optimizer,
        schedule=lambda opt: torch.optim.lr_scheduler.OneCycleLR(opt, rate, total_steps=steps),
        augment=jitter,
        before_step=send_signal,
        validate=evaluate,
        evaluate=evaluate,
        steps=steps,
        batch=batch,
        seed=seed,
        clip_norm=clip,
        log_every=5,
        checkpoint_every=8,
        validate_every=7,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
