"""Imports beside a torchvision whose compiled operators do not fit torch."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from saccade.cli.classify_ray import Worker
from saccade.errors import MissingExtraError
from saccade.zoo.torchvision_repair import import_extra

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")

FAILS_ONCE = """
import fails_once.part
import os
if os.environ.pop("FAILS_ONCE", None):
    raise RuntimeError("operator torchvision::{operator} does not exist")
fails_once.part
"""


def fake_package(folder: Path, monkeypatch: pytest.MonkeyPatch, *, operator: str) -> None:
    (folder / "fails_once").mkdir()
    (folder / "fails_once" / "__init__.py").write_text(FAILS_ONCE.format(operator=operator))
    (folder / "fails_once" / "part.py").write_text("")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("FAILS_ONCE", "1")
    for module in ("fails_once", "fails_once.part"):
        monkeypatch.delitem(sys.modules, module, raising=False)


def test_the_very_error_of_a_mismatched_torchvision_is_met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_package(tmp_path, monkeypatch, operator="nms")
    package = import_extra("fails_once", extra="zoo")
    assert package.part is sys.modules["fails_once.part"]
    assert hasattr(torch.ops.torchvision, "nms")
    assert hasattr(torch.ops.torchvision, "qnms")


def test_a_worker_is_sent_a_model_whose_classes_need_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_package(tmp_path, monkeypatch, operator="nms")
    (tmp_path / "fails_once" / "part.py").write_text("class Job: pass")
    monkeypatch.chdir(tmp_path)
    worker = Worker()
    worker.begin(str(tmp_path), b"cfails_once.part\nJob\n.", torch.get_num_threads())  # a class by its name
    assert worker._job is sys.modules["fails_once.part"].Job  # type: ignore[comparison-overlap]


def test_any_other_error_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_package(tmp_path, monkeypatch, operator="other")
    with pytest.raises(RuntimeError, match="torchvision::other does not exist"):
        import_extra("fails_once", extra="zoo")


def test_what_is_not_installed_is_named_with_its_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"not_there_at_all .*pip install 'saccade\[zoo\]'"):
        import_extra("not_there_at_all", extra="zoo")


@needs_timm
def test_timm_can_be_imported_in_a_fresh_process_whatever_torchvision_is_beside_it() -> None:
    code = (
        "from saccade.zoo.torchvision_repair import import_extra\n"
        "timm = import_extra('timm', extra='zoo')\n"
        "import torchvision\n"
        "assert torchvision.extension and timm.is_model('resnet18')\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
