"""Training in two stages (FrameExit, section 4.1): first the backbone and the classifiers, then the gates."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from saccade.errors import InputError
from saccade.exits.model import FrameExit, Stage


@dataclass(frozen=True)
class TwoStages:
    """Which stage a training is in, and by how much its rate has dropped; the numbers of steps are yours.

    Call it with the model and the number of the step before each (`before_step` of a `saccade.train.Recipe`), and give
    `rate_factor` to `torch.optim.lr_scheduler.LambdaLR`.

    Attributes:
        classifiers, gates: steps of the first and of the second stage.
        drops: for each stage, after which share of its steps the rate drops to a tenth (the paper: epochs 16 and 30 of
            35, then 5 and 8 of 10; Adam, from 1e-4 in both).
    """

    classifiers: int
    gates: int
    drops: tuple[tuple[float, ...], tuple[float, ...]] = ((16 / 35, 30 / 35), (5 / 10, 8 / 10))

    def __post_init__(self) -> None:
        if self.classifiers < 0 or self.gates < 0 or self.steps < 1:
            raise InputError(f"TwoStages: {self.classifiers} and {self.gates} steps; expected at least 1 in all")

    @property
    def steps(self) -> int:
        """Steps of both."""
        return self.classifiers + self.gates

    def stage(self, step: int) -> Stage:
        """Returns what is trained in a step, counted from 1."""
        return "classifiers" if step <= self.classifiers else "gates"

    def rate_factor(self, done: int) -> float:
        """Returns by what the rate is multiplied after so many steps, for the next one."""
        second = done >= self.classifiers
        begun, steps = (self.classifiers, self.gates) if second else (0, self.classifiers)
        passed = sum(done - begun >= share * steps for share in self.drops[second])
        return 0.1**passed if steps else 1.0

    def __call__(self, model: nn.Module, step: int) -> None:
        """Puts the `FrameExit` that is the model, or a part of it, into the stage of a step.

        Raises:
            InputError: there is not exactly one.
        """
        found = [module for module in model.modules() if isinstance(module, FrameExit)]
        if len(found) != 1:
            raise InputError(f"TwoStages: {type(model).__name__} has {len(found)} FrameExit in it; expected one")
        found[0].set_stage(self.stage(step))
