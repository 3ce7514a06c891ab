"""Arguments and options that several commands take, as typer reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MODEL_HELP = (
    "street-detector, timm:NAME or effdet:NAME (random weights; @pretrained behind it downloads them), FILE.pt2, "
    "or package.module:factory."
)
Model = Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP)]
Json = Annotated[str | None, typer.Option("--json", metavar="FILE|-", help="Write the numbers as JSON; - is stdout.")]
Threshold = Annotated[
    float | None,
    typer.Option(help="Announce changes larger than this, in the units of each step; 0 is exact."),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        help="The same relative to the size of each step's output. Without either: what was calibrated, or 0.01."
    ),
]
Record = Annotated[
    str | None,
    typer.Option(
        help="How announced values are kept: reference (a copy), coarse (in bfloat16) or accumulated (one number per "
        "position). By default coarse from a tolerance of 0.01 on, else reference."
    ),
]
Executor = Annotated[
    str | None,
    typer.Option(help="native (the compiled engine) or reference (the definition in torch); by default the best."),
]
Precision = Annotated[str, typer.Option(help="float32 or bfloat16 (native only).")]
Threads = Annotated[int, typer.Option(min=1, help="Threads that share the work of a frame (native only).")]

PreprocessFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE.json", help="How a frame becomes the input, instead of the model's own."),
]

CalibrationFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Thresholds to use, instead of those that calibrate stored for the model."),
]
ClipStride = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Of networks of clips, and windows of a FrameExit: one frame in N."),
]
RecipeSource = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A file RECIPE.py or a module that defines recipe().")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="An option of the recipe; may be given again."),
]
Accelerator = Annotated[str, typer.Option(help="cpu, cuda, mps, or auto: a GPU where there is one.")]
TorchThreads = Annotated[int | None, typer.Option(min=1, help="torch's threads per process.")]
