"""Real clips and networks for tests: they lie beside the project, in ../shared/assets, if at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.assets import ASSETS


def require_asset(name: str) -> Path:
    """Return the path of an asset, e.g. "videos/car-detection.mp4"; skip the test where it is absent."""
    path = ASSETS / name
    if not path.exists():
        pytest.skip(f"{name} is not in {ASSETS}")
    return path
