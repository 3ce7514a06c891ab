"""The shape of the house: which room may import which, what is public, and what `import saccade` brings along."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import saccade

SOURCE = Path(saccade.__file__).parent
# A room may import rooms further down and itself; rooms on one floor do not import one another, unless listed.
FLOORS = [
    {"cli"},
    {"adapt", "calibrate", "report", "evaluate", "train", "zoo", "data"},
    {"rivals"},
    {"skip", "reduce", "exits"},
    {"stream"},
    {"graph"},
    {"kernels"},
    {"preprocess"},
    {"video"},
    {"masks", "cost", "named"},
    {"errors"},
]
SAME_FLOOR = {
    ("report", "evaluate"),  # tables and overlays show what evaluate measured
    ("report", "zoo"),
    ("report", "calibrate"),
    ("report", "adapt"),
    ("adapt", "calibrate"),  # the same footage, trials and checks
    ("calibrate", "evaluate"),  # measures of agreement are what a tolerance is of
    ("evaluate", "zoo"),
    ("evaluate", "data"),
    ("zoo", "data"),  # the street detector knows the street's classes
    ("zoo", "evaluate"),  # decoders give the Detections that evaluate scores
    ("train", "evaluate"),
    ("train", "data"),
    ("train", "zoo"),
}
# Everything but torch, numpy and the standard library is imported in the file that owns it.
OWNERS = {
    "av": {"video"},
    "safetensors": {"graph/tensor_file.py", "zoo"},
    "typer": {"cli"},
    "rich": {"cli", "report"},
    "timm": {"zoo"},
    "effdet": {"zoo"},
    "torchvision": {"zoo/torchvision_repair.py"},
    "faster_coco_eval": {"evaluate/detection.py"},
    "lightning_fabric": {"train"},
    "cv2": {"rivals/flow.py"},
    "scipy": {"data/jhmdb.py"},
    "matplotlib": {"report"},
}
FILES = sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.update({node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names})
    return found


def room(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(index for index, rooms in enumerate(FLOORS) if name in rooms)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_arrows_point_down(path: Path) -> None:
    own = room(path.relative_to(SOURCE).parts)
    if own in ("__init__", "__main__"):
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "saccade" or len(parts) == 1 or parts[1] == "__version__":
            continue
        target = parts[1]
        allowed = target == own or floor(target) > floor(own) or (own, target) in SAME_FLOOR
        assert allowed, f"{path.relative_to(SOURCE)} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_other_libraries_are_imported_by_their_owner_only(path: Path) -> None:
    relative = str(path.relative_to(SOURCE))
    free = {"torch", "numpy", "saccade", "", *sys.stdlib_module_names}
    for name in {name.split(".")[0] for name in imports(path)} - free:
        owners = OWNERS.get(name, set())
        assert any(relative.startswith(owner) for owner in owners), f"{relative} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_no_file_holds_what_a_merge_left() -> None:
    root = Path(__file__).parents[1]
    folders = (root / name for name in ("benchmarks", "docs", "recipes", "src", "tests"))
    texts = [*root.glob("*.md"), *(path for folder in folders for path in folder.rglob("*.*"))]
    texts = [path for path in texts if path.suffix in {".py", ".md", ".cpp", ".h", ".json"}]
    assert len(texts) > 100
    marker = re.compile(r"^(<{7}|>{7})( |$)|^={7}$", re.MULTILINE)
    assert [path for path in texts if marker.search(path.read_text())] == []


def test_every_room_is_a_package() -> None:
    """A folder without `__init__.py` works from a checkout and is missing from an installed copy."""
    assert [path for path in {file.parent for file in FILES} if not (path / "__init__.py").exists()] == []


def test_the_public_names_are_these() -> None:
    assert saccade.__all__ == [
        "Audit",
        "AuditReport",
        "Calibration",
        "Cost",
        "Engine",
        "Frame",
        "Gate",
        "Plan",
        "Preprocess",
        "SaccadeError",
        "StepCost",
        "Stream",
        "StreamPool",
        "StreamState",
        "__version__",
        "make_plan",
        "read_video",
        "write_video",
    ]
    assert all(hasattr(saccade, name) for name in saccade.__all__)


def test_import_brings_nothing_heavy() -> None:
    code = "import sys, saccade; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {
        "typer",
        "rich",
        "timm",
        "effdet",
        "torchvision",
        "faster_coco_eval",
        "matplotlib",
        "lightning_fabric",
        "cv2",
        "pandas",
        "scipy",
        "ray",
    }
    assert heavy & {name.split(".")[0] for name in loaded} == set()
