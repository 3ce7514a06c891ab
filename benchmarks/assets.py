"""The real clips and trained networks beside the project, and how a frame becomes each network's input."""

from __future__ import annotations

from pathlib import Path

from saccade import Plan, Preprocess, make_plan
from saccade.graph import load_program

ASSETS = Path(__file__).resolve().parents[2] / "shared" / "assets"

CLIPS = (
    "one-by-one-person-detection.mp4",
    "car-detection.mp4",
    "bottle-detection.mp4",
    "highway.avi",
    "bedroom.mp4",
    "dashcam-highway.mp4",
)
_ESPNET_STD = (45.32, 46.15, 44.91)
NETWORKS = {
    "espnet": Preprocess(
        size=(432, 768),
        channels="bgr",
        scale=1.0,
        mean=(72.39, 82.91, 73.16),
        std=tuple(255 * value for value in _ESPNET_STD),
    ),
    "espnetv2": Preprocess(size=(384, 672), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "vdsr": Preprocess(size=(240, 320), channels="grey"),
    "rfb640": Preprocess(size=(480, 640), scale=1.0, mean=(127.0,), std=(128.0,)),
}


def clip(name: str) -> Path:
    """Returns the path of a clip."""
    return ASSETS / "videos" / name


def network(name: str) -> Path:
    """Returns the path of a network's exported program."""
    return ASSETS / "models" / f"{name}.pt2"


def plan_of(name: str) -> Plan:
    """Returns a network's plan, with how a frame becomes its input."""
    return make_plan(load_program(network(name))[0], preprocess=NETWORKS[name], name=name)
