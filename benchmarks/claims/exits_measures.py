"""What is measured of a trained FrameExit: accuracy and macs by rule, and who left when and was right."""

from __future__ import annotations

from typing import Any

from recipes.exits import CLASSES, DATA, watch
from saccade.evaluate.classify import average_precision
from saccade.exits import FixedBudget, FrameExit, LearnedGate, decide
from saccade.train import Recipe

Measured = dict[str, Any]


def plain(recipe: Recipe, model: Any) -> Measured:
    """Returns accuracy and macs over the test videos, of every rule."""
    assert recipe.evaluate is not None
    return dict(recipe.evaluate(model))


def left(recipe: Recipe, model: FrameExit) -> Measured:
    """Returns who left when by the learned gate, and who was right (Fig. 3, 4 and 5); t counts from 1.

    All but the last two are numbers of videos. `frames[t - 1]` left after t frames. Of videos with one label
    `right[t - 1]` of them were right, and of those that left after i frames `matrix[i - 1][j - 1]` would have been
    right after j. By class: `ap`, the average precision, and `class_frames`, the mean frames of the videos that show
    it; None for a class that no video shows.
    """
    data = recipe.options["data"]
    outputs, labels, _, macs = watch(model, DATA[data]("test"))
    exits = decide(model, outputs, LearnedGate(), macs=macs)
    steps = range(1, outputs.logits.shape[1] + 1)
    found: Measured = {"frames": [int((exits.frames == t).sum()) for t in steps]}
    if labels.dim() == 1:
        answers = [decide(model, outputs, FixedBudget(t), macs=macs).scores.argmax(1) == labels for t in steps]
        found["right"] = [int((answers[t - 1] & (exits.frames == t)).sum()) for t in steps]
        found["matrix"] = [[int((after & (exits.frames == i)).sum()) for after in answers] for i in steps]
    precision = average_precision(exits.scores, labels).tolist()
    found["ap"] = [None if value != value else round(value, 4) for value in precision]
    found["class_frames"] = []
    for k in range(CLASSES[data]):
        shows = labels == k if labels.dim() == 1 else labels[:, k] > 0
        mean = round(float(exits.frames[shows].double().mean()), 3) if shows.any() else None
        found["class_frames"].append(mean)
    return found


MEASURES: dict[str, Any] = {measure.__name__: measure for measure in (plain, left)}
