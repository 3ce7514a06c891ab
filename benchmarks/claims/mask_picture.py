"""Pictures of where gates fired, of a trained network over one test clip (the paper's Fig. 2 and 3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.environment import ROOT
from recipes.pose import pictures
from saccade.report.plot_style import save_figure
from saccade.report.plots import gate_masks
from saccade.skip import ClipModel, SkipConv2d

PICTURES = ROOT / "docs" / "pictures"
CLIP, LAYERS = 3, 4  # which test clip, and how many layers, from first to last


def draw_masks(name: str, data: Any, every: int, model: ClipModel) -> dict[str, Any]:
    """Writes the picture as docs/pictures/skip-masks-NAME-BLOCK.png, and returns what is on it."""
    frames = data[CLIP]["frames"][:every]
    with torch.no_grad():
        _, firing = ClipModel(model.model).eval()(pictures(torch.from_numpy(frames))[None], masks=True)
    gated = [call for call in firing.calls if call.mask is not None]
    masks = {}
    for i in range(LAYERS):
        number = round(i * (len(gated) - 1) / (LAYERS - 1))
        mask = gated[number].mask
        assert mask is not None
        masks[f"layer {number + 1}"] = mask[0, 1:].numpy()
    block = next(module.what.block for module in model.modules() if isinstance(module, SkipConv2d))
    figure = gate_masks(np.ascontiguousarray(frames.transpose(0, 2, 3, 1))[1:], masks)
    (png,) = save_figure(figure, PICTURES / f"skip-masks-{name}-{block}", formats=["png"])  # as SVG it is large
    return {"picture": png.name, "layers": list(masks)}
