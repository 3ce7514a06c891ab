"""Where a benchmark ran: machine, threads, versions and commit."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import torch

import saccade
from saccade.evaluate.video_run import machine_name

ROOT = Path(__file__).resolve().parents[1]


def environment() -> dict[str, Any]:
    """Returns what a result depends on besides the code."""
    return {
        "machine": machine_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "saccade": saccade.__version__,
        "commit": _commit(),
    }


def _commit() -> str:
    try:
        git = ["git", "-C", str(ROOT)]
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run([*git, "status", "--porcelain", "src"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")
